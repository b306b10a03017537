//! The request path's pure half: what a client's first bytes say, and how its connection is bound to an instance once
//! they have said it. No clock, no allocation, no I/O; bytes come through [`Bytes`], so that packets, map values and
//! slices are read by the same code. Every loop is a bounded one over a step function.

pub mod cookie;
pub mod direction;
pub mod frame;
pub mod machine;
pub mod options;
pub mod pending;
pub mod preface;
pub mod proxy2;
#[cfg(any(test, feature = "user"))]
pub mod reading;
pub mod scan;
pub mod seq;
mod text;
pub mod tls;
pub mod translate;
pub mod watch;

/// Bytes that may end anywhere.
pub trait Bytes {
    /// Byte `i`; `None`: there are not that many.
    fn at(&self, i: u32) -> Option<u8>;

    /// Bytes `i` to `i + 7`, the first one lowest. `None` sends the caller to [`Bytes::at`]: not so many, or no cheap way.
    #[inline(always)]
    fn word(&self, _i: u32) -> Option<u64> {
        None
    }

    /// A 16-bit number in network order.
    #[inline(always)]
    fn be16(&self, i: u32) -> Option<u32> {
        Some(u32::from(self.at(i)?) << 8 | u32::from(self.at(i.wrapping_add(1))?))
    }

    /// A 32-bit number in network order.
    #[inline(always)]
    fn be32(&self, i: u32) -> Option<u32> {
        Some(self.be16(i)? << 16 | self.be16(i.wrapping_add(2))?)
    }
}

impl Bytes for [u8] {
    #[inline(always)]
    fn at(&self, i: u32) -> Option<u8> {
        self.get(i as usize).copied()
    }

    #[inline(always)]
    fn word(&self, i: u32) -> Option<u64> {
        let rest = self.get(i as usize..)?;
        rest.first_chunk::<8>().map(|c| u64::from_le_bytes(*c))
    }
}
