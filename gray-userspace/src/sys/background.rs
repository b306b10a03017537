//! Work that gives way: large changes run on threads of a lower priority, so that traffic of the node does not wait for a
//! core. Threads that they start inherit it.

use std::sync::{Mutex, PoisonError};

/// A tenth of an ordinary thread's share where both want a core; all of it where nobody else does.
const NICE: i32 = 10;

/// Runs `work` to its end on a thread of its own; where none can be had, on this one.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let done = std::thread::scope(|s| {
        let worker = std::thread::Builder::new().spawn_scoped(s, || {
            // Linux: of this thread only, and always allowed.
            let _ = rustix::process::setpriority_process(None, NICE);
            take().map(|work| work())
        });
        worker.ok()?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    match (done, take()) {
        (Some(done), _) => done,
        (None, Some(work)) => work(),
        (None, None) => unreachable!("whoever took the work has done it"),
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    #[test]
    fn the_work_is_nice_and_the_caller_stays_as_it_was() {
        let before = getpriority_process(None).unwrap();
        let inside = super::run(|| getpriority_process(None).unwrap());
        assert_eq!((inside, getpriority_process(None).unwrap()), (before.max(super::NICE), before));
    }
}
