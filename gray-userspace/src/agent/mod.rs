//! The agent: starts, holds the state, runs the loops, serves the API. Killing it changes nothing for traffic.

mod alarm;
pub mod attach;
pub mod change;
mod choices;
pub mod core;
mod doctor;
mod drain;
mod events;
mod explain;
mod files;
mod flows;
mod front;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod health;
mod http;
mod kernel_log;
mod logging;
mod metrics;
mod migrate;
mod missing;
mod names;
mod orphans;
mod parts;
mod policy;
mod rehearse;
pub mod release;
mod resize;
mod service;
mod start;
mod status;
mod tag;
#[cfg(any(test, feature = "fuzz"))]
mod testing;
mod time;
mod uninstall;
mod views;
mod workloads;

use std::{sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use self::core::Core;
use crate::{
    api::{Server, ServerOptions},
    cli::AgentOptions,
    sys::watch::LinkEvents,
};

pub use migrate::migrate;
pub use uninstall::uninstall;

/// What is left over of a flip is removed, and labels are looked at again, this often.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// Runs the agent until it is told to stop. Nothing is detached then.
pub fn run(o: AgentOptions) -> anyhow::Result<()> {
    logging::start(o.log_format);
    crate::fail::ready()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(serve(o));
    // A blocking call that still runs (a large load) must not hold the exit up.
    runtime.shutdown_timeout(Duration::from_secs(2));
    done
}

async fn serve(o: AgentOptions) -> anyhow::Result<()> {
    // Before the interfaces are listed: none can slip through in between.
    let links = LinkEvents::open()?;
    let (inner, _lock) = start::start(&o)?;
    let core = Arc::new(Core::new(inner));
    let lines = core.lock().live.log_lines();
    let tasks = [
        tokio::spawn(kernel_log::pump(lines)),
        tokio::spawn(attach::follow(core.clone(), links)),
        tokio::spawn(events::pump(core.clone())),
        tokio::spawn(keep_house(core.clone())),
        tokio::spawn(drain::watch(core.clone())),
        tokio::spawn(alarm::watch(core.clone())),
        tokio::spawn(release::run(core.clone())),
    ];
    let files = o.policy_dir.clone().map(|dir| tokio::spawn(files::follow(core.clone(), dir)));
    let probes = probes(&core, &o)?;
    let options = ServerOptions { socket: o.socket.clone(), metrics: o.metrics, ..ServerOptions::default() };
    let server = Server::start(core, options).await?;
    crate::fail::point(crate::fail::Point::StartReady)?;
    tracing::info!(socket = %o.socket.display(), pid = std::process::id(), "ready");
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let _ = tokio::select! {
        s = term.recv() => s,
        s = int.recv() => s,
    };
    tracing::info!("stopping; steering goes on without us");
    server.stop().await;
    tasks.iter().chain(&files).for_each(tokio::task::JoinHandle::abort);
    drop(probes);
    Ok(())
}

fn probes(core: &Core, o: &AgentOptions) -> anyhow::Result<health::Driver> {
    let (board, unsteered) = {
        let inner = core.lock();
        (inner.board.clone(), inner.live.unsteered()?)
    };
    // Several agents on one machine are several, too.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let node = format!("{} {}", host.trim(), o.bpffs.display());
    let means = health::Means { unsteered, commands: o.health_commands.clone() };
    Ok(health::Driver::start(board, means, &node)?)
}

async fn keep_house(core: Arc<Core>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    let leftovers = core.lock().leftovers.clone();
    loop {
        // At once after a flip: the next change would have to wait for the same grace period.
        tokio::select! {
            _ = tick.tick() => {}
            () = leftovers.notified() => {}
        }
        let core = core.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut inner = core.lock();
            inner.tidy().and_then(|()| inner.refresh_workloads())
        });
        if let Ok(Err(e)) = done.await {
            tracing::warn!(error = e.error, "housekeeping");
        }
    }
}
