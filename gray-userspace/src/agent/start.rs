//! Starting: lock, open, load or adopt, bring the kernel to the active revision, attach.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use gray_common::{
    limits,
    wire::{Addr, CONTROL_ASKS, CONTROL_SAYS, Trusted},
};
use tokio::sync::broadcast;

use super::{
    attach::directions,
    change::build_lists,
    connect::Connect,
    core::{AttachState, Attachment, Inner},
    drain::Deadlines,
    front::Front,
    health::{self, Board},
    key, measures,
    release::Releases,
    steady::Steady,
    syn_tags, time,
};
use crate::{
    api::ApiError,
    cli::{AgentOptions, Prefix},
    compile::{
        self, Assigned, Circumstances, Compiled,
        assigned::Numbers,
        lists::Prefixes,
        plan::{self, Want},
    },
    config,
    datapath::Datapath as _,
    doctor,
    fail::{self, Point},
    kernel::{Hook, Live, Parts, Pins},
    store::{Sqlite, StateDir, Store as _},
    sys::{self, kernel::KernelVersion, lock::DirLock, workload::CgroupMount},
};

/// Events for people: one in so many decisions, and at most so many a second and CPU.
const EVENT_EVERY: u32 = 1;
const EVENT_LIMIT: u32 = 200;

/// Nodes whose clocks are less apart take each other's cookies, but for a few on a period's edge.
const CLOCKS_APART_MS: u64 = 2000;

/// Events that wait for a slow reader.
const EVENTS: usize = 4096;

/// Everything up to the first attached interface. Keep the lock as long as the agent runs.
pub fn start(o: &AgentOptions) -> anyhow::Result<(Inner, DirLock)> {
    let version = KernelVersion::running()?;
    if let Some(why) = version.needs(sys::kernel::OLDEST, "the data path") {
        anyhow::bail!(why);
    }
    // The kernel would say EPERM, and not of what.
    if let Some((what, fix)) = doctor::rights::refusal() {
        return Err(ApiError::conflict(what, fix).into());
    }
    let state_dir = StateDir::open(&o.state_dir)?;
    let hook = hook(version);
    // The lock first: what another agent runs here is not touched.
    let pins = Pins::open_dir(&o.bpffs)?;
    let lock = DirLock::take(&o.bpffs)?;
    fail::point(Point::StartLocked)?;
    let hands = o.splice && version >= sys::kernel::HANDS;
    let parts = Parts { tags: syn_tags::read(o), hands, ..Parts::default() };
    let mut live = Live::open_towards(pins, o.flows, hook, parts)?;
    if !o.no_connect {
        live.need_connect()?;
    }
    fail::point(Point::StartLoaded)?;
    let hz = live.measure_ticks()?;
    let cookie = sys::netns::cookie()?;
    let ticks_ms = live.clock()?.jiffies.wrapping_mul(1000) / u64::from(hz.max(1));
    let wall_ms = time::now_ms().wrapping_sub(ticks_ms);
    live.configure(|c| {
        c.hz = hz;
        // A step would age every connection that waits.
        if (c.wall_ms.wrapping_sub(wall_ms) as i64).unsigned_abs() > CLOCKS_APART_MS {
            c.wall_ms = wall_ms;
        }
        c.flags = (c.flags | CONTROL_ASKS) & !CONTROL_SAYS | if o.tags { CONTROL_SAYS } else { 0 };
        c.netns_cookie = cookie;
        c.event_every = EVENT_EVERY;
        c.event_limit = EVENT_LIMIT;
        c.snat = by_family(&o.snat);
        c.dsr = by_family(&o.dsr_source);
        c.dsr_from = trusted(&o.dsr_from);
    });
    let store = Sqlite::open(&state_dir)?;
    fail::point(Point::StartOpened)?;
    let have = live.read()?;
    let dealt = store.active()?.is_some() || store.pending()?.is_some();
    let key = key::of_node(&state_dir, &have, dealt)?;
    let mount = CgroupMount::find().ok();
    let events = broadcast::channel(EVENTS).0;
    let board = Board::new(Box::new(live.turner()?), &have, events.clone());
    let clock = Steady::load(state_dir.path());
    let deadlines = Deadlines::load(state_dir.path(), clock.clone());
    let mut inner = Inner {
        live,
        store,
        clock: clock.clone(),
        deadlines,
        keep_revisions: o.keep_revisions.into(),
        grown: Arc::default(),
        state_dir,
        key,
        revision: 0,
        policy: Arc::default(),
        compiled: Compiled::default(),
        prefixes: Prefixes::default(),
        drained: Default::default(),
        adopt_until_ns: BTreeMap::new(),
        have,
        board: Arc::new(Mutex::new(board)),
        events,
        alarms: Arc::default(),
        breakers: BTreeMap::new(),
        breakers_known: false,
        policy_dir: None,
        health_commands: o.health_commands.clone(),
        release_hooks: o.release_hooks.clone(),
        releases: Releases::new(clock),
        layers: BTreeMap::new(),
        snat: o.snat.clone(),
        dsr_source: o.dsr_source.clone(),
        zone: o.zone.clone(),
        splice: o.splice,
        untidy: false,
        orphans: false,
        leftovers: Arc::default(),
        timings: BTreeMap::new(),
        rekeyed: false,
        suspect: false,
        unread: false,
        attachments: wanted(o),
        connect: None,
        mount,
        labels: BTreeMap::new(),
        bpffs: o.bpffs.clone(),
    };
    settle_pending(&mut inner)?;
    fail::point(Point::StartSettled)?;
    reconcile(&mut inner)?;
    fail::point(Point::StartWritten)?;
    inner.take_lease().map_err(plain)?;
    attach(&mut inner, o)?;
    inner.read_layers();
    inner.load_releases()?;
    inner.finish_move(o.flows);
    fail::point(Point::StartAttached)?;
    Ok((inner, lock))
}

