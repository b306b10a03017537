//! What the machine needs of its surroundings: bytes held, bytes read, an instance.

use aya_ebpf::bindings::__sk_buff;
use gray_common::packet::TCP_FIN;
use gray_common::request::{
    Bytes,
    frame::{Frames, Taken},
    machine::{
        EST, HOLD, Host, IDLE, LISTENER, PER_REQUEST, READ_DENY, READ_FOUND, READ_LISTENER, READ_MORE,
        SYN_SENT, Segment,
    },
    preface,
    scan::{BAD, END, MORE, STEP, Scan},
    seq::{Part, part},
    tls::Hello,
    watch::WATCHES,
};
use gray_common::wire::{self, Reading};

use super::{decide, follow, held, listener};
use crate::{
    ctx::{length, opaque, repeat, skb::Skb},
    hooks::tags,
    maps::request::{Call, call},
};

/// What the machine asks for was done before, or is done after it: see [`prepare`] and `decide::pick`.
pub struct Desk {
    /// Of an instance's segment, whose bytes the machine has looked at.
    pub raw: *mut __sk_buff,
}

impl Default for Desk {
    #[inline(always)]
    fn default() -> Self {
        Self { raw: core::ptr::null_mut() }
    }
}

impl Host for Desk {
    #[inline(always)]
    fn hold(&mut self, _at: u32, _from: u32, _len: u32) -> bool {
        call().is_some_and(|c| c.prepared != 0)
    }

    #[inline(always)]
    fn read(&mut self, _held: u32, ended: bool) -> u32 {
        match call() {
            Some(c) if c.prepared != 0 && !(ended && c.verdict == READ_MORE) => c.verdict,
            _ => READ_FOUND,
        }
    }

    /// Its number is that of the attempt: two of a connection are told apart by it.
    #[inline(always)]
    fn pick(&mut self, attempt: u32) -> u32 {
        if attempt == u32::from(LISTENER) && listener::listens() == 0 {
            return 0;
        }
        if let Some(c) = call() {
            c.picked = attempt + 1;
        }
        attempt + 1
    }

    #[inline(always)]
    fn keeps(&mut self, _instance: u32) -> bool {
        call().is_some_and(|c| c.keeps != 0)
    }

    #[inline(always)]
    fn frames(&mut self) -> Option<&mut Frames> {
        call().and_then(|c| follow::frames(c))
    }

    #[inline(always)]
    fn request(&mut self, _g: &Segment) -> Taken {
        follow::taken()
    }

    #[inline(always)]
    fn head(&mut self, first: u32) {
        if let Some(c) = call()
            && let Some(f) = follow::frames(c)
        {
            f.head(first, &c.scan, c.read);
        }
    }

    #[inline(always)]
    fn held(&mut self, first: u32, held: u32) -> Taken {
        let _ = follow::walk_held(first, held);
        follow::taken()
    }

    #[inline(always)]
    fn answer(&mut self, seq: u32, _len: u32) -> Taken {
        let _ = follow::answers(self.raw, seq);
        follow::taken()
    }
}

/// Before the machine: holds what is new in the client's segment, and reads what is held with it. Of a connection that has its
/// instance, see [`follow::follow`].
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_prepare")]
#[inline(never)]
pub extern "C" fn prepare(raw: *mut __sk_buff) -> u32 {
    let Some(c) = call() else { return 0 };
    still_held(c);
    let s = &c.bound.splice;
    let (state, held) = (s.state, s.held);
    c.prepared = 0;
    if state == EST {
        return if s.has(PER_REQUEST) { follow::follow(raw) } else { 0 };
    }
    if state != IDLE && state != SYN_SENT {
        return 0;
    }
    if state == IDLE && held == 0 && c.seg.len == 0 {
        // Who says nothing is refused where nobody is served of whom nothing is known.
        (c.blank, c.verdict) = (1, READ_DENY);
        if tags::read() {
            let _ = decide::tagged();
        }
        c.prepared = u32::from(decide::refuses(c));
        return 0;
    }
    let Part::New(from) = part(c.seg.seq, c.seg.len, s.first.wrapping_add(held)) else {
        return if state == IDLE && held != 0 { reread() } else { 0 };
    };
    let take = (c.seg.len - from).min(HOLD.saturating_sub(held));
    if hold(raw, held, from, take) == 0 {
        return 0;
    }
    c.prepared = 1;
    if state == IDLE {
        c.verdict = read(held + take, u32::from(c.seg.flags & TCP_FIN != 0));
    }
    1
}

