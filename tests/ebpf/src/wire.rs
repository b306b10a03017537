//! What the lab's programs and its user space tell each other: the same file is a module of both.

/// One direction of a hostile interface. Written by user space before the attachment; the programs only count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    pub seed: u64,
    /// Shares in 1/10 000 of the IP packets.
    pub lose: u32,
    pub duplicate: u32,
    pub detour: u32,
    /// Interface index of the TAP device that detoured packets go to.
    pub tap: u32,
    /// The hostile interface itself.
    pub ifindex: u32,
    pub pad: u32,
    /// IP packets that came by for the first time; each met one fate.
    pub seen: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub detoured: u64,
    /// Packets that user space sent back.
    pub returned: u64,
}

/// Indices of `WAYS`.
pub const INGRESS: u32 = 0;
pub const EGRESS: u32 = 1;

/// Marks of packets that come by a second time.
pub const CLONED: u32 = 0x6c61_6201;
pub const RETURNED: u32 = 0x6c61_6202;
/// Mark of a packet that is on its way to its end.
pub const LOST: u32 = 0x6c61_6203;

/// A draw of 64 bits that only the seed and `n` decide (SplitMix64).
#[inline(always)]
pub fn draw(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Shares are parts of this.
pub const WHOLE: u64 = 10_000;
