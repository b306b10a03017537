//! What is remembered of a decided IPv6 flow: an entry for each direction.

use core::hint::cold_path;

use gray_common::{
    Reason, csum,
    decide::{Decision, HAS_BREAKER, bucket::flow_seed},
    limits,
    packet::{TCP, gue_port, opens, other_client_port, snat_port},
    wire::{
        ARM_STABLE, Addr, FLOW_CLOSING, FLOW_FORWARD, FLOW_PASS, FLOW_SPLICE, FLOW_UNRESOLVED, Flow6,
        FlowKey6, FlowState,
    },
};

use crate::{
    ctx::jiffies,
    emit,
    hooks::{
        admit::Arrival,
        breaker,
        life::{How, how, is_ending, lives},
        times::{self, Begun},
    },
    maps::{self, EEXIST, Scratch},
    tables::Kernel,
};

/// Records both directions of a decided flow. 1: done. `told`: one of [`how`]. Three steps, each a function with a stack frame of its
/// own: what both entries are to be, whose tuple the answers get, and the client's entry.
///
/// Exported, and so a function that the verifier checks once by itself; as are its steps.
#[unsafe(export_name = "gray_v6_record")]
#[inline(never)]
pub extern "C" fn record(told: u32) -> u32 {
    let what = prepare(told);
    if what & TAKES == 0 {
        return what;
    }
    let mut found = if what & SNAT != 0 { TAKEN } else { claim(what) };
    if found == TAKEN && what & STAYS == 0 {
        cold_path();
        found = other_port(what);
        if found == OURS && what & SNAT == 0 {
            found = CHANGED;
        }
    }
    complete(told, what, found)
}

/// What [`prepare`] answers: nothing is to be recorded; 1: all is;
const NOTHING: u32 = 0;
/// or, as a set: a tuple is to be taken for the answers;
const TAKES: u32 = 2;
/// the connection stays with stable;
const STAYS: u32 = 4;
/// it is one of a flood;
const APART: u32 = 8;
/// its instance shall see the node's address.
const SNAT: u32 = 16;

/// Says in `SCRATCH` what is to be recorded, keys and times, and records what has no entry for answers.
#[unsafe(export_name = "gray_v6_prepare")]
#[inline(never)]
extern "C" fn prepare(told: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NOTHING };
    // SAFETY: this CPU's own slot. Before it is borrowed: `mark` changes it.
    if unsafe { (*scratch).decision.tunnel } & HAS_BREAKER != 0 && breaker::mark(told) == 0 {
        return NOTHING;
    }
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let scratch = unsafe { &mut *scratch };
    let Some(k) = Kernel::now() else { return NOTHING };
    let quiet = is_quiet(told);
    let apart = told != how::AGAIN && maps::flood(k.control.hz);
    if apart {
        cold_path();
        if quiet {
            return NOTHING;
        }
        emit::count(Reason::Flood);
    }
    let a = &scratch.arrival;
    scratch.begun = times::begin(a, scratch.decision.marks, quiet);
    scratch.key6 = FlowKey6 {
        saddr: a.saddr,
        daddr: a.daddr,
        sport: a.sport,
        dport: a.dport,
        proto: u32::from(a.proto),
    };
    let how = How { quiet, apart, late: maps::flooded() };
    let what = TAKES | if apart { APART } else { 0 };
    if told == how::STAYS {
        return stays(scratch, what, how);
    }
    let (key, d) = (&scratch.key6, &scratch.decision);
    if d.tunnel != 0 {
        return u32::from(tunnel(&k, a, key, d, (&mut scratch.flow6, &scratch.begun), how));
    }
    let back = &mut scratch.back6;
    *back = FlowKey6 {
        saddr: d.instance.addr,
        daddr: key.saddr,
        sport: d.instance.port,
        dport: key.sport,
        proto: key.proto,
    };
    // An instance that dials a service and gets itself would drop what comes from its own address: it sees the service's.
    if back.saddr == back.daddr {
        back.daddr = key.daddr;
    } else if d.snat != 0 && k.control.snat[1] != Addr([0; 16]) {
        back.daddr = k.control.snat[1];
        return what | SNAT;
    }
    what
}

