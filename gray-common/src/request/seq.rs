//! Sequence numbers (RFC 9293, 3.4): 32 bits that wrap, ordered within half of their range. Timestamps are alike
//! (RFC 7323, 5.2).

/// `a` comes before `b`.
#[inline(always)]
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// `a` comes after `b`.
#[inline(always)]
pub fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// The later of the two.
#[inline(always)]
pub fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

/// What of a segment of `len` bytes at `seq` is new to somebody who has everything before `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it was there before; also a segment without bytes at or before `next`.
    Old,
    /// From this offset on; the segment reaches beyond `next`.
    New(u32),
    /// So many bytes before it are missing.
    Gap(u32),
}

#[inline(always)]
pub fn part(seq: u32, len: u32, next: u32) -> Part {
    let had = next.wrapping_sub(seq);
    if (had as i32) < 0 {
        return Part::Gap(seq.wrapping_sub(next));
    }
    if had >= len { Part::Old } else { Part::New(had) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a1_order_survives_the_wrap() {
        for (a, b) in
            [(0, 1), (u32::MAX, 0), (0x7fff_ffff, 0x8000_0000), (0xffff_fff0, 0x10), (5, 5 + 0x7fff_ffff)]
        {
            assert!(before(a, b) && after(b, a) && !before(b, a) && !after(a, b), "{a:x} {b:x}");
            assert_eq!((later(a, b), later(b, a)), (b, b));
        }
        assert!(!before(7, 7) && !after(7, 7));
    }

    #[test]
    fn a1_a_segment_is_old_new_or_behind_a_gap() {
        for (seq, len, next, want) in [
            (100, 10, 100, Part::New(0)),
            (100, 10, 105, Part::New(5)),
            (100, 10, 110, Part::Old),
            (100, 10, 200, Part::Old),
            (100, 0, 100, Part::Old),
            (100, 10, 90, Part::Gap(10)),
            (5, 10, u32::MAX - 4, Part::Gap(10)),
            (u32::MAX - 4, 20, 5, Part::New(10)),
        ] {
            assert_eq!(part(seq, len, next), want, "{seq} {len} {next}");
        }
    }

    proptest! {
        /// Against plain 64-bit numbers.
        #[test]
        fn a1_parts_equal_those_of_unwrapped_numbers(base: u32, seq in 0u64..100_000, len in 0u64..100_000, next in 0u64..100_000) {
            let want = if seq > next {
                Part::Gap((seq - next) as u32)
            } else if seq + len <= next {
                Part::Old
            } else {
                Part::New((next - seq) as u32)
            };
            prop_assert_eq!(part(base.wrapping_add(seq as u32), len as u32, base.wrapping_add(next as u32)), want);
        }
    }
}