/// What is held may have been lost: there are few places.
#[inline(always)]
fn still_held(c: &mut Call) {
    if c.bound.splice.holds() && held::text(c).is_none() {
        c.bound.splice.forget();
    }
}

/// Reads what is held as all that there will be.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_reread")]
#[inline(never)]
pub extern "C" fn reread() -> u32 {
    let Some(c) = call() else { return 0 };
    let held = c.bound.splice.held;
    c.prepared = 1;
    c.verdict = if held == 0 { READ_FOUND } else { read(held, 1) };
    1
}

/// Before the machine, with a segment of an instance: where every request chooses, what is held is read, for its messages to be
/// followed from there on. No function of its own: the chain of those that it calls is the longest.
#[inline(always)]
pub fn answered() -> u32 {
    let Some(c) = call() else { return 0 };
    still_held(c);
    let s = &c.bound.splice;
    if s.state == SYN_SENT && s.has(PER_REQUEST) { reread() } else { 0 }
}

/// A segment's part of what is copied at once.
const PART: u32 = 1460;

/// Copies `len` bytes of the segment's payload from `from` to place `at` of what is held. 0: not.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_hold")]
#[inline(never)]
pub extern "C" fn hold(raw: *mut __sk_buff, at: u32, from: u32, len: u32) -> u32 {
    let Some(c) = call() else { return 0 };
    let mut held = held::text(c);
    if held.is_none() && at == 0 {
        held = held::take(c);
    }
    // Without, what was before it is lost.
    let Some(held) = held else { return 0 };
    if at.saturating_add(len) > HOLD {
        return 0;
    }
    let skb = Skb::from_raw(raw);
    let mut i = 0;
    while i < 3 {
        let done = i * PART;
        if done < len {
            let to = opaque(at + done);
            let Some(n) = length((len - done).min(PART), PART) else { return 0 };
            if to > HOLD {
                return 0;
            }
            // SAFETY: `to + n` is less than the element's length.
            let to = unsafe { held.add(to as usize) };
            if !skb.copy_to(c.payload + from + done, to, n) {
                return 0;
            }
        }
        i += 1;
    }
    1
}

/// What is held.
pub struct Text {
    pub at: *const u8,
    pub len: u32,
}

impl Bytes for Text {
    #[inline(always)]
    fn at(&self, i: u32) -> Option<u8> {
        let i = opaque(i);
        if i >= self.len || i >= HOLD {
            return None;
        }
        // SAFETY: below the element's length.
        Some(unsafe { *self.at.add(i as usize) })
    }

    #[inline(always)]
    fn word(&self, i: u32) -> Option<u64> {
        let i = opaque(i);
        if i >= HOLD || i + 8 > self.len {
            return None;
        }
        // SAFETY: as above; there are bytes behind what is held.
        Some(unsafe { self.at.add(i as usize).cast::<u64>().read_unaligned() })
    }
}

