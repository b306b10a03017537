//! What was measured on, when, and what: a figure without it means nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// `2026-11-22`, UTC.
    pub date: String,
    /// Short; with a `+` when files differed from it. Empty: not a checkout.
    pub commit: String,
}

impl Machine {
    /// This one, now; the commit is that of the working directory.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (info, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let kib: u64 =
            after(&memory, "MemTotal:").split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            cpu: after(&info, "model name").trim_start_matches([' ', '\t', ':']).trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            date: date(now / 86_400),
            commit: commit(Path::new(".")).unwrap_or_default(),
        }
    }

    pub fn sentence(&self, seconds: f64) -> String {
        let Self { cpu, cores, memory_gib, kernel, date, .. } = self;
        let commit = match self.commit.strip_suffix('+') {
            Some(c) => format!("at commit {c} with changes"),
            None if self.commit.is_empty() => "outside of a checkout".into(),
            None => format!("at commit {}", self.commit),
        };
        format!(
            "Measured on {date} in {seconds:.0} s, {commit}: {cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}."
        )
    }
}

/// What follows `key` on the first line that begins with it.
fn after<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default()
}

fn commit(dir: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let out =
            Command::new("git").arg("-C").arg(dir).args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(format!("{}{}", git(&["rev-parse", "--short=10", "HEAD"])?, if changed { "+" } else { "" }))
}

/// Days since 1970 as a date (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: u64) -> String {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let shown = [0, 59, 11_016, 20_779].map(date);
        assert_eq!(shown, ["1970-01-01", "1970-03-01", "2000-02-29", "2026-11-22"]);
    }

    #[test]
    fn this_machine_is_described() {
        let m = Machine::here();
        assert!(m.cores > 0 && m.memory_gib > 0 && !m.kernel.is_empty() && !m.cpu.is_empty(), "{m:?}");
        let m = Machine { commit: "abc+".into(), ..m };
        assert!(m.sentence(1.0).contains("commit abc with changes"), "{}", m.sentence(1.0));
    }
}
