//! `n-d-*` headers that ask for more than one value of one key (C8): weights, addresses, blacklists, of one request. What the policy chose is
//! filtered by them, behind the one `decide`; for the splice listener and for `gray explain`. Knows no kernel and no sockets.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use gray_common::{
    decide::{
        Claims, Decision, Known as _, Request, Tables as _, Verdict, bucket,
        claims::{ND_ENV, ND_REGION, ND_VERSION},
        mem::MemTables,
        tail,
    },
    hash::{HashKey, claim_hash_bytes, salt},
    limits::{ARMS, BUCKETS},
    wire::{
        ARM_GRAY, ARM_STABLE, Further, Instance, ListenerValue, MORE_ADDRESS, MORE_ADDRESS_BLACKLIST,
        MORE_ID_BLACKLIST, MORE_REGION_WEIGHT, MORE_VERSION_WEIGHT, Metadata, Reading, SERVICE_AFFINITY,
        SERVICE_SHADOW,
    },
};

use crate::{
    model::address,
    paging::{self, Answer, Fetch},
};

/// Entries of one list, at most: a longer one is as no header.
const ENTRIES: usize = 64;

/// What one request asks for. A header that cannot be read is as none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Names with their weights.
    versions: Vec<(String, u32)>,
    regions: Vec<(String, u32)>,
    /// What the request has as `n-d-version` and `n-d-region`.
    version: Option<u64>,
    region: Option<u64>,
    /// Patterns.
    addresses: Vec<String>,
    not_addresses: Vec<String>,
    not_ids: BTreeSet<u64>,
}

/// What of it is held against an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct By {
    address: bool,
    blacklists: bool,
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights =
            |of: &[(String, u32)]| of.iter().map(|(n, w)| format!("{n}={w}")).collect::<Vec<_>>().join(";");
        let ids = if self.not_ids.is_empty() { String::new() } else { format!("{} ids", self.not_ids.len()) };
        let parts = [
            ("version-weight", weights(&self.versions)),
            ("region-weight", weights(&self.regions)),
            ("address", self.addresses.join(";")),
            ("id-blacklist", ids),
            ("address-blacklist", self.not_addresses.join(";")),
        ];
        let said: Vec<_> =
            parts.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k} {v}")).collect();
        f.write_str(&said.join(", "))
    }
}

impl Asks {
    /// `more`: which headers count. `values`: the place in `watch::MORE_HEADERS`, and what it says of this service.
    pub fn read<'a>(more: u32, values: impl IntoIterator<Item = (usize, &'a [u8])>) -> Self {
        let mut out = Self::default();
        for (i, value) in values {
            let Ok(text) = std::str::from_utf8(value) else { continue };
            match 1 << i & more {
                MORE_ADDRESS => out.addresses = patterns(text),
                MORE_VERSION_WEIGHT => out.versions = weights(text),
                MORE_REGION_WEIGHT => out.regions = weights(text),
                MORE_ID_BLACKLIST => out.not_ids = entries(text).into_iter().map(salt).collect(),
                MORE_ADDRESS_BLACKLIST => out.not_addresses = patterns(text),
                _ => {}
            }
        }
        out
    }

    /// With what the request says in plain headers.
    pub fn beside<'a>(mut self, values: impl IntoIterator<Item = (u8, &'a [u8])>) -> Self {
        for (kind, value) in values {
            let text = std::str::from_utf8(value).ok().map(salt);
            match kind {
                ND_VERSION => self.version = text,
                ND_REGION => self.region = text,
                _ => {}
            }
        }
        self
    }

    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.regions.is_empty() && !self.filters()
    }

    fn filters(&self) -> bool {
        !self.addresses.is_empty() || self.blacklists()
    }

    fn blacklists(&self) -> bool {
        !self.not_addresses.is_empty() || !self.not_ids.is_empty()
    }

    /// All of it; else the blacklists, which say whom a client cannot bear; else the address.
    fn ways(&self) -> Vec<By> {
        let (address, blacklists) = (!self.addresses.is_empty(), self.blacklists());
        let mut out = vec![By { address, blacklists }];
        if address && blacklists {
            out.extend([By { address: false, blacklists }, By { address, blacklists: false }]);
        }
        out
    }

    fn keeps(&self, by: By, m: &Metadata) -> bool {
        let at = SocketAddr::new(IpAddr::from(m.addr), u16::from_be(m.port));
        let any = |patterns: &[String]| patterns.iter().any(|p| address::matches(p, at));
        (!by.address || any(&self.addresses))
            && !(by.blacklists && (any(&self.not_addresses) || self.not_ids.contains(&m.id)))
    }
}

