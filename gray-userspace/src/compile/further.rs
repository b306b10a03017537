//! What the splice listener asks beyond programs: instances by id, version and region, and whose PROXY headers are believed. Must not
//! know rules.

use std::collections::BTreeMap;

use gray_common::{
    hash::salt,
    limits,
    request::proxy2::TLVS,
    wire::{Addr, Further, ListenerValue, Metadata, Trusted},
};

use super::{CompileError, conditions::claim_code, subsets::Subsets};
use crate::model::{self, At, MetaKey, Selector};

/// The switches of `n-d-*` headers at one listener.
pub fn switches(service: &model::Service, l: &model::Listener) -> u32 {
    let s = service.headers.as_ref().map(|h| h.switches(l.addr)).unwrap_or_default();
    let (over, without) = (ListenerValue::OVER_ROUTES, ListenerValue::WITHOUT_ROUTE);
    (if s.over_routes { over } else { 0 }) | if s.without_route { without } else { 0 }
}

/// Puts the service's instances behind those that are there.
pub fn of(service: &model::Service, subsets: &mut Subsets<'_>) -> Result<Further, CompileError> {
    let mut out = Further::default();
    for (i, (kind, tlv)) in service.tlvs.iter().enumerate().take(TLVS) {
        (out.tlvs[i], out.tlv_kinds[i]) = (*tlv, claim_code(*kind));
    }
    for (slot, net) in out.proxies.iter_mut().zip(&service.proxies) {
        *slot = trusted(net);
    }
    let Some(h) = service.headers.as_ref().filter(|h| !h.more.is_empty()) else { return Ok(out) };
    out.more = h.more.iter().map(|m| m.bit()).fold(0, |all, bit| all | bit);
    let anywhere = [h.over_routes(service), h.without_route(service)].iter().any(|at| *at != At::All(false));
    // Who takes connections from some only is not among those that headers choose from.
    if anywhere && service.accept.is_empty() {
        out.all = subsets.index(&Selector(BTreeMap::new()))? + 1;
    }
    let all = &mut subsets.out().metadata;
    out.first = all.len() as u32;
    out.count = service.instances.len() as u32;
    let text = |i: &model::Instance, key| i.meta.get(&key).map_or(0, |v: &String| salt(v));
    all.extend(service.instances.iter().map(|i| Metadata {
        id: salt(&i.id),
        version: text(i, MetaKey::Version),
        region: text(i, MetaKey::Region),
        addr: Addr::from(i.address.ip().to_canonical()),
        port: i.address.port().to_be(),
        stable: u16::from(service.stable.matches(i)),
        _pad: 0,
    }));
    Ok(out)
}

/// As tables have it: IPv4 is mapped.
fn trusted(net: &ipnet::IpNet) -> Trusted {
    let (addr, bits) = match net {
        ipnet::IpNet::V4(n) => (n.network().to_ipv6_mapped(), n.prefix_len() + 96),
        ipnet::IpNet::V6(n) => (n.network(), n.prefix_len()),
    };
    let mask = if bits == 0 { 0 } else { u128::MAX << (128 - u32::from(bits)) };
    Trusted { mask: Addr(mask.to_be_bytes()), addr: Addr((u128::from(addr) & mask).to_be_bytes()) }
}

const _: () = assert!(limits::PROXIES <= 8);
