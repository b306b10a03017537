//! Maglev tables (Eisenbud et al., NSDI 2016, section 3.4), with weights: an instance of weight w takes its turns in
//! proportion to w. Host only; the kernel just indexes the result.

use crate::hash::{mix, salt};

/// Table sizes: primes, about a doubling apart.
const PRIMES: &[u32] = &[1, 101, 211, 431, 1009, 2039, 4093, 8191, 16381, 32749];

/// The size for so many instances: a prime of at least 100 per instance (1 for a single one, which needs no choice).
pub fn table_len(instances: usize) -> u32 {
    if instances <= 1 {
        return instances as u32;
    }
    let want = (instances as u32).saturating_mul(100);
    *PRIMES.iter().find(|p| **p >= want).unwrap_or(&PRIMES[PRIMES.len() - 1])
}

/// Fills a table. `backends`: (stable name, weight > 0); the result holds indexes into it. The order of `backends`
/// does not matter for who owns a slot, only the names do.
pub fn build(backends: &[(&str, u16)], len: u32) -> Vec<u32> {
    if backends.is_empty() || len == 0 {
        return Vec::new();
    }
    let m = u64::from(len);
    let mut order: Vec<usize> = (0..backends.len()).collect();
    order.sort_by_key(|i| backends[*i].0);
    let heaviest = backends.iter().map(|b| u32::from(b.1)).max().unwrap_or(1).max(1);
    struct Turn {
        index: usize,
        offset: u64,
        skip: u64,
        next: u64,
        weight: u32,
        credit: u32,
    }
    let mut turns: Vec<Turn> = order
        .into_iter()
        .map(|index| {
            let h = salt(backends[index].0);
            Turn {
                index,
                offset: mix(h) % m,
                skip: if m > 1 { mix(h ^ 0x9e37_79b9_7f4a_7c15) % (m - 1) + 1 } else { 0 },
                next: 0,
                weight: u32::from(backends[index].1),
                credit: 0,
            }
        })
        .collect();
    let mut table = vec![u32::MAX; len as usize];
    let mut filled = 0;
    loop {
        for t in &mut turns {
            // One turn per `heaviest` of credit: weights become frequencies without expanding anything.
            t.credit += t.weight;
            if t.credit < heaviest {
                continue;
            }
            t.credit -= heaviest;
            loop {
                let slot = ((t.offset + t.next * t.skip) % m) as usize;
                t.next += 1;
                if table[slot] == u32::MAX {
                    table[slot] = t.index as u32;
                    break;
                }
            }
            filled += 1;
            if filled == len {
                return table;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(table: &[u32], n: usize) -> Vec<f64> {
        (0..n).map(|i| table.iter().filter(|s| **s == i as u32).count() as f64 / table.len() as f64).collect()
    }

    #[test]
    fn sizes_are_prime_and_large_enough() {
        for p in &PRIMES[1..] {
            assert!((2..*p).take_while(|d| d * d <= *p).all(|d| p % d != 0), "{p}");
        }
        assert_eq!((table_len(0), table_len(1), table_len(2), table_len(100)), (0, 1, 211, 16381));
    }

    #[test]
    fn equal_weights_get_equal_shares() {
        let names: Vec<String> = (0..7).map(|i| format!("198.18.2.{i}:80")).collect();
        let b: Vec<(&str, u16)> = names.iter().map(|n| (n.as_str(), 100)).collect();
        for s in shares(&build(&b, table_len(7)), 7) {
            assert!((s - 1.0 / 7.0).abs() < 0.005, "{s}");
        }
    }

    #[test]
    fn weights_are_respected() {
        let t = build(&[("a", 300), ("b", 100)], 2039);
        assert!((shares(&t, 2)[0] - 0.75).abs() < 0.005);
    }

    #[test]
    fn removing_one_moves_few_others() {
        let names: Vec<String> = (0..10).map(|i| format!("i{i}")).collect();
        let all: Vec<(&str, u16)> = names.iter().map(|n| (n.as_str(), 100)).collect();
        let before = build(&all, 4093);
        let after = build(&all[..9], 4093);
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != 9 && b != a).count();
        assert!((moved as f64) < 0.05 * 4093.0, "{moved}");
    }

    #[test]
    fn the_order_of_instances_does_not_matter() {
        let a = build(&[("x", 100), ("y", 100), ("z", 50)], 431);
        let b = build(&[("z", 50), ("x", 100), ("y", 100)], 431);
        assert!(a.iter().zip(&b).all(|(p, q)| ["x", "y", "z"][*p as usize] == ["z", "x", "y"][*q as usize]));
    }
}