/// `1.0=90;1.1=10`: names that differ, and whole numbers.
fn weights(text: &str) -> Vec<(String, u32)> {
    let one = |entry: &str| {
        let (name, weight) = entry.rsplit_once('=')?;
        let weight: u32 = weight.trim().parse().ok().filter(|w| *w <= u32::from(BUCKETS))?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), weight))
    };
    let all: Option<Vec<_>> = entries(text).into_iter().map(one).collect();
    let all = all.filter(|all| all.len() <= ARMS).unwrap_or_default();
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    if names.len() == all.len() { all } else { Vec::new() }
}

fn patterns(text: &str) -> Vec<String> {
    let all: Option<Vec<_>> = entries(text).into_iter().map(address::canonical).collect();
    all.unwrap_or_default()
}

/// What stands between `;`.
fn entries(text: &str) -> Vec<&str> {
    let all: Vec<&str> = text.split(';').map(str::trim).filter(|e| !e.is_empty()).collect();
    if all.len() > ENTRIES { Vec::new() } else { all }
}

/// What is asked about, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub asks: &'a Asks,
    /// What the claims were read by.
    pub reading: &'a Reading,
    pub further: &'a Further,
    pub key: HashKey,
    /// Round robin's.
    pub turn: u32,
    /// The address that is dialled.
    pub own: Instance,
    /// An instance that did not take the connection.
    pub failed: Option<&'a Instance>,
}

/// Decides as [`paging::ask_in_turn`], and filters. What of it counted shows in the answer's instance alone.
///
/// # Errors
/// Of whoever fetches.
pub fn ask<E>(
    t: &mut MemTables,
    request: &Request<'_>,
    on: &Asking<'_>,
    mut fetch: impl Fetch<E>,
) -> Result<Answer, E> {
    let metadata = paging::metadata(t, on.further, &mut fetch)?;
    let service = paging::service(t, request.listener, &mut fetch)?;
    let identity = service.map_or(0, |s| request.claims.identity(&s.identify));
    let who = if identity == 0 { request.seed } else { identity };
    let mut claims = *request.claims;
    let versions = (ND_VERSION, &on.asks.versions, on.asks.version);
    let regions = (ND_REGION, &on.asks.regions, on.asks.region);
    for (kind, weights, plain) in [versions, regions] {
        let of = |m: &Metadata| if kind == ND_VERSION { m.version } else { m.region };
        // What names one goes before what weighs many; a value that nobody has is as none.
        if weights.is_empty() || plain.is_some_and(|v| metadata.iter().any(|m| of(m) == v)) {
            continue;
        }
        let mut left = Vec::new();
        for (name, weight) in weights.iter().filter(|(_, w)| *w > 0) {
            let one = said(claims, on.key, kind, Some(name));
            let answer = paging::ask_in_turn(t, &Request { claims: &one, ..*request }, on.turn, &mut fetch)?;
            let instance = arrived(&answer.verdict, &on.own).map(|(_, i)| i);
            let found = instance.and_then(|i| metadata.iter().find(|m| is(m, &i)));
            if found.is_some_and(|m| of(m) == salt(name)) {
                left.push((name.as_str(), u64::from(*weight)));
            }
        }
        claims = said(claims, on.key, kind, pick(&left, who, kind));
    }
    let request = Request { claims: &claims, ..*request };
    let answer = paging::ask_in_turn(t, &request, on.turn, &mut fetch)?;
    if !on.asks.filters() && on.failed.is_none() {
        return Ok(answer);
    }
    let sticks = service.is_some_and(|s| s.flags & SERVICE_AFFINITY != 0);
    let filter = Filter {
        on,
        metadata: &metadata,
        choice: if sticks { who } else { request.seed },
        kept: service.is_some_and(|s| t.view().guard(&s) & SERVICE_SHADOW != 0),
    };
    filter.filtered(t, &request, answer, fetch)
}

/// With a value of this kind in place of any other, or with none.
fn said(mut claims: Claims, key: HashKey, kind: u8, value: Option<&str>) -> Claims {
    if let Some(slot) = claims.hash.get_mut(usize::from(kind)) {
        *slot = 0;
    }
    if let Some(value) = value {
        let value = value.as_bytes();
        claims.set_read(kind, claim_hash_bytes(key, kind, value), tail::of_value(value));
    }
    claims
}

