//! The policy of a directory (`--policy-dir`): a change of its files is applied as `gray apply` would; what is wrong with them leaves
//! the last good policy in force, and is said in status, events and the log.
//!
//! What was read last is remembered beyond the agent's life. Only a change of the files applies them: who rolls back by hand is not
//! overruled by files that stayed the same.

mod read;
mod source;

use std::{io::Write as _, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    core::{Core, Inner},
    health, time,
};
use crate::api::{
    ErrorKind, Who,
    types::{ApplyRequest, EventLine, PolicyDirStatus, PolicyEvent},
};
use read::Found;
pub use source::{Directory, PolicySource};

/// Whoever changes files is waited for so long.
const LONGEST: Duration = Duration::from_secs(30);
/// Looked at without a notice, too: the directory may come later, or be another one.
const EVERY: Duration = Duration::from_secs(10);
const SEEN: &str = "policy-dir.json";
/// What is left in the state directory.
pub const FILES: [&str; 2] = [SEEN, "policy-dir.next"];
/// Problems that status shows.
const SHOWN: usize = 10;

/// What became of the files of one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    digest: String,
    applied: bool,
    revision: Option<u64>,
}

/// What this agent has dealt with.
#[derive(Clone, Debug)]
struct Dealt {
    seen: Seen,
    again: Again,
}

/// When files that stay the same are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// They are applied, or wrong.
    Never,
    /// With each look.
    Soon,
    /// Milliseconds. An attempt may leave a failed revision in the history: each waits longer than the one before.
    At { at: u64, pause: u64 },
}

/// Before the second attempt, and at most, milliseconds.
const PAUSES: (u64, u64) = (5_000, 600_000);

impl Again {
    fn is_due(self, now: u64) -> bool {
        match self {
            Self::Never => false,
            Self::Soon => true,
            Self::At { at, .. } => at <= now,
        }
    }

    /// After a refusal. What is wrong with the files themselves lasts, if no release's documents stood beside them. A full disk has
    /// room again, some time. `before`: what was said of the same files.
    fn after(kind: ErrorKind, releases: bool, before: Option<Self>, now: u64) -> Self {
        match kind {
            ErrorKind::Invalid | ErrorKind::BadRequest | ErrorKind::TooLarge if !releases => Self::Never,
            ErrorKind::Internal => {
                let pause = match before {
                    Some(Self::At { pause, .. }) => (pause * 2).min(PAUSES.1),
                    _ => PAUSES.0,
                };
                Self::At { at: now + pause, pause }
            }
            _ => Self::Soon,
        }
    }
}

/// Runs as long as the agent.
pub async fn follow(core: Arc<Core>, source: impl PolicySource) {
    rounds(&source, EVERY, move |source, last| look(&core, source, last)).await;
}

/// Looks, waits for a notice or `every`, and looks again, with what the last look has left.
async fn rounds<S: PolicySource, T: Send + 'static>(
    source: &S,
    every: Duration,
    look: impl Fn(&S, Option<T>) -> Option<T> + Send + Sync + 'static,
) {
    let look = Arc::new(look);
    let mut tick = tokio::time::interval(every);
    let mut notices = source.notices();
    let mut last = None;
    loop {
        settle::<S>(&mut notices).await;
        let (look, at, known) = (look.clone(), source.clone(), last.take());
        match tokio::task::spawn_blocking(move || look(&at, known)).await {
            Ok(seen) => last = seen,
            // The next look does it again.
            Err(e) => tracing::error!(error = %e, "the policy directory"),
        }
        let noticed = match &mut notices {
            Some(n) => tokio::select! {
                done = S::changed(n) => done.is_ok(),
                _ = tick.tick() => false,
            },
            None => {
                let _ = tick.tick().await;
                false
            }
        };
        if !noticed {
            // By those that know who writes; then of the directory that has the name by now.
            settle::<S>(&mut notices).await;
            notices = source.notices();
        }
    }
}