/// Reads the first `held` bytes: claims into `CALL.claims`.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_read")]
#[inline(never)]
pub extern "C" fn read(held: u32, ended: u32) -> u32 {
    let Some(c) = call() else { return READ_LISTENER };
    let Some(reading) = super::reading(c) else { return READ_LISTENER };
    let Some(text) = held::text(c) else { return READ_LISTENER };
    let text = Text { at: text, len: held };
    c.claims = gray_common::decide::Claims::none(0);
    if tags::read() {
        let _ = decide::tagged();
    }
    c.blank = 1;
    c.json = 0;
    let opening = c.bound.splice.state == IDLE;
    let kind = preface::kind(&text, 0);
    let tls = reading.sni | reading.alpn != 0 && kind == preface::TLS;
    if opening && (kind == preface::HTTP2 || kind == preface::PROXY2) && listener::listens() != 0 {
        (c.came_to, c.blank) = (BAD, u32::from(reading.named != 0));
        return READ_LISTENER;
    }
    if opening && kind == preface::MORE && ended == 0 {
        return READ_MORE;
    }
    let said = if tls { hello(held) } else { head(held) };
    if tls && said != BAD {
        let _ = decide::hello_claims();
    } else if !tls {
        let _ = decide::claims();
    }
    c.came_to = said;
    let verdict = match said {
        _ if opening && c.json != 0 && listener::listens() != 0 => READ_LISTENER,
        END => READ_FOUND,
        STEP | MORE if c.enough != 0 => READ_FOUND,
        // No listener reads it either.
        BAD if opening => READ_FOUND,
        BAD => READ_LISTENER,
        _ if ended != 0 => READ_FOUND,
        // Nobody knows what the rest says: of a later request, too, which stays.
        _ if held >= HOLD => return READ_LISTENER,
        _ => READ_MORE,
    };
    // Of what goes to the listener nobody knows yet.
    let known = verdict == READ_FOUND || verdict == READ_LISTENER && !opening;
    if known && decide::refuses(c) { READ_DENY } else { verdict }
}

/// Reads the head of a request.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_head")]
#[inline(never)]
extern "C" fn head(held: u32) -> u32 {
    let Some(c) = call() else { return BAD };
    let (Some(reading), Some(text)) = (super::reading(c), held::text(c)) else { return BAD };
    c.scan = Scan::request();
    // With these it ends, for nothing else is looked for; of requests that are followed all is read.
    let wanted = if reading.terms.flags & PER_REQUEST != 0 { u32::MAX } else { wanted(reading) };
    let at: *mut Call = c;
    repeat(HOLD + 1, |_| {
        // SAFETY: this CPU's own slot.
        unsafe {
            (*at).read = (*at).scan.step(&Text { at: text, len: held }, &reading.names);
            (*at).read == STEP && u32::from((*at).scan.found) != wanted
        }
    });
    c.blank = u32::from((reading.named != 0) & (c.scan.found & reading.named == 0));
    c.enough = u32::from(u32::from(c.scan.found) == wanted);
    c.read
}

/// Reads a ClientHello. For whoever follows requests it is no head: the connection stays where it is.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_hello")]
#[inline(never)]
extern "C" fn hello(held: u32) -> u32 {
    let Some(c) = call() else { return BAD };
    let (Some(reading), Some(text)) = (super::reading(c), held::text(c)) else { return BAD };
    c.hello = Hello::default();
    let at: *mut Call = c;
    repeat(HOLD + 1, |_| {
        // SAFETY: this CPU's own slot.
        unsafe {
            (*at).read = (*at).hello.step(&Text { at: text, len: held });
            (*at).read == STEP
        }
    });
    let said = c.read;
    c.read = BAD;
    let name = reading.sni != 0 && c.hello.has_name();
    let protocol = reading.alpn != 0 && c.hello.has_protocol();
    if said != BAD {
        c.blank = u32::from(!name && !protocol);
    }
    c.enough = u32::from((name || reading.sni == 0) && (protocol || reading.alpn == 0));
    said
}

/// A bit for each name that is looked for.
#[inline(always)]
fn wanted(reading: &Reading) -> u32 {
    let (mut bits, mut i) = (0, 0);
    while i < WATCHES {
        bits |= u32::from(reading.kinds[i] != 0) << i;
        i += 1;
    }
    bits
}

const _: () = assert!(HOLD + PART < wire::HELD as u32);
