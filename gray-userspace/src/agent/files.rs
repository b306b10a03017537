//! The policy of a directory (`--policy-dir`): a change of its files is applied as `gray apply` would; what is wrong with them leaves
//! the last good policy in force, and is said in status, events and the log.
//!
//! What was read last is remembered beyond the agent's life. Only a change of the files applies them: who rolls back by hand is not
//! overruled by files that stayed the same.

mod read;

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    core::{Core, Inner},
    time,
};
use crate::{
    api::{
        Who,
        types::{ApplyRequest, EventLine, PolicyDirStatus, PolicyEvent},
    },
    sys::watch_dir::DirEvents,
};
use read::Found;

/// Editors and copies write several times.
const QUIET: Duration = Duration::from_millis(200);
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
    /// Refused: the releases that were open then, one of which may have been in the way, and the documents that were in force.
    #[serde(default)]
    releases: BTreeSet<String>,
    #[serde(default)]
    before: String,
}

impl Seen {
    /// What was in the way may be gone, and nobody has applied anything since.
    fn is_worth_another_try(&self, inner: &Inner) -> bool {
        let open = inner.open_releases();
        !self.applied
            && self.releases.iter().any(|r| !open.contains(r))
            && self.before == inner.applied_digest()
    }
}

/// Runs as long as the agent.
pub async fn follow(core: Arc<Core>, dir: PathBuf) {
    let mut tick = tokio::time::interval(EVERY);
    let mut events = DirEvents::open(&dir).ok();
    let mut last = None;
    loop {
        let (all, at, known) = (core.clone(), dir.clone(), last.take());
        match tokio::task::spawn_blocking(move || look(&all, &at, known)).await {
            Ok(seen) => last = seen,
            // The agent ends.
            Err(_) => return,
        }
        let noticed = match &mut events {
            Some(watched) => tokio::select! {
                done = watched.changed() => done.is_ok(),
                _ = tick.tick() => false,
            },
            None => {
                let _ = tick.tick().await;
                false
            }
        };
        if noticed {
            tokio::time::sleep(QUIET).await;
        } else {
            // The directory that has this name now.
            events = DirEvents::open(&dir).ok();
        }
    }
}

/// Reads the directory, and applies what is new in it. `last`: what this agent has dealt with.
fn look(core: &Core, dir: &Path, last: Option<Seen>) -> Option<Seen> {
    let found = read::read(dir);
    let mut inner = core.lock();
    let path = inner.state_dir.path().join(SEEN);
    let mut now = PolicyDirStatus { dir: dir.into(), ..PolicyDirStatus::default() };
    let mut seen = last.clone();
    match found {
        Err(e) => (now.state, now.problems) = ("unreadable".into(), vec![e.to_string()]),
        // Nobody removes a policy by removing its files: a document without services says that.
        Ok(found) if found.sources.is_empty() => now.state = "empty".into(),
        Ok(found) => {
            now.files = found.sources.len() as u64;
            if last.as_ref().is_some_and(|l| l.digest == found.digest && !l.is_worth_another_try(&inner))
                && inner.policy_dir.as_ref().is_some_and(done)
            {
                return last;
            }
            let kept = kept(&path).filter(|k| k.digest == found.digest && k.applied);
            let fresh = match kept {
                Some(kept) => kept,
                None => apply(&mut inner, found, &mut now.problems),
            };
            now.state = if fresh.applied { "applied" } else { "refused" }.into();
            now.revision = fresh.revision;
            if let Err(e) = keep(&path, &fresh) {
                tracing::warn!(error = %e, "the policy directory: what was read cannot be remembered");
            }
            seen = Some(fresh);
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
    seen
}

fn done(status: &PolicyDirStatus) -> bool {
    ["applied", "refused"].contains(&status.state.as_str())
}

fn apply(inner: &mut Inner, found: Found, problems: &mut Vec<String>) -> Seen {
    let message = Some("the files of the policy directory".to_owned());
    let request = ApplyRequest { sources: found.sources, dry_run: false, message };
    let (releases, before) = (inner.open_releases(), inner.applied_digest());
    let (applied, revision) = match inner.apply(&Who::agent(), request) {
        Ok(reply) => (true, reply.revision.or((inner.revision != 0).then_some(inner.revision))),
        Err(e) => {
            problems.extend(e.problems.iter().take(SHOWN).map(one_line));
            if problems.is_empty() {
                problems.push(e.error);
            } else if e.problems.len() > SHOWN {
                problems.push(format!("{} more", e.problems.len() - SHOWN));
            }
            (false, None)
        }
    };
    Seen { digest: found.digest, applied, revision, releases, before }
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
