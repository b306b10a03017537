//! The clock that soaks of releases and deadlines of drains go by: unix milliseconds once, and from then on only the time that is known to
//! have passed. While the machine runs that is `CLOCK_BOOTTIME`, also from one agent to the next; over a reboot nobody knows, so it goes on
//! where it was last written down. The machine's own clock may be set to anything.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use super::{core::Core, done};
use crate::{
    api::ApiError,
    sys::clock::{self, Reading},
};

const FILE: &str = "clock.json";
const NEXT: &str = "clock.json.next";
/// What is in the state directory because of this.
pub const FILES: [&str; 2] = [FILE, NEXT];
/// So much of what was served is lost by a reboot.
const EVERY: Duration = Duration::from_secs(30);

/// What the next agent goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Of this clock: what was noted by another one cannot be compared with it.
    id: u64,
    /// What it showed then.
    at: u64,
    boot: String,
    boottime_ms: u64,
    /// The machine's clock then: for people.
    wall_ms: u64,
}

/// What it shows goes up with `CLOCK_BOOTTIME`. Clones are one clock.
#[derive(Clone, Debug)]
pub struct Steady(Arc<Shared>);

struct Shared {
    id: u64,
    began: u64,
    from: Reading,
    path: PathBuf,
    read: fn() -> Reading,
    /// One writer at a time: a later time is never replaced by an earlier one.
    writing: Mutex<()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steady").field("id", &self.id).field("began", &self.began).finish_non_exhaustive()
    }
}

impl Steady {
    /// The last agent's, or a new one where nothing can be read of that.
    pub fn load(state_dir: &Path) -> Self {
        Self::with(state_dir, clock::read)
    }

    pub(super) fn with(state_dir: &Path, read: fn() -> Reading) -> Self {
        let path = state_dir.join(FILE);
        let now = read();
        let kept = match std::fs::read_to_string(&path).map(|text| serde_json::from_str::<Kept>(&text)) {
            Ok(Ok(kept)) => Some(kept),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Ok(Err(e)) => unreadable(&path, &e),
            Err(e) => unreadable(&path, &e),
        };
        let (id, began) = match &kept {
            // The kernel counted on while no agent was there.
            Some(k) if now.boot.is_some_and(|b| b == k.boot) => {
                (k.id, k.at.saturating_add(now.boottime_ms.saturating_sub(k.boottime_ms)))
            }
            Some(k) => {
                let down_s = now.wall_ms.saturating_sub(k.wall_ms) / 1000;
                tracing::info!(
                    down_s,
                    "the machine was started anew: what waits for a time goes on where it was last written down"
                );
                (k.id, k.at)
            }
            None => (now.wall_ms, now.wall_ms),
        };
        let clock = Self(Arc::new(Shared { id, began, from: now, path, read, writing: Mutex::default() }));
        if let Err(error) = clock.keep() {
            tracing::warn!(%error, "the time cannot be written down: a next agent goes on from an earlier one");
        }
        clock
    }

    pub fn id(&self) -> u64 {
        self.0.id
    }

    pub fn now(&self) -> u64 {
        self.at(&(self.0.read)())
    }

    fn at(&self, r: &Reading) -> u64 {
        self.0.began.saturating_add(r.boottime_ms.saturating_sub(self.0.from.boottime_ms))
    }

    /// A time of it as the machine's clock has it now.
    pub fn shown(&self, at: u64) -> u64 {
        let r = (self.0.read)();
        at.saturating_add_signed(r.wall_ms.wrapping_sub(self.at(&r)).cast_signed())
    }

    /// Writes down what it shows: durable when this returns.
    pub fn keep(&self) -> io::Result<()> {
        let _one = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let r = (self.0.read)();
        let at = self.at(&r);
        let boot = r.boot.map(str::to_owned).unwrap_or_default();
        let kept = Kept { id: self.0.id, at, boot, boottime_ms: r.boottime_ms, wall_ms: r.wall_ms };
        replace(&self.0.path, NEXT, serde_json::to_string(&kept)?.as_bytes())
    }
}

fn unreadable(path: &Path, e: &dyn std::error::Error) -> Option<Kept> {
    tracing::error!(path = %path.display(), error = %e, "the last agent's clock cannot be read; soaks begin anew");
    None
}

