//! `gray splice`: the listener as a process of its own. It says where it is each second, for as long as it is there; whoever comes after it
//! says so, too, and it ends with its last connection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{Splice, counters::Counters, node::Kernel};
use crate::{
    agent::logging,
    cli::SpliceOptions,
    kernel::Listener,
    sys::{files, netlink::own_addresses},
};

/// How often it says that it is there.
const ROUND: Duration = Duration::from_secs(1);
/// What was on its way here when it stopped saying so comes within this.
const LATE: Duration = Duration::from_secs(1);
/// What waits to be accepted.
const BACKLOG: u32 = 1024;
/// An address that this node had not for so many rounds is gone.
const MISSED_ROUNDS: u32 = 5;
/// How often it tells what it counted.
const TELL_ROUNDS: u32 = 60;
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
    let fit = files::raise().map_or(usize::MAX, |n| (n.saturating_sub(OTHERS) / 2) as usize).max(1);
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
        let listener = listen(address, o.port).with_context(|| format!("cannot listen on {address}"))?;
        places.push(listener.local_addr()?);
        let _ = tasks.spawn(splice.clone().serve(listener));
    }
    let over = rounds(&splice, &places, &mut told).await?;
    tracing::info!(why = ?over, open = splice.counters.open(), "taking no more connections");
    if over != Over::Removed {
        for at in &places {
            // What cannot be taken back lapses; who is connected is not to pay for it.
            if let Err(e) = splice.node.tables.take_back(*at) {
                tracing::warn!("{e}");
            }
        }
        sleep(LATE).await;
    }
    tasks.shutdown().await;
    // Who is followed may take its time.
    let most = if over == Over::Followed { None } else { Some(o.drain) };
    ended(&splice, &mut told, most).await;
    tell(&splice.counters, &mut Vec::new());
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

fn listen(address: IpAddr, port: u16) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port of before, with connections that have ended since.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(BACKLOG)
}

/// One listening socket, and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: SocketAddr,
    /// It was said once.
    said: bool,
    /// Another listener is there for this family.
    followed: bool,
    /// Rounds in which this node did not have the address.
    missed: u32,
}

/// Says where it is until that is over.
async fn rounds(
    splice: &Arc<Splice<Kernel>>,
    places: &[SocketAddr],
    told: &mut Told,
) -> anyhow::Result<Over> {
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let new = |at: &SocketAddr| Place { at: *at, said: false, followed: false, missed: 0 };
    let mut all: Vec<Place> = places.iter().map(new).collect();
    let (mut ready, mut rounds, mut before) = (false, 0u32, Vec::new());
    loop {
        tokio::select! {
            _ = round.tick() => {}
            () = told.wait() => return Ok(Over::Told),
        }
        let of = splice.clone();
        // Apart from the connections: these are calls that wait.
        let (over, now) = tokio::task::spawn_blocking(move || (one(&of, &mut all), all)).await?;
        all = now;
        match over {
            Ok(Some(over)) => return Ok(over),
            Ok(None) if !ready => {
                ready = true;
                tracing::info!(?places, pid = std::process::id(), "ready");
            }
            Ok(None) => {}
            // What is not said again lapses, and until then somebody is here.
            Err(e) => tracing::warn!("{e:#}"),
        }
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(TELL_ROUNDS) {
            tell(&splice.counters, &mut before);
        }
    }
}

fn one(splice: &Splice<Kernel>, all: &mut [Place]) -> anyhow::Result<Option<Over>> {
    let tables = &splice.node.tables;
    if !tables.is_there() {
        return Ok(Some(Over::Removed));
    }
    splice.node.settle()?;
    let own = own_addresses()?;
    for p in all.iter_mut().filter(|p| !p.followed) {
        // One may be away for a moment: an interface that is made again, or a lease that is renewed.
        p.missed = if own.contains(&p.at.ip()) { 0 } else { p.missed + 1 };
        if p.missed >= MISSED_ROUNDS {
            return Ok(Some(Over::Moved(p.at.ip())));
        }
        if p.said && tables.is_followed(p.at)? {
            p.followed = true;
        } else if p.missed == 0 && splice.has_room() {
            tables.say(p.at)?;
            p.said = true;
        } else {
            tables.take_back(p.at)?;
        }
    }
    Ok(all.iter().all(|p| p.followed).then_some(Over::Followed))
}

/// What was counted since, where anything was.
fn tell(counters: &Counters, before: &mut Vec<(String, u64)>) {
    let now = counters.all();
    if now != *before {
        let text: Vec<String> =
            now.iter().filter(|(_, n)| *n != 0).map(|(name, n)| format!("{name}={n}")).collect();
        tracing::info!(open = counters.open(), "counted: {}", text.join(" "));
        *before = now;
    }
}

/// Until the last connection has ended, `most` has passed, or it is told to stop once more.
async fn ended(splice: &Splice<Kernel>, told: &mut Told, most: Option<Duration>) {
    let until = most.map(|most| Instant::now() + most);
    loop {
        if let Err(e) = splice.node.settle() {
            tracing::warn!("{e}");
        }
        let open = splice.counters.open();
        if open == 0 {
            return;
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            tracing::warn!(open, "connections that did not end in time are reset");
            return;
        }
        tokio::select! {
            () = sleep(ROUND / 4) => {}
            () = told.wait() => return,
        }
    }
}
