//! A packet of an unknown flow: is it for a service, and where does it go?

use gray_common::{
    Reason,
    decide::{Claims, Decision, Request, Tables as _, Verdict, bucket::flow_seed, decide, tag::Tag},
    packet::{TCP, opens},
    wire::{
        Addr, Event, FlowKey4, FlowKey6, ListenerKey, ListenerValue, PATH_PACKET, SERVICE_DENY, SERVICE_DSR,
        SERVICE_MARK, SERVICE_REQUEST,
    },
};

use crate::{ctx::ktime_ns, emit, maps, tables::Kernel};

/// What a new flow's first packet says. Addresses mapped, ports in network order.
pub struct Arrival {
    pub saddr: Addr,
    pub daddr: Addr,
    pub sport: u16,
    pub dport: u16,
    pub proto: u8,
    pub tcp_flags: u8,
    pub dscp: u8,
    pub mark: u32,
    pub is_v4: u8,
    /// Instances that were tried before.
    pub attempt: u8,
    /// How often its SYN came again, of an entry that is over: see `breaker::silence`.
    pub again: u8,
}

impl Arrival {
    /// Its flow's.
    #[inline(always)]
    pub fn key4(&self) -> FlowKey4 {
        FlowKey4 {
            saddr: self.saddr.as_v4(),
            daddr: self.daddr.as_v4(),
            sport: self.sport,
            dport: self.dport,
            proto: u32::from(self.proto),
        }
    }

    #[inline(always)]
    pub fn key6(&self) -> FlowKey6 {
        FlowKey6 {
            saddr: self.saddr,
            daddr: self.daddr,
            sport: self.sport,
            dport: self.dport,
            proto: u32::from(self.proto),
        }
    }
}

/// What becomes of the flow.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Not for us, or in doubt: the packet goes on unchanged and nothing is remembered.
    Leave = 0,
    /// Stable on its own address: remembered, not rewritten.
    Stay = 1,
    Steer = 2,
    /// An older connection, which stays; nothing was decided.
    Adopt = 3,
    /// Its first bytes say where.
    Request = 4,
    /// Refused.
    Deny = 5,
}

/// Decides on `SCRATCH.arrival` into `SCRATCH.decision`. The caller reports the decision and records the flow. `tagged`: not 0,
/// `SCRATCH.tag` is the packet's.
#[inline(always)]
pub fn admit(epoch: u64, tagged: u32) -> Admit {
    admitted(admit_at(epoch, if tagged == 0 { 0 } else { TAGGED }))
}

/// The same in XDP, where a packet may have to be decided again, by tc: counts nothing, and leaves alone what needs more than
/// XDP sees.
#[inline(always)]
pub fn admit_quietly(epoch: u64) -> Admit {
    admitted(admit_at(epoch, QUIET))
}

#[inline(always)]
fn admitted(code: u32) -> Admit {
    match code {
        1 => Admit::Stay,
        2 => Admit::Steer,
        3 => Admit::Adopt,
        4 => Admit::Request,
        5 => Admit::Deny,
        _ => Admit::Leave,
    }
}

/// How [`admit_at`] does it: as [`admit_quietly`]; on claims that are in `SCRATCH.claims`.
const QUIET: u32 = 1;
pub const READ: u32 = 2;
/// ... and: only whether it is older than gray.
pub const OLD: u32 = 3;
/// As [`READ`], and no connection follows.
pub const ASKED: u32 = 4;
/// As [`READ`], and whether the client is refused was not settled.
pub const UNREAD: u32 = 5;
/// As 0, and with what `SCRATCH.tag` says.
const TAGGED: u32 = 8;

/// A function of its own: a stack frame of its own. Exported, and so checked once by itself. `how`: 0, or what is above.
#[unsafe(export_name = "gray_admit")]
#[inline(never)]
pub extern "C" fn admit_at(epoch: u64, how: u32) -> u32 {
    let Some(mut k) = Kernel::at(epoch) else { return Admit::Leave as u32 };
    k.asks = how == ASKED;
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return Admit::Leave as u32 };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    k.seen = how != ASKED && scratch.arrival.proto == TCP && opens(scratch.arrival.tcp_flags);
    let to = (&mut scratch.claims, &mut scratch.decision, &mut scratch.own);
    let tag = if how == TAGGED { scratch.tag } else { Tag::default() };
    judge(&k, (&scratch.arrival, tag), to, how & !TAGGED) as u32
}

