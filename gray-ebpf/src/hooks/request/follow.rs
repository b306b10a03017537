//! The messages of a connection where every request chooses: where they begin and end, in a segment and in what is held.

use aya_ebpf::bindings::__sk_buff;
use gray_common::request::{
    Bytes,
    direction::{WALK_ON, WALK_REQUEST, WALK_WAIT, Walk},
    frame::{Frames, Taken},
    machine::{self, READ_FOUND},
};

use super::{
    decide,
    desk::{self, Desk, Text},
    held,
};
use crate::{
    ctx::{length, opaque, repeat, skb::Skb},
    maps::request::{Call, FRAMES, WINDOW, call},
};

/// `Call::taken`
pub const ALL: u32 = 0;
const REQUEST: u32 = 1;
const WAIT: u32 = 2;
const GAP: u32 = 3;

/// A request that the machine will ask about: its arm is to be decided.
pub const ASK: u32 = 9;

#[inline(always)]
pub fn frames(c: &Call) -> Option<&'static mut Frames> {
    let at = FRAMES.get_ptr_mut(&c.key)?;
    // SAFETY: the element stays readable for the run, and each function takes it anew.
    Some(unsafe { &mut *at })
}

/// What the last walk came to.
#[inline(always)]
pub fn taken() -> Taken {
    let Some(c) = call() else { return Taken::All };
    match c.taken {
        REQUEST => Taken::Request(c.walk.at),
        WAIT => Taken::Wait(c.walk.at),
        GAP => Taken::Gap,
        _ => Taken::All,
    }
}

/// Before the machine: goes through the client's segment up to a request, holds what there is of it, and reads that. [`ASK`]:
/// it is whole.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_follow")]
#[inline(never)]
pub extern "C" fn follow(raw: *mut __sk_buff) -> u32 {
    if due(raw) == 0 {
        return 0;
    }
    let Some(c) = call() else { return 0 };
    let [at, from, take] = c.due;
    if desk::hold(raw, at, from, take) == 0 {
        return 0;
    }
    c.prepared = 1;
    c.verdict = desk::read(at + take, 0);
    if c.verdict == READ_FOUND && decide::asked() != 0 { ASK } else { 0 }
}

/// What of the segment is to be held, into `CALL.due`. 0: nothing.
///
/// Exported: see `follow`.
#[unsafe(export_name = "gray_request_due")]
#[inline(never)]
extern "C" fn due(raw: *mut __sk_buff) -> u32 {
    let Some(c) = call() else { return 0 };
    c.taken = ALL;
    let s = &c.bound.splice;
    if !machine::follows(s, &mut Desk::default(), &c.seg) {
        return 0;
    }
    let _ = requests(raw);
    let Some(f) = frames(c) else { return 0 };
    if c.taken != REQUEST && c.taken != GAP || f.opaque() {
        return 0;
    }
    let Some((at, from, take)) = machine::unheld(s, f.requests.next, &c.seg) else { return 0 };
    c.due = [at, from, take];
    1
}

/// What of a segment lies in `CALL.window`.
struct Window {
    at: *const u8,
    from: u32,
    len: u32,
}

impl Bytes for Window {
    #[inline(always)]
    fn at(&self, i: u32) -> Option<u8> {
        let i = opaque(i.wrapping_sub(self.from));
        if i >= self.len || i >= WINDOW as u32 {
            return None;
        }
        // SAFETY: below the window's length.
        Some(unsafe { *self.at.add(i as usize) })
    }

    #[inline(always)]
    fn word(&self, i: u32) -> Option<u64> {
        let i = opaque(i.wrapping_sub(self.from));
        if i > WINDOW as u32 - 8 || i + 8 > self.len {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { self.at.add(i as usize).cast::<u64>().read_unaligned() })
    }
}

