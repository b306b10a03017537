//! What of `n-d-*` headers counts, and against what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use gray_common::{
    hash::CLAIM_MAX,
    wire::{
        MORE_ADDRESS, MORE_ADDRESS_BLACKLIST, MORE_ID_BLACKLIST, MORE_REGION_WEIGHT, MORE_VERSION_WEIGHT,
    },
};

use super::{ClaimKind, MetaKey, Service};

/// Headers that ask for more than one value of one key: the splice listener reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MoreHeader {
    Address,
    VersionWeight,
    RegionWeight,
    IdBlacklist,
    AddressBlacklist,
}

impl MoreHeader {
    /// In the order of `watch::MORE_HEADERS`.
    pub const ALL: [Self; 5] =
        [Self::Address, Self::VersionWeight, Self::RegionWeight, Self::IdBlacklist, Self::AddressBlacklist];

    /// Without `n-d-`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::VersionWeight => "version-weight",
            Self::RegionWeight => "region-weight",
            Self::IdBlacklist => "id-blacklist",
            Self::AddressBlacklist => "address-blacklist",
        }
    }

    /// As tables have it.
    pub fn bit(self) -> u32 {
        match self {
            Self::Address => MORE_ADDRESS,
            Self::VersionWeight => MORE_VERSION_WEIGHT,
            Self::RegionWeight => MORE_REGION_WEIGHT,
            Self::IdBlacklist => MORE_ID_BLACKLIST,
            Self::AddressBlacklist => MORE_ADDRESS_BLACKLIST,
        }
    }

    /// Weights are decided by what one value would be.
    pub fn needs(self) -> Option<MetaKey> {
        match self {
            Self::VersionWeight => Some(MetaKey::Version),
            Self::RegionWeight => Some(MetaKey::Region),
            Self::Address | Self::IdBlacklist | Self::AddressBlacklist => None,
        }
    }
}

/// What of headers counts beside routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Switches {
    /// What the client asks for is done, where it is not what the route says.
    pub over_routes: bool,
    /// ... and where no route applies.
    pub without_route: bool,
}

impl fmt::Display for Switches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "over-routes: {}, without-route: {}", self.over_routes, self.without_route)
    }
}

/// Whether a switch is on, at the listeners of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    All(bool),
    Some,
}

/// A client may ask for instances by headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHeaders {
    /// Of these keys of instances.
    pub read: BTreeSet<MetaKey>,
    /// ... and by these. Not both are empty.
    pub more: BTreeSet<MoreHeader>,
    pub switches: Switches,
    /// Listeners that have their own.
    pub at: BTreeMap<SocketAddr, Switches>,
}

impl fmt::Display for RouteHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.read.iter().map(|k| k.name()).chain(self.more.iter().map(|m| m.name()));
        write!(f, "read: [{}], {}", keys.collect::<Vec<_>>().join(", "), self.switches)?;
        if self.at.is_empty() {
            return Ok(());
        }
        let at: Vec<_> = self.at.iter().map(|(at, s)| format!("{{ address: \"{at}\", {s} }}")).collect();
        write!(f, ", listeners: [{}]", at.join(", "))
    }
}

impl RouteHeaders {
    /// Those of one listener.
    pub fn switches(&self, listener: SocketAddr) -> Switches {
        self.at.get(&listener).copied().unwrap_or(self.switches)
    }

    fn at(&self, service: &Service, one: impl Fn(Switches) -> bool) -> At {
        let all: BTreeSet<bool> = service.listen.iter().map(|l| one(self.switches(l.addr))).collect();
        if all.len() > 1 { At::Some } else { At::All(all.contains(&true)) }
    }

    /// Where headers go before routes.
    pub fn over_routes(&self, service: &Service) -> At {
        self.at(service, |s| s.over_routes)
    }

    /// Where they count without a route.
    pub fn without_route(&self, service: &Service) -> At {
        self.at(service, |s| s.without_route)
    }

    /// What instances of a service can be asked for by: the values that they have. One that could not be told from a wildcard, or
    /// is too long to be read, is none.
    pub fn values(key: MetaKey, service: &Service) -> BTreeSet<&str> {
        let good = |v: &&str| !v.contains('*') && v.len() <= CLAIM_MAX;
        service.instances.iter().filter_map(|i| i.meta.get(&key)).map(String::as_str).filter(good).collect()
    }
}

impl Service {
    /// Every value of an `n-d-*` header that rules ask about; `*`: any.
    pub fn header_values(&self) -> Vec<(ClaimKind, String)> {
        let mut out = Vec::new();
        for key in self.headers.iter().flat_map(|h| &h.read) {
            let Some(of) = ClaimKind::of_header(*key) else { continue };
            let values = RouteHeaders::values(*key, self).into_iter().chain(["*"]);
            out.extend(values.map(|v| (of, v.to_owned())));
        }
        out
    }
}
