//! Logs: human on a terminal, JSON otherwise; the data path's lines join them.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::cli::LogFormat;

/// Starts logging to standard error. `GRAY_LOG` filters (`info` unless set).
pub fn start(format: LogFormat) {
    let human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let filter = EnvFilter::try_from_env("GRAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = human && std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal();
    // A line that cannot be written (a full disk, a pipe without a reader) is lost: to say that on standard error would panic. It is what
    // `layer` does, though its documentation says otherwise.
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let layer =
        if human { layer.with_ansi(colour).boxed() } else { layer.json().flatten_event(true).boxed() };
    // aya-log speaks `log`; its lines become events of `tracing`.
    let _ = tracing_log::LogTracer::init();
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

#[cfg(test)]
mod tests {
    use std::{fs::File, process::Command};

    use super::*;

    const CHILD: &str = "GRAY_TEST_LOGS_INTO_NOTHING";

    /// In a process of its own: what tests write goes through libtest, which loses nothing.
    #[test]
    fn h2_a_line_that_cannot_be_written_is_lost_and_nothing_else() {
        if std::env::var_os(CHILD).is_some() {
            start(LogFormat::Json);
            return tracing::error!("nobody reads this");
        }
        let name = "agent::logging::tests::h2_a_line_that_cannot_be_written_is_lost_and_nothing_else";
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .stderr(full)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains("1 passed"), "{said}");
    }
}
