//! Workers that make requests, one after the other each, and count: in a closed loop as soon as they can, in an open one
//! when the next is due. It knows no protocol.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::exchange::{Answer, Fault, Session};
use super::report::{Report, Sample};
use super::tally::{Tally, merge};
use super::{LoadSpec, Mode};
use crate::pace;
use crate::sys::monotonic_ns;

/// A refused client that spins would only measure how fast it is refused.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// An open loop's request that begins later than this after it was due is counted.
const LATE_NS: u64 = 1_000_000;
/// How soon a worker that awaits its time notices a stop.
const NAP: Duration = Duration::from_millis(20);

struct Shared {
    spec: LoadSpec,
    started_ns: u64,
    stop: AtomicBool,
    begun: AtomicU64,
    next_source: AtomicUsize,
    tallies: Vec<Mutex<Tally>>,
}

pub(super) struct Engine {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    started: Instant,
}

impl Engine {
    pub fn start(spec: LoadSpec) -> Self {
        let tallies = (0..spec.workers).map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared {
            spec,
            started_ns: monotonic_ns(),
            stop: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            next_source: AtomicUsize::new(0),
            tallies,
        });
        let started = Instant::now();
        let spawn = |w| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || Worker::new(&shared, w).run())
        };
        let workers = (0..shared.spec.workers).map(spawn).collect();
        Self { shared, workers, started }
    }

    pub fn snapshot(&self) -> Report {
        self.report(false)
    }

    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    pub fn finish(mut self) -> Report {
        for worker in self.workers.drain(..) {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.report(true)
    }

    fn report(&self, full: bool) -> Report {
        let elapsed = self.started.elapsed().as_millis() as u64;
        let tallies: Vec<_> = self.shared.tallies.iter().map(lock).collect();
        merge(tallies.iter().map(|t| &**t), elapsed, full)
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// When the next request is due, after waiting for it; `None`: there is no next one.
    fn take_ticket(&self) -> Option<u64> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let n = self.begun.fetch_add(1, Ordering::Relaxed);
        if self.spec.count.is_some_and(|count| n >= count) {
            return None;
        }
        let Some(rate) = self.spec.rate else { return Some(monotonic_ns()) };
        let due = self.started_ns + (n as f64 * 1e9 / rate) as u64;
        loop {
            let now = monotonic_ns();
            if now >= due {
                return Some(due);
            }
            std::thread::sleep(Duration::from_nanos(due - now).min(NAP));
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
        }
    }

    fn source(&self) -> Option<IpAddr> {
        let sources = &self.spec.sources;
        let k = self.next_source.fetch_add(1, Ordering::Relaxed);
        (!sources.is_empty()).then(|| sources[k % sources.len()])
    }
}

struct Open {
    session: Session,
    local: SocketAddr,
    opened_ns: u64,
    used: u32,
}

struct Worker<'a> {
    shared: &'a Shared,
    index: usize,
    open: Option<Open>,
    /// The source of the request under way, for the count of a failed one.
    source: String,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, index: usize) -> Self {
        Self { shared, index, open: None, source: String::new() }
    }

    fn run(mut self) {
        let mut serial = 0_u64;
        while let Some(due_ns) = self.shared.take_ticket() {
            serial += 1;
            let begun_ns = monotonic_ns();
            let result = self.request(&format!("{}-{}-{serial}", std::process::id(), self.index), begun_ns);
            let failed = result.0.is_err();
            self.count(due_ns, begun_ns, result);
            if self.shared.spec.rate.is_some() {
                continue;
            }
            let pause = pace::patience(Duration::from_millis(self.shared.spec.pause_ms));
            std::thread::sleep(if failed { pause.max(PAUSE_AFTER_FAILURE) } else { pause });
        }
    }

    /// The answer and when its connection was opened.
    fn request(&mut self, nonce: &str, begun_ns: u64) -> (Result<Answer, Fault>, u64) {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => match self.dial(begun_ns) {
                Ok(open) => open,
                Err(fault) => return (Err(fault), begun_ns),
            },
        };
        open.used += 1;
        let limit = match self.shared.spec.mode {
            Mode::Http { per_connection } | Mode::Tcp { per_connection } => per_connection,
            Mode::Udp { per_socket, .. } => per_socket,
        };
        let last = limit != 0 && open.used >= limit;
        let opened_ns = open.opened_ns;
        let answer = open.session.ask(&self.shared.spec, open.local, nonce, last);
        // A session that failed is never used again: what it would read next is not known.
        if answer.is_ok() && !last {
            self.open = Some(open);
        }
        (answer, opened_ns)
    }

    fn dial(&mut self, begun_ns: u64) -> Result<Open, Fault> {
        let source = self.shared.source();
        self.source = source.map_or_else(|| "any".into(), |s| s.to_string());
        lock(&self.shared.tallies[self.index]).opened();
        let (session, local) = Session::open(&self.shared.spec, source)?;
        if !local.ip().is_unspecified() {
            self.source = local.ip().to_canonical().to_string();
        }
        Ok(Open { session, local, opened_ns: begun_ns, used: 0 })
    }

    fn count(&self, due_ns: u64, begun_ns: u64, (result, opened_ns): (Result<Answer, Fault>, u64)) {
        let ended_ns = monotonic_ns();
        let mut tally = lock(&self.shared.tallies[self.index]);
        // In a closed loop a request is due when it begins.
        let due_ns = if self.shared.spec.rate.is_some() { due_ns } else { begun_ns };
        if begun_ns > due_ns + LATE_NS {
            tally.late();
        }
        match &result {
            Ok(answer) => tally.good(answer, &self.source, ended_ns - due_ns),
            Err(fault) => tally.bad(fault, &self.source),
        }
        if self.shared.spec.record {
            let result = result.map(|a| a.server()).map_err(|f| f.kind);
            tally.sample(Sample {
                begun_ns,
                ended_ns,
                due_ns,
                opened_ns,
                source: self.source.clone(),
                result,
            });
        }
    }
}
