//! Moments of connections: how long an instance takes to answer a SYN and to say something, what it says first, and how long a
//! connection lasts. All of it off the path of packets of a connection that is under way.

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST, xdp_md};
use gray_common::{
    packet::{TCP, TCP_RST, TCP_SYN, opens},
    wire::{
        Addr, ArmCount, FIRST_BYTE, FLOW_DSR, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_SPLICE, FLOW_TIMED,
        FlowKey4, FlowKey6, FlowState, HANDSHAKE, LIFE, LIFE_SHIFT, TIME_BUCKETS, TIME_SHIFT, TIMES,
        time_bucket,
    },
};

use crate::{
    ctx::{add, ktime_ns, opaque, skb::Skb, xdp::Frame},
    hooks::admit::Arrival,
    maps::{self, request::call},
};

/// What says something for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The client: the answers' entry is to know when.
    Asked,
    /// The instance, of this arm.
    Answered(u16),
}

/// Looks at a segment of an entry that is `FLOW_TIMED`. `says`: it carries bytes of the stream.
#[inline(always)]
pub fn moment(f: &mut FlowState, tcp_flags: u8, says: bool, first: impl FnOnce(Moment)) {
    if f.flags & FLOW_FORWARD != 0 {
        if says && !opens(tcp_flags) {
            f.flags &= !FLOW_TIMED;
            first(Moment::Asked);
        }
        return;
    }
    if tcp_flags & TCP_RST != 0 {
        f.flags &= !FLOW_TIMED;
        return;
    }
    // An answer to the SYN that comes again is none.
    if tcp_flags & TCP_SYN != 0 && f.flags & FLOW_ESTABLISHED == 0 {
        took(f);
    }
    if says {
        note(f.counter, FIRST_BYTE, now().wrapping_sub(f.at));
        f.flags &= !FLOW_TIMED;
        first(Moment::Answered(f.counter));
    }
}

/// The instance has answered the SYN.
#[inline(always)]
fn took(f: &mut FlowState) {
    let now = now();
    note(f.counter, HANDSHAKE, now.wrapping_sub(f.at));
    f.at = now;
}

/// The clock of all times but a connection's life.
#[inline(always)]
pub fn now() -> u32 {
    (ktime_ns() >> TIME_SHIFT) as u32
}

/// Begins the times of both entries of a connection whose SYN is at hand, or that the request path makes towards its instance, as
/// `marks` of its decision say. `again`: what it had is only lost.
#[inline(always)]
pub fn begin(a: &Arrival, marks: u8, again: bool) -> Begun {
    let splices = marks & (FLOW_SPLICE >> 7) as u8 != 0;
    if a.proto != TCP || if splices { again } else { !opens(a.tcp_flags) } {
        return Begun::default();
    }
    let ns = ktime_ns();
    // What the request path hands over, the client has said long ago.
    Begun { at: (ns >> TIME_SHIFT) as u32, opened: ((ns >> LIFE_SHIFT) as u32).max(1), waits: !splices }
}

/// What the entries of a connection are to know of its beginning; nothing where nobody saw it.
#[derive(Clone, Copy, Default)]
pub struct Begun {
    at: u32,
    opened: u32,
    waits: bool,
}

impl Begun {
    #[inline(always)]
    pub fn write(&self, f: &mut FlowState) {
        (f.at, f.opened) = (self.at, self.opened);
        // Nobody sees what answers in other packets.
        if self.opened != 0 && f.flags & FLOW_DSR == 0 && (self.waits || f.flags & FLOW_FORWARD == 0) {
            f.flags |= FLOW_TIMED;
        }
    }
}

/// A connection begins to close.
#[inline(always)]
pub fn ended(f: &FlowState) {
    if f.opened != 0 {
        let now = (ktime_ns() >> LIFE_SHIFT) as u32;
        note(f.counter, LIFE, now.wrapping_sub(f.opened));
    }
}

/// Counts a time.
#[inline(always)]
pub fn note(counter: u16, kind: usize, units: u32) {
    // Another CPU may have noted the beginning a moment later than the end was read.
    let units = if (units as i32) < 0 && kind != LIFE { 0 } else { units };
    let _ = count(u32::from(counter) << 8 | kind as u32, units);
}

