//! The way over extension headers (RFC 8200).

use super::{IP, NEXT_HEADER, PLAIN};
use crate::ctx::skb::Skb;

/// Extension headers (IANA). Those that are passed over on the way to the transport header; a routing header only when
/// there is nothing left to visit.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const OPTIONS: u8 = 60;
const FRAGMENT: u8 = 44;
/// Those that end the search: ESP, AH (which covers the addresses), mobility, HIP, shim6.
pub const OPAQUE: [u8; 5] = [50, 51, 135, 139, 140];
/// So many are looked at.
const HEADERS: u32 = 6;

/// Where the search for the transport header ended.
pub struct Found {
    pub l4: u32,
    pub proto: u8,
    /// Of a fragment: where it belongs, and the packet's identification.
    pub offset: Option<u16>,
    pub id: u32,
}

/// Passes over extension headers. `None`: there is one that is not to be passed over, or too many.
#[inline(always)]
pub fn search(skb: &mut Skb) -> Option<Found> {
    let mut f = Found { l4: PLAIN, proto: skb.head::<IP>()?.get::<u8, NEXT_HEADER>(), offset: None, id: 0 };
    for _ in 0..HEADERS {
        if f.proto == FRAGMENT {
            let h = skb.window::<8>(f.l4)?;
            let offset = u16::from_be(h.get::<u16, 2>()) & !7;
            (f.proto, f.offset, f.id) = (h.get::<u8, 0>(), Some(offset), h.get::<u32, 4>());
            f.l4 += 8;
            if offset != 0 {
                // What follows is the middle of something.
                return Some(f);
            }
        } else if f.proto == HOP_BY_HOP || f.proto == OPTIONS || f.proto == ROUTING {
            let h = skb.window::<4>(f.l4)?;
            if f.proto == ROUTING && h.get::<u8, 3>() != 0 {
                return None;
            }
            let long = h.get::<u8, 1>();
            f.proto = h.get::<u8, 0>();
            f.l4 += (u32::from(long) + 1) * 8;
            if f.l4 > FARTHEST {
                return None;
            }
        } else {
            return if OPAQUE.contains(&f.proto) { None } else { Some(f) };
        }
    }
    None
}

/// Whether a transport header may be behind such a header.
#[inline(always)]
pub fn is_passed_over(header: u8) -> bool {
    matches!(header, HOP_BY_HOP | ROUTING | OPTIONS | FRAGMENT)
}

/// No transport header is looked for behind this.
const FARTHEST: u32 = 1500;