/// Of a connection that stays with stable, unchanged. Its answers have an entry, too: they are counted, and pass as quickly. Where
/// another living connection has that, to this instance by another service, it remains the other's.
#[inline(always)]
fn stays(scratch: &mut Scratch, what: u32, how: How) -> u32 {
    let key = &scratch.key6;
    // Who answers datagrams is nobody's to judge. What is older than gray is counted nowhere, and so not its end either.
    if key.proto == u32::from(TCP) && scratch.decision.reason != Reason::Adopted as u8 {
        scratch.back6 = FlowKey6 {
            saddr: key.daddr,
            daddr: key.saddr,
            sport: key.dport,
            dport: key.sport,
            proto: key.proto,
        };
        return what | STAYS;
    }
    keep(&mut scratch.flow6, key, FLOW_FORWARD, &scratch.decision);
    u32::from(insert(key, &scratch.flow6, how))
}

/// The client's entry, behind that of its answers, which [`claim`] left in `SCRATCH.flow6` if it made it. 1: done.
#[unsafe(export_name = "gray_v6_complete")]
#[inline(never)]
extern "C" fn complete(told: u32, what: u32, found: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    let how = How { quiet: is_quiet(told), apart: what & APART != 0, late: maps::flooded() };
    if what & STAYS == 0 {
        if found == TAKEN {
            cold_path();
            return u32::from(clash(scratch, how));
        }
        if found == REFUSED {
            cold_path();
            return u32::from(refused(how));
        }
        if found == CHANGED {
            cold_path();
            emit::count(Reason::PortChanged);
        }
    } else if found == REFUSED {
        // Without it the connection is not heard, and goes on.
        let _ = refused(how);
    }
    let (key, back, d, f) = (&scratch.key6, &scratch.back6, &scratch.decision, &mut scratch.flow6);
    if what & STAYS != 0 {
        keep(f, key, FLOW_FORWARD, d);
    } else {
        turn(f, back, FLOW_FORWARD | FLOW_UNRESOLVED | u16::from(d.marks) << 7);
    }
    if found == OURS || found == CHANGED {
        scratch.begun.write(&mut f.state);
    }
    u32::from(insert(key, f, how))
}

/// Whether nothing is counted that fails: another program will try again, or has counted it.
#[inline(always)]
fn is_quiet(told: u32) -> bool {
    told == how::QUIETLY || told == how::AGAIN
}

/// Fills in the entry of a tuple that is left as it is.
#[inline(always)]
fn keep(f: &mut Flow6, key: &FlowKey6, direction: u16, d: &Decision) {
    let state = FlowState { flags: direction | FLOW_PASS, ..state(d) };
    *f = Flow6 { saddr: key.saddr, daddr: key.daddr, sport: key.sport, dport: key.dport, state };
}

/// Makes the entry of the answers again from the client's, which is in `SCRATCH.flow6`, with its key in `key6` and the answers' in
/// `back6`. 1: done.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v6_mend")]
#[inline(never)]
pub extern "C" fn mend() -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    let (key, back, f) = (&scratch.key6, &scratch.back6, &mut scratch.flow6);
    turn(f, key, FLOW_UNRESOLVED | f.state.flags & FLOW_SPLICE);
    // Not where somebody else has the tuple by now.
    u32::from(maps::FLOWS6.claim(back, f, false).is_ok())
}

