//! Drains with a deadline: when it has passed, what is still open to the instance is closed. The deadline is no policy; it
//! is kept beside it in the state directory, and met by the next agent if this one dies.
//!
//! Packet path: both entries of a TCP flow are forgotten. The client's next segment is decided anew, goes to another
//! instance, which knows nothing of it and resets it; the old instance's next segment reaches the client as a stranger's,
//! and is reset. Of a translated connection its numbers are forgotten, and the programs tell whoever speaks next. Nobody may be about
//! to speak: both ends get a segment that no connection of theirs expects, and acknowledge what they do (RFC 9293, 3.10.7.4). UDP is
//! left as it is.
//!
//! Connect path: the kernel destroys the sockets of this network namespace whose record says that they were sent there. One
//! that dialled an instance at an address of no service has no record, and stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use gray_common::{
    packet::TCP,
    request::cookie::Tuple,
    wire::{Addr, FLOW_DSR, FLOW_PASS, FLOW_SPLICE, FlowKey4, FlowKey6},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{
    core::{Core, Inner},
    flows::{Row, row4, row6},
    names::canonical,
    policy::names_instance,
    segment::{Ack, frame},
    steady::{self, Steady},
    time,
};
use crate::{
    api::{
        ApiError, Who,
        types::{Done, InstanceRef, LONGEST_DRAIN_MS},
    },
    compile::is_far,
    kernel::{KernelError, Sender},
    model::{Failover, Instance, Service, ZoneAffinity},
    store::Kind,
};

const FILE: &str = "deadlines.json";
const NEXT: &str = "deadlines.json.next";
/// What is in the state directory because of this.
pub const FILES: [&str; 2] = [FILE, NEXT];
/// Without any deadline.
const LONG: Duration = Duration::from_secs(3600);

/// When what is open to drained instances is closed: by `service/instance`, times of the agent's steady clock.
#[derive(Debug)]
pub struct Deadlines {
    at: BTreeMap<String, u64>,
    clock: Steady,
    path: PathBuf,
    pub changed: Arc<Notify>,
}

/// As they are kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    Of {
        /// Whose times they are.
        clock: u64,
        /// When this was written.
        written: u64,
        at: BTreeMap<String, u64>,
    },
    /// An older gray's: unix milliseconds of the machine's clock.
    Unix(BTreeMap<String, u64>),
}

impl Deadlines {
    /// Those of the last agent. A file that cannot be read is said so, and is none.
    pub fn load(state_dir: &std::path::Path, clock: Steady) -> Self {
        let path = state_dir.join(FILE);
        let read = std::fs::read_to_string(&path);
        let (at, anew) = match read.map(|text| serde_json::from_str(&text)) {
            Ok(Ok(kept)) => known(kept, &path, &clock),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Default::default(),
            Ok(Err(e)) => (unreadable(&path, &e), false),
            Err(e) => (unreadable(&path, &e), false),
        };
        let deadlines = Self { at, clock, path, changed: Arc::default() };
        if anew && let Err(error) = deadlines.save() {
            tracing::warn!(%error, "the deadlines of drains cannot be written; a next agent grants their remaining times once more");
        }
        deadlines
    }

    pub fn of(&self, id: &str) -> Option<u64> {
        self.at.get(id).copied()
    }

    pub fn any(&self) -> bool {
        !self.at.is_empty()
    }

    /// Durable when this returns; `None` takes it away.
    pub fn set(&mut self, id: &str, at: Option<u64>) -> io::Result<()> {
        let before = match at {
            Some(at) => self.at.insert(id.to_string(), at),
            None => self.at.remove(id),
        };
        if before != at {
            // First: after a reboot the clock goes on from here, not from before it.
            self.clock.keep()?;
            self.save()?;
            self.changed.notify_one();
        }
        Ok(())
    }

    fn save(&self) -> io::Result<()> {
        let kept = Kept::Of { clock: self.clock.id(), written: self.clock.now(), at: self.at.clone() };
        steady::replace(&self.path, NEXT, serde_json::to_string(&kept)?.as_bytes())
    }

    fn due(&self, now: u64) -> Vec<String> {
        self.at.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect()
    }

    fn next(&self) -> Option<u64> {
        self.at.values().min().copied()
    }

