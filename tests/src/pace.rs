//! How patient the lab is. `GRAY_LAB_SLOW=10` makes it ten times as patient: emulated machines are slow.

use std::sync::OnceLock;
use std::time::Duration;

/// This long, on an ordinary machine.
pub fn patience(ordinary: Duration) -> Duration {
    ordinary * factor()
}

/// 1, or what `GRAY_LAB_SLOW` says.
pub fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR
        .get_or_init(|| std::env::var("GRAY_LAB_SLOW").ok().and_then(|v| v.parse().ok()).unwrap_or(1).max(1))
}
