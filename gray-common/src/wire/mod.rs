//! Types shared with the kernel: fixed-width integers, byte arrays and nested wire structs only, no hidden padding,
//! layout asserted on both targets. Multi-byte fields are host order unless their name or doc says network order.

mod breaker;
mod event;
mod flow;
mod link;
mod policy;
mod request;
mod times;

pub use breaker::*;
pub use event::*;
pub use flow::*;
pub use link::*;
pub use policy::*;
pub use request::{
    Bound, Caller, Further, HELD, Held, ListenCount, Listening, MORE_ADDRESS, MORE_ADDRESS_BLACKLIST,
    MORE_ID_BLACKLIST, MORE_REGION_WEIGHT, MORE_VERSION_WEIGHT, Metadata, Reading, Tagged,
};
pub use times::*;

/// A type whose every bit pattern is valid, without padding, so that it may cross the kernel boundary as bytes.
///
/// # Safety
/// The type is `repr(C)`, made of integers, byte arrays and other `Wire` types, and has no padding.
pub unsafe trait Wire: Copy + 'static + Send + Sync {}

// SAFETY: plain integers.
unsafe impl Wire for u32 {}
// SAFETY: plain integers.
unsafe impl Wire for u64 {}

/// Asserts size, offsets and field types of a wire struct, fails on hidden padding, and records the layout for the
/// blessed ABI text. Evaluated in the BPF build and in the host build.
macro_rules! wire {
    ($t:ty, size $n:literal, { $($f:ident @ $o:literal : $ft:ty),+ $(,)? }) => {
        const _: () = {
            assert!(size_of::<$t>() == $n, concat!(stringify!($t), ": size changed"));
            assert!(0 $(+ size_of::<$ft>())+ == $n, concat!(stringify!($t), ": implicit padding"));
            $(assert!(core::mem::offset_of!($t, $f) == $o, concat!(stringify!($t), ".", stringify!($f), ": moved"));)+
            $(let _: fn(&$t) -> &$ft = |v| &v.$f;)+
        };
        // SAFETY: the assertions above: repr(C), no padding, wire fields.
        unsafe impl crate::wire::Wire for $t {}
        #[cfg(any(test, feature = "user"))]
        impl crate::abi::Layout for $t {
            const NAME: &'static str = stringify!($t);
            const SIZE: usize = $n;
            const FIELDS: &'static [(&'static str, usize, &'static str)] =
                &[$((stringify!($f), $o, stringify!($ft)),)+];
        }
    };
}
pub(crate) use wire;

/// An address as the tables carry it: IPv6, or IPv4 mapped into it (`::ffff:a.b.c.d`). Network order.
///
/// Aligned, because for eBPF the compiler copies in units of the alignment: four words instead of sixteen bytes.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr(pub [u8; 16]);

// SAFETY: a transparent byte array.
unsafe impl Wire for Addr {}

impl Addr {
    /// From an IPv4 address as it stands in a packet (its four bytes in memory order).
    #[inline(always)]
    pub fn v4(network_order: u32) -> Self {
        let b = network_order.to_ne_bytes();
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, b[0], b[1], b[2], b[3]])
    }

    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        let [hi, lo] = self.words();
        hi == 0 && lo as u32 == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }

    /// The IPv4 part as it stands in a packet. Only meaningful when [`Addr::is_v4`].
    #[inline(always)]
    pub fn as_v4(&self) -> u32 {
        u32::from_ne_bytes([self.0[12], self.0[13], self.0[14], self.0[15]])
    }

    /// From [`Addr::words`].
    #[inline(always)]
    pub fn from_words([lo, hi]: [u64; 2]) -> Self {
        let (a, b) = (lo.to_le_bytes(), hi.to_le_bytes());
        Self([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
    }

    /// The sixteen bytes as two little-endian words.
    #[inline(always)]
    pub fn words(&self) -> [u64; 2] {
        let b = &self.0;
        [
            u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            u64::from_le_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
        ]
    }
}

#[cfg(any(test, feature = "user"))]
impl From<std::net::IpAddr> for Addr {
    fn from(a: std::net::IpAddr) -> Self {
        match a {
            std::net::IpAddr::V4(a) => Self(a.to_ipv6_mapped().octets()),
            std::net::IpAddr::V6(a) => Self(a.octets()),
        }
    }
}

#[cfg(any(test, feature = "user"))]
impl From<Addr> for std::net::IpAddr {
    fn from(a: Addr) -> Self {
        std::net::Ipv6Addr::from(a.0).to_canonical()
    }
}
