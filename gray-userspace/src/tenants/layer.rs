//! How large the gray metadata layer is beside the formal one.

/// `C = min(1, (n*t/S) * e^((1 - n/m)/d))`: the share of the formal layer's size that the gray one gets, with `n` gray tenants of
/// `m`, `t` keys of one tenant, `S` keys of the formal layer, and damping `d`. The first factor is what the gray tenants' keys
/// take; the second is a reserve, large for few tenants, gone when all are gray. The source's own formula is lost: this one is ours.
///
/// Nobody gray: 0. What cannot be a share (no keys, no damping, more gray tenants than tenants): 1, as large as the formal one.
pub fn share(n: u64, m: u64, t: u64, s: u64, d: f64) -> f64 {
    if n == 0 {
        return 0.0;
    }
    if n > m || s == 0 || !d.is_finite() || d <= 0.0 {
        return 1.0;
    }
    let (n, m, t, s) = (n as f64, m as f64, t as f64, s as f64);
    let c = n * t / s * ((1.0 - n / m) / d).exp();
    if c.is_finite() { c.min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) -> bool {
        (got - want).abs() < 1e-9
    }

    #[test]
    fn g4_the_formula_by_hand() {
        // All gray, and their keys are all keys: the same size.
        assert!(near(share(100, 100, 10, 1000, 2.0), 1.0));
        // 10 of 100, 10 keys each of 1000: a tenth, times e^(0.9/2).
        assert!(near(share(10, 100, 10, 1000, 2.0), 0.1 * 0.45_f64.exp()));
        assert!(near(share(1, 4, 3, 120, 0.5), 0.025 * 1.5_f64.exp()));
        assert!(near(share(1, 1, 5, 100, 3.0), 0.05));
    }

    #[test]
    fn g4_it_is_a_share_whatever_is_given() {
        assert_eq!(share(0, 100, 10, 1000, 2.0), 0.0);
        for (n, m, t, s, d) in [
            (50, 100, 1000, 10, 1.0),
            (1, 100, 10, 0, 1.0),
            (1, 100, 10, 10, 0.0),
            (1, 100, 10, 10, -1.0),
            (1, 100, 10, 10, f64::NAN),
            (1, 100, u64::MAX, 1, 1e-300),
            (5, 4, 1, 100, 1.0),
            (1, 0, 1, 100, 1.0),
        ] {
            assert_eq!(share(n, m, t, s, d), 1.0, "{n} {m} {t} {s} {d}");
        }
    }

    /// A larger damping means less reserve; the reserve is never negative.
    #[test]
    fn g4_damping_takes_the_reserve_away() {
        let mut before = 2.0;
        for d in [0.2, 0.5, 1.0, 2.0, 10.0, 1e9] {
            let c = share(10, 100, 1, 1000, d);
            assert!(c <= before && c >= 0.01, "{d}: {c}");
            before = c;
        }
    }
}
