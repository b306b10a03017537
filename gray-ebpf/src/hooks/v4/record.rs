//! What is remembered of a decided IPv4 flow: an entry for each direction.

use core::hint::cold_path;

use gray_common::{
    Reason, csum,
    decide::{Decision, HAS_BREAKER, Tables as _, bucket::flow_seed},
    limits,
    packet::{TCP, gue_port, opens, other_client_port, snat_port},
    wire::{
        ARM_STABLE, Addr, FLOW_CLOSING, FLOW_FORWARD, FLOW_PASS, FLOW_UNRESOLVED, Flow4, FlowKey4, FlowState,
    },
};

use super::TTL_STEP;
use crate::{
    ctx::jiffies,
    emit,
    hooks::{
        admit::Arrival,
        breaker,
        life::{How, lives},
        times::{self, Begun},
    },
    maps::{self, Scratch},
    tables::Kernel,
};

/// Records both directions of a decided flow. 1: done. `how`: 0 steered, 1 stays, 2 steered and no refusal is counted.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_record")]
#[inline(never)]
pub extern "C" fn record(how: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot. Before it is borrowed: `mark` changes it.
    if unsafe { (*scratch).decision.tunnel } & HAS_BREAKER != 0 && breaker::mark(how) == 0 {
        return 0;
    }
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let scratch = unsafe { &mut *scratch };
    let Some(k) = Kernel::now() else { return 0 };
    let (stay, quiet) = (how == 1, how == 2);
    let apart = maps::flood(k.control.hz);
    if apart {
        cold_path();
        if quiet {
            return 0;
        }
        emit::count(Reason::Flood);
    }
    u32::from(both_ways(&k, scratch, stay, How { quiet, apart, late: maps::flooded() }))
}

#[inline(always)]
fn both_ways(k: &Kernel, scratch: &mut Scratch, stay: bool, how: How) -> bool {
    let a = &scratch.arrival;
    let key = &mut scratch.key4;
    *key = FlowKey4 {
        saddr: a.saddr.as_v4(),
        daddr: a.daddr.as_v4(),
        sport: a.sport,
        dport: a.dport,
        proto: u32::from(a.proto),
    };
    if stay {
        return stays(k, scratch, how);
    }
    let key = &scratch.key4;
    let d = &scratch.decision;
    let f = &mut scratch.flow4;
    if d.tunnel != 0 {
        return tunnel(k, a, key, d, f, how);
    }
    let back = &mut scratch.back4;
    *back = FlowKey4 {
        saddr: d.instance.addr.as_v4(),
        daddr: key.saddr,
        sport: d.instance.port,
        dport: key.sport,
        proto: key.proto,
    };
    // An instance that dials a service and gets itself would drop what comes from its own address: it sees the service's.
    let mut snat = false;
    if back.saddr == back.daddr {
        back.daddr = key.daddr;
    } else if d.snat != 0 && k.control.snat[0] != Addr([0; 16]) {
        back.daddr = k.control.snat[0].as_v4();
        snat = true;
    }
    if snat || taken(k.epoch()) != 0 {
        cold_path();
        if other_port(k.epoch(), u32::from(snat)) == 0 {
            return clash(scratch, how);
        }
        if !snat {
            emit::count(Reason::PortChanged);
        }
    }
    let (key, back, d) = (&scratch.key4, &scratch.back4, &scratch.decision);
    let (f, begun) = (&mut scratch.flow4, times::begin(&scratch.arrival, d.marks, how.quiet));
    fill(f, back, [key.daddr, key.saddr], [key.dport, key.sport], 0, d);
    begun.write(&mut f.state);
    if !insert(back, f, how) {
        return false;
    }
    fill(f, key, [back.daddr, back.saddr], [back.dport, back.sport], FLOW_FORWARD, d);
    begun.write(&mut f.state);
    insert(key, f, how)
}

