//! Fragments. Only the first has ports; it leaves them here for those that come after it, and all of a packet go the same
//! way. What comes before its first fragment cannot be steered: it passes, and so does the rest of its packet, for as long
//! as the receiver would wait for it (RFC 1122, 3.3.2: an hour glass of 60 to 120 s; Linux: 30 s).

use gray_common::{Reason, limits, wire::Addr};

use crate::{
    ctx::{jiffies, words::key6},
    emit, maps,
    tables::Kernel,
};

/// What the fragments of one packet have in common (RFC 791, RFC 8200). Addresses mapped, the identification as it stands
/// in the packet (16 bits in IPv4).
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct FragmentKey {
    saddr: Addr,
    daddr: Addr,
    id: u32,
    /// IP protocol number.
    proto: u32,
}

impl FragmentKey {
    #[inline(always)]
    pub fn v4(saddr: u32, daddr: u32, id: u16, proto: u8) -> Self {
        Self { saddr: Addr::v4(saddr), daddr: Addr::v4(daddr), id: u32::from(id), proto: u32::from(proto) }
    }

    /// From the packet's thirty-two bytes of addresses.
    #[inline(always)]
    pub fn v6(addrs: [u64; 4], id: u32, proto: u8) -> Self {
        let flow = key6(addrs, 0, proto);
        Self { saddr: flow.saddr, daddr: flow.daddr, id, proto: flow.proto }
    }
}

/// What is known of a fragmented packet. Aligned: the compiler writes zeros in words, which the verifier wants aligned.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Fragment {
    /// Source and destination port as they stand in the first fragment.
    ports: u32,
    /// 0: the first fragment was not the first to come, and all of them pass.
    known: u32,
    /// Low 32 bits of jiffies at the first that came.
    seen: u32,
}

/// Whether a fragment may be ours, by its addresses: others leave no trace here.
#[inline(always)]
pub fn maybe_ours(id: &FragmentKey) -> bool {
    maps::FILTER.get(0).is_some_and(|f| f.knows_address(&id.daddr) || f.knows_address(&id.saddr))
}

/// Notes the ports of a first fragment. False: others of its packet have passed already.
#[inline(always)]
pub fn first(k: &Kernel, id: &FragmentKey, ports: u32) -> bool {
    if let Some(f) = lookup(k, id)
        && f.known == 0
    {
        emit::count(Reason::Fragment);
        return false;
    }
    note(id, Fragment { ports, known: 1, seen: jiffies() as u32 });
    true
}

/// The ports of a later fragment's packet.
#[inline(always)]
pub fn later(k: &Kernel, id: &FragmentKey) -> Option<u32> {
    match lookup(k, id) {
        Some(f) if f.known != 0 => Some(f.ports),
        Some(_) => {
            emit::count(Reason::Fragment);
            None
        }
        None => {
            emit::count(Reason::Fragment);
            note(id, Fragment { ports: 0, known: 0, seen: jiffies() as u32 });
            None
        }
    }
}

/// Identifications come round again: what is old is of another packet.
#[inline(always)]
fn lookup(k: &Kernel, id: &FragmentKey) -> Option<Fragment> {
    // SAFETY: the value is copied out at once.
    let f = unsafe { maps::FRAGMENTS.get(id) }.copied()?;
    let age = (jiffies() as u32).wrapping_sub(f.seen);
    if age > limits::FRAGMENT_S.wrapping_mul(k.control.hz) { None } else { Some(f) }
}

#[inline(always)]
fn note(id: &FragmentKey, f: Fragment) {
    // A full table forgets its oldest; a refusal means that later fragments pass.
    let _ = maps::keep(&maps::FRAGMENTS, id, &f, 0);
}
