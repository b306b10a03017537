//! The listener: takes connections, reads, decides, connects, and hands over to `relay`. A task for each.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gray_common::{
    Reason,
    decide::Decision,
    request::machine::ATTEMPTS,
    wire::{ARM_GRAY, Breaker, ListenCount, Reading},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    First, Said, Why,
    counters::Counters,
    decide::{Goes, Served, Tables, Whose},
    http2::{Acknowledged, GREETING},
    relay::{self, Cut},
};
use crate::{kernel::KernelError, sys::clock::monotonic_ns};

/// From the first byte to the end of the head.
const HEAD: Duration = Duration::from_secs(5);
/// After no descriptor was left for another connection.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a client that are read at once.
const READ: usize = 8192;

/// What the listener needs of its node.
pub trait Node: Tables + Send + Sync + 'static {
    /// Whose a connection is that came from `peer` to `local`; `None`: nobody handed it over.
    ///
    /// # Errors
    /// The kernel's.
    fn whose(&self, peer: SocketAddr, local: SocketAddr) -> Result<Option<Whose>, KernelError>;

    /// Adds to what is counted of a service, by its number.
    fn count(&self, service: u16, more: &ListenCount);

    /// Tells a service's breaker that its gray instance has failed a connection.
    fn failed(&self, service: u16, breaker: Breaker);

    /// Keeps the connect path from steering a socket that is about to be connected.
    ///
    /// # Errors
    /// The kernel's.
    fn unsteered(&self, socket: &TcpSocket) -> io::Result<()>;

    /// Says of a connected socket where it was sent, for a drain or a recall to close it.
    ///
    /// # Errors
    /// The kernel's.
    fn sent(&self, socket: &TcpStream, ends: (SocketAddr, SocketAddr), rule: u16) -> io::Result<()>;
}

/// A listener's node and what it counts.
#[derive(Debug)]
pub struct Splice<N> {
    pub node: N,
    pub counters: Counters,
    turns: AtomicU32,
    /// For so many connections at once.
    room: Arc<Semaphore>,
    most: usize,
    said: Budget,
}

/// Log lines of a second.
#[derive(Debug, Default)]
struct Budget(AtomicU64);

impl Budget {
    const LINES: u64 = 5;

    /// Whether there is room for another one. Two that ask at once may both be the last.
    fn allows(&self) -> bool {
        let second = monotonic_ns() / 1_000_000_000;
        let before = self.0.load(Relaxed);
        let lines = if before >> 8 == second { before & 0xff } else { 0 };
        if lines < Self::LINES {
            self.0.store(second << 8 | (lines + 1), Relaxed);
        }
        lines < Self::LINES
    }
}

/// A connection that goes no further.
enum End {
    /// The client is told with a reset.
    Reset,
    Broken(io::Error),
}

impl From<io::Error> for End {
    fn from(e: io::Error) -> Self {
        Self::Broken(e)
    }
}

impl<N: Node> Splice<N> {
    /// For `most` connections at once.
    pub fn new(node: N, most: usize) -> Arc<Self> {
        let (counters, turns) = (Counters::default(), AtomicU32::new(0));
        let (room, said) = (Arc::new(Semaphore::new(most)), Budget::default());
        Arc::new(Self { node, counters, turns, room, most, said })
    }

    /// Whether another eighth of what it may have at once would still fit. Whoever does not say so gets none any more.
    pub fn has_room(&self) -> bool {
        self.room.available_permits() > self.most / 8
    }

