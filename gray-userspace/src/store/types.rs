//! What the store takes and gives. Plain data, no behaviour beyond names and constructors.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A word list that is stored and shown by name.
macro_rules! words {
    ($(#[$m:meta])* $name:ident { $($(#[$vm:meta])* $v:ident = $text:literal),+ $(,)? }) => {
        $(#[$m])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$vm])* $v),+ }
        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$v),+];
            pub fn name(self) -> &'static str { match self { $(Self::$v => $text),+ } }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.name()) }
        }
        impl FromStr for $name {
            type Err = ();
            fn from_str(s: &str) -> Result<Self, ()> { Self::ALL.iter().copied().find(|v| v.name() == s).ok_or(()) }
        }
    };
}

words! {
    /// What made a revision.
    Kind { Apply = "apply", Cohort = "cohort", Rollback = "rollback", Instance = "instance", Import = "import", Release = "release" }
}

words! {
    /// One live edit of a cohort's list.
    Op {
        /// The ids are members, whatever the document says.
        Add = "add",
        /// The ids are no members, whatever the document says.
        Remove = "remove",
        /// The ids are the whole list; the document's own ids no longer count.
        Replace = "replace",
        /// No live edits any more: the document's own ids alone. `ids` is empty.
        Reset = "reset",
    }
}

words! {
    /// How a workload is found on this node.
    WorkloadKind { Cgroup = "cgroup", Unit = "unit", Pid = "pid", Container = "container", Pod = "pod" }
}

words! {
    /// How what a workload calls gets the lane of the request that it serves.
    Link {
        /// The lane of what the thread read last, also in the threads and processes that it begins.
        Thread = "thread",
        /// The same without those.
        RunToCompletion = "run-to-completion",
        /// Only while the requests that are in flight on the thread are of one lane.
        Strict = "strict",
    }
}

/// What an overlay says about one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    Added,
    Removed,
}

/// Life of a revision: `pending`, then one of the others; `active` later becomes `superseded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    Pending,
    Active,
    Superseded,
    Failed { reason: String },
    Interrupted { reason: String },
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Failed { .. } => "failed",
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// Took effect at some time: the document and lists of such a revision can be restored.
    pub fn took_effect(&self) -> bool {
        matches!(self, Self::Active | Self::Superseded)
    }
}

/// One document of a policy: its name as shown in errors, and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEdit {
    pub cohort: String,
    pub op: Op,
    /// Canonical texts, never empty, no line breaks; order and repeats do not matter, in byte order is fastest.
    pub ids: crate::ids::Ids,
}

/// A revision to be. Fields that are `None` are inherited from `base`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The active revision that this one was made from; `None` for the first.
    pub base: Option<u64>,
    pub at: u64,
    pub who: String,
    pub why: String,
    pub kind: Kind,
    pub summary: String,
    pub sources: Option<Vec<Source>>,
    /// Puts every cohort's live edits back as they were at that revision, before `lists` is applied.
    pub restore_lists_of: Option<u64>,
    /// Applied in order.
    pub lists: Vec<ListEdit>,
    /// `service/instance`, the whole set.
    pub drained: Option<BTreeSet<String>>,
    /// Opaque JSON text: who owns which bucket of each weighted route.
    pub assignments: Option<String>,
}

impl Draft {
    /// A draft that changes nothing yet.
    pub fn new(
        kind: Kind,
        base: Option<u64>,
        at: u64,
        who: impl Into<String>,
        summary: impl Into<String>,
    ) -> Self {
        Self {
            base,
            at,
            who: who.into(),
            why: String::new(),
            kind,
            summary: summary.into(),
            sources: None,
            restore_lists_of: None,
            lists: Vec::new(),
            drained: None,
            assignments: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub id: u64,
    pub base: Option<u64>,
    pub at: u64,
    pub who: String,
    pub why: String,
    pub kind: Kind,
    pub summary: String,
    #[serde(flatten)]
    pub state: State,
    pub drained: BTreeSet<String>,
    pub sources: Vec<SourceRef>,
    pub lists: Vec<EditSummary>,
    pub restore_lists_of: Option<u64>,
    /// What it held is gone: it cannot be restored.
    #[serde(default)]
    pub dropped: bool,
}

/// A stored document without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    pub name: String,
    /// SHA-256 of the text, hex.
    pub sha256: String,
    pub bytes: u64,
}

/// A list edit without its ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditSummary {
    pub cohort: String,
    pub op: Op,
    /// Ids named, repeats not counted.
    pub ids: u64,
}

/// What lies over a cohort's document list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayInfo {
    /// The document's own ids do not count (after [`Op::Replace`]).
    pub replaces_document: bool,
    pub added: u64,
    pub removed: u64,
}

/// An audit entry to be. `action` is a short word; those of revisions and workloads are the store's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    pub at: u64,
    pub who: &'a str,
    pub action: &'a str,
    pub detail: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// 1, 2, 3 ..
    pub seq: u64,
    pub at: u64,
    pub who: String,
    /// `begin`, `activate`, `fail`, `interrupt`, `workload-set`, `workload-remove`, or the caller's word.
    pub action: String,
    pub revision: Option<u64>,
    /// JSON for the store's own actions.
    pub detail: String,
    /// Chained SHA-256, hex.
    pub hash: String,
}

/// An audit log that verified. Keep `head` elsewhere to notice a log that was cut off and rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub records: u64,
    pub revisions: u64,
    pub head: String,
}

/// A label for processes of this node: by cgroup path, systemd unit or pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    pub kind: WorkloadKind,
    pub target: String,
    /// The lane that its calls are in.
    pub lane: Option<String>,
    /// What decides it where that does not.
    pub link: Option<Link>,
}

/// One run of a release as it is kept. What is in the texts is the engine's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub name: String,
    /// When it was started, unix milliseconds: runs of one name differ by it.
    pub run: u64,
    pub who: String,
    /// As it was given.
    pub document: String,
    /// JSON.
    pub state: String,
    /// When it was last written.
    pub at: u64,
}

/// One line of a release's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub run: u64,
    pub at: u64,
    /// JSON.
    pub entry: String,
}
