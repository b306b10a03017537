//! Times of connections, as the kernel counts them: how long instances take.

use super::wire;

/// Of all times but [`LIFE`].
pub const TIME_UNIT_NS: u64 = 1 << TIME_SHIFT;
pub const TIME_SHIFT: u32 = 10;
/// Of [`LIFE`].
pub const LIFE_UNIT_NS: u64 = 1 << LIFE_SHIFT;
pub const LIFE_SHIFT: u32 = 20;

/// From the first SYN to the instance's answer to it.
pub const HANDSHAKE: usize = 0;
/// From the client's first byte to the instance's first one; where the instance speaks first, from its answer to the SYN.
pub const FIRST_BYTE: usize = 1;
/// From the first SYN to the first FIN or RST.
pub const LIFE: usize = 2;
/// The smoothed round-trip time of a caller's socket (RFC 6298) when its connection began to close.
pub const RTT: usize = 3;

/// Kinds of times.
pub const TIMES: usize = 4;
/// Of one kind: bucket i counts times of 2^i up to below 2^(i+1) units, the first one those below 2, the last one all that are longer
/// (2 min; life: 37 h).
pub const TIME_BUCKETS: usize = 28;

/// Times of one arm of one service on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub handshake: [u64; TIME_BUCKETS],
    pub first_byte: [u64; TIME_BUCKETS],
    pub life: [u64; TIME_BUCKETS],
    pub rtt: [u64; TIME_BUCKETS],
}

impl Times {
    pub const NONE: Self = Self {
        handshake: [0; TIME_BUCKETS],
        first_byte: [0; TIME_BUCKETS],
        life: [0; TIME_BUCKETS],
        rtt: [0; TIME_BUCKETS],
    };

    /// By kind.
    pub fn kinds(&self) -> [&[u64; TIME_BUCKETS]; TIMES] {
        [&self.handshake, &self.first_byte, &self.life, &self.rtt]
    }

    /// What another CPU has counted, too.
    pub fn add(&mut self, other: &Self) {
        let ours = [&mut self.handshake, &mut self.first_byte, &mut self.life, &mut self.rtt];
        for (ours, theirs) in ours.into_iter().zip(other.kinds()) {
            for (a, b) in ours.iter_mut().zip(theirs) {
                *a = a.saturating_add(*b);
            }
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::NONE
    }
}

/// The bucket of a time in units.
#[inline(always)]
pub const fn time_bucket(units: u32) -> u32 {
    let log = 31 - (units | 1).leading_zeros();
    if log < TIME_BUCKETS as u32 { log } else { TIME_BUCKETS as u32 - 1 }
}

wire!(Times, size 896, {
    handshake @ 0: [u64; TIME_BUCKETS], first_byte @ 224: [u64; TIME_BUCKETS], life @ 448: [u64; TIME_BUCKETS],
    rtt @ 672: [u64; TIME_BUCKETS],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f9_a_bucket_holds_a_power_of_two() {
        for (units, want) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (1023, 9), (1024, 10), (u32::MAX, 27)] {
            assert_eq!(time_bucket(units), want, "{units}");
        }
        assert_eq!(time_bucket((1 << 27) - 1), 26);
        assert_eq!(time_bucket(1 << 27), 27);
    }
}
