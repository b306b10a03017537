//! Two arms' counts of one event: the sequential test that gray has more of it, and what its probability may be.
//! Pure arithmetic, total for any counts: a tally never holds more events than attempts.

/// Odds ratios that the test mixes, with their weights: from a difference that shows in a million attempts to one that shows in
/// a dozen. Most of the weight is where a stage of a few thousand connections can see anything.
const ODDS: [(f64, f64); 8] =
    [(1.05, 0.05), (1.1, 0.05), (1.2, 0.1), (1.5, 0.15), (2.0, 0.2), (3.0, 0.25), (6.0, 0.1), (20.0, 0.1)];

/// What it costs to put in the mean of both arms for the one that is not known, in nats: at each look the expectation of the e-value
/// is below 1.06 without it, from 30 attempts of either arm (a test sums it up).
const PLUGGED: f64 = 0.06;

/// `k` of `n` attempts had the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    n: u64,
    k: u64,
}

impl Tally {
    /// More events than attempts are as many as attempts.
    pub fn new(n: u64, k: u64) -> Self {
        Self { n, k: k.min(n) }
    }

    pub fn n(self) -> u64 {
        self.n
    }

    /// 0 where nothing was tried.
    pub fn rate(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.k as f64 / self.n as f64 }
    }

    /// Where the event's probability lies, with probability `1 - level` at all times at once: a confidence sequence by the mixture of
    /// Krichevsky and Trofimov, `n kl(k/n, p) <= ln(1/level) + ln(n)/2 + ln 2` (Willems, Shtarkov, Tjalkens 1995 bound its regret;
    /// Robbins 1970 and Howard et al. 2021 have the method). Exact for any n.
    pub fn bounds(self, level: f64) -> (f64, f64) {
        if self.n == 0 {
            return (0.0, 1.0);
        }
        let (at, room) = (self.rate(), self.room(level));
        (edge(at, 0.0, room), edge(at, 1.0, room))
    }

    /// Whether the upper of the `bounds` is below `p`.
    pub fn is_below(self, p: f64, level: f64) -> bool {
        self.n > 0 && self.rate() < p && divergence(self.rate(), p) > self.room(level)
    }

    /// Whether the lower of the `bounds` is above `p`.
    pub fn is_above(self, p: f64, level: f64) -> bool {
        self.n > 0 && self.rate() > p && divergence(self.rate(), p) > self.room(level)
    }

    /// How far a probability may diverge from the rate to be inside the bounds; of at least one attempt.
    fn room(self, level: f64) -> f64 {
        let n = self.n as f64;
        (-level.ln() + 0.5 * n.ln() + std::f64::consts::LN_2) / n
    }
}

/// How strongly the counts say that gray has more of the event than stable, as the logarithm of an e-value: under equal
/// probabilities it reaches `ln(1/level)`, looked at as often as one likes, with probability `level` at most.
///
/// It is a mixture of likelihood ratios of 2x2 tables: probabilities whose odds differ by a factor, against equal ones with the same
/// mean (Turner, Ly, Grünwald 2021; mixtures: Robbins 1970, Johari et al. 2015). The mean is that of both arms together.
pub fn evidence(stable: Tally, gray: Tally) -> f64 {
    let (ns, ng) = (stable.n as f64, gray.n as f64);
    let (ks, kg) = (stable.k as f64, gray.k as f64);
    let (n, k) = (ns + ng, ks + kg);
    if ns == 0.0 || ng == 0.0 || k == 0.0 || k >= n {
        return 0.0;
    }
    let (share, mean) = (ng / n, k / n);
    let term = |(odds, weight): (f64, f64)| {
        let low = lower(odds, share, mean).clamp(0.0, 1.0);
        let high = (odds * low / (1.0 + (odds - 1.0) * low)).min(1.0);
        let part = |times: f64, p: f64, of: f64| if times > 0.0 { times * (p / of).ln() } else { 0.0 };
        let events = part(kg, high, mean) + part(ks, low, mean);
        let others = part(ng - kg, 1.0 - high, 1.0 - mean) + part(ns - ks, 1.0 - low, 1.0 - mean);
        weight.ln() + events + others
    };
    let terms = ODDS.map(term);
    let top = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return 0.0;
    }
    top + terms.iter().map(|t| (t - top).exp()).sum::<f64>().ln() - PLUGGED
}

/// How strongly the counts say that gray's probability is less than `by` above stable's, as the logarithm of an e-value: universal inference
/// (Wasserman, Ramdas, Balakrishnan 2020), equal probabilities by the mixture of `bounds` against the best that is `by` apart. Exact for any n.
pub fn excludes(stable: Tally, gray: Tally, by: f64) -> f64 {
    let (s, g) = (stable.rate(), gray.rate());
    let (ns, ng) = (stable.n as f64, gray.n as f64);
    let n = ns + ng;
    if stable.n == 0 || gray.n == 0 || g - s >= by {
        return 0.0;
    }
    // How much worse than the counts themselves two probabilities explain them.
    let off = |x: f64, y: f64| ns * divergence(s, x) + ng * divergence(g, y);
    let mean = (stable.k as f64 + gray.k as f64) / n;
    let equal = off(mean, mean) + 0.5 * n.ln() + std::f64::consts::LN_2;
    let (mut low, mut high) = (0.0, 1.0 - by);
    for _ in 0..60 {
        let third = (high - low) / 3.0;
        let (a, b) = (low + third, high - third);
        if off(a, a + by) <= off(b, b + by) { high = b } else { low = a }
    }
    let ends = [low, high, 0.0, 1.0 - by].map(|x| off(x, (x + by).min(1.0)));
    let apart = ends.into_iter().fold(f64::INFINITY, f64::min);
    if apart.is_finite() { (apart - equal).max(0.0) } else { 0.0 }
}

/// Stable's probability x: `share high + (1 - share) x = mean`, where `high` has `odds` times the odds of x.
fn lower(odds: f64, share: f64, mean: f64) -> f64 {
    let a = (1.0 - share) * (odds - 1.0);
    let b = share * odds + (1.0 - share) - mean * (odds - 1.0);
    let root = (b * b + 4.0 * a * mean).sqrt();
    // The form without cancellation; `a` may be next to nothing.
    if b > 0.0 { 2.0 * mean / (b + root) } else { (root - b) / (2.0 * a) }
}

/// The point between `from` and `to` where the divergence from `from` is `room`; `to` where it never gets there.
fn edge(from: f64, to: f64, room: f64) -> f64 {
    let (mut inside, mut outside) = (from, to);
    if divergence(from, to) <= room {
        return to;
    }
    for _ in 0..60 {
        let middle = 0.5 * (inside + outside);
        if divergence(from, middle) <= room { inside = middle } else { outside = middle }
    }
    outside
}

/// Kullback-Leibler divergence of two coins, in nats.
fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| match (p > 0.0, q > 0.0) {
        (false, _) => 0.0,
        (true, false) => f64::INFINITY,
        (true, true) => p * (p / q).ln(),
    };
    part(p, q) + part(1.0 - p, 1.0 - q)
}
