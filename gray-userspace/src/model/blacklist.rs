//! Instances that get no new connections, by id and by address; and where a subset's clients go that has nobody left.

use std::{collections::BTreeSet, fmt};

use super::{Instance, Policy, Selector, address};

/// By id, and by patterns of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blacklist {
    pub ids: BTreeSet<String>,
    pub addresses: BTreeSet<String>,
}

impl Blacklist {
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.addresses.is_empty()
    }

    pub fn names(&self, i: &Instance) -> bool {
        self.ids.contains(&i.id) || self.addresses.iter().any(|p| address::matches(p, i.address))
    }
}

/// Who serves the clients of a subset whose instances are all gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    #[default]
    Stable,
    /// Any instance of the service.
    Any,
    /// These; when they are gone, too, stable.
    To(Selector),
    /// Nobody: they are refused.
    Deny,
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stable => f.write_str("stable"),
            Self::Any => f.write_str("any"),
            Self::To(subset) => subset.fmt(f),
            Self::Deny => f.write_str("deny"),
        }
    }
}

impl Policy {
    /// `service/instance` names that a blacklist names.
    pub fn blacklisted(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        for s in &self.services {
            let named = |i: &&Instance| self.blacklist.names(i) || s.blacklist.names(i);
            out.extend(s.instances.iter().filter(named).map(|i| format!("{}/{}", s.name, i.id)));
        }
        out
    }

    /// Whether a blacklist names an instance.
    pub fn is_blacklisted(&self, service: &str, i: &Instance) -> bool {
        self.blacklist.names(i) || self.service(service).is_some_and(|s| s.blacklist.names(i))
    }
}
