//! Two arms' times, as log2 histograms: at a quantile both are cut in two, and the halves are a 2x2 table. A factor of 2^s between the
//! arms is a shift by s buckets, so the same test asks whether gray is slower, and whether it is less than twice as slow.

use super::{
    sample::{BUCKETS, Histogram},
    tally::{Tally, evidence},
};

/// An arm with nearly everything in one bucket: where in it, cannot be told.
const SPIKE: f64 = 0.95;
/// A cut with up to so many times, or down to such a part of, the share above the quantile is near it.
const NEAR: f64 = 2.5;

/// Both arms' buckets.
pub struct Times {
    stable: [u64; BUCKETS],
    gray: [u64; BUCKETS],
}

impl Times {
    pub fn new(stable: &Histogram, gray: &Histogram) -> Self {
        Self { stable: stable.buckets(), gray: gray.buckets() }
    }

    pub fn counts(&self) -> (u64, u64) {
        (count(&self.stable), count(&self.gray))
    }

    /// ln of the e-value against "gray is at most 2^shift times as slow", at the quantile `q`.
    pub fn slower(&self, q: f64, shift: i32) -> f64 {
        compare(&self.stable, &shifted(&self.gray, -shift), q)
    }

    /// Whether "gray is at least 2^shift times as slow" is wrong, with an error of `level` at all looks together: half of it is for what cuts
    /// of both arms say, half for what each arm's own quantile is.
    pub fn excludes(&self, q: f64, shift: i32, level: f64) -> bool {
        self.faster(q, shift) >= -(level / 2.0).ln() || self.within(q, shift, level / 2.0)
    }

    /// Gray's quantile is below 2^shift times stable's by each arm's own bounds, and the few above it are not slower. Where the quantile
    /// lies deep in a wide bucket, no cut is near it.
    fn within(&self, q: f64, shift: i32, level: f64) -> bool {
        // Where the share in bucket i and above it is less than 1 - q, the quantile is below the bucket.
        let tally = |sums: &[u64; BUCKETS], cut: usize| Tally::new(sums[0], sums[cut]);
        let (stable, gray) = (above(&self.stable), above(&self.gray));
        let gray = (1..BUCKETS).find(|i| tally(&gray, *i).is_below(1.0 - q, level / 2.0));
        let stable = (0..BUCKETS).rev().find(|i| tally(&stable, *i).is_above(1.0 - q, level / 2.0));
        let (Some(gray), Some(stable)) = (gray, stable) else { return false };
        // Gray's is below 2^gray, stable's not below 2^stable.
        if gray as i32 - stable as i32 > shift {
            return false;
        }
        // A doubling is ruled out of those that are as fast, a fourfold time of those that are twice as slow.
        let (a, b) = (above(&self.stable), above(&shifted(&self.gray, 1 - shift)));
        (gray..BUCKETS).all(|cut| evidence(tally(&a, cut), tally(&b, cut)) < -(level / BUCKETS as f64).ln())
    }

    /// ln of the e-value against "gray is at least 2^shift times as slow".
    ///
    /// Times often come in two heaps (from a cache, from behind it), and no share at all lies between them: there a cut at the quantile sees
    /// two arms alike, whatever their heaps are shifted by. So this asks at each cut that is near the quantile, and takes the mean of
    /// their e-values, which is one.
    fn faster(&self, q: f64, shift: i32) -> f64 {
        let (a, b) = (shifted(&self.gray, -shift), self.stable);
        let (na, nb) = (count(&a), count(&b));
        let nearest = cut(&a, &b, q);
        let (a, b) = (above(&a), above(&b));
        // Not weighted by how many each arm has: gray's heap would not be seen.
        let share = |cut: usize| (a[cut] as f64 / na as f64 + b[cut] as f64 / nb as f64) / 2.0;
        let near = |cut: usize| ((1.0 - q) / NEAR..=(1.0 - q) * NEAR).contains(&share(cut));
        let found: Vec<f64> = (1..BUCKETS)
            .filter(|cut| Some(*cut) == nearest || na > 0 && nb > 0 && near(*cut))
            .map(|cut| evidence(Tally::new(na, a[cut]), Tally::new(nb, b[cut])))
            .collect();
        let top = found.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !top.is_finite() {
            return 0.0;
        }
        top + (found.iter().map(|e| (e - top).exp()).sum::<f64>() / found.len() as f64).ln()
    }