/// tcx where it exists. `GRAY_HOOK=clsact` takes the older way on newer kernels, too: for tests of it.
pub fn hook(version: KernelVersion) -> Hook {
    let asked = std::env::var_os("GRAY_HOOK").is_some_and(|h| h == "clsact");
    if asked || version < sys::kernel::TCX { Hook::Clsact } else { Hook::Tcx }
}

fn wanted(o: &AgentOptions) -> Vec<Attachment> {
    o.attach
        .iter()
        .map(|a| Attachment {
            iface: a.iface.clone(),
            role: a.role,
            xdp: a.xdp,
            trusts_tags: o.trust_tags.contains(&a.iface),
            is_trusted: false,
            ifindex: None,
            state: AttachState::Waiting,
            since: SystemTime::now(),
            error: None,
            front: Front::default(),
        })
        .collect()
}

/// Labels in the kernel that the store does not know go; the others come.
fn adopt_labels(inner: &mut Inner) -> anyhow::Result<()> {
    inner.targets().and_then(|t| inner.follow_workloads(t.find())).map_err(plain)?;
    for (id, _) in inner.live.workloads()? {
        if !inner.labels.values().any(|l| l.cgroup.id == id) {
            inner.live.remove_workload(id)?;
        }
    }
    Ok(())
}

fn plain(e: ApiError) -> anyhow::Error {
    anyhow::Error::new(e)
}

/// A revision that the last agent did not live to settle: the kernel knows whether it took effect.
fn settle_pending(inner: &mut Inner) -> anyhow::Result<()> {
    if let Some(p) = inner.store.pending()? {
        if inner.have.epoch != 0 && inner.have.revision == p.id {
            tracing::info!(revision = p.id, "the last agent died after this revision took effect");
            inner.store.activate(p.id, time::now_ms())?;
        } else {
            tracing::warn!(revision = p.id, "the last agent died before this revision took effect");
            inner.store.interrupt(p.id, time::now_ms(), "the agent died before it took effect")?;
        }
    }
    Ok(())
}