/// A half of what somebody writes may well be a policy.
async fn settle<S: PolicySource>(notices: &mut Option<S::Notices>) {
    if let Some(n) = notices {
        let _ = tokio::time::timeout(LONGEST, S::settled(n)).await;
    }
}

/// Reads the documents, and applies what is new in them.
fn look(core: &Core, source: &impl PolicySource, last: Option<Dealt>) -> Option<Dealt> {
    let (dir, found) = (source.place(), source.read());
    let mut inner = core.lock();
    let path = inner.state_dir.path().join(SEEN);
    let mut now = PolicyDirStatus { dir: dir.into(), ..PolicyDirStatus::default() };
    let mut dealt = last.clone();
    match found {
        Err(e) => (now.state, now.problems) = ("unreadable".into(), vec![e.to_string()]),
        // Nobody removes a policy by removing its files: a document without services says that.
        Ok(found) if found.sources.is_empty() => now.state = "empty".into(),
        Ok(found) => {
            now.files = found.sources.len() as u64;
            let same = last.filter(|l| l.seen.digest == found.digest);
            let at = health::now();
            if same.as_ref().is_some_and(|l| !l.again.is_due(at))
                && inner.policy_dir.as_ref().is_some_and(done)
            {
                return same;
            }
            let kept = kept(&path).filter(|k| k.digest == found.digest && k.applied);
            let fresh = match kept {
                Some(seen) => Dealt { seen, again: Again::Never },
                None => apply(&mut inner, found, same.map(|l| l.again), &mut now.problems),
            };
            now.state = if fresh.seen.applied { "applied" } else { "refused" }.into();
            now.revision = fresh.seen.revision;
            if let Err(e) = keep(&path, &fresh.seen) {
                tracing::warn!(error = %e, "the policy directory: what was read cannot be remembered");
            }
            dealt = Some(fresh);
        }
    }
    let told = |b: &PolicyDirStatus| {
        (&b.state, &b.problems, b.revision, b.files) == (&now.state, &now.problems, now.revision, now.files)
    };
    if !inner.policy_dir.as_ref().is_some_and(told) {
        now.since = time::rfc3339(time::now_ms());
        tell(core, &now);
        inner.policy_dir = Some(now);
    }
    dealt
}

fn done(status: &PolicyDirStatus) -> bool {
    ["applied", "refused"].contains(&status.state.as_str())
}

fn apply(inner: &mut Inner, found: Found, before: Option<Again>, problems: &mut Vec<String>) -> Dealt {
    let message = Some("the files of the policy directory".to_owned());
    let request = ApplyRequest { sources: found.sources, dry_run: false, message, if_revision: None };
    // What cannot be read may be one.
    let releases = inner.release_sources().map_or(true, |s| !s.is_empty());
    let (applied, revision, again) = match inner.apply(&Who::agent(), request) {
        Ok(reply) => (true, reply.revision.or((inner.revision != 0).then_some(inner.revision)), Again::Never),
        Err(e) => {
            let again = Again::after(e.kind, releases, before, health::now());
            problems.extend(e.problems.iter().take(SHOWN).map(one_line));
            if problems.is_empty() {
                problems.push(e.error);
            } else if e.problems.len() > SHOWN {
                problems.push(format!("{} more", e.problems.len() - SHOWN));
            }
            (false, None, again)
        }
    };
    Dealt { seen: Seen { digest: found.digest, applied, revision }, again }
}

/// `shop.yaml:3:5: unknown key`.
fn one_line(p: &crate::api::types::Problem) -> String {
    let place = p.file.as_ref().map_or_else(String::new, |file| {
        let at = |n: Option<u32>| n.map_or_else(String::new, |n| format!(":{n}"));
        format!("{file}{}{}: ", at(p.line), at(p.column))
    });
    format!("{place}{}", p.message)
}

