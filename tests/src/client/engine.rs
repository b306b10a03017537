//! Workers that make requests, one after the other each, and count. It knows no protocol.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::exchange::{Answer, Fault, Session};
use super::report::{Report, Sample};
use super::tally::{Tally, merge};
use super::{LoadSpec, Mode};
use crate::sys::monotonic_ns;

/// A refused client that spins would only measure how fast it is refused.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

struct Shared {
    spec: LoadSpec,
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
    fn take_ticket(&self) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return false;
        }
        let n = self.begun.fetch_add(1, Ordering::Relaxed);
        self.spec.count.is_none_or(|count| n < count)
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
        while self.shared.take_ticket() {
            serial += 1;
            let begun_ns = monotonic_ns();
            let result = self.request(&format!("{}-{}-{serial}", std::process::id(), self.index), begun_ns);
            let failed = result.0.is_err();
            self.count(begun_ns, result);
            let pause = Duration::from_millis(self.shared.spec.pause_ms);
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

    fn count(&self, begun_ns: u64, (result, opened_ns): (Result<Answer, Fault>, u64)) {
        let ended_ns = monotonic_ns();
        let mut tally = lock(&self.shared.tallies[self.index]);
        match &result {
            Ok(answer) => tally.good(answer, &self.source, (ended_ns - begun_ns) / 1000),
            Err(fault) => tally.bad(fault, &self.source),
        }
        if self.shared.spec.record {
            let result = result.map(|a| a.server()).map_err(|f| f.kind);
            tally.sample(Sample { begun_ns, ended_ns, opened_ns, source: self.source.clone(), result });
        }
    }
}
