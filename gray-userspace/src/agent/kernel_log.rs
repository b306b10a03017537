//! The data path's own log lines (never one per packet) into `tracing`.

use tokio::io::{Interest, unix::AsyncFd};

use crate::kernel::LogLines;

/// Reads lines for ever. `None`: the object logs nothing.
pub async fn pump(lines: Option<LogLines>) {
    let Some(Ok(mut ring)) = lines.map(watched) else { return };
    while let Ok(mut ready) = ring.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that could change descriptors; the ring keeps its own"
)]
fn watched(lines: LogLines) -> std::io::Result<AsyncFd<LogLines>> {
    AsyncFd::with_interest(lines, Interest::READABLE)
}
