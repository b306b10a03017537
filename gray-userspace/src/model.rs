//! The validated policy: what the document means, with every name resolved and every limit checked.
//! No I/O, no spans, no tokio. `config` makes it, `compile` turns it into kernel tables.

mod accept;
pub mod address;
mod alarm;
mod blacklist;
mod breaker;
mod claim;
mod condition;
mod headers;
mod health;
mod selector;
pub mod tenant;
mod workload;
mod zone;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
};

use gray_common::hash::CLAIM_MAX;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use accept::Accept;
pub use alarm::{Alarm, Over, Webhook};
pub use blacklist::{Blacklist, Failover, Instead};
pub use breaker::Breaker;
pub use claim::{ClaimKind, OnMissing, Per, Place, Tls};
pub use condition::{Condition, List, beginnings, claim_text};
pub use headers::{At, MoreHeader, RouteHeaders, Switches};
pub use health::{Damping, Empty, Health, Millis, Probe};
pub use selector::{MetaKey, Selector, has};
pub use workload::{Caller, CallerKey, Workload};
pub use zone::ZoneAffinity;

/// Transport protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Tcp,
    Udp,
}

/// One address that clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    pub addr: SocketAddr,
    pub proto: Proto,
}

/// NAT mode of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nat {
    /// The client's address is kept, replies pass the node.
    #[default]
    Dnat,
    /// The instance sees one of the node's own addresses, so that its replies come back wherever they are routed.
    Snat,
    /// Packets reach the instance as they are, in other ones; it answers the client itself, from the service's address.
    Dsr,
}

/// What is put in front of a packet with [`Nat::Dsr`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// An IP header (RFC 2003, RFC 2473).
    #[default]
    Ipip,
    /// IP, UDP and GUE headers.
    Gue,
}

impl Encapsulation {
    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        }
    }
}

impl Nat {
    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dnat => "dnat",
            Self::Snat => "snat",
            Self::Dsr => "dsr",
        }
    }
}

/// How connections are spread over the instances of a subset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// By a hash: a connection whose flow entry is lost finds its instance again.
    #[default]
    Maglev,
    /// Each connection to the next instance.
    RoundRobin,
}

impl Balance {
    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Maglev => "maglev",
            Self::RoundRobin => "round-robin",
        }
    }
}

/// What chooses the instance inside a subset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Each connection by itself.
    #[default]
    Connection,
    /// The client's identity: one client, one instance.
    Client,
}

/// One server of a service and its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Unique in the service; default: the address as written.
    pub id: String,
    pub address: SocketAddr,
    /// `version`, `region`, `zone`, `env`, `group`: whatever was given.
    pub meta: BTreeMap<MetaKey, String>,
    /// 1..=1000, default 100.
    pub weight: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub listen: Vec<Listener>,
    /// In order: the first that is present is the identity. Never empty.
    pub identify: Vec<ClaimKind>,
    /// What is read of requests. Not empty: connections are answered by us until it is.
    pub claims: BTreeMap<ClaimKind, Place>,
    /// ... of TLS, each of another place.
    pub tls: BTreeMap<ClaimKind, Tls>,
    /// ... of PROXY headers: the type of a TLV.
    pub tlvs: BTreeMap<ClaimKind, u8>,
    /// Whose PROXY headers are believed.
    pub proxies: Vec<IpNet>,
    /// Of `claims`.
    pub per: Per,
    /// A client that is silent for longer waits for the server.
    pub first_byte: Millis,
    /// Of `claims`: an instance that does not take a connection for longer is given up.
    pub instance_timeout: Millis,
    pub on_missing: OnMissing,
    /// Too many failures of gray send everybody to stable for a while.
    pub breaker: Option<Breaker>,
    /// Everybody goes to stable when no agent was able to act for longer. `None`: nothing changes then.
    pub agent_lease: Option<Millis>,
    /// On requests that name none of `claims`.
    pub alarm: Option<Arc<Alarm>>,
    pub nat: Nat,
    /// Of [`Nat::Dsr`].
    pub encapsulation: Encapsulation,
    pub balance: Balance,
    pub affinity: Affinity,
    pub zone_affinity: ZoneAffinity,
    /// `None`: instances are taken as up.
    pub health: Option<Health>,
    pub instances: Vec<Instance>,
    pub stable: Selector,
    /// Of a subset that has nobody left.
    pub failover: Failover,
    /// By what is wanted of a subset: see [`Service::instead_of`].
    pub failover_by: BTreeMap<MetaKey, Failover>,
    pub blacklist: Blacklist,
    /// What routes say is counted, and everybody goes to stable.
    pub shadow: bool,
    /// First words of callers on the node are timed, too.
    pub measure_full: bool,
    /// `n-d-*` headers; what they are read by is among `claims`.
    pub headers: Option<RouteHeaders>,
    /// From whom some instances take connections. No instance is in two of them.
    pub accept: Vec<Accept>,
}

