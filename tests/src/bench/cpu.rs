//! CPU time of the whole machine, or of a core: a packet's work is done in whichever process or idle CPU it interrupts.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

/// `/proc/stat` counts in hundredths of a second, whatever the kernel's own tick.
const TICKS: f64 = 100.0;

/// A running count of busy time.
#[derive(Debug)]
pub struct Busy {
    core: Option<usize>,
    start: Instant,
    idle: f64,
    cpus: f64,
}

impl Busy {
    pub fn start() -> Result<Self> {
        Self::of(None)
    }

    /// Of one core.
    pub fn on(core: usize) -> Result<Self> {
        Self::of(Some(core))
    }

    fn of(core: Option<usize>) -> Result<Self> {
        let (cpus, idle) = read(core)?;
        Ok(Self { core, start: Instant::now(), idle, cpus })
    }

    /// CPU seconds, of all CPUs or of the one, that were not idle since the start. The idle clock is exact, unlike the counts
    /// of user and system time, which are of ticks: so it is what is subtracted. Stolen time is not: a guest
    /// that is to wake up but may not yet has it in both counts, and less than nothing would be left.
    pub fn seconds(&self) -> Result<f64> {
        let (_, idle) = read(self.core)?;
        Ok(self.start.elapsed().as_secs_f64() * self.cpus - (idle - self.idle))
    }
}

/// How many CPUs, and their idle and waiting seconds.
fn read(core: Option<usize>) -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    parse(&text, core).context("/proc/stat is not as expected")
}

fn parse(text: &str, core: Option<usize>) -> Option<(f64, f64)> {
    let cpus = text.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count();
    let (name, cpus) = core.map_or(("cpu ".into(), cpus), |c| (format!("cpu{c} "), 1));
    let line = text.lines().find(|l| l.starts_with(&name))?;
    let fields: Vec<f64> = line.split_whitespace().skip(1).map_while(|f| f.parse().ok()).collect();
    let (idle, wait) = (fields.get(3)?, fields.get(4)?);
    Some((cpus as f64, (idle + wait) / TICKS))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn idle_and_waiting_time_is_not_busy() {
        let text = "cpu  10 20 30 400 50 60 70 80 90 0\ncpu0 5 10 15 200 25 30 35 40 45 0\ncpu1 1 1 1 100 7 1 1 1 1 0\nintr 5\n";
        assert_eq!(parse(text, None), Some((2.0, 4.5)));
        assert_eq!(parse(text, Some(1)), Some((1.0, 1.07)));
        assert_eq!(parse(text, Some(2)), None);
        assert_eq!(parse("intr 5\n", None), None);
    }
}