/// The one entry of a flow that goes in other packets: their addresses. Ports and replies are not touched.
#[inline(always)]
fn tunnel(
    k: &Kernel,
    a: &Arrival,
    key: &FlowKey6,
    d: &Decision,
    (f, begun): (&mut Flow6, &Begun),
    how: How,
) -> bool {
    if k.control.dsr[1] == Addr([0; 16]) {
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
    *f = Flow6 { saddr: k.control.dsr[1], daddr: d.instance.addr, sport: key.sport, dport: key.dport, state };
    begun.write(&mut f.state);
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
    let (key, d, f) = (&scratch.key6, &scratch.decision, &mut scratch.flow6);
    let counter = emit::counter(&Decision { arm: ARM_STABLE as u8, ..*d });
    let state = FlowState { flags: FLOW_FORWARD | FLOW_PASS, counter, ..state(d) };
    *f = Flow6 { saddr: key.saddr, daddr: key.daddr, sport: key.sport, dport: key.dport, state };
    insert(key, f, how)
}

/// What [`claim`] and [`other_port`] answer: another living connection has the tuple; it is ours; the table refuses the entry.
const TAKEN: u32 = 0;
const OURS: u32 = 1;
const REFUSED: u32 = 2;
/// ... and: it is ours, by another client port.
const CHANGED: u32 = 3;
/// It looks once more where another CPU was quicker.
const LOOKS: u32 = 2;

/// Takes the tuple in `SCRATCH.back6` for the connection's answers: makes their entry, in `SCRATCH.flow6`, if no other living connection
/// has it, of this client port to another service, or of another client port that was changed. What does not open a connection is of one
/// that lives elsewhere: it takes nobody's place. Of two CPUs that want one tuple one gets it.
///
/// Exported, and so a function that the verifier checks once by itself. `what`: as [`prepare`] has it.
#[unsafe(export_name = "gray_v6_claim")]
#[inline(never)]
extern "C" fn claim(what: u32) -> u32 {
    // Of no table that has epochs.
    let (Some(k), Some(scratch)) = (Kernel::at(0), maps::SCRATCH.get_ptr_mut(0)) else { return REFUSED };
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let scratch = unsafe { &mut *scratch };
    let (a, key, back, d) = (&scratch.arrival, &scratch.key6, &scratch.back6, &scratch.decision);
    let (f, of) = (&mut scratch.flow6, &mut scratch.other6);
    if what & STAYS != 0 {
        keep(f, back, 0, d);
    } else {
        fill(f, back, key, d);
    }
    scratch.begun.write(&mut f.state);
    let (apart, late) = (what & APART != 0, maps::flooded());
    let (mut i, mut ours) = (0, false);
    while i < LOOKS {
        i += 1;
        if let Some(reply) = maps::FLOWS6.find(back, late) {
            // Before it is looked at: what is replaced is what was seen.
            let was = maps::FLOWS6.word(reply);
            // SAFETY: as above.
            let found = unsafe { &*reply };
            ours = is_of(found, key);
            if !ours && is_alive(&k, a, found, of, late) {
                return TAKEN;
            }
            if !maps::FLOWS6.seize(reply, was) {
                continue;
            }
            if ours {
                if apart {
                    cold_path();
                    // Else it would be found before the new one.
                    maps::FLOWS6.clear(back, false);
                }
                // In one step: answers may be on their way.
                if maps::FLOWS6.put(back, f, apart, late).is_ok() {
                    return OURS;
                }
                // What is marked would be nobody's for ever.
                maps::FLOWS6.clear(back, late);
                return REFUSED;
            }
            maps::FLOWS6.clear(back, late);
        }
        match maps::FLOWS6.claim(back, f, apart) {
            Ok(()) => return OURS,
            Err(EEXIST) => {}
            Err(_) => return REFUSED,
        }
    }
    // Another CPU has a packet of the same connection.
    u32::from(ours)
}

/// Whether the connection of another's entry lives.
#[inline(always)]
fn is_alive(k: &Kernel, a: &Arrival, reply: &Flow6, of: &mut FlowKey6, late: bool) -> bool {
    if a.proto == TCP && !opens(a.tcp_flags) {
        return true;
    }
    if reply.state.flags & FLOW_CLOSING != 0 {
        return is_ending(k, &reply.state);
    }
    *of = FlowKey6 {
        saddr: reply.daddr,
        daddr: reply.saddr,
        sport: reply.dport,
        dport: reply.sport,
        proto: u32::from(a.proto),
    };
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let forward = maps::FLOWS6.any(&*of, late).map(|f| unsafe { &(*f).state });
    lives(k, &reply.state, forward, a.proto)
}

/// Whether a reply entry leads back to this client and service.
#[inline(always)]
fn is_of(reply: &Flow6, key: &FlowKey6) -> bool {
    reply.saddr == key.daddr
        && reply.sport == key.dport
        && reply.daddr == key.saddr
        && reply.dport == key.sport
}

/// Another client port for the connection in `SCRATCH`, which `back6` then has, taken as by [`claim`]; [`TAKEN`]: none of those tried
/// is free. The order of trying is the connection's own: a lost entry is made again with the same port while the other ones stand.
/// `what`: as [`prepare`] has it; with `SNAT` the port is one of the node's.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v6_other_port")]
#[inline(never)]
extern "C" fn other_port(what: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return REFUSED };
    // SAFETY: this CPU's own slot, and elements that stay readable for the run.
    let scratch = unsafe { &mut *scratch };
    let Some(k) = Kernel::now() else { return REFUSED };
    let snat = what & SNAT != 0;
    let (a, key, back) = (&scratch.arrival, &scratch.key6, &mut scratch.back6);
    let seed = flow_seed(k.key().k0, &a.saddr, &a.daddr, a.sport, a.dport, a.proto);
    let (settled, late) = (a.proto == TCP && !opens(a.tcp_flags), maps::flooded());
    // What is in mid-stream has its port already. Behind the node's address it is most likely the first that is free; of the
    // client's own address nobody knows that it ever had another.
    let (mut i, mut likely) = (0, 0);
    while i < limits::PORT_TRIES {
        back.dport = if snat { snat_port(seed, i) } else { other_client_port(seed, i) };
        if !settled {
            let found = claim(what);
            if found != TAKEN {
                return found;
            }
        } else {
            match maps::FLOWS6.find(&*back, late) {
                // SAFETY: as above.
                Some(reply) if is_of(unsafe { &*reply }, key) => return claim(what),
                None if snat && likely == 0 => likely = back.dport,
                _ => {}
            }
        }
        i += 1;
    }
    if likely == 0 {
        return TAKEN;
    }
    back.dport = likely;
    claim(what)
}

