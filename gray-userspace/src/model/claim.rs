//! What is known about a client, and where it stands in what it says.

use gray_common::request::watch::{WATCHES, Watches};
use serde::{Deserialize, Serialize};

use super::MetaKey;

/// What can be known about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimKind {
    /// The client's address.
    Source,
    /// `SO_MARK` / skb mark.
    Mark,
    /// DSCP, 0..=63.
    Dscp,
    /// The caller's workload: its cgroup, labelled by `gray workload set`.
    Workload,
    /// The application that a request names.
    App,
    /// The user that a request names.
    User,
    /// The tenant that a request names.
    Tenant,
    /// The device that a request names.
    Device,
    /// What the client runs on: `android`, `ios`, `web`.
    Platform,
    /// By what way the client was got: an app store, an advertisement.
    Channel,
    /// What a request asks to be served by: see [`RouteHeaders`](super::RouteHeaders).
    #[serde(rename = "n-d-version")]
    NdVersion,
    #[serde(rename = "n-d-region")]
    NdRegion,
    #[serde(rename = "n-d-env")]
    NdEnv,
    /// The identity that the node before says by a tag in the SYN. It has no values: nobody lists them.
    Tag,
}

/// Where a claim stands in a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A header, by its name in any case.
    Header(String),
    Cookie(String),
    /// A parameter of the query.
    Query(String),
}

/// Where a claim stands in a TLS ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tls {
    /// The name of the server, in lower case.
    Sni,
    /// The first protocol that is offered.
    Alpn,
}

impl Tls {
    pub const ALL: [Self; 2] = [Self::Sni, Self::Alpn];

    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::Alpn => "alpn",
        }
    }
}

impl Place {
    /// As documents write it: the key, and the name.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Header(name) => ("header", name),
            Self::Cookie(name) => ("cookie", name),
            Self::Query(name) => ("query", name),
        }
    }

    /// How a scan knows the name: equal for two places that are one.
    pub fn watched(&self) -> u64 {
        match self {
            Self::Header(name) => Watches::header(name),
            Self::Cookie(name) => Watches::cookie(name),
            Self::Query(name) => Watches::query(name),
        }
    }
}

impl ClaimKind {
    /// Those that have values.
    pub const ALL: [Self; 10] = [
        Self::Source,
        Self::Mark,
        Self::Dscp,
        Self::Workload,
        Self::App,
        Self::User,
        Self::Tenant,
        Self::Device,
        Self::Platform,
        Self::Channel,
    ];
    /// Those that are read of what a client says first. Each has one name at most, and a service watches so many.
    pub const READ: [Self; 6] =
        [Self::App, Self::User, Self::Tenant, Self::Device, Self::Platform, Self::Channel];

    /// Headers by which a request asks for instances. They are named by no document but by `route-headers`.
    pub const ASKED: [Self; 3] = [Self::NdVersion, Self::NdRegion, Self::NdEnv];

    /// Of what a client says first.
    pub fn is_read(self) -> bool {
        Self::READ.contains(&self) || Self::ASKED.contains(&self)
    }

    /// The header that asks for a key of instances.
    pub fn of_header(key: MetaKey) -> Option<Self> {
        match key {
            MetaKey::Version => Some(Self::NdVersion),
            MetaKey::Region => Some(Self::NdRegion),
            MetaKey::Env => Some(Self::NdEnv),
            MetaKey::Zone | MetaKey::Group | MetaKey::Id | MetaKey::Address => None,
        }
    }

    /// The header that such a claim is read of where none is named.
    pub fn usual_header(self) -> &'static str {
        match self {
            Self::User => "X-User-Id",
            Self::Tenant => "X-Tenant-Id",
            Self::Device => "X-Device-Id",
            Self::Platform => "X-Platform",
            Self::Channel => "X-Channel",
            _ => "X-App-Id",
        }
    }

    /// The key of a cohort that lists values of it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Source => "sources",
            Self::Mark => "marks",
            Self::Dscp => "dscps",
            Self::Workload => "workloads",
            Self::App => "apps",
            Self::User => "users",
            Self::Tenant => "tenants",
            Self::Device => "devices",
            Self::Platform => "platforms",
            Self::Channel => "channels",
            // Of no cohort.
            Self::NdVersion | Self::NdRegion | Self::NdEnv => self.name(),
            Self::Tag => "tags",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Mark => "mark",
            Self::Dscp => "dscp",
            Self::Workload => "workload",
            Self::App => "app",
            Self::User => "user",
            Self::Tenant => "tenant",
            Self::Device => "device",
            Self::Platform => "platform",
            Self::Channel => "channel",
            Self::NdVersion => "n-d-version",
            Self::NdRegion => "n-d-region",
            Self::NdEnv => "n-d-env",
            Self::Tag => "tag",
        }
    }
}

const _: () = assert!(ClaimKind::READ.len() <= WATCHES);

/// What chooses, of a service whose requests are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// The first request, for its whole connection.
    #[default]
    Connection,
    /// Each request.
    Request,
}

impl Per {
    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Request => "request",
        }
    }
}

/// What happens to a client of whom no `identify` claim is present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// It is decided on without an identity.
    #[default]
    Stable,
    /// It is refused.
    Deny,
}

impl OnMissing {
    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Deny => "deny",
        }
    }
}
