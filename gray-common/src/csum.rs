//! One's complement arithmetic of the Internet checksum (RFC 1071, RFC 1624). Words are as they stand in memory:
//! the sum is the same in either byte order.

/// Folds a 32-bit sum to 16 bits with end-around carry.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let s = (sum & 0xffff) + (sum >> 16);
    ((s & 0xffff) + (s >> 16)) as u16
}

/// The sum of a 32-bit word's halves.
#[inline(always)]
pub fn halves(w: u32) -> u32 {
    (w & 0xffff) + (w >> 16)
}

/// The difference of replacing one 32-bit word by another, folded.
#[inline(always)]
pub fn diff32(old: u32, new: u32) -> u16 {
    fold(halves(!old) + halves(new))
}

/// The difference of replacing one 16-bit word by another, folded.
#[inline(always)]
pub fn diff16(old: u16, new: u16) -> u16 {
    fold(u32::from(!old) + u32::from(new))
}

/// The difference of replacing one IPv6 address by another, folded.
#[inline(always)]
pub fn diff128(old: [u64; 2], new: [u64; 2]) -> u16 {
    let mut sum = 0u32;
    let mut i = 0;
    while i < 2 {
        sum += halves(!(old[i] as u32)) + halves(!((old[i] >> 32) as u32));
        sum += halves(new[i] as u32) + halves((new[i] >> 32) as u32);
        i += 1;
    }
    fold(sum)
}

/// Sum of two folded differences.
#[inline(always)]
pub fn add(a: u16, b: u16) -> u16 {
    fold(u32::from(a) + u32::from(b))
}

/// 0 in either form.
#[inline(always)]
pub fn is_zero(diff: u16) -> bool {
    diff == 0 || diff == 0xffff
}

/// A checksum field after a difference was applied to the data (RFC 1624, equation 3).
#[inline(always)]
pub fn update(check: u16, diff: u16) -> u16 {
    !fold(u32::from(!check) + u32::from(diff))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checksum(words: &[u16]) -> u16 {
        !fold(words.iter().map(|w| u32::from(*w)).sum())
    }

    proptest! {
        #[test]
        fn an_update_equals_a_full_sum(mut words in prop::collection::vec(any::<u16>(), 4..20), a: u16, b: u16) {
            let before = checksum(&words);
            let old = u32::from(words[1]) | u32::from(words[2]) << 16;
            let new = u32::from(a) | u32::from(b) << 16;
            words[1] = a;
            words[2] = b;
            let got = update(before, diff32(old, new));
            let want = checksum(&words);
            // 0 and 0xffff are the same number in one's complement.
            prop_assert!(got == want || (got ^ want) == 0xffff && (got == 0 || want == 0), "{got:x} {want:x}");
        }

        #[test]
        fn an_ipv6_difference_equals_four_word_differences(o: [u64; 2], n: [u64; 2]) {
            let parts = (0..2).flat_map(|i| [(o[i] as u32, n[i] as u32), ((o[i] >> 32) as u32, (n[i] >> 32) as u32)]);
            let sum = parts.fold(0u16, |s, (a, b)| add(s, diff32(a, b)));
            let got = diff128(o, n);
            prop_assert!(got == sum || got % 0xffff == sum % 0xffff);
        }
    }
}