/// The file holds the old or the new text, whenever the machine stops; `next` is its name on the way.
pub(super) fn replace(path: &Path, next: &str, text: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let next = path.with_file_name(next);
    let mut file = std::fs::File::create(&next)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

/// Writes it down as long as something waits for a time.
pub async fn keep(core: Arc<Core>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let _ = tick.tick().await;
        let core = core.clone();
        let _ = done("the time cannot be written down", move || {
            let clock = {
                let mut inner = core.lock();
                // Here for its timer: a disk that has room again may be full before the next change.
                inner.store.hold_back();
                let waits = inner.deadlines.any() || inner.releases.any_open();
                waits.then(|| inner.clock.clone())
            };
            clock.map_or(Ok(()), |c| c.keep()).map_err(|e| ApiError::internal(&e))
        })
        .await;
    }
}

#[cfg(test)]
pub mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static WORLD: Cell<Reading> = const { Cell::new(Reading { boot: None, boottime_ms: 0, wall_ms: 0 }) };
    }

    pub const HOUR: u64 = 3_600_000;

    /// What the machine's clocks of this test say.
    pub fn world(boot: &'static str, boottime_ms: u64, wall_ms: u64) {
        WORLD.set(Reading { boot: Some(boot), boottime_ms, wall_ms });
    }

    pub fn read() -> Reading {
        WORLD.get()
    }

    #[test]
    fn f6_in_one_boot_the_kernel_counts_whatever_the_clock_is_set_to() {
        let dir = tempfile::tempdir().unwrap();
        world("a", 1000, 50 * HOUR);
        let first = Steady::with(dir.path(), read);
        assert_eq!(first.now(), 50 * HOUR);
        // A day ahead, and back behind where it began: 11 s have passed.
        for wall in [74 * HOUR, 3 * HOUR] {
            world("a", 12_000, wall);
            assert_eq!(first.now(), 50 * HOUR + 11_000);
            let next = Steady::with(dir.path(), read);
            assert_eq!((next.now(), next.id()), (50 * HOUR + 11_000, first.id()));
            assert_eq!(next.shown(next.now() + 5), wall + 5);
        }
        // Another time namespace may be behind: nothing is known to have passed.
        world("a", 0, 50 * HOUR);
        assert_eq!(Steady::with(dir.path(), read).now(), 50 * HOUR + 11_000);
    }

    #[test]
    fn f6_another_boot_goes_on_from_what_was_written_down() {
        let dir = tempfile::tempdir().unwrap();
        world("a", 1000, 50 * HOUR);
        let first = Steady::with(dir.path(), read);
        world("a", 1000 + HOUR, 51 * HOUR);
        first.keep().unwrap();
        world("a", 1000 + 2 * HOUR, 52 * HOUR);
        for wall in [99 * HOUR, 52 * HOUR, HOUR] {
            world("b", 7, wall);
            let next = Steady::with(dir.path(), read);
            assert_eq!(next.now(), 51 * HOUR);
            world("b", 17, wall);
            assert_eq!(next.now(), 51 * HOUR + 10);
            // As if it had never been there, for the next turn.
            first.keep().unwrap_or_default();
            world("a", 1000 + HOUR, 51 * HOUR);
            first.keep().unwrap();
        }
        // A kernel that does not say which boot it is has always another one.
        WORLD.set(Reading { boot: None, boottime_ms: 9 * HOUR, wall_ms: 60 * HOUR });
        assert_eq!(Steady::with(dir.path(), read).now(), 51 * HOUR);
    }

    #[test]
    fn f6_without_what_was_written_down_it_is_another_clock() {
        let dir = tempfile::tempdir().unwrap();
        world("a", 1000, 50 * HOUR);
        let first = Steady::with(dir.path(), read);
        std::fs::write(dir.path().join(FILE), "{ half").unwrap();
        world("a", 2000, 60 * HOUR);
        let next = Steady::with(dir.path(), read);
        assert_ne!(next.id(), first.id());
        assert_eq!(next.now(), 60 * HOUR);
        assert_eq!(Steady::with(dir.path(), read).id(), next.id());
    }

    #[test]
    fn the_machine_says_which_boot_it_is() {
        let (a, b) = (clock::read(), clock::read());
        assert!(a.boot.is_some_and(|boot| boot.len() == 36) && a.boot == b.boot, "{a:?}");
        assert!(b.boottime_ms >= a.boottime_ms);
    }
}
