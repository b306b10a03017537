//! What of `n-d-*` headers counts, and against what.

use std::{collections::BTreeSet, fmt};

use gray_common::hash::CLAIM_MAX;

use super::{ClaimKind, MetaKey, Service};

/// A client may ask for instances by headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHeaders {
    /// Of these keys of instances. Never empty.
    pub read: BTreeSet<MetaKey>,
    /// What the client asks for is done, where it is not what the route says.
    pub over_routes: bool,
    /// ... and where no route applies.
    pub without_route: bool,
}

impl fmt::Display for RouteHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read: Vec<_> = self.read.iter().map(|k| k.name()).collect();
        write!(
            f,
            "read: [{}], over-routes: {}, without-route: {}",
            read.join(", "),
            self.over_routes,
            self.without_route
        )
    }
}

impl RouteHeaders {
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
