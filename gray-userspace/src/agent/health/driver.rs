//! Runs the probes, in a thread and runtime of its own: nothing else of the agent waits for them, and they wait for
//! nothing else. So many at once; who is due and finds no room waits for its turn.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use gray_common::hash::{mix, salt};
use tokio::sync::{mpsc, oneshot};

use super::{
    board::Board,
    command,
    machine::State,
    probe::{Means, Spec, probe},
    targets::Probed,
};
use crate::{agent::time, model::Probe, sys::program};

pub type Shared = Arc<Mutex<Board>>;

/// Probes over the network at one time: descriptors and ports of the agent.
const CONNECTIONS: usize = 512;
/// Programs at one time.
const PROGRAMS: usize = 16;
/// An instance that nobody has heard of is asked within this, milliseconds.
const SOON: u64 = 500;
/// Tables that nothing refers to are freed this often.
const TIDY: Duration = Duration::from_secs(2);

/// A panic elsewhere must not stop the probes: what is half done is done again.
pub fn lock(board: &Shared) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds of the clock that verdicts are timed by.
pub fn now() -> u64 {
    time::monotonic_ns() / 1_000_000
}

/// The running probes. A drop ends them.
pub struct Driver {
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// `node`: what tells this agent from others, so that they do not probe in step.
    pub fn start(board: Shared, means: Means, node: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let node = salt(node);
        let thread = std::thread::Builder::new().name("gray-health".into()).spawn(move || {
            // Dropped by a panic, too.
            let _end = end;
            if means.commands.is_some() {
                let lost = program::end_lost(command::MARK, &means.mark);
                if lost != 0 {
                    tracing::warn!(lost, "programs of checks that the last agent has left were ended");
                }
            }
            runtime.block_on(async {
                tokio::select! {
                    () = run(board, Arc::new(means), node) => {}
                    // The sender is dropped: the same.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), ended: Some(ended), thread: Some(thread) })
    }

    /// Waits for the end of the probes, which is a panic as long as this was not dropped. Once.
    pub fn ended(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let ended = self.ended.take();
        async move {
            match ended {
                // The sender says nothing and is dropped.
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: that was logged.
            let _ = thread.join();
        }
    }
}

/// One instance's turn.
struct Job {
    spec: Arc<Spec>,
    seed: u64,
    /// Probes begun.
    n: u64,
    began: u64,
    /// Names this job among those of the same instance that a change of policy replaced.
    round: u64,
}

#[derive(Default)]
struct Jobs {
    all: HashMap<String, Job>,
    /// (due, instance, round)
    due: BinaryHeap<Reverse<(u64, String, u64)>>,
    /// Due, and no room.
    waiting: [VecDeque<(String, u64)>; 2],
    running: [usize; 2],
    round: u64,
    late_ms: u64,
}

const LIMITS: [usize; 2] = [CONNECTIONS, PROGRAMS];

fn kind(spec: &Spec) -> usize {
    usize::from(matches!(spec.check.probe, Probe::Command(_)))
}

/// The time to the n-th probe after the first, milliseconds.
fn pause(spec: &Spec, seed: u64, n: u64) -> u64 {
    let (interval, jitter) = (u64::from(spec.check.interval_ms), u64::from(spec.check.jitter));
    interval * (100 - jitter + mix(seed ^ n) % (2 * jitter + 1)) / 100
}

impl Jobs {
    /// Those of the board: what stays goes on, what is new gets its own place in the interval.
    fn refresh(&mut self, board: &Board, node: u64, now: u64) {
        let mut before = std::mem::take(&mut self.all);
        for (id, t) in board.targets() {
            let port = t.check.port.unwrap_or(t.address.port());
            let address = std::net::SocketAddr::new(t.address.ip(), port);
            let same = before
                .remove(id)
                .filter(|j| j.spec.address == address && Arc::ptr_eq(&j.spec.check, &t.check));
            if let Some(job) = same {
                let _ = self.all.insert(id.clone(), job);
                continue;
            }
            let spec = Arc::new(Spec {
                service: t.service.clone(),
                instance: t.instance.clone(),
                address,
                check: t.check.clone(),
            });
            self.round += 1;
            let (seed, round) = (mix(node ^ salt(id)), self.round);
            let interval = u64::from(spec.check.interval_ms);
            let within = if t.machine.state() == State::New { interval.min(SOON) } else { interval };
            self.due.push(Reverse((now + seed % within, id.clone(), round)));
            let _ = self.all.insert(id.clone(), Job { spec, seed, n: 0, began: now, round });
        }
    }

    /// The next that may begin now.
    fn next(&mut self, now: u64) -> Option<(String, u64, Arc<Spec>)> {
        loop {
            while let Some(Reverse((at, ..))) = self.due.peek()
                && *at <= now
                && let Some(Reverse((at, id, round))) = self.due.pop()
            {
                if let Some(job) = self.all.get(&id).filter(|j| j.round == round) {
                    self.late_ms = now - at;
                    self.waiting[kind(&job.spec)].push_back((id, round));
                }
            }
            let free = (0..2).find(|k| self.running[*k] < LIMITS[*k] && !self.waiting[*k].is_empty())?;
            let (id, round) = self.waiting[free].pop_front()?;
            if let Some(job) = self.all.get_mut(&id).filter(|j| j.round == round) {
                self.running[free] += 1;
                (job.began, job.n) = (now, job.n + 1);
                return Some((id, round, job.spec.clone()));
            }
        }
    }

    /// A probe ended; false: nobody asks for it any more.
    fn ended(&mut self, id: &str, round: u64, kind: usize, now: u64) -> bool {
        self.running[kind] -= 1;
        let Some(job) = self.all.get(id).filter(|j| j.round == round) else { return false };
        let due = job.began + pause(&job.spec, job.seed, job.n);
        self.due.push(Reverse((due.max(now), id.to_string(), round)));
        true
    }

    fn wake(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }
}

struct Done {
    id: String,
    round: u64,
    kind: usize,
    probed: Probed,
}

async fn run(board: Shared, means: Arc<Means>, node: u64) {
    let (changed, mut jobs) = (lock(&board).changed.clone(), Jobs::default());
    let (send, mut results) = mpsc::unbounded_channel::<Done>();
    let mut tidy = tokio::time::interval(TIDY);
    jobs.refresh(&lock(&board), node, now());
    loop {
        while let Some((id, round, spec)) = jobs.next(now()) {
            let (send, means, kind) = (send.clone(), means.clone(), kind(&spec));
            drop(tokio::spawn(async move {
                let probed = probe(&spec, &means).await;
                // The loop that reads these is gone: so is whoever wanted to know.
                let _ = send.send(Done { id, round, kind, probed });
            }));
        }
        let now_ms = now();
        let step = lock(&board).next_step(now_ms);
        let wake = [jobs.wake(), step].into_iter().flatten().min().unwrap_or(u64::MAX);
        let pause = Duration::from_millis(wake.saturating_sub(now_ms).clamp(1, 60_000));
        tokio::select! {
            () = changed.notified() => jobs.refresh(&lock(&board), node, now()),
            Some(done) = results.recv() => {
                heard(&board, &mut jobs, done);
                while let Ok(done) = results.try_recv() {
                    heard(&board, &mut jobs, done);
                }
            }
            () = tokio::time::sleep(pause) => {}
            _ = tidy.tick() => tidy_up(&board, jobs.late_ms),
        }
        if step.is_some_and(|at| at <= now()) {
            lock(&board).step(now());
        }
        follow(&board).await;
    }
}

fn heard(board: &Shared, jobs: &mut Jobs, done: Done) {
    if jobs.ended(&done.id, done.round, done.kind, now()) {
        let _ = lock(board).result(&done.id, done.probed, now());
    }
}

async fn follow(board: &Shared) {
    loop {
        // The lock is not held over the pause.
        let more = lock(board).follow(now());
        match more {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => return,
            Err(error) => return tracing::error!(%error, "health: the tables cannot follow; trying again"),
        }
    }
}

fn tidy_up(board: &Shared, late_ms: u64) {
    let mut board = lock(board);
    board.late_ms = late_ms;
    if board.untidy()
        && let Err(error) = board.grace()
    {
        tracing::warn!(%error, "health: no grace period");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Damping, Empty, Health};

    fn spec(interval_ms: u32, jitter: u32) -> Spec {
        let check = Health {
            probe: Probe::Tcp,
            port: None,
            interval_ms,
            timeout_ms: 100,
            rise: 2,
            fall: 3,
            jitter,
            slow_start_ms: 0,
            damping: Damping { flips: 3, hold_ms: 0, max_ms: 0 },
            empty: Empty::Stable,
        };
        let address = "198.18.2.3:80".parse().unwrap();
        Spec { service: "shop".into(), instance: "one".into(), address, check: Arc::new(check) }
    }

    #[test]
    fn pauses_stay_within_the_jitter_and_differ() {
        let s = spec(2000, 10);
        let all: Vec<u64> = (0..200).map(|n| pause(&s, 77, n)).collect();
        assert!(all.iter().all(|p| (1800..=2200).contains(p)), "{all:?}");
        assert!(all.iter().collect::<std::collections::BTreeSet<_>>().len() > 15);
        assert_eq!(pause(&spec(2000, 0), 77, 3), 2000);
        assert_eq!(all, (0..200).map(|n| pause(&s, 77, n)).collect::<Vec<_>>(), "by instance, not by chance");
    }

    /// 500 nodes and one instance: the first probes are spread over the interval.
    #[test]
    fn nodes_do_not_probe_in_step() {
        let mut tenths = [0; 10];
        for node in 0..500 {
            let seed = mix(salt(&format!("node-{node}")) ^ salt("shop/one"));
            tenths[(seed % 2000 / 200) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (25..=80).contains(n)), "{tenths:?}");
    }

    fn jobs(n: usize) -> Jobs {
        let mut jobs = Jobs::default();
        for i in 0..n {
            let (id, spec) = (format!("shop/{i}"), Arc::new(spec(1000, 0)));
            jobs.due.push(Reverse((5, id.clone(), 1)));
            let _ = jobs.all.insert(id, Job { spec, seed: 1, n: 0, began: 0, round: 1 });
        }
        jobs
    }

    #[test]
    fn no_more_than_the_limit_run_at_once_and_nobody_is_forgotten() {
        let mut jobs = jobs(CONNECTIONS + 100);
        assert!(jobs.next(4).is_none(), "nobody is due");
        let first: Vec<_> = std::iter::from_fn(|| jobs.next(5)).collect();
        assert_eq!(first.len(), CONNECTIONS);
        for (id, round, _) in &first[..100] {
            assert!(jobs.ended(id, *round, 0, 50));
        }
        let second: Vec<_> = std::iter::from_fn(|| jobs.next(50)).collect();
        assert_eq!(second.len(), 100);
        assert!(second.iter().all(|s| first.iter().all(|f| f.0 != s.0)), "those that waited");
        assert_eq!(jobs.wake(), Some(1005), "from its beginning");
        let _ = jobs.all.remove(&second[0].0);
        assert!(!jobs.ended(&second[0].0, 1, 0, 60), "gone meanwhile");
    }
}
