//! The data path's own log lines (never one per packet) into `tracing`.

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc::UnboundedReceiver,
};

use crate::kernel::LogLines;

/// Reads for ever what each of these says: those of programs that others took the place of may have something left.
pub async fn pump(mut all: UnboundedReceiver<LogLines>) {
    let mut pumps = tokio::task::JoinSet::new();
    while let Some(lines) = all.recv().await {
        let _ = pumps.spawn(one(lines));
    }
}

async fn one(lines: LogLines) {
    let Ok(mut ring) = watched(lines) else { return };
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
