//! Numbers and durations as a person reads them.

/// `5 s`, `2 min 3 s`, `3 h 4 min`, `5 d 6 h`.
pub fn duration(seconds: u64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{m} min {} s", seconds % 60),
        3600..86_400 => format!("{h} h {} min", m % 60),
        _ => format!("{d} d {} h", h % 24),
    }
}

/// Basis points as percent: `10 %`, `0.5 %`, `99.99 %`.
pub fn percent(basis_points: u16) -> String {
    let (whole, rest) = (basis_points / 100, basis_points % 100);
    match rest {
        0 => format!("{whole} %"),
        r if r % 10 == 0 => format!("{whole}.{} %", r / 10),
        r => format!("{whole}.{r:02} %"),
    }
}

/// `1 rule`, `2 rules`, `3 identities`.
pub fn count(n: u64, one: &str) -> String {
    match (n, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        _ if one.ends_with(['x', 's']) => format!("{n} {one}es"),
        _ => format!("{n} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (s, want) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7384, "2 h 3 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(s), want);
        }
    }

    #[test]
    fn percentages_are_exact() {
        for (bp, want) in
            [(0, "0 %"), (1, "0.01 %"), (50, "0.5 %"), (1000, "10 %"), (9999, "99.99 %"), (10_000, "100 %")]
        {
            assert_eq!(percent(bp), want);
        }
    }

    #[test]
    fn plurals() {
        for (n, one, want) in [
            (1, "rule", "1 rule"),
            (2, "rule", "2 rules"),
            (0, "identity", "0 identities"),
            (2, "prefix", "2 prefixes"),
            (2, "class", "2 classes"),
        ] {
            assert_eq!(count(n, one), want);
        }
    }
}
