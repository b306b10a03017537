//! Percentages: an identity owns one of 10 000 buckets per salt, and a percentage is one comparison with it.

use crate::{hash::mix, limits::BUCKETS};

/// The bucket of an identity under a salt, 0..10 000. Stateless, the same on each node and after each restart.
#[inline(always)]
pub fn bucket(identity: u64, salt: u64) -> u16 {
    (mix(identity ^ salt) % BUCKETS as u64) as u16
}

/// Whether an identity is in the first `basis_points` buckets: 0 nobody, 10 000 everybody, and growing moves nobody out.
#[inline(always)]
pub fn in_percent(identity: u64, salt: u64, basis_points: u32) -> bool {
    u32::from(bucket(identity, salt)) < basis_points
}