#[inline(always)]
fn insert(key: &FlowKey6, f: &Flow6, how: How) -> bool {
    if maps::FLOWS6.put(key, f, how.apart, how.late).is_err() {
        return refused(how);
    }
    true
}

/// The table takes no entry.
#[inline(always)]
fn refused(how: How) -> bool {
    if !how.quiet {
        emit::count(Reason::FlowInsert);
    }
    false
}

/// Fills in the answers' entry, whose key is `back`: it turns their tuple into the one that the client knows, `key`.
#[inline(always)]
fn fill(f: &mut Flow6, back: &FlowKey6, key: &FlowKey6, d: &Decision) {
    let addr = csum::add(
        csum::diff128(back.saddr.words(), key.daddr.words()),
        csum::diff128(back.daddr.words(), key.saddr.words()),
    );
    let port = csum::add(csum::diff16(back.sport, key.dport), csum::diff16(back.dport, key.sport));
    let state = FlowState {
        l4_addr: addr,
        l4_port: port,
        flags: FLOW_UNRESOLVED | u16::from(d.marks) << 7,
        ..state(d)
    };
    *f = Flow6 { saddr: key.daddr, daddr: key.saddr, sport: key.dport, dport: key.sport, state };
}

/// Makes the entry of one direction that of the other, which turns what this one makes of a tuple back into it. `key`: this one's.
#[inline(always)]
fn turn(f: &mut Flow6, key: &FlowKey6, flags: u16) {
    let FlowState { rule, counter, .. } = f.state;
    // The negative, in one's complement.
    let (l4_addr, l4_port) = (!f.state.l4_addr, !f.state.l4_port);
    let state =
        FlowState { seen: jiffies() as u32, rule, counter, l4_addr, l4_port, flags, ..FlowState::default() };
    *f = Flow6 { saddr: key.daddr, daddr: key.saddr, sport: key.dport, dport: key.sport, state };
}

#[inline(always)]
fn state(d: &Decision) -> FlowState {
    FlowState { seen: jiffies() as u32, rule: d.rule, counter: emit::counter(d), ..FlowState::default() }
}