/// Makes the window begin at the walk's place, unless eight bytes from there are in it, or all there are.
#[inline(always)]
fn open(raw: *mut __sk_buff, c: &mut Call) -> bool {
    let (at, end) = (c.walk.at, c.window_at + c.window_len);
    if at >= c.window_at && (at + 8 <= end || end == c.walk.len && at < end) {
        return true;
    }
    c.window_at = at;
    c.window_len = 0;
    let Some(n) = length((c.walk.len - at).min(WINDOW as u32), WINDOW as u32) else { return false };
    if !Skb::from_raw(raw).copy_to(c.payload + at, c.window.as_mut_ptr(), n) {
        return false;
    }
    c.window_len = n;
    true
}

#[inline(always)]
fn begin(c: &mut Call, seq: u32, at: Option<u32>, len: u32) -> bool {
    c.window_at = 0;
    c.window_len = 0;
    c.walk = Walk { seq, at: at.unwrap_or(0), len, whole: 0, stop: WALK_ON };
    c.taken = if at.is_none() { GAP } else { ALL };
    at.is_some()
}

#[inline(always)]
fn ended(c: &mut Call) {
    c.taken = match c.walk.stop {
        WALK_REQUEST => REQUEST,
        WALK_WAIT => WAIT,
        _ => ALL,
    };
}

/// Goes through the client's segment, up to a request.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_walk")]
#[inline(never)]
extern "C" fn requests(raw: *mut __sk_buff) -> u32 {
    let Some(c) = call() else { return 0 };
    let Some(f) = frames(c) else { return 0 };
    let (seq, len) = (c.seg.seq, c.seg.len);
    if !begin(c, seq, f.arrived(true, seq, len), len) {
        return 0;
    }
    let (at, f): (*mut Call, *mut Frames) = (c, f);
    repeat(len + 1, |_| {
        // SAFETY: this CPU's own slot, and an element that stays readable for the run.
        let (c, f) = unsafe { (&mut *at, &mut *f) };
        f.request_skip(&mut c.walk)
            && open(raw, c)
            && f.request_chunk(
                &mut c.walk,
                &Window { at: c.window.as_ptr(), from: c.window_at, len: c.window_len },
            )
    });
    ended(c);
    1
}

/// Goes through the instance's segment, whose first byte has number `seq` for the client.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_answers")]
#[inline(never)]
pub extern "C" fn answers(raw: *mut __sk_buff, seq: u32) -> u32 {
    let Some(c) = call() else { return 0 };
    c.taken = ALL;
    let Some(f) = frames(c) else { return 0 };
    let len = c.seg.len;
    if !begin(c, seq, f.arrived(false, seq, len), len) {
        return 0;
    }
    let (at, f): (*mut Call, *mut Frames) = (c, f);
    repeat(len + 1, |_| {
        // SAFETY: as above.
        let (c, f) = unsafe { (&mut *at, &mut *f) };
        f.answer_skip(&mut c.walk)
            && open(raw, c)
            && f.answer_read(
                &mut c.walk,
                &Window { at: c.window.as_ptr(), from: c.window_at, len: c.window_len },
            )
    });
    1
}

/// Goes through what is held and was read: the request that begins at number `first`, and what is behind it up to the next one.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_walk_held")]
#[inline(never)]
pub extern "C" fn walk_held(first: u32, held: u32) -> u32 {
    let Some(c) = call() else { return 0 };
    let (Some(f), Some(text)) = (frames(c), held::text(c)) else { return 0 };
    f.head(first, &c.scan, c.read);
    if !begin(c, first, f.arrived(true, first, held), held) {
        return 0;
    }
    let (at, f): (*mut Call, *mut Frames) = (c, f);
    repeat(held + 1, |_| {
        // SAFETY: as above.
        let (c, f) = unsafe { (&mut *at, &mut *f) };
        f.request_skip(&mut c.walk) && f.request_chunk(&mut c.walk, &Text { at: text, len: held })
    });
    ended(c);
    1
}
