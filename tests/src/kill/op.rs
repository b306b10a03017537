//! The operations under which the agent is killed: the command, and what it makes of the state.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Driver;
use super::model::{State, key_of};
use crate::policy::PolicyText;
use crate::world::World;

/// One kind of change. Each turns something back and forth, so that it can be done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Another document: lists, prefixes, percentages, weights, a service more or less.
    Apply,
    /// One address more or less on a list.
    Cohort,
    /// To a revision of the other document.
    Rollback,
    /// Drain and restore.
    Drain,
    /// Another hash key.
    Key,
    /// The label of the callers' cgroup.
    Workload,
}

impl Op {
    pub const ALL: [Self; 6] =
        [Self::Apply, Self::Cohort, Self::Rollback, Self::Drain, Self::Key, Self::Workload];

    /// Kept in the store first: the next agent may finish what the dead one began.
    pub fn may_lag(self) -> bool {
        self == Self::Workload
    }

    /// The command, and the state after it.
    pub fn prepare(self, d: &mut Driver) -> Result<(Command, State)> {
        let mut next = d.state.clone();
        let agent = &d.scene.agent;
        let file = |name: &str| agent.state_dir().with_file_name(name);
        let command = match self {
            Self::Apply => {
                let second = next.document == document(&d.scene.world, false);
                next.document = document(&d.scene.world, second);
                let path = file("next.yaml");
                std::fs::write(&path, &next.document)?;
                agent.command(&["apply", "-f", &path.to_string_lossy()])
            }
            Self::Cohort => {
                let id = d.scene.world.clients[0].v4[13].to_string();
                let edit = ("early".to_owned(), id.clone());
                let on = !next.edits.get(&edit).copied().unwrap_or(false);
                let _ = next.edits.insert(edit, on);
                agent.command(&["cohort", if on { "add" } else { "remove" }, "early", &id])
            }
            Self::Rollback => {
                let other = d.revisions.iter().rev().find(|(_, s)| s.document != next.document);
                let (revision, then) = other.context("no revision of another document yet")?;
                (next.document, next.edits) = (then.document.clone(), then.edits.clone());
                next.drained = then.drained.clone();
                agent.command(&["rollback", &revision.to_string()])
            }
            Self::Drain => {
                let name = "web/g4".to_owned();
                let drain = next.drained.insert(name.clone());
                if !drain {
                    let _ = next.drained.remove(&name);
                }
                agent.command(&["instance", if drain { "drain" } else { "restore" }, &name])
            }
            Self::Key => {
                let hex = format!("{:016x}{:016x}", d.random.draw(), d.random.draw());
                next.key = key_of(&hex)?;
                let path = file("next.key");
                std::fs::write(&path, &hex)?;
                agent.command(&["key", "import", &path.to_string_lossy()])
            }
            Self::Workload => {
                let on = next.workload.is_none();
                next.workload = on.then(|| "batch".to_owned());
                workload(agent.command(&["workload"]), on, d.scene.world.callers.path())
            }
        };
        Ok((command, next.settled()?))
    }
}

fn workload(mut command: Command, on: bool, cgroup: &Path) -> Command {
    let _ = match on {
        true => command.args(["set", "batch", "--lane", LANE, "--cgroup"]).arg(cgroup),
        false => command.args(["remove", "batch"]),
    };
    command
}

/// The lane of the callers' label; only the second document has it.
pub const LANE: &str = "blue";

/// The two documents.
pub fn document(w: &World, second: bool) -> String {
    let s = &w.clients[0].v4;
    let dns = |stable: u32| {
        let gray = 100 - stable;
        format!(
            "service: dns, to: [ {{ version: \"1.0\", weight: {stable} }}, {{ version: \"2.0\", weight: {gray} }} ]"
        )
    };
    let base = PolicyText::own(w);
    let text = match second {
        false => base
            .sources("early", &s[1..4])
            .sources("net", ["198.18.10.32/28", "198.18.0.0/16"])
            .cohort("jobs", "workloads: [batch]")
            .cohort("some", "percent: 30")
            .gray_when("early")
            .gray_when("jobs")
            .route("service: echo, when: { all: [net, some] }, to: { version: \"2.0\" }")
            .gray_when("some")
            .route(&dns(60)),
        true => base
            .service("more", 8081, false)
            .sources("early", [&s[6..8], &s[1..2]].concat())
            .sources("net", ["198.18.10.64/26", "fd00:18:10::/64"])
            .sources("late", &s[8..10])
            .cohort("jobs", "workloads: [other]")
            .lane(LANE, "web: { version: \"2.0\" }, dns: { version: \"1.0\" }")
            .cohort("some", "percent: 55")
            .gray_when("{ any: [early, late] }")
            .gray_when("jobs")
            .route("service: web, when: { all: [some, { not: net }] }, to: { version: \"2.0\" }")
            .route(&dns(25)),
    };
    text.to_string()
}