/// Whose share of all weights the client's bucket is in.
fn pick<'a>(left: &[(&'a str, u64)], who: u64, kind: u8) -> Option<&'a str> {
    let of = if kind == ND_VERSION { "n-d-version-weight" } else { "n-d-region-weight" };
    let all: u64 = left.iter().map(|(_, w)| w).sum();
    let point = u64::from(bucket(who, salt(of))) * all;
    let mut below = 0;
    left.iter().find_map(|(name, weight)| {
        below += weight * u64::from(BUCKETS);
        (point < below).then_some(*name)
    })
}

fn arrived(verdict: &Verdict, own: &Instance) -> Option<(Decision, Instance)> {
    match verdict {
        Verdict::Steer(d) => Some((*d, d.instance)),
        Verdict::Stay(d) => Some((*d, *own)),
        Verdict::Deny(_) | Verdict::Pass(_) => None,
    }
}

fn is(m: &Metadata, i: &Instance) -> bool {
    m.addr == i.addr && m.port == i.port
}

struct Filter<'a> {
    on: &'a Asking<'a>,
    metadata: &'a [Metadata],
    /// Where in a table is begun.
    choice: u64,
    /// All that is gray is stable's.
    kept: bool,
}

impl Filter<'_> {
    fn filtered<E>(
        &self,
        t: &mut MemTables,
        request: &Request<'_>,
        mut answer: Answer,
        mut fetch: impl Fetch<E>,
    ) -> Result<Answer, E> {
        let (on, asks) = (self.on, self.on.asks);
        let (Some((d, now)), Some(own)) = (arrived(&answer.verdict, &on.own), answer.subset) else {
            return Ok(answer);
        };
        let plain = [ND_VERSION, ND_REGION, ND_ENV];
        let mut silent = plain.into_iter().fold(*request.claims, |c, kind| said(c, on.key, kind, None));
        // Beginnings of their values, too.
        for (i, of) in on.reading.beginning_of.iter().enumerate() {
            let slot = usize::from(*of).checked_sub(1);
            if slot.and_then(|s| on.reading.kinds.get(s)).is_some_and(|kind| plain.contains(kind))
                && let Some(hash) = silent.beginnings.get_mut(i)
            {
                *hash = 0;
            }
        }
        let base = paging::ask_in_turn(t, &Request { claims: &silent, ..*request }, on.turn, &mut fetch)?;
        let routed = arrived(&base.verdict, &on.own).is_none_or(|(d, _)| d.rule != 0);
        let switch = if routed { ListenerValue::OVER_ROUTES } else { ListenerValue::WITHOUT_ROUTE };
        let switch = request.listener.0 & switch != 0;
        let counts = routed || switch;
        let chosen = answer.wanted == answer.subset && !self.kept && switch;
        let all = on.further.all.checked_sub(1).filter(|_| chosen);
        // No route and no plain header chose: an address chooses among all.
        let among_all = !routed && answer.subset == base.subset;
        for failed in [on.failed, None] {
            for by in if counts { asks.ways() } else { vec![By::default()] } {
                let good = |m: &Metadata| asks.keeps(by, m) && failed.is_none_or(|f| !is(m, f));
                if !self.metadata.iter().any(good) {
                    continue;
                }
                let all = all.filter(|_| by != By::default());
                let order = if among_all && by.address { [all, Some(own)] } else { [Some(own), all] };
                for place in order.into_iter().flatten() {
                    let fits = |i: &Instance| self.metadata.iter().any(|m| is(m, i) && good(m));
                    if place == own && fits(&now) {
                        return Ok(answer);
                    }
                    let at = (place, request.is_v4);
                    let Some((i, target)) = paging::wanted(t, at, self.choice, fits, &mut fetch)? else {
                        continue;
                    };
                    let stable = self.metadata.iter().any(|m| is(m, &i) && m.stable != 0);
                    let arm = if stable { ARM_STABLE } else { ARM_GRAY } as u8;
                    let arm = if place == own { d.arm } else { arm };
                    answer.verdict = Verdict::Steer(Decision { instance: i, arm, target, ..d });
                    answer.subset = Some(place);
                    return Ok(answer);
                }
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
#[path = "asks_tests.rs"]
mod tests;
