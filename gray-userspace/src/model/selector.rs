//! Which instances are meant: by their metadata, their id, their address. Must not know services.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};

use super::{Instance, address};

/// What selectors may name of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetaKey {
    Version,
    Region,
    Zone,
    Env,
    Group,
    Id,
    /// By patterns: see [`address`].
    Address,
}

impl MetaKey {
    pub const ALL: [Self; 7] =
        [Self::Version, Self::Region, Self::Zone, Self::Env, Self::Group, Self::Id, Self::Address];
    /// What documents give of an instance as text.
    pub const TEXTS: [Self; 6] = [Self::Version, Self::Region, Self::Zone, Self::Env, Self::Group, Self::Id];

    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Region => "region",
            Self::Zone => "zone",
            Self::Env => "env",
            Self::Group => "group",
            Self::Id => "id",
            Self::Address => "address",
        }
    }
}

/// Instances that have, of every given key, one of the given values. No set is empty. `Display` is canonical:
/// `version=2.0,zone=z1|z2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector(pub BTreeMap<MetaKey, BTreeSet<String>>);

impl Selector {
    /// One key, one value.
    pub fn one(key: MetaKey, value: impl Into<String>) -> Self {
        Self(BTreeMap::from([(key, BTreeSet::from([value.into()]))]))
    }

    pub fn matches(&self, i: &Instance) -> bool {
        self.0.iter().all(|(key, any)| has(i, *key, any))
    }
}

/// The instance has one of these values.
pub fn has(i: &Instance, key: MetaKey, any: &BTreeSet<String>) -> bool {
    match key {
        MetaKey::Id => any.contains(&i.id),
        MetaKey::Address => by_address(any, i.address),
        key => i.meta.get(&key).is_some_and(|v| any.contains(v)),
    }
}

fn by_address(any: &BTreeSet<String>, at: SocketAddr) -> bool {
    any.iter().any(|p| address::matches(p, at))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("any instance");
        }
        for (i, (key, any)) in self.0.iter().enumerate() {
            write!(f, "{}{}=", if i > 0 { "," } else { "" }, key.name())?;
            for (i, value) in any.iter().enumerate() {
                write!(f, "{}{value}", if i > 0 { "|" } else { "" })?;
            }
        }
        Ok(())
    }
}