/// Brings the tables to the active revision, whatever they hold: the same code as a change.
fn reconcile(inner: &mut Inner) -> anyhow::Result<()> {
    let Some(active) = inner.store.active()? else {
        if inner.have.epoch != 0 {
            // What steers now keeps its instance numbers: the first policy of this store must not write over them.
            let named = inner.have.instances.iter().map(|(n, i)| {
                let at = std::net::SocketAddr::new(i.addr.into(), u16::from_be(i.port));
                (at.to_string(), *n)
            });
            inner.compiled.assigned.instances = Numbers::taken(named);
            tracing::warn!(
                revision = inner.have.revision,
                "the kernel steers by a policy that this store does not know; apply one to take over"
            );
        }
        return adopt_labels(inner);
    };
    let sources: Vec<config::Source> =
        inner.store.sources(active.id)?.into_iter().map(|s| config::Source::new(s.name, s.text)).collect();
    let policy = config::load(&sources)?.policy;
    let before: Assigned = match inner.store.assignments(active.id)? {
        Some(text) => serde_json::from_str(&text)?,
        None => Assigned::default(),
    };
    let windows = inner.live.adopt_windows()?;
    inner.adopt_until_ns = windows
        .into_iter()
        .filter_map(|(id, until)| Some((before.services.name(u32::from(id))?.to_string(), until)))
        .collect();
    let around = Circumstances {
        drained: active.drained.clone(),
        adopt_until_ns: inner.adopt_until_ns.clone(),
        zone: inner.zone.clone(),
    };
    if let Err(e) = inner.may_stand_in(&policy) {
        tracing::error!(error = %e, "with `snat` their packets keep the clients' addresses, with `dsr` they are left alone");
    }
    let compiled = compile::compile(&policy, &before, &around)?;
    let _ = inner.load_parts(&compiled)?;
    let lists = build_lists(&inner.store, active.id, &policy, &compiled, inner.hash_key()).map_err(plain)?;
    (inner.revision, inner.policy, inner.compiled) = (active.id, Arc::new(policy), compiled);
    inner.drained = active.drained;
    // Not before: labels carry the numbers of this policy's lanes.
    adopt_labels(inner)?;
    inner.live.settle()?;
    let key = inner.hash_key();
    let want = Want::all(inner.revision, key, &inner.compiled, &lists);
    let mut board = health::lock(&inner.board);
    if inner.have.epoch != 0 && inner.have.revision == inner.revision {
        board.adopt(&inner.policy, &inner.compiled, &inner.have);
    }
    let placed = board.place(&inner.policy, &inner.compiled, health::now())?;
    let steps = plan::plan_placed(&mut inner.have, &want, placed)?;
    for step in &steps {
        fail::point(Point::StartWrite)?;
        inner.live.write(step)?;
    }
    board.turned(health::now());
    drop(board);
    inner.prefixes = lists.prefixes;
    (inner.untidy, inner.orphans) = (true, true);
    tracing::info!(revision = inner.revision, epoch = inner.have.epoch, "the policy is in force");
    Ok(())
}

fn attach(inner: &mut Inner, o: &AgentOptions) -> anyhow::Result<()> {
    let wanted: Vec<_> = inner
        .attachments
        .iter()
        .flat_map(|a| directions(a.role, o.splice).iter().map(|d| (a.iface.clone(), *d)))
        .collect();
    inner.connect = connect(inner, o)?;
    for gone in inner.live.prune_links(&wanted, inner.connect_can())? {
        tracing::info!(link = gone, "detached: no longer wanted");
    }
    inner.retire_fronts()?;
    fail::point(Point::StartPruned)?;
    inner.sync_links();
    fail::point(Point::StartInterfaces)?;
    for a in inner.attachments.iter().filter(|a| a.state == AttachState::Waiting) {
        tracing::warn!(iface = a.iface, role = a.role.name(), "no such interface; waiting for it");
    }
    match &mut inner.connect {
        Some(c) => {
            c.tags = o.tags;
            c.says = o.tags && syn_tags::needed(&inner.policy);
            c.measures = measures::needed(&inner.policy);
            c.links = inner.labels.values().any(|l| l.link.is_some());
        }
        None if o.tags => {
            tracing::warn!(
                "no socket says its lane: the connect path is off; tags that come in are overwritten"
            )
        }
        None => {}
    }
    inner.follow_connect();
    Ok(())
}

/// A cgroup that is not there yet is waited for.
fn connect(inner: &Inner, o: &AgentOptions) -> anyhow::Result<Option<Connect>> {
    let Some(mount) = inner.mount.as_ref().filter(|_| !o.no_connect) else {
        anyhow::ensure!(o.no_connect, "no cgroup2 file system is mounted; mount one or give --no-connect");
        return Ok(None);
    };
    Ok(Some(Connect::to(o.cgroup.as_ref(), mount)?))
}

/// By family, as the data path has them.
fn by_family(given: &[IpAddr]) -> [Addr; 2] {
    let of = |v4: bool| given.iter().find(|a| a.is_ipv4() == v4).map_or(Addr::default(), |a| Addr::from(*a));
    [of(true), of(false)]
}

/// As the data path has them; `AgentOptions::check` has seen to the number.
fn trusted(given: &[Prefix]) -> [Trusted; limits::DSR_FROM] {
    let mut all = [Trusted::default(); limits::DSR_FROM];
    for (place, p) in all.iter_mut().zip(given) {
        *place = p.wire();
    }
    all
}
