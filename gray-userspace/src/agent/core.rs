//! The agent's state: what is in force, and the doors to kernel and store. `change` alters it, `views` and friends
//! read it, `start` makes it. One lock: an operation sees one policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use gray_common::hash::HashKey;
use tokio::sync::{Notify, broadcast};

use super::{
    alarm, breaker, choices::Layer, connect::Connect, drain::Deadlines, front::Front, health,
    release::Releases, steady::Steady,
};
use crate::{
    api::types::{EventLine, PolicyDirStatus, Timings},
    compile::{Compiled, have::Have, lists::Prefixes},
    datapath::Datapath as _,
    kernel::{KernelError, Live},
    model::Policy,
    store::{Link, Sqlite, key::HashKey as StoredKey},
    sys::{
        rationed::Rationed,
        workload::{Cgroup, CgroupMount},
    },
};

/// Scrapes take a fifth of the time at most, and the walk through the flow tables a twentieth.
const METRICS: u32 = 4;
const FLOWS: u32 = 19;

/// What the whole agent shares.
pub struct Core {
    inner: Mutex<Inner>,
    /// What scrapers are told.
    pub metrics: Rationed<Bytes>,
    /// Entries of the flow tables, which are walked for that.
    flows: Rationed<[u64; 2]>,
    pub events: broadcast::Sender<EventLine>,
    pub started: Instant,
}

/// What is in force. Fields that belong together change together, in `change`.
pub struct Inner {
    pub live: Live,
    pub store: Sqlite,
    /// So many of the newest revisions can be restored.
    pub keep_revisions: u64,
    /// Rung when a revision is one more.
    pub grown: Arc<Notify>,
    pub state_dir: crate::store::StateDir,
    pub key: StoredKey,
    /// The active revision; 0: none yet.
    pub revision: u64,
    pub policy: Arc<Policy>,
    pub compiled: Compiled,
    /// The prefixes of all lists; their identities are what the kernel has.
    pub prefixes: Prefixes,
    /// `service/instance` names that get no new connections.
    pub drained: BTreeSet<String>,
    /// What releases and drains go by.
    pub clock: Steady,
    /// When what is open to some of them is closed.
    pub deadlines: Deadlines,
    /// `CLOCK_MONOTONIC` ns per service until which strays are adopted.
    pub adopt_until_ns: BTreeMap<String, u64>,
    pub have: Have,
    /// What health makes of it. Locked after this.
    pub board: health::Shared,
    pub events: broadcast::Sender<EventLine>,
    /// Of services with `missing-alarm`. Locked after this.
    pub alarms: alarm::Shared,
    /// By service: what was known of its breaker.
    pub breakers: BTreeMap<String, breaker::Seen>,
    pub breakers_known: bool,
    /// What became of `--policy-dir`; none: it was not given, or not read yet.
    pub policy_dir: Option<PolicyDirStatus>,
    /// The directory of programs that checks and alarms may run.
    pub health_commands: Option<PathBuf>,
    /// The directory of what steps of releases may run and use.
    pub release_hooks: Option<PathBuf>,
    pub releases: Releases,
    /// By cohort: what its list was chosen with.
    pub layers: BTreeMap<String, Layer>,
    /// What instances see in place of clients, with `nat: snat`.
    pub snat: Vec<IpAddr>,
    /// What packets to instances are sent from, with `nat: dsr`.
    pub dsr_source: Vec<IpAddr>,
    /// Of this node: what services with `zone-affinity` prefer.
    pub zone: Option<String>,
    /// Connections may be handed over to a splice listener.
    pub splice: bool,
    /// A flip happened and its leftovers were not removed yet.
    pub untidy: bool,
    /// The last flip took an instance from a service: UDP flows may still go there.
    pub orphans: bool,
    /// Rung after each flip.
    pub leftovers: Arc<Notify>,
    /// By revision, of the changes of this process.
    pub timings: BTreeMap<u64, Timings>,
    /// The flip was to another hash key: labels still carry the former one in the idle bank.
    pub rekeyed: bool,
    /// A change failed half-way: its leftovers in the tables would turn with the next epoch unless all is compared.
    pub suspect: bool,
    /// ... and the tables could not be read then: `have` says what was planned, not what is there.
    pub unread: bool,
    pub attachments: Vec<Attachment>,
    pub connect: Option<Connect>,
    pub mount: Option<CgroupMount>,
    /// By workload name: what is labelled in the kernel now.
    pub labels: BTreeMap<String, Label>,
    pub bpffs: PathBuf,
}

/// A labelled cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub cgroup: Cgroup,
    pub lane: Option<String>,
    /// The lane's number as the kernel has it; 0: none.
    pub number: u32,
    pub link: Option<Link>,
}

/// One interface that shall be attached.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub iface: String,
    pub role: crate::cli::agent::AttachRole,
    pub xdp: crate::cli::XdpWish,
    /// Tags of what comes in there are to be believed, and are.
    pub trusts_tags: bool,
    pub is_trusted: bool,
    pub ifindex: Option<u32>,
    pub state: AttachState,
    pub since: SystemTime,
    pub error: Option<String>,
    pub front: Front,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachState {
    Attached,
    /// There is no such interface, or cgroup.
    Waiting,
    Failed,
}

impl Core {
    pub fn new(inner: Inner) -> Self {
        let events = inner.events.clone();
        let (metrics, flows) = (Rationed::new(METRICS), Rationed::new(FLOWS));
        Self { inner: Mutex::new(inner), metrics, flows, events, started: Instant::now() }
    }

    /// Entries of each family's flow table. Not under the lock: a table of millions takes seconds.
    pub fn flow_entries(&self) -> Result<[u64; 2], KernelError> {
        self.flows.get(|| {
            let tables = self.lock().live.flow_tables()?;
            tables.entries()
        })
    }

    /// A panic elsewhere must not stop the agent from serving: the state is valid between operations, and `change`
    /// reads the kernel again after any failure.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever gets here is able to act, however long it will take.
        inner.live.go_on();
        inner
    }
}

impl Inner {
    /// Makes `have` true again where it is not known to be.
    pub fn know(&mut self) -> Result<(), KernelError> {
        if self.unread {
            self.have = self.live.read()?;
            (self.unread, self.suspect) = (false, true);
        }
        Ok(())
    }

    pub fn hash_key(&self) -> HashKey {
        wire_key(&self.key)
    }
}

/// The stored key as the hash wants it.
pub fn wire_key(key: &StoredKey) -> HashKey {
    let b = key.bytes();
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| b[at + i]));
    HashKey { k0: word(0), k1: word(8) }
}
