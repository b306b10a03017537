//! Work that gives way: large changes run on threads of a lower priority, so that traffic of the node does not wait for a
//! core. Threads that they start inherit it.

/// A tenth of an ordinary thread's share where both want a core; all of it where nobody else does.
const NICE: i32 = 10;

/// Runs `work` to its end on a thread of its own.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|s| {
        let worker = s.spawn(|| {
            // Linux: of this thread only, and always allowed.
            let _ = rustix::process::setpriority_process(None, NICE);
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
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