    /// The quantile of each arm, in the unit of the histogram, as if values were spread evenly (on the scale of logarithms) inside a bucket.
    pub fn quantiles(&self, q: f64) -> (f64, f64) {
        (place(&self.stable, q).at.exp2(), place(&self.gray, q).at.exp2())
    }

    /// Gray's quantile over stable's. Where an arm has all in one bucket, the smallest that the buckets leave open.
    pub fn ratio(&self, q: f64) -> f64 {
        let (s, g) = (place(&self.stable, q), place(&self.gray, q));
        if (s.spike || g.spike) && g.bucket > s.bucket {
            return (g.bucket - s.bucket - 1.0).exp2();
        }
        (g.at - s.at).exp2()
    }
}

fn count(buckets: &[u64; BUCKETS]) -> u64 {
    buckets.iter().fold(0u64, |sum, n| sum.saturating_add(*n))
}

/// All values times 2^by; what leaves the range stays in its last bucket.
fn shifted(buckets: &[u64; BUCKETS], by: i32) -> [u64; BUCKETS] {
    let mut out = [0u64; BUCKETS];
    for (i, n) in buckets.iter().enumerate() {
        let to = (i as i64 + i64::from(by)).clamp(0, BUCKETS as i64 - 1) as usize;
        out[to] = out[to].saturating_add(*n);
    }
    out
}

/// The test that `b` has more above the quantile of both together.
fn compare(a: &[u64; BUCKETS], b: &[u64; BUCKETS], q: f64) -> f64 {
    match cut(a, b, q) {
        Some(cut) => evidence(Tally::new(count(a), above(a)[cut]), Tally::new(count(b), above(b)[cut])),
        None => 0.0,
    }
}

/// Where to cut both arms at a quantile: by the pooled values, which under equality do not know whose they are.
fn cut(a: &[u64; BUCKETS], b: &[u64; BUCKETS], q: f64) -> Option<usize> {
    let n = count(a) as f64 + count(b) as f64;
    let (a, b) = (above(a), above(b));
    let share = |cut: &usize| (a[*cut] as f64 + b[*cut] as f64) / n;
    let off = |cut: &usize| (share(cut) - (1.0 - q)).abs();
    let cuts = (1..BUCKETS).filter(|cut| (f64::MIN_POSITIVE..1.0).contains(&share(cut)));
    cuts.min_by(|x, y| off(x).total_cmp(&off(y)))
}

/// How many values are in each bucket and above it.
fn above(buckets: &[u64; BUCKETS]) -> [u64; BUCKETS] {
    let mut sums = *buckets;
    for i in (0..BUCKETS - 1).rev() {
        sums[i] = sums[i].saturating_add(sums[i + 1]);
    }
    sums
}

struct Place {
    /// log2 of the value.
    at: f64,
    bucket: f64,
    spike: bool,
}

fn place(buckets: &[u64; BUCKETS], q: f64) -> Place {
    let n = count(buckets) as f64;
    let mut below = 0.0;
    for (i, v) in buckets.iter().enumerate() {
        let v = *v as f64;
        if v > 0.0 && below + v >= q * n {
            let inside = ((q * n - below) / v).clamp(0.0, 1.0);
            return Place { at: i as f64 + inside, bucket: i as f64, spike: v >= SPIKE * n };
        }
        below += v;
    }
    Place { at: 0.0, bucket: 0.0, spike: true }
}