fn tell(core: &Core, now: &PolicyDirStatus) {
    let text = now.problems.join("; ");
    match now.state.as_str() {
        "applied" => {
            tracing::info!(dir = %now.dir.display(), revision = now.revision, "the files are the policy")
        }
        state => tracing::error!(
            dir = %now.dir.display(), state, problems = text, "the policy directory; the policy before stays in force"
        ),
    }
    let event = PolicyEvent {
        at: now.since.clone(),
        policy: now.state.clone(),
        dir: now.dir.clone(),
        revision: now.revision,
        text,
    };
    // No receiver left: nobody misses it.
    let _ = core.events.send(EventLine::Policy(event));
}

fn kept(path: &Path) -> Option<Seen> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn keep(path: &Path, seen: &Seen) -> std::io::Result<()> {
    if kept(path).as_ref() == Some(seen) {
        return Ok(());
    }
    let next = path.with_extension("next");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(&serde_json::to_vec(seen)?)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents in memory, and a bell.
    #[derive(Clone)]
    struct Centre(Arc<std::sync::Mutex<Vec<&'static str>>>, Arc<tokio::sync::Notify>);

    impl PolicySource for Centre {
        type Notices = Arc<tokio::sync::Notify>;

        fn place(&self) -> &Path {
            Path::new("centre")
        }

        fn read(&self) -> std::io::Result<Found> {
            let digest = self.0.lock().unwrap().join("+");
            Ok(Found { sources: Vec::new(), digest })
        }

        fn notices(&self) -> Option<Self::Notices> {
            Some(self.1.clone())
        }

        async fn changed(bell: &mut Self::Notices) -> std::io::Result<()> {
            bell.notified().await;
            Ok(())
        }

        async fn settled(_: &mut Self::Notices) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// D3: whatever the documents come from is read again when it says so, long before it would be looked at by itself.
    #[tokio::test]
    async fn d3_any_source_is_read_when_it_rings() {
        let centre = Centre(Arc::default(), Arc::default());
        let (told, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let at = centre.clone();
        let looks = tokio::spawn(async move {
            rounds(&at, Duration::from_secs(3600), move |s: &Centre, before: Option<u32>| {
                let n = before.map_or(1, |n| n + 1);
                told.send((s.read().unwrap().digest, n)).unwrap();
                Some(n)
            })
            .await;
        });
        assert_eq!(seen.recv().await, Some((String::new(), 1)));
        // The interval's first tick is at once.
        assert_eq!(seen.recv().await, Some((String::new(), 2)));
        for (n, text) in [(3, "a"), (4, "a+b")] {
            centre.0.lock().unwrap().push(if n == 3 { "a" } else { "b" });
            centre.1.notify_one();
            assert_eq!(seen.recv().await, Some((text.to_owned(), n)));
        }
        looks.abort();
    }

    #[test]
    fn d2_only_what_is_wrong_with_the_files_themselves_lasts() {
        use ErrorKind::*;
        for (kind, alone, beside_a_release) in [
            (Invalid, Again::Never, Again::Soon),
            (BadRequest, Again::Never, Again::Soon),
            (TooLarge, Again::Never, Again::Soon),
            (Conflict, Again::Soon, Again::Soon),
            (Refused, Again::Soon, Again::Soon),
        ] {
            assert_eq!(Again::after(kind, false, None, 7), alone, "{kind:?}");
            assert_eq!(Again::after(kind, true, None, 7), beside_a_release, "{kind:?}");
        }
    }

    #[test]
    fn d2_what_goes_on_failing_is_tried_less_and_less_often() {
        let (mut again, mut now, mut pauses) = (None, 0, Vec::new());
        for _ in 0..9 {
            let next = Again::after(ErrorKind::Internal, false, again, now);
            let Again::At { at, pause } = next else { panic!("{next:?}") };
            assert!(!next.is_due(at - 1) && next.is_due(at));
            (again, now) = (Some(next), at);
            pauses.push(pause / 1000);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
    }
}
