//! Medians, intervals and ratios of paired measurements. No I/O.

/// A median with the interval that holds the true median with 95 % confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Median {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// Median and its distribution-free 95 % interval (order statistics of the sign test, no assumption about the noise).
/// With fewer than six values the interval is their range. NaN for none.
pub fn median(values: &[f64]) -> Median {
    let mut v: Vec<f64> = values.iter().copied().filter(|x| !x.is_nan()).collect();
    v.sort_by(f64::total_cmp);
    let n = v.len();
    if n == 0 {
        return Median { median: f64::NAN, low: f64::NAN, high: f64::NAN };
    }
    let middle = if n % 2 == 1 { v[n / 2] } else { f64::midpoint(v[n / 2 - 1], v[n / 2]) };
    let k = rank(n);
    Median { median: middle, low: v[k], high: v[n - 1 - k] }
}

/// The largest k with P(Binomial(n, 1/2) < k + 1) <= 0.025, from 0: how many values may be left out on each side.
fn rank(n: usize) -> usize {
    let mut term = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let (mut below, mut k) = (term, 0);
    while below <= 0.025 && k < n / 2 {
        k += 1;
        term *= (n - k + 1) as f64 / k as f64;
        below += term;
    }
    k.saturating_sub(1)
}

/// Element by element.
pub fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(a, b)| a / b).collect()
}

/// Element by element.
pub fn differences(of: &[f64], less: &[f64]) -> Vec<f64> {
    of.iter().zip(less).map(|(a, b)| a - b).collect()
}

/// The value that `p` percent of the values do not exceed (nearest rank); NaN for none.
pub fn percentile(values: &[f64], p: f64) -> f64 {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    let at = (v.len() as f64 * p / 100.0).ceil() as usize;
    v.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_tables() {
        // n: how many order statistics are left out on each side at 95 % (Conover, table A3).
        for (n, k) in [(6, 0), (9, 1), (10, 1), (20, 5), (30, 9), (40, 13), (100, 39)] {
            assert_eq!(rank(n), k, "n = {n}");
        }
        let m = median(&[5.0, 1.0, 2.0, 4.0, 3.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(m, Median { median: 5.0, low: 2.0, high: 8.0 });
        assert_eq!(median(&[1.0, 2.0]), Median { median: 1.5, low: 1.0, high: 2.0 });
        assert!(median(&[]).median.is_nan());
    }

    #[test]
    fn percentiles_are_of_nearest_rank() {
        let v: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!(percentile(&v, 99.0), 990.0);
        assert_eq!(percentile(&v, 100.0), 1000.0);
        assert!(percentile(&[], 50.0).is_nan());
    }
}
