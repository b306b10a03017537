//! From a request to what `decide` is asked: listener, claims, seed. Pure.

use std::net::{IpAddr, SocketAddr};

use gray_common::{
    decide::{bucket::flow_seed, claims},
    hash::HashKey,
    packet::UDP,
    wire::{Addr, ListenerKey, Reading, Workload},
};

use super::claimed::{self, First, Known};
use crate::{
    agent::names::canonical,
    api::{
        ApiError,
        types::{ExplainRequest, FlowTuple},
    },
    compile::{assigned::Lasting, lists::text_hash, proto_number},
    model::{ClaimKind, Listener, Policy, Proto},
};

/// One connection, real or made up.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Empty when no service of the policy listens there.
    pub service: String,
    pub listener: Listener,
    pub source: Option<IpAddr>,
    pub sport: Option<u16>,
    mark: u32,
    dscp: u8,
    workload: Option<String>,
    lane: Option<Lane>,
    /// What the client sends first.
    first: First,
    /// The identity that the SYN's tag says; 0: it has none.
    tag: u64,
    /// What local callers say is read by a splice listener.
    pub handed: bool,
}

/// The lane that a connection is in, and its number; 0: the policy does not know it.
#[derive(Clone, Debug)]
struct Lane {
    name: String,
    number: u32,
}

impl Asked {
    /// Nobody sees how connections of local callers end, and datagrams do not.
    pub fn end_is_unseen(&self) -> bool {
        self.workload.is_some() || self.key().proto == UDP
    }

    /// In the lane that its workload's label says, if the request names none.
    pub fn in_lane_of(mut self, label: Option<&str>, policy: &Policy, lanes: &Lasting) -> Self {
        let number = |name: &str| policy.lane(name).and(lanes.get(name)).unwrap_or(0);
        let named = self.lane.take().map(|l| l.name).or_else(|| label.map(str::to_owned));
        self.lane = named.map(|name| Lane { number: number(&name), name });
        self
    }

    /// The lane of its workload, which the policy does not know.
    pub fn unknown_lane(&self) -> Option<&str> {
        self.lane.as_ref().filter(|l| l.number == 0).map(|l| l.name.as_str())
    }

    /// # Errors
    /// No such service, listener or lane; fields that contradict each other or hold values out of range.
    /// `handed`: there is a splice listener, which local callers are handed over to.
    pub fn read(policy: &Policy, r: &ExplainRequest, handed: bool) -> Result<Self, ApiError> {
        if let Some(live) = &r.live {
            let alone = ExplainRequest { live: r.live, ..ExplainRequest::default() };
            if *r != alone {
                return Err(ApiError::unusable(
                    "`live` goes with no other field",
                    "ask for one or the other",
                ));
            }
            return Ok(Self::live(policy, live));
        }
        if r.dscp.is_some_and(|d| d > 63) {
            return Err(ApiError::unusable(
                "a DSCP value is 0 to 63",
                "give the six bits, not the whole octet",
            ));
        }
        let Some(name) = &r.service else {
            return Err(ApiError::unusable("neither a service nor a live connection", "name a service"));
        };
        let service = policy.service(name).ok_or_else(|| {
            ApiError::not_found(format!("there is no service `{name}`"), "`gray get services` shows them")
        })?;
        if let Some(lane) = r.lane.as_ref().filter(|l| policy.lane(l).is_none()) {
            return Err(ApiError::not_found(
                format!("there is no lane `{lane}`"),
                "`gray get lanes` shows them",
            ));
        }
        let source = r.src.map(|a| a.to_canonical());
        let family =
            |l: &Listener| source.is_none_or(|s| l.addr.ip().to_canonical().is_ipv4() == s.is_ipv4());
        let fits = |l: &&Listener| {
            r.proto.is_none_or(|p| p == l.proto) && r.port.is_none_or(|p| p == l.addr.port()) && family(l)
        };
        let listener = service.listen.iter().find(fits).ok_or_else(|| {
            let all: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
            let what = format!(
                "no listener of service `{name}` fits the protocol, port and address family asked for"
            );
            ApiError::unusable(what, format!("it listens at {}", all.join(", ")))
        })?;
        let first = claimed::first(service, r, handed)?;
        let tag = r.tag.as_deref().map_or(Ok(0), tag)?;
        if tag != 0 && r.workload.is_some() {
            return Err(ApiError::unusable(
                "a workload and a tag",
                "what a local caller's SYN says is read by the node that it comes to: leave one of them out",
            ));
        }
        Ok(Self {
            service: name.clone(),
            listener: *listener,
            source,
            sport: r.sport,
            mark: r.mark.unwrap_or(0),
            dscp: r.dscp.unwrap_or(0),
            workload: r.workload.clone().filter(|w| !w.is_empty()),
            lane: r.lane.clone().map(|name| Lane { name, number: 0 }),
            first,
            tag,
            handed,
        })
    }

