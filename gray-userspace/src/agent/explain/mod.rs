//! `gray explain`: asks the tables in force what they would decide, and says why. Sends nothing, changes nothing.

mod asked;
mod claimed;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod reply;
#[cfg(test)]
mod tests;
mod trail;

use std::net::{IpAddr, SocketAddr};

use gray_common::{
    decide::{Request, mem::MemTables},
    wire::{Addr, Control, FlowKey4, FlowKey6, Instance},
};

use super::{
    core::Inner,
    flows::{self, Row},
    health,
    names::Names,
};
use crate::{
    api::{
        ApiError,
        types::{ExplainReply, ExplainRequest, Flow, TrailStep},
    },
    asks::{self, Asking},
    compile::{Compiled, proto_number},
    kernel::KernelError,
    model::{Policy, Proto},
    paging::{self, Fetch},
};
use asked::Asked;
use reply::Explained;

/// # Errors
/// No such service, listener or live connection; a request that contradicts itself; the kernel's.
pub fn explain(inner: &mut Inner, request: ExplainRequest) -> Result<ExplainReply, ApiError> {
    let label = label(inner, request.workload.as_deref())?;
    let listeners = inner.live.listeners().map_err(|e| ApiError::internal(&e))?;
    let asked = Asked::read(&inner.policy, &request, listeners.iter().any(Option::is_some))?;
    let asked = asked.in_lane_of(label.as_deref(), &inner.policy, &inner.compiled.assigned.lanes);
    let names = Names::new(&inner.policy, &inner.compiled.assigned);
    let held = match request.live {
        Some(_) => Some(live(inner, &asked, &names)?),
        None => None,
    };
    let now = inner.live.clock().map_err(|e| ApiError::internal(&e))?.jiffies;
    let control = inner.live.control();
    let tables = Tables { control, now, policy: &inner.policy, compiled: &inner.compiled };
    let mut reply =
        answer(&tables, (&asked, held.as_ref().map(|(f, _)| f.rule.as_deref())), &names, |t, miss| {
            inner.live.fetch(t, miss)
        })
        .map_err(|e| ApiError::internal(&e))?;
    reply::tell_out(&mut reply, health::lock(&inner.board).out(&asked.service, health::now()));
    if let Some((held, holds)) = held {
        reply::tell_held(&mut reply, held, holds);
    }
    Ok(reply)
}

/// The lane that a workload of this node is in.
fn label(inner: &Inner, workload: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(name) = workload else { return Ok(None) };
    let kept = inner.store.workloads().map_err(|e| ApiError::internal(&e))?;
    Ok(kept.into_iter().find(|w| w.name == name).and_then(|w| w.lane))
}

/// What an answer is made from beside the kernel's entries.
struct Tables<'a> {
    control: Control,
    /// Ticks.
    now: u64,
    policy: &'a Policy,
    compiled: &'a Compiled,
}

/// `held`: of a live connection, the route that it is held by, if one does.
fn answer<E>(
    on: &Tables<'_>,
    (asked, held): (&Asked, Option<Option<&str>>),
    names: &Names,
    mut fetch: impl Fetch<E>,
) -> Result<ExplainReply, E> {
    let mut t =
        MemTables { control: on.control, now: on.now, unseen: asked.end_is_unseen(), ..MemTables::default() };
    let key = on.control.key[(on.control.epoch & 1) as usize];
    let source = asked.source_addr();
    let listener = paging::listener(&mut t, asked.key(), &mut fetch)?;
    let reading = paging::reading(&mut t, listener, &mut fetch)?;
    let known = asked.known(key, reading.as_ref());
    let request = Request {
        listener,
        claims: &known.claims,
        source: source.as_ref(),
        is_v4: asked.is_v4(),
        seed: asked.seed(key),
        spares: 0,
    };
    let further = paging::further(&mut t, listener, &mut fetch)?;
    let asks = known.asks(further.more);
    let (answer, step) = match reading.as_ref().filter(|_| !asks.is_empty()) {
        None => (paging::ask(&mut t, &request, &mut fetch)?, None),
        Some(reading) => {
            let at = asked.key();
            let own = Instance { addr: at.addr, port: at.port, proto: at.proto, live: 1 };
            let asking = Asking { asks: &asks, reading, further: &further, key, turn: 0, own, failed: None };
            let step = TrailStep {
                rule: "n-d-*".into(),
                precedence: "header".into(),
                matched: true,
                why: format!("by the splice listener, of what is left: {asks}"),
            };
            (asks::ask(&mut t, &request, &asking, &mut fetch)?, Some(step))
        }
    };
    let explained = Explained { on, asked, names, known: &known, answer: &answer, tables: &t };
    let mut reply = explained.reply();
    reply.trail.extend(step);
    reply.held_trail = held.map(|rule| explained.held_trail(rule)).unwrap_or_default();
    Ok(reply)
}

/// What holds a live connection, in words too: the flow table's entry, or a socket of this node, which has sent itself there.
fn live(inner: &mut Inner, asked: &Asked, names: &Names) -> Result<(Flow, &'static str), ApiError> {
    let unknown = || {
        ApiError::not_found(
            "neither the flow table nor a socket of this node holds such a connection",
            "`gray flows --src IP` shows what the table holds; of a socket say its own address and port, and the service's that it dialled",
        )
    };
    let internal = |e: KernelError| ApiError::internal(&e);
    let (client, service, proto) = asked.tuple().ok_or_else(unknown)?;
    if let Some(row) = find(inner, client, service, proto).map_err(internal)? {
        return Ok((flows::one(inner, &row, names)?, "the flow table holds it on"));
    }
    let called = if proto == Proto::Tcp { inner.called(client, service).map_err(internal)? } else { None };
    let row = called.ok_or_else(unknown)?;
    Ok((flows::one(inner, &row, names)?, "its socket was sent to"))
}

fn find(
    inner: &Inner,
    client: SocketAddr,
    service: SocketAddr,
    proto: Proto,
) -> Result<Option<Row>, KernelError> {
    let (sport, dport) = (client.port().to_be(), service.port().to_be());
    let proto = u32::from(proto_number(proto));
    match (client.ip(), service.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let [saddr, daddr] = [s, d].map(|a| u32::from_ne_bytes(a.octets()));
            let key = FlowKey4 { saddr, daddr, sport, dport, proto };
            Ok(inner.live.flow4(&key)?.and_then(|f| flows::row4(&key, &f)))
        }
        (s, d) => {
            let key = FlowKey6 { saddr: Addr::from(s), daddr: Addr::from(d), sport, dport, proto };
            Ok(inner.live.flow6(&key)?.and_then(|f| flows::row6(&key, &f)))
        }
    }
}
