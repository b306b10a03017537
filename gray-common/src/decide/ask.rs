//! One decision by itself: what tests ask the kernel for, in a frame, and what it says. The data path asks for none this way.

use super::{Claims, Decision, Verdict};
use crate::wire::{Addr, ListenerKey, wire};

/// Who asks. For a caller on this node only what its program knows of it: source, mark, workload, lane.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub claims: Claims,
    pub seed: u64,
    /// The hash of a caller's workload; 0: none.
    pub workload: u64,
    pub key: ListenerKey,
    pub source: Addr,
    /// Not 0: `source` is known.
    pub has_source: u32,
    pub is_v4: u32,
    pub spares: u32,
    /// A caller's.
    pub mark: u32,
    pub _pad: u32,
}

wire!(Ask, size 288, {
    claims @ 0: Claims, seed @ 216: u64, workload @ 224: u64, key @ 232: ListenerKey, source @ 252: Addr,
    has_source @ 268: u32, is_v4 @ 272: u32, spares @ 276: u32, mark @ 280: u32, _pad @ 284: u32,
});

/// A verdict, flat.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub kind: u32,
    /// `Reason` code of [`PASS`].
    pub reason: u32,
    pub decision: Decision,
}

wire!(Said, size 56, { kind @ 0: u32, reason @ 4: u32, decision @ 8: Decision });

pub const STEER: u32 = 1;
pub const STAY: u32 = 2;
pub const DENY: u32 = 3;
pub const PASS: u32 = 4;

impl Said {
    #[inline(always)]
    pub fn say(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Steer(d) => (self.kind, self.decision) = (STEER, d),
            Verdict::Stay(d) => (self.kind, self.decision) = (STAY, d),
            Verdict::Deny(d) => (self.kind, self.decision) = (DENY, d),
            Verdict::Pass(reason) => (self.kind, self.reason) = (PASS, reason as u32),
        }
    }
}

#[cfg(any(test, feature = "user"))]
mod bytes {
    use super::*;
    use crate::{Reason, wire::Instance};

    impl Ask {
        /// As it stands in memory.
        pub fn bytes(&self) -> Vec<u8> {
            let (c, k) = (&self.claims, &self.key);
            let mut out: Vec<u8> = c.hash.iter().flat_map(|h| h.to_ne_bytes()).collect();
            out.extend(c.tails);
            let words = c.beginnings.iter().chain([&c.lane, &self.seed, &self.workload]);
            out.extend(words.flat_map(|w| w.to_ne_bytes()));
            out.extend(k.addr.0);
            out.extend(k.port.to_ne_bytes());
            out.extend([k.proto, k._pad]);
            out.extend(self.source.0);
            let words = [self.has_source, self.is_v4, self.spares, self.mark, self._pad];
            out.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
            out
        }
    }

    impl Said {
        /// The verdict in the bytes of one; `None`: they are none.
        pub fn read(bytes: &[u8]) -> Option<Verdict> {
            let mut r = Bytes(bytes);
            let (kind, reason) = (r.u32()?, r.u32()?);
            let identity = u64::from_ne_bytes(r.take()?);
            let (addr, port) = (Addr(r.take()?), r.u16()?);
            let [proto, live] = r.take()?;
            let mut d = Decision {
                identity,
                instance: Instance { addr, port, proto, live },
                service: r.u16()?,
                rule: r.u16()?,
                bucket: r.u16()?,
                ..Decision::default()
            };
            [d.reason, d.arm, d.snat, d.tunnel, d.marks, d.refused] = r.take()?;
            (d.target, d.lane) = (r.u32()?, r.u32()?);
            match kind {
                STEER => Some(Verdict::Steer(d)),
                STAY => Some(Verdict::Stay(d)),
                DENY => Some(Verdict::Deny(d)),
                PASS => Reason::from_code(reason.try_into().ok()?).map(Verdict::Pass),
                _ => None,
            }
        }
    }

    struct Bytes<'a>(&'a [u8]);

    impl Bytes<'_> {
        fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
            let (first, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            Some(*first)
        }

        fn u16(&mut self) -> Option<u16> {
            self.take().map(u16::from_ne_bytes)
        }

        fn u32(&mut self) -> Option<u32> {
            self.take().map(u32::from_ne_bytes)
        }
    }
}