/// A connection that stays with stable, unchanged. Its answers have an entry, too: they are counted, and pass as quickly. Where
/// another living connection has that, to this instance by another service, it remains the other's.
#[inline(always)]
fn stays(k: &Kernel, scratch: &mut Scratch, how: How) -> bool {
    let (key, back) = (&scratch.key4, &mut scratch.back4);
    *back =
        FlowKey4 { saddr: key.daddr, daddr: key.saddr, sport: key.dport, dport: key.sport, proto: key.proto };
    // Who answers datagrams is nobody's to judge. What is older than gray is counted nowhere, and so not its end either.
    let older = scratch.decision.reason == Reason::Adopted as u8;
    let heard = key.proto == u32::from(TCP) && !older && taken(k.epoch()) == 0;
    let (key, back, d) = (&scratch.key4, &scratch.back4, &scratch.decision);
    let f = &mut scratch.flow4;
    let mut begun = Begun::default();
    if heard {
        begun = times::begin(&scratch.arrival, 0, how.quiet);
        keep(f, back, 0, d);
        begun.write(&mut f.state);
        // Without it the connection is not heard, and goes on.
        let _ = insert(back, f, how);
    }
    keep(f, key, FLOW_FORWARD, d);
    begun.write(&mut f.state);
    insert(key, f, how)
}

/// Fills in the entry of a tuple that is left as it is.
#[inline(always)]
fn keep(f: &mut Flow4, key: &FlowKey4, direction: u16, d: &Decision) {
    let state = FlowState { flags: direction | FLOW_PASS, ..state(d) };
    *f = Flow4 { saddr: key.saddr, daddr: key.daddr, sport: key.sport, dport: key.dport, state };
}

/// Makes the entry of the answers again from the client's, which is in `SCRATCH.flow4`, with its key in `key4` and the answers' in
/// `back4`. 1: done.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_mend")]
#[inline(never)]
pub extern "C" fn mend() -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    let (key, back, f) = (&scratch.key4, &scratch.back4, &mut scratch.flow4);
    let (service, arm) = (f.state.counter >> 1, (f.state.counter & 1) as u8);
    let d = Decision { service, arm, rule: f.state.rule, ..Decision::default() };
    fill(f, back, [key.daddr, key.saddr], [key.dport, key.sport], 0, &d);
    u32::from(maps::FLOWS4.put(back, f, false, false).is_ok())
}

/// The one entry of a flow that goes in other packets: their addresses. Ports and replies are not touched.
#[inline(always)]
fn tunnel(k: &Kernel, a: &Arrival, key: &FlowKey4, d: &Decision, f: &mut Flow4, how: How) -> bool {
    if k.control.dsr[0] == Addr([0; 16]) {
        if !how.quiet {
            emit::count(Reason::DsrFailed);
        }
        return false;
    }
    let seed = flow_seed(k.key().k0, &a.saddr, &a.daddr, a.sport, a.dport, a.proto);
    let state = FlowState {
        flags: FLOW_FORWARD | FLOW_UNRESOLVED | u16::from(d.tunnel) | u16::from(d.marks) << 7,
        l4_port: gue_port(seed),
        ..state(d)
    };
    *f = Flow4 {
        saddr: k.control.dsr[0].as_v4(),
        daddr: d.instance.addr.as_v4(),
        sport: key.sport,
        dport: key.dport,
        state,
    };
    times::begin(a, 0, how.quiet).write(&mut f.state);
    insert(key, f, how)
}

/// No client port is left under which the instance could tell this connection from others. Not 0: where stable has the
/// address, it lives with stable from now on, also when the other connections have ended.
#[inline(always)]
fn clash(scratch: &mut Scratch, how: How) -> bool {
    if how.quiet {
        return false;
    }
    emit::count(Reason::TupleClash);
    if scratch.own == 0 {
        return false;
    }
    let (key, d, f) = (&scratch.key4, &scratch.decision, &mut scratch.flow4);
    let counter = emit::counter(&Decision { arm: ARM_STABLE as u8, ..*d });
    let state = FlowState { flags: FLOW_FORWARD | FLOW_PASS, counter, ..state(d) };
    *f = Flow4 { saddr: key.saddr, daddr: key.daddr, sport: key.sport, dport: key.dport, state };
    insert(key, f, how)
}

