//! The data path's own log lines (never one per packet) into `tracing`.

use tokio::io::{Interest, unix::AsyncFd};

use crate::kernel::LogLines;

/// Reads lines for ever; ends when the ring cannot be read. `None`: the object logs nothing.
pub async fn pump(lines: Option<LogLines>) {
    let mut ring = match lines.map(watched) {
        None => return std::future::pending().await,
        Some(Ok(ring)) => ring,
        Some(Err(error)) => return tracing::error!(%error, "the data path's log cannot be read"),
    };
    loop {
        match ring.readable_mut().await {
            Ok(mut ready) => {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
            Err(error) => return tracing::error!(%error, "the data path's log cannot be read"),
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that could change descriptors; the ring keeps its own"
)]
fn watched(lines: LogLines) -> std::io::Result<AsyncFd<LogLines>> {
    AsyncFd::with_interest(lines, Interest::READABLE)
}