#[inline(always)]
fn judge(
    k: &Kernel,
    (a, tag): (&Arrival, Tag),
    (claims, out, own): (&mut Claims, &mut Decision, &mut u32),
    how: u32,
) -> Admit {
    let quiet = how == QUIET;
    let key = ListenerKey { addr: a.daddr, port: a.dport, proto: a.proto, _pad: 0 };
    let listener = k.listener(&key);
    *own = u32::from(listener.is_self());
    let Some(index) = listener.service() else { return Admit::Leave };
    let flags = k.service(index).map_or(SERVICE_MARK, |s| s.flags);
    if quiet && flags & (SERVICE_MARK | SERVICE_DSR | SERVICE_REQUEST) != 0 {
        return Admit::Leave;
    }
    let reads = flags & SERVICE_REQUEST != 0 && a.proto == TCP && how < READ;
    if reads {
        return Admit::Request;
    }
    if a.proto == TCP && !opens(a.tcp_flags) {
        let service = adopted(k.epoch(), listener.0);
        if service != 0 {
            if !quiet {
                emit::count(Reason::Adopted);
            }
            let service = (service - 1) as u16;
            *out = Decision { service, reason: Reason::Adopted as u8, ..Decision::default() };
            return Admit::Adopt;
        }
        if how == OLD {
            return Admit::Leave;
        }
        if !quiet {
            emit::count(Reason::Rebuilt);
        }
    }
    if how < READ {
        *claims = Claims::none(0);
        claims.set_tag(tag.identity, tag.lane.into());
    }
    let hash_key = k.key();
    claims.set_source(hash_key, &a.saddr);
    claims.set_mark(hash_key, a.mark);
    claims.set_dscp(hash_key, a.dscp);
    let request = Request {
        listener,
        claims,
        source: Some(&a.saddr),
        is_v4: a.is_v4 != 0,
        seed: seed(hash_key.k0, a),
        // Of a request it was settled when it was read.
        spares: if how == READ { SERVICE_DENY } else { 0 },
    };
    match decide(k, &request) {
        Verdict::Steer(d) => {
            *out = d;
            Admit::Steer
        }
        Verdict::Stay(d) => {
            *out = d;
            Admit::Stay
        }
        // XDP sends nothing of its own: tc decides again.
        Verdict::Deny(_) if quiet => Admit::Leave,
        Verdict::Deny(d) => {
            *out = d;
            Admit::Deny
        }
        Verdict::Pass(reason) => {
            if !quiet {
                emit::passed(k, reason);
            }
            Admit::Leave
        }
    }
}

/// A connection that is older than gray's attachment to this service was made with stable, on the address it dialled:
/// until the deadline, what is found in mid-stream is taken as that. The service's number plus one; 0: it is not.
///
/// Exported: see `admit_at`.
#[unsafe(export_name = "gray_adopted")]
#[inline(never)]
pub extern "C" fn adopted(epoch: u64, listener: u32) -> u32 {
    let Some(k) = Kernel::at(epoch) else { return 0 };
    let listener = ListenerValue(listener);
    let Some(service) = listener.service().and_then(|i| k.service(i)) else { return 0 };
    let until = service.adopt_until_ns.max(k.control.adopt_until_ns);
    if !listener.is_self() || until == 0 || ktime_ns() >= until {
        return 0;
    }
    u32::from(service.id) + 1
}

#[inline(always)]
fn seed(secret: u64, a: &Arrival) -> u64 {
    flow_seed(secret, &a.saddr, &a.daddr, a.sport, a.dport, a.proto)
}

/// Counts the decision in `SCRATCH.decision` on `SCRATCH.arrival`, and sends an event if it is sampled.
///
/// Exported: see `admit_at`.
#[unsafe(export_name = "gray_report")]
#[inline(never)]
pub extern "C" fn report(epoch: u64) -> u32 {
    let Some(k) = Kernel::at(epoch) else { return 0 };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `admit_at`.
    let scratch = unsafe { &*scratch };
    let (a, d) = (&scratch.arrival, &scratch.decision);
    emit::decided(&k, d, (PATH_PACKET, a.proto), |e: &mut Event| {
        e.client = a.saddr;
        e.service_addr = a.daddr;
        e.client_port = a.sport;
        e.service_port = a.dport;
        e.proto = a.proto;
    });
    1
}
