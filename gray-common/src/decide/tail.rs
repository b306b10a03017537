//! The last digits of a value (B3): cohorts of users, devices or phone numbers that end with `7`, or with `42`.
//!
//! What a value ends with is one number, a set of endings one bit for each: 10 for a lone digit, 100 for two. The bits lie in
//! the numbers that a fact has.

#[cfg(any(test, feature = "user"))]
use crate::wire::FACT_TAIL;
use crate::wire::Fact;

/// What a value of `len` bytes ends with whose last two are these. 0: no digit; 1 + d: the digit d, and no other before it;
/// 11 + n: two digits, the number n.
#[inline(always)]
pub fn of(last: [u8; 2], len: u32) -> u8 {
    let [tens, ones] = last.map(|c| c.wrapping_sub(b'0'));
    if len == 0 || ones > 9 {
        return 0;
    }
    if len == 1 || tens > 9 { 1 + ones } else { 11 + tens * 10 + ones }
}

/// Whether a value that ends so is among a fact's.
#[inline(always)]
pub fn has(fact: &Fact, tail: u8) -> bool {
    // Of 0 the last bit, which nothing sets.
    let bit = u32::from(tail.wrapping_sub(1)) & 127;
    let high = u64::from(fact.value) | u64::from(fact.more) << 32;
    let word = if bit < 64 { fact.salt } else { high };
    word >> (bit & 63) & 1 != 0
}

/// [`of`] a whole value.
#[cfg(any(test, feature = "user"))]
pub fn of_value(value: &[u8]) -> u8 {
    let last = |n: usize| value.len().checked_sub(n).and_then(|i| value.get(i)).copied().unwrap_or(0);
    of([last(2), last(1)], value.len() as u32)
}

/// The fact of a claim's values that end with one of these; `None`: one of them is not one or two digits.
#[cfg(any(test, feature = "user"))]
pub fn fact<'a>(claim: u8, digits: impl IntoIterator<Item = &'a str>) -> Option<Fact> {
    let mut bits = 0u128;
    for text in digits {
        let n: u32 = text.parse().ok().filter(|_| text.bytes().all(|c| c.is_ascii_digit()))?;
        match text.len() {
            1 => (0..10).for_each(|tens| bits |= 1 << n | 1 << (10 + tens * 10 + n)),
            2 => bits |= 1 << (10 + n),
            _ => return None,
        }
    }
    let (salt, value, more) = (bits as u64, (bits >> 64) as u32, (bits >> 96) as u16);
    Some(Fact { salt, value, kind: FACT_TAIL, claim, more })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn b3_tails_as_a_table() {
        for (value, digits, want) in [
            ("u7", "7", true),
            ("7", "7", true),
            ("17", "7", true),
            ("7u", "7", false),
            ("u70", "7", false),
            ("u42", "42", true),
            ("42", "42", true),
            ("142", "42", true),
            ("2", "42", false),
            ("x2", "42", false),
            ("x2", "02", false),
            ("02", "02", true),
            ("u99", "99", true),
            ("u00", "0", true),
            ("", "0", false),
            ("u", "0", false),
            ("\u{0667}", "7", false),
        ] {
            let fact = fact(6, [digits]).unwrap();
            assert_eq!(has(&fact, of_value(value.as_bytes())), want, "{value} {digits}");
        }
        assert!(["", "7a", "123", "-1", "+1", "7 "].iter().all(|d| fact(6, [*d]).is_none()));
    }

    proptest! {
        #[test]
        fn b3_a_tail_is_the_end_of_the_text(
            value in "[a-z0-9]{0,4}|[0-9]{0,12}",
            digits in prop::collection::vec("[0-9]{1,2}", 0..8),
        ) {
            let fact = fact(6, digits.iter().map(String::as_str)).unwrap();
            let want = digits.iter().any(|d| value.ends_with(d.as_str()));
            prop_assert_eq!(has(&fact, of_value(value.as_bytes())), want);
        }
    }
}