    fn live(policy: &Policy, t: &FlowTuple) -> Self {
        let listener = Listener { addr: canonical(t.dst), proto: t.proto };
        let owner = policy.services.iter().find(|s| {
            s.listen.iter().any(|l| l.proto == listener.proto && canonical(l.addr) == listener.addr)
        });
        Self {
            service: owner.map(|s| s.name.clone()).unwrap_or_default(),
            listener,
            source: Some(t.src.ip().to_canonical()),
            sport: Some(t.src.port()),
            mark: 0,
            dscp: 0,
            workload: None,
            lane: None,
            first: First::default(),
            tag: 0,
            handed: false,
        }
    }

    pub fn key(&self) -> ListenerKey {
        let at = canonical(self.listener.addr);
        ListenerKey {
            addr: Addr::from(at.ip()),
            port: at.port().to_be(),
            proto: proto_number(self.listener.proto),
            _pad: 0,
        }
    }

    pub fn is_v4(&self) -> bool {
        self.listener.addr.ip().to_canonical().is_ipv4()
    }

    pub fn source_addr(&self) -> Option<Addr> {
        self.source.map(Addr::from)
    }

    /// As the data path makes it, of a service whose requests are read by `reading`.
    pub fn known(&self, key: HashKey, reading: Option<&Reading>) -> Known {
        let mut known = Known::default();
        if self.tag != 0 {
            known.claims.set_tag(self.tag, 0);
            known.values.push((ClaimKind::Tag, format!("{:016x}", self.tag)));
        }
        if let Some(lane) = self.lane.as_ref().filter(|l| l.number != 0) {
            known.claims.lane = u64::from(lane.number);
            known.lane = Some(lane.name.clone());
        }
        if let Some(a) = self.source_addr() {
            known.claims.set_source(key, &a);
            known.values.push((ClaimKind::Source, self.source.map(|a| a.to_string()).unwrap_or_default()));
        }
        known.claims.set_mark(key, self.mark);
        if self.mark != 0 {
            known.values.push((ClaimKind::Mark, format!("{:#x}", self.mark)));
        }
        known.claims.set_dscp(key, self.dscp);
        if self.dscp != 0 {
            known.values.push((ClaimKind::Dscp, self.dscp.to_string()));
        }
        if let Some(name) = &self.workload {
            let hash = text_hash(key, claims::WORKLOAD, name);
            known.claims.set_workload(0, &Workload { hash: [hash; 2], ..Workload::default() });
            known.values.push((ClaimKind::Workload, name.clone()));
            // The connect path knows no more.
            if !self.handed {
                return known;
            }
        }
        if let Some(reading) = reading.filter(|_| self.listener.proto == Proto::Tcp) {
            known.read(key, reading, &self.first);
        }
        known
    }

    /// The person gave a part of a request.
    pub fn says_something(&self) -> bool {
        !self.first.is_empty()
    }

    /// What the packet path spreads this connection by. Without a source port: of one connection out of many.
    pub fn seed(&self, key: HashKey) -> u64 {
        let l = self.key();
        let source = self.source_addr().unwrap_or_default();
        flow_seed(key.k0, &source, &l.addr, self.sport.unwrap_or(0).to_be(), l.port, l.proto)
    }

    /// The tuple of the flow table.
    pub fn tuple(&self) -> Option<(SocketAddr, SocketAddr, Proto)> {
        let client = SocketAddr::new(self.source?, self.sport?);
        Some((client, canonical(self.listener.addr), self.listener.proto))
    }
}

/// The identity of a tag: a claim's hash.
fn tag(text: &str) -> Result<u64, ApiError> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let identity = u64::from_str_radix(text, 16).ok().filter(|n| digits && *n != 0);
    identity.ok_or_else(|| {
        ApiError::unusable(
            format!("`{}` is no identity of a tag", text.escape_debug()),
            "give 16 hex digits: `hash` of a claim in `gray explain -o json`",
        )
    })
}
