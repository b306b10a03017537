//! CONFIG_HZ from readings of the clock program: what the ticks between two of them can be.

use std::{thread, time::Duration};

use gray_common::wire::Clock;

/// Of each CONFIG_HZ there is: what x86 and arm64 may be built with.
const RATES: [u32; 4] = [100, 250, 300, 1000];

/// Between two readings, and at most so many of them: 216 ms.
const LOOK: Duration = Duration::from_millis(24);
const LOOKS: u32 = 9;

/// One look is enough but for a few percent of the starts; the second one has settled those.
pub fn measure<E>(mut clock: impl FnMut() -> Result<Clock, E>) -> Result<u32, E> {
    let a = clock()?;
    let mut b = a;
    for _ in 0..LOOKS {
        thread::sleep(LOOK);
        b = clock()?;
        if let Some(hz) = rate(a, b) {
            return Ok(hz);
        }
    }
    Ok(nearest(a, b))
}

/// Ticks come at fixed times: of so many between two readings there were at most one period less and one more. The only rate
/// that fits; `None`: several do, or none, because a tick was counted late.
fn rate(a: Clock, b: Clock) -> Option<u32> {
    let ticks = u128::from(b.jiffies.saturating_sub(a.jiffies));
    let ns = u128::from(b.ktime_ns.saturating_sub(a.ktime_ns));
    let fits = |hz: &u32| {
        // Periods of this rate, in parts of a billion.
        let periods = ns * u128::from(*hz);
        (ticks.saturating_sub(1) * 1_000_000_000..=(ticks + 1) * 1_000_000_000).contains(&periods)
    };
    let mut fitting = RATES.into_iter().filter(fits);
    fitting.next().filter(|_| fitting.next().is_none())
}

/// The rate nearest to what was measured.
fn nearest(a: Clock, b: Clock) -> u32 {
    let ticks = b.jiffies.saturating_sub(a.jiffies) as f64;
    let seconds = b.ktime_ns.saturating_sub(a.ktime_ns) as f64 / 1e9;
    let hz = if seconds > 0.0 { ticks / seconds } else { 250.0 };
    RATES.into_iter().min_by_key(|c| (hz.ln() - f64::from(*c).ln()).abs().to_bits()).unwrap_or(250)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock of a kernel with this rate, its first tick `phase` ns from the start.
    fn at(hz: u32, phase: u64, ns: u64) -> Clock {
        let period = 1_000_000_000 / u64::from(hz);
        Clock { ktime_ns: ns, jiffies: (ns + period - phase) / period }
    }

    /// Whatever the phase and however late the second reading is: never another rate, and known within three looks.
    #[test]
    fn h2_no_rate_is_taken_for_another() {
        let mut close = 0;
        for hz in RATES {
            let period = 1_000_000_000 / u64::from(hz);
            for phase in (0..period).step_by(50_000) {
                for late in (0..6_000_000).step_by(100_000) {
                    let a = at(hz, phase, 0);
                    let look = |n: u64| at(hz, phase, n * 24_000_000 + late);
                    let said = (1..=3).find_map(|n| rate(a, look(n)));
                    assert_eq!(said, Some(hz), "phase {phase}, {late} late");
                    close += u32::from(nearest(a, look(1)) != hz);
                    assert_eq!(nearest(a, look(9)), hz);
                }
            }
        }
        assert!(close > 0, "one look by itself would have been wrong");
    }
}