/// One more time of so many units: of the arm in the upper bytes, of the kind in the lowest.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_count_time")]
#[inline(never)]
pub extern "C" fn count(what: u32, units: u32) -> u32 {
    let (key, kind) = (what >> 8, what & 0xff);
    let mut found = maps::TIMES.get_ptr_mut(key);
    if found.is_none() {
        let Some(none) = maps::NO_TIMES.get_ptr(0) else { return 0 };
        // SAFETY: nobody writes it.
        let _ = maps::TIMES.insert(key, unsafe { &*none }, u64::from(BPF_NOEXIST));
        found = maps::TIMES.get_ptr_mut(key);
    }
    let Some(times) = found else { return 0 };
    let place = opaque(kind * TIME_BUCKETS as u32 + time_bucket(units));
    if place >= (TIMES * TIME_BUCKETS) as u32 {
        return 0;
    }
    // SAFETY: this CPU's own element, of so many counters.
    unsafe { add(&mut *times.cast::<u64>().add(place as usize), 1) };
    1
}

/// Counts to an arm what its instance said first, which begins at `at`.
///
/// Exported: as `count`.
#[unsafe(export_name = "gray_said")]
#[inline(never)]
pub extern "C" fn said(raw: *mut __sk_buff, counter: u32, at: u32) -> u32 {
    said_so(counter, Skb::from_raw(raw).text(at))
}

/// The same in XDP.
#[unsafe(export_name = "gray_xdp_said")]
#[inline(never)]
pub extern "C" fn said_early(raw: *mut xdp_md, counter: u32, at: u32) -> u32 {
    said_so(counter, Frame::from_raw(raw).text(at))
}

#[inline(always)]
fn said_so(counter: u32, text: [u64; 2]) -> u32 {
    let Some(a) = maps::ARMS.get_ptr_mut(counter) else { return 0 };
    let class = opaque(u32::from(status(text))) as usize;
    // SAFETY: as in `life::account`.
    let a: &mut ArmCount = unsafe { &mut *a };
    if class >= a.answers.len() {
        return 0;
    }
    a.answers[class] += 1;
    1
}

/// `HTTP/1.1 200`: 2; 0: it is no status line.
#[inline(always)]
fn status(text: [u64; 2]) -> u8 {
    const NAME: u64 = u64::from_ne_bytes(*b"HTTP/1.\0");
    const MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    let rest = text[1].to_ne_bytes();
    if text[0] & MASK != NAME || rest[0] != b' ' {
        return 0;
    }
    match rest[1] {
        c @ b'1'..=b'5' => c - b'0',
        _ => 0,
    }
}

/// The answers' entry learns when its client has said something. `SCRATCH.back4` is its key.
///
/// Exported: as `count`.
#[unsafe(export_name = "gray_asked4")]
#[inline(never)]
pub extern "C" fn asked4(late: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let key: &FlowKey4 = unsafe { &(*scratch).back4 };
    let Some(f) = maps::FLOWS4.any(key, late != 0) else { return 0 };
    // SAFETY: the element stays readable for the run.
    asked(unsafe { &mut (*f).state })
}

/// The same of `SCRATCH.back6`.
#[unsafe(export_name = "gray_asked6")]
#[inline(never)]
pub extern "C" fn asked6(late: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let key: &FlowKey6 = unsafe { &(*scratch).back6 };
    let Some(f) = maps::FLOWS6.any(key, late != 0) else { return 0 };
    // SAFETY: the element stays readable for the run.
    asked(unsafe { &mut (*f).state })
}

#[inline(always)]
fn asked(f: &mut FlowState) -> u32 {
    if f.flags & (FLOW_FORWARD | FLOW_TIMED) == FLOW_TIMED {
        f.at = now();
    }
    1
}

/// The instance of a translated connection has taken it, with the segment in `CALL`.
///
/// Exported: as `count`.
#[unsafe(export_name = "gray_took")]
#[inline(never)]
pub extern "C" fn taken(v4: u32) -> u32 {
    let (Some(scratch), Some(c)) = (maps::SCRATCH.get_ptr_mut(0), call()) else { return 0 };
    let (from, to) = (Addr::from_words(c.from), Addr::from_words(c.to));
    let (sport, dport, proto, late) = (c.from_port, c.to_port, u32::from(TCP), maps::flooded());
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    unsafe {
        let f = if v4 != 0 {
            let key = &mut (*scratch).back4;
            *key = FlowKey4 { saddr: from.as_v4(), daddr: to.as_v4(), sport, dport, proto };
            maps::FLOWS4.any(key, late).map(|f| &raw mut (*f).state)
        } else {
            let key = &mut (*scratch).back6;
            *key = FlowKey6 { saddr: from, daddr: to, sport, dport, proto };
            maps::FLOWS6.any(key, late).map(|f| &raw mut (*f).state)
        };
        let Some(f) = f else { return 0 };
        if (*f).flags & (FLOW_FORWARD | FLOW_TIMED) == FLOW_TIMED {
            took(&mut *f);
        }
    }
    1
}