    /// Until the next of them.
    fn pause(&self) -> Duration {
        self.next().map_or(LONG, |at| Duration::from_millis(at.saturating_sub(self.clock.now())).min(LONG))
    }
}

/// As times of this clock, and whether they were of another one: of those what remained when they were written down.
fn known(kept: Kept, path: &std::path::Path, clock: &Steady) -> (BTreeMap<String, u64>, bool) {
    let (at, written) = match kept {
        Kept::Of { clock: id, at, .. } if id == clock.id() => return (at, false),
        Kept::Of { written, at, .. } => (at, written),
        Kept::Unix(at) => {
            let written = std::fs::metadata(path).and_then(|m| m.modified());
            // No time of writing is known: each has the longest there is.
            let written = written.ok().and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
            (at, written.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(0)))
        }
    };
    if !at.is_empty() {
        tracing::warn!(
            "the deadlines of drains are of another clock: what remained of them when they were written begins now"
        );
    }
    let now = clock.now();
    let left = |at: u64| at.saturating_sub(written).min(LONGEST_DRAIN_MS);
    (at.into_iter().map(|(id, at)| (id, now.saturating_add(left(at)))).collect(), true)
}

fn unreadable(path: &std::path::Path, e: &dyn std::error::Error) -> BTreeMap<String, u64> {
    tracing::error!(path = %path.display(), error = %e, "the deadlines of drains cannot be read; drain again");
    BTreeMap::new()
}

