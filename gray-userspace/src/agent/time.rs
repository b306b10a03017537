//! Times as the API writes them: RFC 3339, UTC. No time zones, no parsing.

use std::time::{Duration, SystemTime};

pub use crate::sys::clock::monotonic_ns;

/// Unix milliseconds, now.
pub fn now_ms() -> u64 {
    since_epoch(SystemTime::now()).as_millis() as u64
}

/// `2026-01-02T03:04:05Z` from unix milliseconds.
pub fn rfc3339(unix_ms: u64) -> String {
    format!("{}Z", seconds(unix_ms / 1000))
}

/// `2026-01-02T03:04:05.000006Z` from unix nanoseconds.
pub fn rfc3339_micros(unix_ns: u64) -> String {
    format!("{}.{:06}Z", seconds(unix_ns / 1_000_000_000), unix_ns / 1000 % 1_000_000)
}

/// As [`rfc3339`]; a time before 1970 is 1970.
pub fn rfc3339_of(t: SystemTime) -> String {
    rfc3339(since_epoch(t).as_millis() as u64)
}

/// What to add to a `CLOCK_MONOTONIC` time to get unix nanoseconds, at present. The wall clock may be set at any time:
/// not to be kept for long.
pub fn monotonic_to_unix_ns() -> u64 {
    (since_epoch(SystemTime::now()).as_nanos() as u64).wrapping_sub(monotonic_ns())
}

fn since_epoch(t: SystemTime) -> Duration {
    t.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn seconds(unix: u64) -> String {
    let (y, m, d) = date(unix / 86_400);
    let s = unix % 86_400;
    format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Year, month, day of a count of days since 1970 in the Gregorian calendar (H. Hinnant, "chrono-compatible low-level
/// date algorithms": the year begins in March, so that the leap day is its last).
fn date(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let m = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(m <= 2), m, of_year - (153 * month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_around_leap_days_and_centuries() {
        for (unix, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_323_045, "2026-01-02T03:04:05Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix * 1000), want);
        }
        assert_eq!(rfc3339_micros(1_767_323_045_000_006_999), "2026-01-02T03:04:05.000006Z");
    }

    #[test]
    fn a_monotonic_time_becomes_now() {
        let unix_ms = monotonic_ns().wrapping_add(monotonic_to_unix_ns()) / 1_000_000;
        assert!(now_ms().abs_diff(unix_ms) < 1000);
    }
}
