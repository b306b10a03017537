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
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer =
        if human { layer.with_ansi(colour).boxed() } else { layer.json().flatten_event(true).boxed() };
    // aya-log speaks `log`; its lines become events of `tracing`.
    let _ = tracing_log::LogTracer::init();
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