impl Service {
    /// Whether what clients say first is read.
    pub fn reads(&self) -> bool {
        !self.claims.is_empty()
            || !self.tls.is_empty()
            || !self.proxies.is_empty()
            || self.headers.as_ref().is_some_and(|h| !h.more.is_empty())
    }
}

/// A set of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohort {
    pub name: String,
    pub body: CohortBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CohortBody {
    /// An explicit list, as the document gives it; `gray cohort add|remove|load` edits live on top of it.
    /// Canonical texts: addresses and prefixes as `IpAddr`/`IpNet` print, numbers in decimal.
    List { of: ClaimKind, ids: BTreeSet<String> },
    /// `basis_points` of 10 000 buckets of the identity (`of: None`) or of one claim.
    Percent { of: Option<ClaimKind>, basis_points: u16, salt: String },
    /// The claim's last characters are these, one or two digits each. Never empty.
    Tail { of: ClaimKind, digits: BTreeSet<String> },
    /// Made of others, and of claims. Never of itself; written out, of at most `limits::COHORT_PARTS`.
    Joined(Condition),
}

/// (service, condition) -> weighted subsets, or a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Stable name: given, or made from service, condition and target. Counters follow it over revisions.
    pub name: String,
    /// `None`: every service.
    pub service: Option<String>,
    /// `None`: everybody (the weight step of the order).
    pub when: Option<Condition>,
    pub to: Target,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Never empty; weights sum to 10 000 basis points (one arm: 10 000).
    Arms(Vec<Arm>),
    /// A lane, by its name: of each service that it names, its subset. Only of routes for every service.
    Lane(String),
}

impl Target {
    /// None of a lane.
    pub fn arms(&self) -> &[Arm] {
        match self {
            Self::Arms(arms) => arms,
            Self::Lane(_) => &[],
        }
    }

    pub fn lane(&self) -> Option<&str> {
        match self {
            Self::Arms(_) => None,
            Self::Lane(name) => Some(name),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    pub subset: Selector,
    pub basis_points: u16,
}

/// A full-link environment: of each service that it names, a subset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub name: String,
    /// By service. Never empty.
    pub subsets: BTreeMap<String, Selector>,
}

/// A whole policy, valid by construction of `config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub services: Vec<Service>,
    pub cohorts: Vec<Cohort>,
    pub lanes: Vec<Lane>,
    /// In document order; the order decides ties.
    pub routes: Vec<Route>,
    /// Of every service.
    pub blacklist: Blacklist,
    /// What is known of callers.
    pub workloads: Vec<Workload>,
}

