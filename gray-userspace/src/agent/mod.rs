//! The agent: starts, holds the state, runs the loops, serves the API. Killing it changes nothing for traffic.

mod alarm;
pub mod attach;
mod audit;
mod breaker;
mod called;
pub mod change;
mod choices;
mod connect;
pub mod core;
mod doctor;
mod drain;
mod ended;
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
mod key;
mod lease;
mod links;
pub(crate) mod logging;
mod measures;
mod metrics;
mod migrate;
mod missing;
mod names;
mod orphans;
mod parts;
mod policy;
mod quota;
mod refused;
mod rehearse;
pub mod release;
mod resize;
mod retention;
mod segment;
mod service;
mod silent;
mod start;
mod status;
mod steady;
mod syn_tags;
mod tag;
mod tasks;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod testing;
mod time;
mod uninstall;
mod views;
mod workloads;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

use self::{core::Core, tasks::Tasks};
use crate::{
    api::{ApiError, Server, ServerOptions},
    cli::AgentOptions,
    sys::{files as open_files, notify, watch::LinkEvents},
};

pub use migrate::migrate;
pub use uninstall::uninstall;

/// What is left over of a flip is removed, and cgroups are looked at again, this often.
const HOUSEKEEPING: Duration = Duration::from_secs(2);
/// Between two rounds of looking for cgroups, so many times as long as one took.
const LOOKING: u32 = 20;

/// Runs the agent until it is told to stop. Nothing is detached then.
pub fn run(o: AgentOptions) -> anyhow::Result<()> {
    logging::start(o.log_format);
    crate::fail::ready()?;
    let _ = open_files::raise();
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
    let mut tasks = Tasks::default();
    tasks.spawn("the data path's log", kernel_log::pump(lines));
    tasks.spawn("interfaces", attach::follow(core.clone(), links));
    tasks.spawn("events", events::pump(core.clone()));
    tasks.spawn("housekeeping", keep_house(core.clone()));
    tasks.spawn("the agent's lease", lease::renew(core.clone()));
    tasks.spawn("workloads", follow_workloads(core.clone()));
    tasks.spawn("the clock", steady::keep(core.clone()));
    tasks.spawn("old revisions", retention::keep(core.clone()));
    tasks.spawn("drains", drain::watch(core.clone()));
    tasks.spawn("silent clients", silent::watch(core.clone()));
    tasks.spawn("ended connections", ended::watch(core.clone()));
    tasks.spawn("breakers", breaker::watch(core.clone()));
    tasks.spawn("alarms", alarm::watch(core.clone()));
    tasks.spawn("releases", release::run(core.clone()));
    if let Some(dir) = o.policy_dir.clone() {
        tasks.spawn("the policy directory", files::follow(core.clone(), files::Directory(dir)));
    }
    let mut probes = probes(&core, &o)?;
    tasks.spawn("health checks", probes.ended());
    let options = ServerOptions { socket: o.socket.clone(), metrics: o.metrics, ..ServerOptions::default() };
    let server = Server::start(core, options).await?;
    crate::fail::point(crate::fail::Point::StartReady)?;
    tracing::info!(socket = %o.socket.display(), pid = std::process::id(), "ready");
    notify::say("READY=1");
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ended = tokio::select! {
        _ = term.recv() => None,
        _ = int.recv() => None,
        which = tasks.ended() => Some(which),
    };
    match &ended {
        None => tracing::info!("stopping; steering goes on without us"),
        Some(which) => {
            tracing::error!(task = which, "a part of the agent ended; stopping, to be started again")
        }
    }
    server.stop().await;
    drop((tasks, probes));
    ended.map_or(Ok(()), |which| anyhow::bail!("a part of the agent ended: {which}"))
}

fn probes(core: &Core, o: &AgentOptions) -> anyhow::Result<health::Driver> {
    let (board, unsteered) = {
        let inner = core.lock();
        (inner.board.clone(), inner.live.unsteered()?)
    };
    // Several agents on one machine are several, too.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let node = format!("{} {}", host.trim(), o.bpffs.display());
    let means =
        health::Means { unsteered, commands: o.health_commands.clone(), mark: o.bpffs.display().to_string() };
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
        let _ = done("housekeeping", move || {
            let mut inner = core.lock();
            let inner = &mut *inner;
            inner.follow_connect();
            inner.live.keep_filter(&inner.have.filter).map_err(|e| ApiError::internal(&e))?;
            inner.tidy()
        })
        .await;
    }
}

/// Apart from the rest: systemd may take its time to say where a unit is.
async fn follow_workloads(core: Arc<Core>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let _ = tick.tick().await;
        let core = core.clone();
        let looked = done("workloads", move || {
            let targets = core.lock().targets()?;
            let start = Instant::now();
            let found = targets.find();
            let looked = start.elapsed();
            core.lock().follow_workloads(found)?;
            Ok(looked)
        });
        // What is gone for good is looked for for ever: in a large tree that must not be all that the agent does.
        tick.reset_after(HOUSEKEEPING.max(looked.await.unwrap_or_default() * LOOKING));
    }
}

/// One round of a loop; the next does what this one did not. `None`: it failed, and that was said.
async fn done<T: Send + 'static>(
    what: &str,
    round: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Option<T> {
    match tokio::task::spawn_blocking(round).await {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(e)) => tracing::warn!(error = e.error, "{what}"),
        // The state is valid between operations.
        Err(e) => tracing::error!(error = %e, "{what}"),
    }
    None
}