    /// Takes connections until it is dropped. One for which there is no room is reset.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (client, peer) = match listener.accept().await {
                Ok(taken) => taken,
                Err(e) => {
                    tracing::warn!("accept: {e}");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = self.room.clone().try_acquire_owned() else {
                self.counters.no_room.add(1);
                relay::reset(&client);
                continue;
            };
            let splice = self.clone();
            drop(tokio::spawn(async move {
                splice.counters.taken.add(1);
                splice.one(client, peer).await;
                splice.counters.ended.add(1);
                drop(place);
            }));
        }
    }

    async fn one(&self, mut client: TcpStream, peer: SocketAddr) {
        match self.spliced(&mut client, peer).await {
            Ok(()) => return,
            Err(End::Reset) => {}
            Err(End::Broken(e)) => {
                self.counters.broken.add(1);
                tracing::debug!("{peer}: {e}");
            }
        }
        relay::reset(&client);
    }

    async fn spliced(&self, client: &mut TcpStream, peer: SocketAddr) -> Result<(), End> {
        relay::prepare(client)?;
        let whose = self.node.whose(peer, client.local_addr()?).map_err(|e| self.failed(&e))?;
        let Some(whose) = whose else { return Err(self.unknown()) };
        let served = whose.served(&self.node).map_err(|e| self.failed(&e))?;
        let Some(served) = served else { return Err(self.unknown()) };
        let Served { service, reading, further, breaker } = served;
        let mut first = First::of(reading, further, whose.client.ip());
        let (said, greeted) = self.read(client, &mut first, &reading).await?;
        self.counters.read(said);
        self.counters.proxied(first.source().is_some(), first.is_disbelieved());
        let missing = u64::from(first.names_nobody());
        let unread = u64::from(matches!(said, Said::Unread(_)));
        self.node.count(service, &ListenCount { read: 1, missing, unread, ..ListenCount::default() });
        if missing != 0 && self.said.allows() {
            tracing::info!(client = %whose.client, service = %whose.service, ?said, "a client that names nobody");
        }
        let (mut instance, gray) = self.connected(&whose, &first, &served).await?;
        let mut acked = greeted.then(|| Acknowledged::behind(first.frames_at()));
        let mut begin = Vec::new();
        match &mut acked {
            Some(acked) => acked.pass(first.bytes(), &mut begin),
            None => begin.extend_from_slice(first.bytes()),
        }
        drop(first);
        self.counters.from_clients.add(begin.len() as u64);
        let done = async {
            instance.write_all(&begin).await.map_err(|error| Cut { unanswered: true, error })?;
            relay::relay(client, &mut instance, acked, &self.counters).await
        };
        done.await.map_err(|cut| {
            relay::reset(&instance);
            self.node.count(service, &ListenCount { broken: 1, ..ListenCount::default() });
            if gray && cut.unanswered {
                self.node.failed(service, breaker);
            }
            End::Broken(cut.error)
        })
    }

    /// Reads until it is known what the client says, or it is not waited for any more. Whether it was greeted.
    async fn read(
        &self,
        client: &mut TcpStream,
        first: &mut First,
        reading: &Reading,
    ) -> io::Result<(Said, bool)> {
        let first_byte = Duration::from_millis(u64::from(reading.terms.first_byte_ms));
        let mut until = Instant::now() + first_byte;
        let (mut buffer, mut greeted) = (vec![0; READ], false);
        loop {
            let n = match timeout_at(until, client.read(&mut buffer)).await {
                Ok(n) => n?,
                Err(_) if first.bytes().is_empty() => return Ok((first.stop(Why::Silent), greeted)),
                Err(_) => return Ok((first.stop(Why::Slow), greeted)),
            };
            if first.bytes().is_empty() {
                until = Instant::now() + HEAD;
            }
            let said = match n {
                0 => first.stop(Why::Ended),
                n => first.feed(&buffer[..n]),
            };
            match said {
                Said::More => {}
                Said::Waits if greeted => {}
                Said::Waits => {
                    client.write_all(&GREETING).await?;
                    self.counters.greeted.add(1);
                    greeted = true;
                    // It has no request yet, and may have none for a while.
                    until = Instant::now() + first_byte;
                }
                said => return Ok((said, greeted)),
            }
        }
    }

    /// The instance that takes it, and whether that is gray: the one that is decided on, another one, stable's.
    async fn connected(
        &self,
        whose: &Whose,
        first: &First,
        served: &Served,
    ) -> Result<(TcpStream, bool), End> {
        let count = |more: ListenCount| self.node.count(served.service, &more);
        let within = Duration::from_millis(u64::from(served.reading.terms.silent_ms));
        let (mut attempt, mut again) = (0, 0);
        let mut failed: Option<Decision> = None;
        while attempt < ATTEMPTS {
            let epoch = self.epoch()?;
            let turn = self.turns.fetch_add(1, Relaxed);
            let goes = whose
                .goes(&self.node, first, (attempt, turn), failed.as_ref())
                .map_err(|e| self.failed(&e))?;
            let (at, decided, gray) = match &goes {
                Goes::To(at, d) => (*at, *d, u32::from(d.arm) == ARM_GRAY),
                Goes::Refused(_) => {
                    self.counters.refused.add(1);
                    count(ListenCount { refused: 1, ..ListenCount::default() });
                    return Err(End::Reset);
                }
                Goes::Nowhere(Reason::NotManaged) => return Err(self.unknown()),
                Goes::Nowhere(_) => {
                    attempt += 1;
                    continue;
                }
            };
            match timeout(within, self.connect(at, whose.service, decided.rule)).await {
                // A recall came in between, and may have missed this one.
                Ok(Ok(_)) if again < ATTEMPTS && self.epoch()? != epoch => {
                    again += 1;
                    continue;
                }
                Ok(Ok(instance)) => {
                    self.counters.arrived(gray);
                    count(match gray {
                        true => ListenCount { gray: 1, ..ListenCount::default() },
                        false => ListenCount { stable: 1, ..ListenCount::default() },
                    });
                    return Ok((instance, gray));
                }
                Ok(Err(e)) => tracing::debug!("{at}: {e}"),
                Err(_) => tracing::debug!("{at}: silent for {within:?}"),
            }
            self.counters.another.add(1);
            failed = Some(decided);
            if gray {
                self.node.failed(served.service, served.breaker);
            }
            count(match gray {
                true => ListenCount { failed_gray: 1, ..ListenCount::default() },
                false => ListenCount { failed_stable: 1, ..ListenCount::default() },
            });
            attempt += 1;
        }
        self.counters.no_instance.add(1);
        count(ListenCount { no_instance: 1, ..ListenCount::default() });
        Err(End::Reset)
    }

    fn epoch(&self) -> Result<u64, End> {
        Ok(self.node.control().map_err(|e| self.failed(&e))?.epoch)
    }

    async fn connect(&self, to: SocketAddr, service: SocketAddr, rule: u16) -> io::Result<TcpStream> {
        let socket = match to.ip() {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        self.node.unsteered(&socket)?;
        let stream = socket.connect(to).await?;
        self.node.sent(&stream, (service, to), rule)?;
        relay::prepare(&stream)?;
        Ok(stream)
    }

    fn unknown(&self) -> End {
        self.counters.unknown.add(1);
        End::Reset
    }

    fn failed(&self, e: &KernelError) -> End {
        self.counters.failed.add(1);
        if self.said.allows() {
            tracing::warn!("{e}");
        }
        End::Reset
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
