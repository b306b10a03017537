//! What is known about a client, and where it stands in what it says.

use serde::{Deserialize, Serialize};

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
}

impl ClaimKind {
    pub const ALL: [Self; 6] = [Self::Source, Self::Mark, Self::Dscp, Self::Workload, Self::App, Self::User];

    /// Of what a client says first.
    pub fn is_read(self) -> bool {
        matches!(self, Self::App | Self::User)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Mark => "mark",
            Self::Dscp => "dscp",
            Self::Workload => "workload",
            Self::App => "app",
            Self::User => "user",
        }
    }
}

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