/// Waits for deadlines and meets them.
pub async fn watch(core: Arc<Core>) {
    let changed = core.lock().deadlines.changed.clone();
    loop {
        let due = core.clone();
        let met = tokio::task::spawn_blocking(move || due.lock().meet_deadlines()).await;
        let failed = match met {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failed {
            tracing::error!(error, "a drained instance's connections cannot be closed; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let pause = core.lock().deadlines.pause();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = changed.notified() => {}
        }
    }
}

impl Inner {
    pub fn set_drained(&mut self, who: &Who, instance: &InstanceRef, drain: bool) -> Result<Done, ApiError> {
        let unknown = || {
            ApiError::not_found(
                format!("there is no instance {}", instance.id),
                "name it SERVICE/INSTANCE as `gray get instances` shows it",
            )
        };
        if !names_instance(&self.policy, &instance.id) {
            return Err(unknown());
        }
        let internal = |e: io::Error| ApiError::internal(&e);
        let now = self.clock.now();
        let deadline = instance.deadline_ms.filter(|_| drain).map(|ms| now + ms);
        if self.drained.contains(&instance.id) == drain {
            if let Some(at) = deadline {
                self.deadlines.set(&instance.id, Some(at)).map_err(internal)?;
                let text =
                    format!("{} was drained already; what is open is closed at the deadline", instance.id);
                return Ok(Done { revision: None, epoch: Some(self.have.epoch), text });
            }
            let text =
                format!("{} was {} already", instance.id, if drain { "drained" } else { "in service" });
            return Ok(Done { revision: None, epoch: Some(self.have.epoch), text });
        }
        if drain && let Some((s, i)) = self.last_of_stable(&instance.id) {
            let family = if i.address.is_ipv4() { "IPv4" } else { "IPv6" };
            let dialled = s.listen.iter().any(|l| l.addr.is_ipv4() == i.address.is_ipv4());
            if s.listen.iter().any(|l| l.addr == i.address) {
                return Err(ApiError::conflict(
                    format!(
                        "{} is dialled by its own address and no other instance of stable may serve here",
                        instance.id
                    ),
                    "add another stable instance first; without one, clients reach it whatever is decided",
                ));
            }
            let stands_in =
                !s.failover_by.is_empty() || matches!(s.failover, Failover::Any | Failover::To(_));
            if dialled && !stands_in {
                return Err(ApiError::conflict(
                    format!("{} is the last instance of stable that serves {family} clients", instance.id),
                    "add another stable instance first, restore one, or say in the policy who serves instead (`failover: any`)",
                ));
            }
        }
        let verb = if drain { "drain" } else { "restore" };
        let draft = self.draft(Kind::Instance, who, None, format!("{verb} {}", instance.id));
        let mut change = self.keep(draft);
        if drain {
            let _ = change.drained.insert(instance.id.clone());
        } else {
            let _ = change.drained.remove(&instance.id);
        }
        // Before the change: a drain that is in force has its deadline.
        self.deadlines.set(&instance.id, deadline).map_err(internal)?;
        let made = self.change(change)?;
        let text = match (drain, deadline) {
            (true, None) => format!("{} gets no new connections; established ones stay", instance.id),
            (true, Some(at)) => {
                let at = time::rfc3339(self.clock.shown(at));
                format!("{} gets no new connections; established ones live to {at}", instance.id)
            }
            (false, _) => format!("{} gets new connections again", instance.id),
        };
        Ok(Done { revision: Some(made.revision), epoch: Some(made.epoch), text })
    }

    /// An instance, and its service, that is the last one of stable to serve clients of its family.
    fn last_of_stable(&self, id: &str) -> Option<(&Service, &Instance)> {
        let (service, name) = id.split_once('/')?;
        let s = self.policy.service(service)?;
        let i = s.instances.iter().find(|i| i.id == name)?;
        let serves = |o: &&Instance| {
            o.id != i.id
                && s.stable.matches(o)
                && o.address.is_ipv4() == i.address.is_ipv4()
                && !self.drained.contains(&format!("{service}/{}", o.id))
                && !self.policy.is_blacklisted(service, o)
                && !(s.zone_affinity == ZoneAffinity::Only && is_far(s, o, self.zone.as_deref()))
        };
        (s.stable.matches(i) && !s.instances.iter().any(|o| serves(&o))).then_some((s, i))
    }

    fn meet_deadlines(&mut self) -> Result<(), KernelError> {
        for id in self.deadlines.due(self.clock.now()) {
            if self.drained.contains(&id) {
                let closed = self.close(&id, None)?;
                tracing::info!(instance = id, connections = closed, "drained: what was open is closed");
            }
            if let Err(error) = self.deadlines.set(&id, None) {
                tracing::error!(%error, "a deadline that was met cannot be forgotten; the next agent meets it again");
            }
        }
        Ok(())
    }

    /// Closes the TCP connections of an instance, those that one of these rules has sent there; how many.
    pub(super) fn close(&mut self, id: &str, rules: Option<&BTreeSet<u32>>) -> Result<usize, KernelError> {
        let Some((service, name)) = id.split_once('/') else { return Ok(0) };
        let known = self.policy.service(service);
        let instance = known.and_then(|s| s.instances.iter().find(|i| i.id == name));
        let (Some(i), Some(number)) = (instance, self.compiled.assigned.services.get(service)) else {
            return Ok(0);
        };
        let at = canonical(i.address);
        let (mut v4, mut v6, mut translated) = (Vec::new(), Vec::new(), Vec::new());
        let mut ends = Vec::new();
        let sent = |r: &Row| rules.is_none_or(|rules| rules.contains(&u32::from(r.state.rule)));
        let ours = |r: &Row| r.proto == TCP && r.service_number() == number && served_by(r) == at && sent(r);
        self.live.flows4(|k, f| {
            if let Some(r) = row4(&k, &f).filter(ours) {
                ends.push(ends_of(&r));
                if let Some(t) = translation(&r) {
                    return translated.push(t);
                }
                v4.push(k);
                v4.extend(takes_reply(&r).then(|| reply4(&r)));
            }
        })?;
        self.live.flows6(|k, f| {
            if let Some(r) = row6(&k, &f).filter(ours) {
                ends.push(ends_of(&r));
                if let Some(t) = translation(&r) {
                    return translated.push(t);
                }
                v6.push(k);
                v6.extend(takes_reply(&r).then(|| reply6(&r)));
            }
        })?;
        self.live.forget_flows(&v4, &v6)?;
        self.live.forget_splices(&translated)?;
        let dialled = known.map(|s| s.listen.iter().map(|l| canonical(l.addr)).collect()).unwrap_or_default();
        self.stir(&ends);
        Ok(ends.len() + self.close_local(&dialled, at, rules)?)
    }

    /// Makes both ends of connections speak, as far as it can: what is left ends when it speaks by itself.
    fn stir(&mut self, ends: &[Ends]) {
        if ends.is_empty() {
            return;
        }
        let told =
            self.sender().map_err(|e| e.to_string()).and_then(|s| tell(&s, ends).map_err(|e| e.to_string()));
        if let Err(error) = told {
            tracing::warn!(error, "the ends of closed connections cannot be told at once");
        }
    }
}

/// On several CPUs: each frame goes its whole way to its receiver in the call that sends it.
fn tell(sender: &Sender, ends: &[Ends]) -> io::Result<()> {
    let part = |ends: &[Ends]| -> io::Result<()> {
        for (client, instance) in ends {
            for (from, to) in core::iter::once(client).chain(instance) {
                let _ = sender.send(&frame(*from, *to, Ack { window: 1, ..Ack::default() }))?;
            }
        }
        Ok(())
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).min(TELLERS);
    let (mine, others) = ends.split_at(ends.len().min(ends.len().div_ceil(cpus).max(ALONE)));
    std::thread::scope(|s| {
        let tell = |ends| std::thread::Builder::new().spawn_scoped(s, move || part(ends));
        let others: Vec<_> =
            others.chunks(others.len().div_ceil(cpus.max(2) - 1).max(ALONE)).map(|o| (o, tell(o))).collect();
        let mut told = part(mine);
        for (ends, other) in others {
            // Without a thread it is done here.
            let done = other.map_or_else(|_| part(ends), |t| t.join().unwrap_or_else(|_| part(ends)));
            told = told.and(done);
        }
        told
    })
}

/// At most so many threads, none for less than so many connections.
const TELLERS: usize = 4;
const ALONE: usize = 256;

/// Who each end hears from, and where it is: the client, and the instance if this node stands between it and the client.
type Ends = ((SocketAddr, SocketAddr), Option<(SocketAddr, SocketAddr)>);

fn ends_of(r: &Row) -> Ends {
    ((r.service, r.client), has_reply(r).then(|| (r.seen_as, served_by(r))))
}

/// What is known of a translated connection goes, and its flow stays: by that both ends are told.
fn translation(r: &Row) -> Option<Tuple> {
    (r.state.flags & FLOW_SPLICE != 0).then(|| Tuple {
        client: Addr::from(r.client.ip()).words(),
        service: Addr::from(r.service.ip()).words(),
        client_port: r.client.port().to_be(),
        service_port: r.service.port().to_be(),
        number: 0,
    })
}

/// Stable on its own address is not rewritten: it is what was dialled.
fn served_by(r: &Row) -> SocketAddr {
    if r.state.flags & FLOW_PASS != 0 { r.service } else { r.instance }
}

/// What goes in other packets is answered past this node. The answers' entry would be another connection's, of the same client port to
/// the same instance.
fn has_reply(r: &Row) -> bool {
    r.state.flags & FLOW_DSR == 0
}

/// Whether it goes with its client's. The one of what stays with stable may be another connection's, too; answers pass without it.
fn takes_reply(r: &Row) -> bool {
    has_reply(r) && r.state.flags & FLOW_PASS == 0
}

fn reply4(r: &Row) -> FlowKey4 {
    let v4 = |a: SocketAddr| match a.ip() {
        IpAddr::V4(a) => u32::from_ne_bytes(a.octets()),
        IpAddr::V6(_) => 0,
    };
    let at = r.instance;
    FlowKey4 {
        saddr: v4(at),
        daddr: v4(r.seen_as),
        sport: at.port().to_be(),
        dport: r.seen_as.port().to_be(),
        proto: u32::from(r.proto),
    }
}

fn reply6(r: &Row) -> FlowKey6 {
    let at = r.instance;
    FlowKey6 {
        saddr: Addr::from(at.ip()),
        daddr: Addr::from(r.seen_as.ip()),
        sport: at.port().to_be(),
        dport: r.seen_as.port().to_be(),
        proto: u32::from(r.proto),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::steady::tests::{HOUR, read, world};

    fn load(dir: &tempfile::TempDir) -> Deadlines {
        Deadlines::load(dir.path(), Steady::with(dir.path(), read))
    }

    #[test]
    fn deadlines_outlive_their_agent() {
        let dir = tempfile::tempdir().unwrap();
        world("a", 0, 0);
        let mut d = load(&dir);
        assert_eq!((d.next(), d.due(u64::MAX)), (None, vec![]));
        d.set("shop/one", Some(2000)).unwrap();
        d.set("shop/two", Some(1000)).unwrap();
        d.set("shop/two", Some(3000)).unwrap();
        let mut next = load(&dir);
        assert_eq!((next.next(), next.of("shop/two")), (Some(2000), Some(3000)));
        assert_eq!(next.due(2000), ["shop/one"]);
        next.set("shop/one", None).unwrap();
        assert_eq!(load(&dir).due(u64::MAX), ["shop/two"]);
        std::fs::write(dir.path().join(FILE), "{ half").unwrap();
        assert_eq!(load(&dir).next(), None);
    }

    #[test]
    fn c12_a_clock_that_is_set_moves_no_deadline() {
        let dir = tempfile::tempdir().unwrap();
        world("a", 1000, 50 * HOUR);
        let mut d = load(&dir);
        d.set("shop/one", Some(d.clock.now() + 3 * HOUR)).unwrap();
        for wall in [99 * HOUR, HOUR] {
            world("a", 1000 + HOUR, wall);
            let next = load(&dir);
            assert_eq!((next.due(next.clock.now()), next.pause()), (vec![], LONG));
            assert_eq!(next.of("shop/one").unwrap() - next.clock.now(), 2 * HOUR);
        }
        world("a", 1000 + 3 * HOUR, 2 * HOUR);
        let met = load(&dir);
        assert_eq!(met.due(met.clock.now()), ["shop/one"]);
    }

    #[test]
    fn c12_another_boot_leaves_what_remained() {
        let dir = tempfile::tempdir().unwrap();
        world("a", 0, 50 * HOUR);
        // Ten days ago nothing waited, so that nothing was written down until the drain.
        let mut d = load(&dir);
        world("a", 240 * HOUR, 290 * HOUR);
        d.set("shop/one", Some(d.clock.now() + 3 * HOUR)).unwrap();
        for wall in [999 * HOUR, HOUR] {
            world("b", 5, wall);
            let next = load(&dir);
            assert_eq!(next.due(next.clock.now()), Vec::<String>::new());
            assert_eq!(next.of("shop/one").unwrap() - next.clock.now(), 3 * HOUR);
        }
    }

    #[test]
    fn c12_deadlines_of_an_older_gray_or_a_lost_clock_have_what_remained() {
        let dir = tempfile::tempdir().unwrap();
        let now = time::now_ms();
        std::fs::write(dir.path().join(FILE), format!(r#"{{"shop/one":{}}}"#, now + 3 * HOUR)).unwrap();
        // The clock was set a day ahead since.
        world("a", 1000, now + 24 * HOUR);
        let left = |d: &Deadlines| d.of("shop/one").unwrap() - d.clock.now();
        let d = load(&dir);
        // Times of files may be some milliseconds behind the clock.
        assert!(left(&d).abs_diff(3 * HOUR) < HOUR, "{}", left(&d));
        let before = left(&d);
        world("a", 1000 + HOUR, 1);
        assert_eq!(left(&load(&dir)), before - HOUR, "it is of this clock now");
        for name in steady::FILES {
            let _ = std::fs::remove_file(dir.path().join(name));
        }
        world("a", 1000 + 2 * HOUR, 77);
        assert_eq!(left(&load(&dir)), before, "written when that much remained");
    }

    #[test]
    fn both_directions_of_a_connection_are_named() {
        let ip = |d: [u8; 4]| u32::from_ne_bytes(d);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let state = gray_common::wire::FlowState::default();
        let (client, service, instance) =
            (at("198.18.1.3:39999"), at("198.18.1.100:80"), at("198.18.2.3:8080"));
        let mut r = Row { proto: TCP, client, service, instance, seen_as: at("198.18.1.3:40000"), state };
        let reply = |saddr, sport: u16| FlowKey4 {
            saddr: ip(saddr),
            daddr: ip([198, 18, 1, 3]),
            sport: sport.to_be(),
            dport: 40_000u16.to_be(),
            proto: 6,
        };
        assert_eq!(reply4(&r), reply([198, 18, 2, 3], 8080));
        assert_eq!(reply6(&r).saddr, Addr::from(instance.ip()));
        r.state.flags = FLOW_PASS;
        assert!(has_reply(&r) && !takes_reply(&r));
        r.state.flags = FLOW_DSR;
        assert!(!has_reply(&r) && !takes_reply(&r), "it would be another connection's");
        r.state.flags = 0;
        assert!(has_reply(&r) && takes_reply(&r));
    }
}
