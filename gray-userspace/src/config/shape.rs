//! The keys of the document, each with its meaning: the one list that the reader, the JSON Schema and the error
//! texts use, so that they cannot drift apart. Must not read documents.

/// A map with known keys.
pub(super) struct Object {
    /// As errors call it: "unknown key `x` of a service".
    pub name: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
    /// Keys that are planned and therefore refused by name.
    pub later: &'static [&'static str],
}

pub(super) struct Key {
    pub name: &'static str,
    pub required: bool,
    pub doc: &'static str,
    pub shape: Shape,
}

/// What a value may look like.
pub(super) enum Shape {
    /// A service, cohort or route name.
    Name,
    /// Metadata, ids, salts: short text; numbers count as text, as written.
    Text,
    /// `198.18.2.2:8080`, `[fd00::1]:80`; a listener may end with `/udp`.
    Address {
        udp: bool,
    },
    /// `198.18.2.2:8080`, `198.18.*.2`, `8080`.
    AddressPattern,
    /// 0 to 100, at most two decimals.
    Percent,
    /// Whole number in the range.
    Integer(u64, u64),
    /// `500ms`, `2s`, `5m`, `1h`.
    Duration,
    /// Any short text without control characters.
    Words,
    /// An HTTP status or a range of them: `200`, `200-399`.
    Statuses,
    /// `true`.
    True,
    /// `true` or `false`.
    YesNo,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list: shape, fewest and most entries.
    List(&'static Shape, usize, Option<usize>),
    /// A list of cohort members: text or numbers; empty and null are fine.
    Members,
    /// One value of a claim: text or a number.
    Value,
    /// A map from names to this.
    Map(&'static Object),
    /// A map from names to maps from names to this.
    Maps(&'static Object),
    One(&'static Object),
    /// A cohort name, `all`, `any`, `not` or a claim.
    Condition,
    /// One of two shapes.
    Either(&'static Shape, &'static Shape),
}

#[path = "shape_accept.rs"]
mod accept;
#[path = "shape_alarm.rs"]
mod alarm;
#[path = "shape_breaker.rs"]
mod breaker;
#[path = "shape_claims.rs"]
mod claims;
#[path = "shape_headers.rs"]
mod headers;
#[path = "shape_health.rs"]
mod health;
#[path = "shape_release.rs"]
mod release;
#[path = "shape_strategy.rs"]
mod strategy;

pub(super) use accept::ACCEPT;
pub(super) use alarm::ALARM;
pub(super) use breaker::BREAKER;
pub(super) use claims::{PLACE, READS, TAIL};
pub(super) use headers::{ROUTE_HEADERS, ROUTE_KEYS, ROUTE_KEYS_LATER, ROUTE_LISTENER};
pub(super) use health::{DAMPING, HEALTH};
pub(super) use release::{
    ALIGN, CHANGED_ROWS, DATA, DIALECTS, HOOK, RELEASE, RELEASED, STAGE, TIMES, UNMEASURED, VERDICT,
};
pub(super) use strategy::{ACTIVE, CHOOSE, LAYER, STRATEGY};

use super::limits;

const fn required(name: &'static str, doc: &'static str, shape: Shape) -> Key {
    Key { name, required: true, doc, shape }
}

const fn optional(name: &'static str, doc: &'static str, shape: Shape) -> Key {
    Key { name, required: false, doc, shape }
}

pub(super) const CLAIMS: &[&str] =
    &["source", "mark", "dscp", "workload", "app", "user", "tenant", "device", "platform", "channel"];
/// What a client can be told apart by.
pub(super) const IDENTITIES: &[&str] =
    &["source", "mark", "dscp", "workload", "app", "user", "tenant", "device", "platform", "channel", "tag"];
pub(super) const CLAIMS_LATER: &[&str] =
    &["tag", "lane", "sni", "alpn", "header", "cookie", "query", "proxy"];
pub(super) const NAT: &[&str] = &["dnat", "snat", "dsr"];
pub(super) const ENCAPSULATION: &[&str] = &["ipip", "gue"];
pub(super) const PER: &[&str] = &["connection", "request"];
pub(super) const ON_MISSING: &[&str] = &["stable", "deny"];
pub(super) const ON_LOST: &[&str] = &["keep", "stable"];
pub(super) const ZONE_AFFINITY: &[&str] = &["off", "prefer", "only"];
pub(super) const BALANCE: &[&str] = &["maglev", "round-robin"];
pub(super) const AFFINITY: &[&str] = &["connection", "client"];
pub(super) const FAILOVER: &[&str] = &["stable", "any", "deny"];
pub(super) const MEASURE: &[&str] = &["connections", "full"];
pub(super) const YES_NO: &[&str] = &["true", "false"];
pub(super) const CHECKS: &[&str] = &["tcp", "http", "command"];
pub(super) const CHECKS_LATER: &[&str] = &["grpc", "https", "tls", "udp", "dns"];
pub(super) const EMPTY: &[&str] = &["stable", "keep"];
/// Written as `address`.
const META_LATER: &[&str] = &["ip", "port"];

pub(super) static DOCUMENT: Object = Object {
    name: "the document",
    doc: "A gray policy: services, cohorts of clients, lanes, and the routes between them.",
    keys: &[
        optional(
            "services",
            "What clients dial and which instances serve it, by name.",
            Shape::Map(&SERVICE),
        ),
        optional("cohorts", "Sets of clients, by name.", Shape::Map(&COHORT)),
        optional(
            "lanes",
            "Full-link environments, by name: of each service that a lane names, its instances. At all other services its connections are stable's, or the routes'.",
            Shape::Maps(&SELECTOR),
        ),
        optional(
            "workloads",
            "What callers on the nodes are, by their workload's name (`gray workload set`).",
            Shape::Map(&WORKLOAD),
        ),
        optional(
            "blacklist",
            "Instances of all services that get no new connections; open ones stay.",
            Shape::One(&BLACKLIST),
        ),
        optional(
            "routes",
            "Which clients go to which instances. Ties go to the first route in the document.",
            Shape::List(&Shape::One(&ROUTE), 0, None),
        ),
    ],
    later: &["releases"],
};

pub(super) static SERVICE: Object = Object {
    name: "a service",
    doc: "Addresses that clients dial and the instances that serve them.",
    keys: &[
        required(
            "listen",
            "Addresses that clients dial: `198.18.1.100:80`, `[fd00::100]:53/udp`. TCP unless `/udp`. May be stable's own address.",
            Shape::List(&Shape::Address { udp: true }, 1, Some(limits::LISTENERS_PER_SERVICE)),
        ),
        optional(
            "identify",
            "Claims in order; the first that is present is the client's identity. Default: [source, workload].",
            Shape::List(&Shape::Word(IDENTITIES), 1, Some(gray_common::limits::IDENTIFY)),
        ),
        optional(
            "claims",
            "What is read of a connection's first request (HTTP/1) or TLS ClientHello, by claim.",
            Shape::One(&READS),
        ),
        optional(
            "trusted-proxies",
            "Load balancers whose PROXY headers (version 2) are believed, by address or prefix: the client's source is the one that they say. Default: nobody.",
            Shape::List(&Shape::Value, 1, Some(gray_common::limits::PROXIES)),
        ),
        optional(
            "per",
            "Of `claims`: what chooses the instance, a connection's first request or each request. Default: connection.",
            Shape::Word(PER),
        ),
        optional(
            "first-byte",
            "Of `claims`: a client that says nothing for so long waits for the server, and goes where clients go of whom nothing is known. 100ms to 10m. Default: 30s.",
            Shape::Duration,
        ),
        optional(
            "instance-timeout",
            "Of `claims`: an instance that does not take a connection for so long is given up, and another one of its subset is tried, then stable's. 100ms to 1m. Default: 1s.",
            Shape::Duration,
        ),
        optional(
            "on-missing-identity",
            "What becomes of a client of whom no claim of `identify` is present. stable: it is decided on without an identity. deny: it is refused. Default: stable.",
            Shape::Word(ON_MISSING),
        ),
        optional(
            "breaker",
            "A circuit breaker in the kernel: too many failures of gray, and everybody goes to stable for a while. Default: none.",
            Shape::One(&BREAKER),
        ),
        optional(
            "on-agent-lost",
            "What becomes of new connections when no agent was able to act for longer than `agent-lease`. keep: routes decide as ever. stable: everybody goes to stable. Default: keep.",
            Shape::Word(ON_LOST),
        ),
        optional(
            "agent-lease",
            "Of `on-agent-lost: stable`: for how long an agent may be gone. 5s to 24h. Default: 30s.",
            Shape::Duration,
        ),
        optional(
            "missing-alarm",
            "Tells people when too many requests name none of `claims`. Default: no alarm.",
            Shape::One(&ALARM),
        ),
        optional(
            "nat",
            "How packets are translated. dnat: the client's address is kept. snat: the instance sees an address of the agent's node (--snat). dsr: packets reach the instance as they are, in other ones (--dsr-source), and it answers the client itself. Default: dnat.",
            Shape::Word(NAT),
        ),
        optional(
            "encapsulation",
            "Of `nat: dsr`: what is put in front of a packet. ipip: an IP header. gue: IP, UDP (port 6080) and GUE. Default: ipip.",
            Shape::Word(ENCAPSULATION),
        ),
        optional(
            "balance",
            "How connections are spread over the instances of a subset: by a hash, or each to the next. Default: maglev.",
            Shape::Word(BALANCE),
        ),
        optional(
            "affinity",
            "What chooses the instance inside a subset: each connection by itself, or the client. Default: connection.",
            Shape::Word(AFFINITY),
        ),
        optional(
            "zone-affinity",
            "Whether instances of the agent's zone (--zone) come first in each subset. prefer: others serve while none of them does. only: others never serve. Default: off.",
            Shape::Word(ZONE_AFFINITY),
        ),
        optional(
            "health",
            "How instances are found healthy. Default: they are taken as up.",
            Shape::One(&HEALTH),
        ),
        required(
            "instances",
            "The servers of this service.",
            Shape::List(&Shape::One(&INSTANCE), 1, Some(limits::INSTANCES_PER_SERVICE)),
        ),
        required(
            "stable",
            "Which instances serve everybody whom no route sends elsewhere.",
            Shape::One(&SELECTOR),
        ),
        optional(
            "failover",
            "Who serves the clients of a subset whose instances are all gone: stable, any instance, or those of a selector; deny: they are refused. Default: stable.",
            FAILOVERS,
        ),
        optional(
            "failover-by",
            "Before `failover`, by what is wanted of the subset: what gives way when nobody has it, the narrowest first. Default: nothing.",
            Shape::One(&FAILOVER_BY),
        ),
        optional(
            "blacklist",
            "Instances of this service that get no new connections.",
            Shape::One(&BLACKLIST),
        ),
        optional(
            "shadow",
            "Routes decide and are counted, and everybody goes to stable. Default: false.",
            Shape::YesNo,
        ),
        optional(
            "measure",
            "full: when callers on the node ask and instances answer is measured, too, at the cost of a look at each of their packets. Default: connections.",
            Shape::Word(MEASURE),
        ),
        optional(
            "route-headers",
            "Whether requests may ask for instances by `n-d-*` headers. Default: they are not read.",
            Shape::One(&ROUTE_HEADERS),
        ),
        optional(
            "accept",
            "From whom some instances take connections, by route or by their own address; others are refused. Default: from everybody.",
            Shape::List(&Shape::One(&ACCEPT), 1, Some(limits::ACCEPTS)),
        ),
    ],
    later: &[],
};

const META_DOC: &str = "Text, as written: 1.0 stays 1.0.";

pub(super) static INSTANCE: Object = Object {
    name: "an instance",
    doc: "One server and its metadata.",
    keys: &[
        required(
            "address",
            "Where it listens: `198.18.2.2:8080`, `[fd00::2]:8080`.",
            Shape::Address { udp: false },
        ),
        optional("id", "Unique in the service. Default: the address as written.", Shape::Text),
        optional("version", META_DOC, Shape::Text),
        optional("region", META_DOC, Shape::Text),
        optional("zone", META_DOC, Shape::Text),
        optional("env", META_DOC, Shape::Text),
        optional("group", META_DOC, Shape::Text),
        optional(
            "weight",
            "Share among the instances of its subset. Default: 100.",
            Shape::Integer(*limits::INSTANCE_WEIGHT.start() as u64, *limits::INSTANCE_WEIGHT.end() as u64),
        ),
    ],
    later: &["health", "drain"],
};

const ANY_DOC: &str = "A value as written, or a list of which it must be one.";
const TEXTS: Shape =
    Shape::Either(&Shape::Text, &Shape::List(&Shape::Text, 1, Some(limits::SELECTOR_VALUES)));
const ADDRESS_DOC: &str = "The instance's address, its port, or both; `*` stands for any digits: `198.18.2.2:8080`, `198.18.*.2`, `8080`. One or a list.";
const PATTERNS: Shape = Shape::Either(
    &Shape::AddressPattern,
    &Shape::List(&Shape::AddressPattern, 1, Some(limits::SELECTOR_VALUES)),
);

pub(super) static SELECTOR: Object = Object {
    name: "a selector",
    doc: "Instances that have, of every given key, the value or one of the values. At least one key.",
    keys: &[
        optional("version", ANY_DOC, TEXTS),
        optional("region", ANY_DOC, TEXTS),
        optional("zone", ANY_DOC, TEXTS),
        optional("env", ANY_DOC, TEXTS),
        optional("group", ANY_DOC, TEXTS),
        optional("id", "The instance's id, or one of these.", TEXTS),
        optional("address", ADDRESS_DOC, PATTERNS),
    ],
    later: META_LATER,
};

const FAILOVERS: Shape = Shape::Either(&Shape::Word(FAILOVER), &Shape::One(&SELECTOR));
const BY_DOC: &str = "Of subsets that name this key: any, and all else stays as wanted; or a selector that takes the key's place; stable; deny.";

pub(super) static FAILOVER_BY: Object = Object {
    name: "a failover by keys",
    doc: "Who serves the clients of a subset that has nobody left, by the keys that the subset is named by.",
    keys: &[
        optional("version", BY_DOC, FAILOVERS),
        optional("region", BY_DOC, FAILOVERS),
        optional("zone", BY_DOC, FAILOVERS),
        optional("env", BY_DOC, FAILOVERS),
        optional("group", BY_DOC, FAILOVERS),
        optional("id", BY_DOC, FAILOVERS),
        optional("address", BY_DOC, FAILOVERS),
    ],
    later: META_LATER,
};

const ENTRIES: &str = "A list, or text with `;` between.";

pub(super) static BLACKLIST: Object = Object {
    name: "a blacklist",
    doc: "Instances that get no new connections; open ones stay.",
    keys: &[
        optional("ids", ENTRIES, Shape::Either(&Shape::Text, &Shape::List(&Shape::Text, 0, None))),
        optional("addresses", ENTRIES, Shape::Either(&Shape::Text, &Shape::List(&Shape::Text, 0, None))),
    ],
    later: &[],
};

/// A selector with a weight.
pub(super) static ARM: Object = Object {
    name: "a weighted subset",
    doc: "A selector and its share. At least one pair beside the weight.",
    keys: &[
        optional("version", ANY_DOC, TEXTS),
        optional("region", ANY_DOC, TEXTS),
        optional("zone", ANY_DOC, TEXTS),
        optional("env", ANY_DOC, TEXTS),
        optional("group", ANY_DOC, TEXTS),
        optional("id", "The instance's id, or one of these.", TEXTS),
        optional("address", ADDRESS_DOC, PATTERNS),
        optional(
            "weight",
            "Percent, at most two decimals; the weights of a route sum to 100. Only a single arm may omit it.",
            Shape::Percent,
        ),
    ],
    later: META_LATER,
};

pub(super) static COHORT: Object = Object {
    name: "a cohort",
    doc: "A set of clients: exactly one of `sources`, `marks`, `dscps`, `workloads`, `apps`, `users`, `tenants`, `devices`, `platforms`, `channels`, `percent`, `tail`, `all`, `any`, `not`.",
    keys: &[
        optional("sources", "Client addresses and prefixes: `198.18.7.0/24`.", Shape::Members),
        optional("marks", "Socket or packet marks, decimal or 0x.. .", Shape::Members),
        optional("dscps", "DSCP values, 1 to 63.", Shape::Members),
        optional("workloads", "Workload names, as `gray workload set` gives them.", Shape::Members),
        optional("apps", "Values of the claim `app`.", Shape::Members),
        optional("users", "Values of the claim `user`.", Shape::Members),
        optional("tenants", "Values of the claim `tenant`.", Shape::Members),
        optional("devices", "Values of the claim `device`.", Shape::Members),
        optional("platforms", "Values of the claim `platform`: android, ios, web.", Shape::Members),
        optional("channels", "Values of the claim `channel`.", Shape::Members),
        optional(
            "percent",
            "Share of all identities, 0 to 100, at most two decimals. Sticky.",
            Shape::Percent,
        ),
        optional("tail", "Clients by the last digits of a claim.", Shape::One(&TAIL)),
        optional("all", "Who is in every one of these.", Shape::List(&Shape::Condition, 1, None)),
        optional("any", "Who is in at least one of these.", Shape::List(&Shape::Condition, 1, None)),
        optional("not", "Everybody else.", Shape::Condition),
        optional(
            "of",
            "With `percent`: the claim that is divided. Default: the identity.",
            Shape::Word(CLAIMS),
        ),
        optional(
            "salt",
            "With `percent`: cohorts with one salt hold the same clients first. Default: the cohort's name.",
            Shape::Text,
        ),
    ],
    later: &["tags", "lanes", "headers", "cookies", "snis", "file"],
};

pub(super) const KINDS: &[&str] = &[
    "sources",
    "marks",
    "dscps",
    "workloads",
    "apps",
    "users",
    "tenants",
    "devices",
    "platforms",
    "channels",
    "percent",
    "tail",
    "all",
    "any",
    "not",
];

pub(super) static ROUTE: Object = Object {
    name: "a route",
    doc: "Sends clients to a subset of a service, or divides them by weight, or sends them into a lane. One of `to`, `lane` and `same`, or `to` and `same`.",
    keys: &[
        optional(
            "name",
            "Counters follow it. Default: made from service, condition and target.",
            Shape::Name,
        ),
        optional("service", "Default: every service.", Shape::Name),
        optional("when", "Which clients. Default: everybody.", Shape::Condition),
        optional(
            "to",
            "A selector, or a list of selectors with `weight`.",
            Shape::Either(
                &Shape::One(&ARM),
                &Shape::List(&Shape::One(&ARM), 1, Some(limits::ARMS_PER_ROUTE)),
            ),
        ),
        optional(
            "lane",
            "A lane: at each service that it names, to its instances. Not with `service`.",
            Shape::Name,
        ),
        optional(
            "same",
            "To instances that have of these what the caller's workload has, among those of `to` if that is given. Callers of whom it is not known are not meant.",
            Shape::Either(&Shape::Word(SAME), &Shape::List(&Shape::Word(SAME), 1, Some(SAME.len()))),
        ),
    ],
    later: &["services", "failover", "shadow", "until"],
};

const IS_DOC: &str = "Text, as instances have it.";
const SERVICE_DOC: &str = "Of which service it is, or what else it is called by.";

pub(super) static WORKLOAD: Object = Object {
    name: "a workload",
    doc: "What the processes are that a node labels so: at least one key.",
    keys: &[
        optional("service", SERVICE_DOC, Shape::Text),
        optional("version", IS_DOC, Shape::Text),
        optional("region", IS_DOC, Shape::Text),
        optional("zone", IS_DOC, Shape::Text),
        optional("env", IS_DOC, Shape::Text),
        optional("group", IS_DOC, Shape::Text),
    ],
    later: &["lane", "unit", "cgroup"],
};

pub(super) static CALLER: Object = Object {
    name: "a caller",
    doc: "Calls by workloads that have, of every given key, the value or one of the values. At least one key.",
    keys: &[
        optional("service", ANY_DOC, TEXTS),
        optional("version", ANY_DOC, TEXTS),
        optional("region", ANY_DOC, TEXTS),
        optional("zone", ANY_DOC, TEXTS),
        optional("env", ANY_DOC, TEXTS),
        optional("group", ANY_DOC, TEXTS),
    ],
    later: &[],
};

/// What callers and instances may have in common.
pub(super) const SAME: &[&str] = &["version", "region", "zone", "env", "group"];

pub(super) static CONDITION: Object = Object {
    name: "a condition",
    doc: "Exactly one of `all`, `any`, `not`, a lane, a caller, or a claim and its values; nested at most 8 deep.",
    keys: &[
        optional("all", "Every one of these.", Shape::List(&Shape::Condition, 1, None)),
        optional("any", "At least one of these.", Shape::List(&Shape::Condition, 1, None)),
        optional("not", "Everybody else.", Shape::Condition),
        optional("lane", "Connections that are in this lane.", Shape::Name),
        optional("caller", "Calls by workloads that are this.", Shape::One(&CALLER)),
        optional("source", CLAIM_DOC, VALUES),
        optional("mark", CLAIM_DOC, VALUES),
        optional("dscp", CLAIM_DOC, VALUES),
        optional("workload", CLAIM_DOC, VALUES),
        optional("app", CLAIM_DOC, VALUES),
        optional("user", CLAIM_DOC, VALUES),
        optional("tenant", CLAIM_DOC, VALUES),
        optional("device", CLAIM_DOC, VALUES),
        optional("platform", CLAIM_DOC, VALUES),
        optional("channel", CLAIM_DOC, VALUES),
    ],
    later: &["tag", "sni", "alpn", "header", "cookie", "query", "proxy"],
};

const CLAIM_DOC: &str = "Clients of whom this claim has this value, or one of these.";
const VALUES: Shape =
    Shape::Either(&Shape::Value, &Shape::List(&Shape::Value, 1, Some(limits::CONDITION_VALUES)));

#[cfg(test)]
pub(super) static OBJECTS: [&Object; 21] = [
    &WORKLOAD,
    &CALLER,
    &FAILOVER_BY,
    &ROUTE_HEADERS,
    &ROUTE_LISTENER,
    &ACCEPT,
    &BLACKLIST,
    &DOCUMENT,
    &SERVICE,
    &READS,
    &PLACE,
    &ALARM,
    &HEALTH,
    &DAMPING,
    &INSTANCE,
    &SELECTOR,
    &ARM,
    &COHORT,
    &TAIL,
    &ROUTE,
    &CONDITION,
];

impl Object {
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|k| k.name)
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}