/// A member of a list cohort, parsed for its claim kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member<'a> {
    /// One address or a prefix.
    Net(IpNet),
    /// Mark or DSCP.
    Number(u32),
    /// Workload name.
    Text(&'a str),
    /// Values that begin so, of a claim that is read.
    Beginning(&'a str),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not {expected}")]
pub struct MemberError {
    pub text: String,
    pub expected: &'static str,
}

/// Reads one list entry as its claim kind wants it. Addresses become host prefixes (/32, /128); host bits are cut.
pub fn parse_member(of: ClaimKind, text: &str) -> Result<Member<'_>, MemberError> {
    let bad = |expected| MemberError { text: text.chars().take(64).collect(), expected };
    match of {
        ClaimKind::Source => text
            .parse::<IpNet>()
            .map(|n| Member::Net(unmapped(n.trunc())))
            .or_else(|_| text.parse::<std::net::IpAddr>().map(|a| Member::Net(a.to_canonical().into())))
            .map_err(|_| bad("an address or a prefix like 198.18.7.0/24"))
            .and_then(|m| match m {
                // The tables hold IPv4 inside ::ffff:0:0/96: a wider prefix would take all of it along.
                Member::Net(n) if n.addr().is_ipv6() && n.prefix_len() <= 96 && n.contains(&MAPPED) => {
                    Err(bad("a prefix apart from IPv4; for all of IPv6 write 2000::/3 and fc00::/7"))
                }
                m => Ok(m),
            }),
        ClaimKind::Mark => number(text)
            .map(Member::Number)
            .ok_or_else(|| bad("a mark, 1 to 4294967295 or 0x..; 0 is no mark")),
        ClaimKind::Dscp => number(text)
            .filter(|n| *n < 64)
            .map(Member::Number)
            .ok_or_else(|| bad("a DSCP value, 1 to 63; 0 is none")),
        ClaimKind::App
        | ClaimKind::User
        | ClaimKind::Tenant
        | ClaimKind::Device
        | ClaimKind::Platform
        | ClaimKind::Channel
        | ClaimKind::NdVersion
        | ClaimKind::NdRegion
        | ClaimKind::NdEnv => {
            // What takes part in the hash.
            let plain = !text.contains(|c: char| c.is_control());
            let text = text.trim();
            let (value, wild) = text.strip_suffix('*').map_or((text, false), |beginning| (beginning, true));
            if value.contains('*') {
                return Err(bad("a value, 1 to 32 bytes; a wildcard `*` stands at the end"));
            }
            match (plain && value.len() <= CLAIM_MAX, wild) {
                (true, true) => Ok(Member::Beginning(value)),
                (true, false) if !value.is_empty() => Ok(Member::Text(value)),
                _ => Err(bad("a value, 1 to 32 bytes")),
            }
        }
        ClaimKind::Tag => Err(bad("another claim: a tag has no values")),
        ClaimKind::Workload => {
            let ok = !text.is_empty() && text.len() <= 64 && !text.contains(char::is_whitespace);
            if ok {
                Ok(Member::Text(text))
            } else {
                Err(bad("a workload name, 1 to 64 characters, no spaces"))
            }
        }
    }
}

/// 0 is "not set" in packets and sockets: a list cannot name it.
fn number(text: &str) -> Option<u32> {
    let n = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    n.filter(|n| *n != 0)
}

/// The first address of IPv4 mapped into IPv6.
const MAPPED: std::net::IpAddr = std::net::IpAddr::V6(std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0));

/// IPv4 written as mapped IPv6 is IPv4: that is how the data path sees it.
fn unmapped(n: IpNet) -> IpNet {
    match (n.addr().to_canonical(), n.prefix_len().checked_sub(96)) {
        (std::net::IpAddr::V4(a), Some(bits)) if n.addr().is_ipv6() => {
            ipnet::Ipv4Net::new(a, bits).map_or(n, IpNet::V4)
        }
        _ => n,
    }
}

/// The canonical text of a list entry: how it is stored, shown and compared.
pub fn canonical_member(of: ClaimKind, text: &str) -> Result<Cow<'_, str>, MemberError> {
    Ok(match parse_member(of, text)? {
        Member::Net(n) if n.prefix_len() == n.max_prefix_len() => n.addr().to_string().into(),
        Member::Net(n) => n.to_string().into(),
        Member::Number(n) => n.to_string().into(),
        Member::Text(t) => t.into(),
        Member::Beginning(t) => format!("{t}*").into(),
    })
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// `198.18.1.100:80`, `[fd00::1]:53/udp`: the form the document uses.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proto {
            Proto::Tcp => write!(f, "{}", self.addr),
            Proto::Udp => write!(f, "{}/udp", self.addr),
        }
    }
}

impl Policy {
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.name == name)
    }

    pub fn cohort(&self, name: &str) -> Option<&Cohort> {
        self.cohorts.iter().find(|c| c.name == name)
    }

    pub fn lane(&self, name: &str) -> Option<&Lane> {
        self.lanes.iter().find(|l| l.name == name)
    }

    /// Whether a route is about a service: one to a lane is about those that the lane names.
    pub fn applies(&self, route: &Route, service: &str) -> bool {
        match &route.to {
            Target::Lane(lane) => self.lane(lane).is_some_and(|l| l.subsets.contains_key(service)),
            Target::Arms(_) => route.service.as_ref().is_none_or(|n| n == service),
        }
    }
}