/// Whether another living connection has this tuple towards the instance: of this client port to another service, or of
/// another client port that was changed. What does not open a connection is of one that lives elsewhere: it takes nobody's
/// place.
///
/// Exported, and so a function that the verifier checks once by itself: of the two that call it neither has the stack for it.
#[unsafe(export_name = "gray_v4_taken")]
#[inline(never)]
pub extern "C" fn taken(epoch: u64) -> u32 {
    let (Some(k), Some(scratch)) = (Kernel::at(epoch), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let scratch = unsafe { &mut *scratch };
    let (a, key, back, of) = (&scratch.arrival, &scratch.key4, &scratch.back4, &mut scratch.other4);
    u32::from(is_taken(&k, a, (key, back), of, maps::flooded()))
}

#[inline(always)]
fn is_taken(
    k: &Kernel,
    a: &Arrival,
    (key, back): (&FlowKey4, &FlowKey4),
    of: &mut FlowKey4,
    late: bool,
) -> bool {
    let Some(reply) = maps::FLOWS4.find(back, late) else { return false };
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let reply = unsafe { &*reply };
    if is_of(reply, key) {
        return false;
    }
    if a.proto == TCP && !opens(a.tcp_flags) {
        return true;
    }
    if reply.state.flags & FLOW_CLOSING != 0 {
        return false;
    }
    *of = FlowKey4 {
        saddr: reply.daddr,
        daddr: reply.saddr,
        sport: reply.dport,
        dport: reply.sport,
        proto: key.proto,
    };
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let forward = maps::FLOWS4.any(&*of, late).map(|f| unsafe { &(*f).state });
    lives(k, &reply.state, forward, a.proto)
}

/// Whether a reply entry leads back to this client and service.
#[inline(always)]
fn is_of(reply: &Flow4, key: &FlowKey4) -> bool {
    reply.saddr == key.daddr
        && reply.sport == key.dport
        && reply.daddr == key.saddr
        && reply.dport == key.sport
}

/// Another client port for the connection in `SCRATCH`, which `back4` then has; 0: none of those tried is free. The order of
/// trying is the connection's own: a lost entry is made again with the same port while the other ones stand. `snat`: not 0,
/// the port is one of the node's.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_other_port")]
#[inline(never)]
pub extern "C" fn other_port(epoch: u64, snat: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let scratch = unsafe { &mut *scratch };
    let Some(k) = Kernel::at(epoch) else { return 0 };
    let (a, key, back) = (&scratch.arrival, &scratch.key4, &mut scratch.back4);
    let seed = flow_seed(k.key().k0, &a.saddr, &a.daddr, a.sport, a.dport, a.proto);
    let (settled, late) = (a.proto == TCP && !opens(a.tcp_flags), maps::flooded());
    // What is in mid-stream has its port already. Behind the node's address it is most likely the first that is free; of the
    // client's own address nobody knows that it ever had another.
    let (mut i, mut likely) = (0, 0);
    while i < limits::PORT_TRIES {
        back.dport = if snat != 0 { snat_port(seed, i) } else { other_client_port(seed, i) };
        match maps::FLOWS4.find(&*back, late) {
            // SAFETY: as above.
            Some(reply) if is_of(unsafe { &*reply }, key) => return u32::from(back.dport),
            Some(_) if settled || taken(epoch) != 0 => {}
            _ if !settled => return u32::from(back.dport),
            _ if snat != 0 && likely == 0 => likely = back.dport,
            _ => {}
        }
        i += 1;
    }
    back.dport = likely;
    u32::from(likely)
}

#[inline(always)]
fn insert(key: &FlowKey4, f: &Flow4, how: How) -> bool {
    if maps::FLOWS4.put(key, f, how.apart, how.late).is_err() {
        if !how.quiet {
            emit::count(Reason::FlowInsert);
        }
        return false;
    }
    true
}

/// Fills in the entry that turns the tuple of `key` into the new one.
#[inline(always)]
fn fill(f: &mut Flow4, key: &FlowKey4, addrs: [u32; 2], ports: [u16; 2], direction: u16, d: &Decision) {
    let addr = csum::add(csum::diff32(key.saddr, addrs[0]), csum::diff32(key.daddr, addrs[1]));
    let port = csum::add(csum::diff16(key.sport, ports[0]), csum::diff16(key.dport, ports[1]));
    let state = FlowState {
        l3: csum::add(addr, TTL_STEP),
        l4_addr: addr,
        l4_port: port,
        flags: direction | FLOW_UNRESOLVED | u16::from(d.marks) << 7,
        ..state(d)
    };
    *f = Flow4 { saddr: addrs[0], daddr: addrs[1], sport: ports[0], dport: ports[1], state };
}

#[inline(always)]
fn state(d: &Decision) -> FlowState {
    FlowState { seen: jiffies() as u32, rule: d.rule, counter: emit::counter(d), ..FlowState::default() }
}
