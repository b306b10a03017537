//! What the policy says of callers by their workload's name, and conditions on it. Must not know cgroups: which processes are of a
//! workload is said on each node.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{MetaKey, Policy};

/// What is said of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerKey {
    /// Of which service it is an instance, or what else it is.
    Service,
    Version,
    Region,
    Zone,
    Env,
    Group,
}

impl CallerKey {
    pub const ALL: [Self; 6] =
        [Self::Service, Self::Version, Self::Region, Self::Zone, Self::Env, Self::Group];

    pub fn name(self) -> &'static str {
        self.meta().map_or("service", MetaKey::name)
    }

    /// The same of an instance.
    pub fn meta(self) -> Option<MetaKey> {
        match self {
            Self::Service => None,
            Self::Version => Some(MetaKey::Version),
            Self::Region => Some(MetaKey::Region),
            Self::Zone => Some(MetaKey::Zone),
            Self::Env => Some(MetaKey::Env),
            Self::Group => Some(MetaKey::Group),
        }
    }
}

/// A workload that the policy knows something of. `Display`: `service=shop,version=2.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// As `gray workload set` gives it.
    pub name: String,
    /// Never empty.
    pub meta: BTreeMap<CallerKey, String>,
}

/// Workloads that have, of every given key, one of the given values. No set is empty. `Display`: `caller(version=2.0,zone=z1|z2)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller(pub BTreeMap<CallerKey, BTreeSet<String>>);

impl Caller {
    pub fn matches(&self, w: &Workload) -> bool {
        self.0.iter().all(|(key, any)| w.meta.get(key).is_some_and(|v| any.contains(v)))
    }
}

impl Policy {
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|w| w.name == name)
    }

    /// The names of those who match.
    pub fn callers(&self, caller: &Caller) -> BTreeSet<String> {
        self.workloads.iter().filter(|w| caller.matches(w)).map(|w| w.name.clone()).collect()
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.meta.iter().enumerate() {
            write!(f, "{}{}={value}", if i > 0 { "," } else { "" }, key.name())?;
        }
        Ok(())
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, any)) in self.0.iter().enumerate() {
            let values: Vec<&str> = any.iter().map(String::as_str).collect();
            write!(f, "{}{}={}", if i > 0 { "," } else { "caller(" }, key.name(), values.join("|"))?;
        }
        f.write_str(")")
    }
}
