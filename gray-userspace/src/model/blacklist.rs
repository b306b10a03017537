//! Instances that get no new connections, by id and by address; and where a subset's clients go that has nobody left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Instance, MetaKey, Policy, Selector, Service, address};

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

/// In which order a subset's keys give way, the narrowest first.
const NARROWEST_FIRST: [MetaKey; 7] = [
    MetaKey::Address,
    MetaKey::Id,
    MetaKey::Zone,
    MetaKey::Region,
    MetaKey::Group,
    MetaKey::Env,
    MetaKey::Version,
];

/// Who serves a subset's clients while it has nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instead {
    /// The first of these of whom somebody serves. One without keys is every instance.
    pub tiers: Vec<Selector>,
    /// Then: they are refused; else they go to stable.
    pub deny: bool,
}

impl Service {
    /// One key of what was wanted gives way after the other, as `failover-by` says of it, all else stays as it was; the service's
    /// `failover` is the end. A key that says `stable` or `deny` is the end when its turn comes.
    pub fn instead_of(&self, wanted: &Selector) -> Instead {
        let (mut left, mut tiers) = (wanted.clone(), Vec::new());
        for key in NARROWEST_FIRST {
            let Some(by) = self.failover_by.get(&key).filter(|_| left.0.contains_key(&key)) else { continue };
            let more = match by {
                Failover::Stable | Failover::Deny => return Instead { tiers, deny: *by == Failover::Deny },
                Failover::Any => None,
                Failover::To(other) => Some(other.0.clone()),
            };
            let _ = left.0.remove(&key);
            left.0.extend(more.into_iter().flatten());
            tiers.push(left.clone());
        }
        match &self.failover {
            Failover::Stable | Failover::Deny => {}
            Failover::Any => tiers.push(Selector(BTreeMap::new())),
            Failover::To(other) => tiers.push(other.clone()),
        }
        Instead { tiers, deny: self.failover == Failover::Deny }
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
