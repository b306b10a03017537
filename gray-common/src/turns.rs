//! Tables for round robin: whose turn comes after whose. Smooth weighted round robin (as nginx has it since 1.3.1): a heavy
//! backend's turns are spread, not bunched. Host only; the kernel just counts turns.

/// Fills a table of `len` slots with indexes of backends. `weights`: a backend of weight 0 has no turn; nobody has: empty.
/// A round that does not fit into the table a whole number of times is cut off at its end, once per `len` turns.
pub fn build(weights: &[u32], len: u32) -> Vec<u32> {
    let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
    // Who has a turn at all, and what each is owed.
    let mut owed: Vec<(u32, i64)> =
        (0u32..).zip(weights).filter(|(_, w)| **w > 0).map(|(i, _)| (i, 0)).collect();
    let turn = |_| {
        owed.iter_mut().for_each(|(i, credit)| *credit += i64::from(weights[*i as usize]));
        // The first of those that are owed most.
        let best = owed.iter_mut().rev().max_by_key(|(_, credit)| *credit)?;
        best.1 -= total;
        Some(best.0)
    };
    (0..len).map_while(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c11_equals_take_turns() {
        assert_eq!(build(&[1, 1, 1], 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(build(&[0, 100, 100], 4), [1, 2, 1, 2], "who is down has no turn");
        assert_eq!(build(&[7], 1), [0]);
        assert!(build(&[0, 0], 5).is_empty() && build(&[], 5).is_empty());
    }

    #[test]
    fn c11_a_heavy_ones_turns_are_spread() {
        assert_eq!(build(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn c11_every_window_of_a_round_is_fair() {
        let weights = [100, 50, 250, 1];
        let (table, round) = (build(&weights, 1003), 401);
        for from in 0..table.len() - round {
            for (i, w) in weights.iter().enumerate() {
                let turns = table[from..from + round].iter().filter(|b| **b == i as u32).count();
                assert_eq!(turns as u32, *w, "backend {i} from turn {from}");
            }
        }
    }
}
