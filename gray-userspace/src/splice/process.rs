//! `gray splice`: the listener as a process of its own. It says where it is each second, for as long as it is there; whoever comes after it
//! says so, too, and it ends with its last connection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{Splice, node::Kernel};
use crate::{agent::logging, cli::SpliceOptions, kernel::Listener, sys::netlink::own_addresses};

/// How often it says that it is there.
const ROUND: Duration = Duration::from_secs(1);
/// What was on its way here when it stopped saying so comes within this.
const LATE: Duration = Duration::from_secs(1);
/// What waits to be accepted.
const BACKLOG: u32 = 4096;
/// Descriptors beside those of connections, which have two each.
const OTHERS: u64 = 128;

/// Why it takes no more connections.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    Told,
    /// Another listener is there.
    Followed,
    /// The data path is gone, or another one is in its place.
    Removed,
    /// This node has the address no more.
    Moved(IpAddr),
}

/// Runs until it is told to stop, or another one takes its place; then to the end of its last connection.
///
/// # Errors
/// The data path is none of ours; no address to listen on.
pub fn run(o: &SpliceOptions) -> anyhow::Result<()> {
    logging::start(o.log_format);
    let most = room(o.connections);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(o, most))
}

/// As many connections as are wanted and there are descriptors for.
fn room(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit.clone());
    let most = if raised.is_ok() { limit.maximum } else { getrlimit(Resource::Nofile).current };
    let fit = most.map_or(usize::MAX, |n| (n.saturating_sub(OTHERS) / 2) as usize).max(1);
    if fit < wanted {
        tracing::warn!(wanted, fit, "the limit of open files is lower than what was asked for");
    }
    wanted.min(fit)
}

struct Told {
    term: Signal,
    int: Signal,
}

impl Told {
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

async fn serve(o: &SpliceOptions, most: usize) -> anyhow::Result<()> {
    let mut told = Told { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? };
    let tables = tokio::select! {
        tables = data_path(o) => tables?,
        () = told.wait() => return Ok(()),
    };
    let splice = Splice::new(Kernel::new(tables), most);
    let mut tasks = JoinSet::new();
    let mut places = Vec::new();
    for address in chosen(&o.addresses)? {
        let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
        places.push(listener.local_addr()?);
        let _ = tasks.spawn(splice.clone().serve(listener));
    }
    let over = rounds(&splice, &places, &mut told).await?;
    for at in places.iter().filter(|_| over != Over::Removed) {
        splice.node.tables.take_back(*at)?;
    }
    tracing::info!(why = ?over, open = splice.counters.open(), "taking no more connections");
    if over != Over::Removed {
        sleep(LATE).await;
    }
    tasks.shutdown().await;
    ended(&splice, &mut told, o.drain).await;
    match over {
        Over::Told | Over::Followed => Ok(()),
        Over::Removed => anyhow::bail!("the data path at {} was removed or replaced", o.bpffs.display()),
        Over::Moved(a) => anyhow::bail!("{a} is no address of this node any more"),
    }
}

/// Waits for it: an agent makes it.
async fn data_path(o: &SpliceOptions) -> anyhow::Result<Listener> {
    let mut said = false;
    loop {
        if let Some(tables) = Listener::open(&o.bpffs)? {
            return Ok(tables);
        }
        if !said {
            tracing::info!(bpffs = %o.bpffs.display(), "no data path there yet; waiting for an agent");
            said = true;
        }
        sleep(ROUND).await;
    }
}

/// Those that were asked for, or the first one of each family.
fn chosen(asked: &[IpAddr]) -> anyhow::Result<Vec<IpAddr>> {
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let own = own_addresses()?;
    let first = |v4: bool| own.iter().find(|a| a.is_ipv4() == v4);
    let found: Vec<IpAddr> = [first(true), first(false)].into_iter().flatten().copied().collect();
    anyhow::ensure!(!found.is_empty(), "this node has no address but those of its links and its loopback");
    Ok(found)
}

fn listen(address: IpAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(address, 0))?;
    socket.listen(BACKLOG)
}

/// Says where it is until that is over.
async fn rounds(
    splice: &Arc<Splice<Kernel>>,
    places: &[SocketAddr],
    told: &mut Told,
) -> anyhow::Result<Over> {
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut new = true;
    loop {
        tokio::select! {
            _ = round.tick() => {}
            () = told.wait() => return Ok(Over::Told),
        }
        let (of, at) = (splice.clone(), places.to_vec());
        if let Some(over) = tokio::task::spawn_blocking(move || one(&of.node, &at, new)).await?? {
            return Ok(over);
        }
        if std::mem::take(&mut new) {
            tracing::info!(?places, pid = std::process::id(), "ready");
        }
    }
}

fn one(node: &Kernel, places: &[SocketAddr], new: bool) -> anyhow::Result<Option<Over>> {
    if !node.tables.is_there() {
        return Ok(Some(Over::Removed));
    }
    let own = own_addresses()?;
    for at in places {
        if !own.contains(&at.ip()) {
            return Ok(Some(Over::Moved(at.ip())));
        }
        if !new && !node.tables.is_said(*at)? {
            return Ok(Some(Over::Followed));
        }
        node.tables.say(*at)?;
    }
    node.settle()?;
    Ok(None)
}

/// Until the last connection has ended, `most` has passed, or it is told to stop once more.
async fn ended(splice: &Splice<Kernel>, told: &mut Told, most: Duration) {
    let until = Instant::now() + most;
    loop {
        if let Err(e) = splice.node.settle() {
            tracing::warn!("{e}");
        }
        let open = splice.counters.open();
        if open == 0 {
            return;
        }
        if Instant::now() >= until {
            tracing::warn!(open, "connections that did not end in time are reset");
            return;
        }
        tokio::select! {
            () = sleep(ROUND / 4) => {}
            () = told.wait() => return,
        }
    }
}
