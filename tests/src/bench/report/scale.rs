//! From figures to places on paper, ticks, and figures as people read them. Pure.

/// An axis from one place to another.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    pub fn linear((low, high): (f64, f64), from: f64, to: f64) -> Self {
        Self { low, high: if high > low { high } else { low + 1.0 }, from, to, log: false }
    }

    /// For positive figures.
    pub fn log((low, high): (f64, f64), from: f64, to: f64) -> Self {
        Self { log: true, ..Self::linear((low.log10(), high.log10()), from, to) }
    }

    pub fn at(&self, value: f64) -> f64 {
        let v = if self.log { value.log10() } else { value };
        self.from + (v - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

/// About five round figures from 0 to at least `high`, and their distance.
pub fn ticks(high: f64) -> (Vec<f64>, f64) {
    if high.is_nan() || high <= 0.0 {
        return (vec![0.0, 1.0], 1.0);
    }
    let rough = high / 5.0;
    let tens = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * tens).find(|s| *s >= rough * 0.999);
    let step = step.unwrap_or(tens * 10.0);
    let count = (high / step - 1e-9).ceil() as usize;
    ((0..=count).map(|k| k as f64 * step).collect(), step)
}

/// Three digits that count, and k, M or G: `0.987`, `12.3`, `84.1k`.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    let (scaled, unit) = match size {
        s if s >= 999.5e6 => (value / 1e9, "G"),
        s if s >= 999.5e3 => (value / 1e6, "M"),
        s if s >= 9999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        s if s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{unit}")
}

/// A tick's figure: as many decimals as its step has.
pub fn tick(value: f64, step: f64) -> String {
    let (value, step, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, step / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, step / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, step / 1e3, "k"),
        _ => (value, step, ""),
    };
    let decimals = (0..4).find(|d| (step * 10_f64.powi(*d)).fract().abs() < 1e-6).unwrap_or(4) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_figures() {
        assert_eq!(ticks(1.1), (vec![0.0, 0.25, 0.5, 0.75, 1.0, 1.25], 0.25));
        assert_eq!(ticks(100.0), (vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0], 20.0));
        assert_eq!(ticks(f64::NAN).0.len(), 2);
    }

    #[test]
    fn figures_are_short() {
        let shown = [0.98712, 12.345, 1234.5, 84123.0, 2_500_000.0, 0.0].map(figure);
        assert_eq!(shown, ["0.99", "12.3", "1234", "84.1k", "2.50M", "0.00"]);
        assert_eq!([tick(0.25, 0.25), tick(1.0, 0.25), tick(20_000.0, 20_000.0)], ["0.25", "1", "20k"]);
    }

    #[test]
    fn a_logarithmic_axis_gives_each_decade_the_same_room() {
        let s = Scale::log((1.0, 1000.0), 0.0, 300.0);
        assert_eq!([1.0, 10.0, 1000.0].map(|v| s.at(v).round()), [0.0, 100.0, 300.0]);
    }
}
