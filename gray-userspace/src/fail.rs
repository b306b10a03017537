//! Named fail points: where a test lets gray die, fail or wait. `GRAY_FAIL=NAME[:NTH][=kill|error|panic|sleep:MS]` arms one
//! (the first hit and `kill` when not said), `GRAY_FAIL=trace` names every hit on stderr. Only in builds with debug
//! assertions: elsewhere a point is nothing at all.

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// One place in the code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Point {
            /// Every point there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As `GRAY_FAIL` takes it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

points! {
    /// A change is compiled, nothing is recorded.
    ChangeCompiled = "change.compiled";
    /// The revision is pending.
    ChangeBegun = "change.begun";
    /// The steps are known, none is taken.
    ChangePlanned = "change.planned";
    /// Another hash key is staged, no table was written.
    ChangeKey = "change.key";
    /// Before each step, the flip included.
    ChangeWrite = "change.write";
    /// Everything is written but the flip.
    ChangeFlip = "change.flip";
    /// The new policy is in force, the revision still pending.
    ChangeFlipped = "change.flipped";
    /// The revision is active.
    ChangeActivated = "change.activated";
    /// Leftovers of a flip are there, the grace period is not over.
    TidyBegin = "tidy.begin";
    /// The grace period is over.
    TidySettled = "tidy.settled";
    /// The leftovers are gone.
    TidyDone = "tidy.done";
    /// In the middle of one step of a plan: the first half of its entries is in the kernel.
    KernelHalf = "kernel.half";
    /// A link is made and not pinned.
    KernelLink = "kernel.link";
    /// A transaction is complete, and not committed.
    StoreCommit = "store.commit";
    /// A transaction is on disk.
    StoreCommitted = "store.committed";
    /// A hash key is in its temporary file.
    KeyWritten = "key.written";
    /// The staged hash key is the node's, its revision is still pending.
    KeyTaken = "key.taken";
    /// A hash key is imported before there is any policy.
    KeyBeforePolicy = "key.before-policy";
    /// A workload is kept or forgotten in the store, and not in the kernel.
    WorkloadKept = "workload.kept";
    /// The locks are taken.
    StartLocked = "start.locked";
    /// Maps are pinned, programs loaded, nothing is attached.
    StartLoaded = "start.loaded";
    /// Store and key are open.
    StartOpened = "start.opened";
    /// No revision is pending any more.
    StartSettled = "start.settled";
    /// Before each step of the plan that a start makes.
    StartWrite = "start.write";
    /// The tables hold the active revision.
    StartWritten = "start.written";
    /// Links that nobody wants any more are gone.
    StartPruned = "start.pruned";
    /// Interfaces are attached, the cgroup is not.
    StartInterfaces = "start.interfaces";
    /// Everything is attached.
    StartAttached = "start.attached";
    /// The API answers.
    StartReady = "start.ready";
    /// New flow tables are pinned beside the old ones, the programs over both are loaded; nothing was attached.
    MoveBegun = "move.begun";
    /// Every packet meets a program over both tables.
    MoveBoth = "move.both";
    /// Before each part of what is copied.
    MovePart = "move.part";
    /// All that lives is in the new tables.
    MoveCopied = "move.copied";
    /// Before each link gets its program over the new tables alone.
    MoveLink = "move.link";
    /// No packet meets the old tables any more.
    MoveSwitched = "move.switched";
    /// The new table of one address family has its place.
    MovePlaced = "move.placed";
    /// The maps that two ABI numbers have in common are pinned under both.
    MigrateShared = "migrate.shared";
    /// The flows are in the other ABI's tables, too; the links are still ours.
    MigrateCopied = "migrate.copied";
    /// The links are the other ABI's, our maps are still pinned.
    MigrateHanded = "migrate.handed";
    /// A release has turned, nothing of it is recorded.
    ReleaseTurned = "release.turned";
    /// What a release is to do is recorded, and not begun.
    ReleaseSaved = "release.saved";
    /// An attempt of a step is recorded as begun, and has not.
    ReleaseBegun = "release.begun";
    /// The task of an attempt has begun.
    ReleaseAttempt = "release.attempt";
    /// A step has ended, which is not recorded.
    ReleaseEnded = "release.ended";
    /// The routes of a release are in force, which it does not know.
    ReleaseShifted = "release.shifted";
    /// New connections are not steered any more, everything is still there.
    UninstallStopped = "uninstall.stopped";
    /// Before each removal.
    UninstallRemove = "uninstall.remove";
    /// The pins are gone, the state is not.
    UninstallUnpinned = "uninstall.unpinned";
}

#[cfg(not(debug_assertions))]
pub use absent::{point, ready, watched};
#[cfg(debug_assertions)]
pub use armed::{point, ready, watched};

#[cfg(not(debug_assertions))]
mod absent {
    use std::io;

    use super::Point;

    #[inline(always)]
    pub fn ready() -> io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub fn point(_: Point) -> io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub fn watched(_: Point) -> bool {
        false
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        io::{self, Write as _},
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use super::Point;

    #[derive(Clone, Debug, PartialEq)]
    pub enum Order {
        Trace,
        At { point: Point, nth: u32, action: Action },
    }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Action {
        Kill,
        Error,
        /// A fault of ours.
        Panic,
        Sleep(Duration),
    }

    static ORDER: OnceLock<Option<Order>> = OnceLock::new();
    static HITS: [AtomicU32; Point::ALL.len()] = [const { AtomicU32::new(0) }; Point::ALL.len()];

    /// Reads `GRAY_FAIL`: a name that is none must not pass for a point that was survived.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn ready() -> io::Result<()> {
        let order = match std::env::var("GRAY_FAIL") {
            Ok(text) if !text.is_empty() => Some(Order::read(&text).ok_or_else(|| {
                io::Error::other(format!(
                    "GRAY_FAIL={text}: not NAME[:NTH][=kill|error|panic|sleep:MS] with a name of fail.rs"
                ))
            })?),
            _ => None,
        };
        let _ = ORDER.set(order);
        Ok(())
    }

    /// Passes, unless a test armed this point.
    ///
    /// # Errors
    /// The armed one.
    pub fn point(at: Point) -> io::Result<()> {
        let Some(Some(order)) = ORDER.get() else { return Ok(()) };
        let hit = HITS[at as usize].fetch_add(1, Ordering::Relaxed) + 1;
        match order {
            Order::Trace => say(&format!("fail point {}:{hit}", at.name())),
            Order::At { point, nth, action } if (*point, *nth) == (at, hit) => return action.take(at, hit),
            Order::At { .. } => {}
        }
        Ok(())
    }

    /// Whether a test looks at this point: for those in the middle of what is otherwise one call.
    pub fn watched(at: Point) -> bool {
        match ORDER.get() {
            Some(Some(Order::Trace)) => true,
            Some(Some(Order::At { point, .. })) => *point == at,
            _ => false,
        }
    }

    impl Order {
        pub fn read(text: &str) -> Option<Self> {
            if text == "trace" {
                return Some(Self::Trace);
            }
            let (place, action) = text.split_once('=').unwrap_or((text, "kill"));
            let (name, nth) = place.split_once(':').unwrap_or((place, "1"));
            let action = match action.split_once(':').unwrap_or((action, "")) {
                ("kill", "") => Action::Kill,
                ("error", "") => Action::Error,
                ("panic", "") => Action::Panic,
                ("sleep", ms) => Action::Sleep(Duration::from_millis(ms.parse().ok()?)),
                _ => return None,
            };
            let point = Point::ALL.iter().find(|p| p.name() == name)?;
            let nth = nth.parse().ok().filter(|n| *n > 0)?;
            Some(Self::At { point: *point, nth, action })
        }
    }

    impl Action {
        fn take(&self, at: Point, hit: u32) -> io::Result<()> {
            match self {
                Self::Kill => {
                    say(&format!("fail point {}:{hit} kills", at.name()));
                    let _ = rustix::process::kill_process(
                        rustix::process::getpid(),
                        rustix::process::Signal::KILL,
                    );
                    // The signal is on its way: nothing of ours happens any more.
                    loop {
                        std::thread::park();
                    }
                }
                Self::Error => Err(io::Error::other(format!("fail point {}:{hit}", at.name()))),
                Self::Panic => std::panic::panic_any(format!("fail point {}:{hit}", at.name())),
                Self::Sleep(d) => {
                    std::thread::sleep(*d);
                    Ok(())
                }
            }
        }
    }

    /// stderr, not the log: an uninstall has none.
    fn say(line: &str) {
        let _ = writeln!(io::stderr(), "{line}");
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn orders_are_read_and_others_refused() {
            let at = |nth, action| Some(Order::At { point: Point::ChangeFlip, nth, action });
            for (text, order) in [
                ("trace", Some(Order::Trace)),
                ("change.flip", at(1, Action::Kill)),
                ("change.flip:3", at(3, Action::Kill)),
                ("change.flip=error", at(1, Action::Error)),
                ("change.flip=panic", at(1, Action::Panic)),
                ("change.flip:2=sleep:15", at(2, Action::Sleep(Duration::from_millis(15)))),
                ("change.flop", None),
                ("change.flip:0", None),
                ("change.flip=sleep", None),
                ("change.flip=die", None),
                ("change.flip:x", None),
            ] {
                assert_eq!(Order::read(text), order, "{text}");
            }
        }

        #[test]
        fn names_are_unique() {
            let mut names: Vec<_> = Point::ALL.iter().map(|p| p.name()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), Point::ALL.len());
        }
    }
}
