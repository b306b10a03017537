//! The decision: where does this connection go? Pure, the same on every path, on the host, in tests and in
//! `gray explain`. It is the only place that answers.
//!
//! Order: no identity where one is demanded > lane that names the service > explicit identity > condition > weight > default
//! (stable), then failover when the subset is empty, then the instance; in shadow, while the agent is lost or gray's breaker is open,
//! all that is stable's after the rules have spoken. Any missing table entry leaves the traffic alone.

pub mod ask;
pub mod bucket;
pub mod claims;
#[cfg(any(test, feature = "user"))]
pub mod mem;
pub mod rules;
pub mod tag;
pub mod tail;
#[cfg(test)]
mod tests;

pub use bucket::bucket;
pub use claims::{Claims, Known, Local};
pub use rules::{Members, Precedence};

use crate::{
    Reason,
    hash::mix,
    slots,
    wire::{
        ARM_STABLE, Addr, Class, FLOW_OPENING, FLOW_SPLICE, FLOW_TRIES, FLOW_WATCHED, Fact, Instance,
        ListenerValue, Rule, SERVICE_AFFINITY, SERVICE_BREAKER, SERVICE_DENY, SERVICE_DSR, SERVICE_GUE,
        SERVICE_LEASE, SERVICE_PREFIXES, SERVICE_ROUND_ROBIN, SERVICE_SHADOW, SERVICE_SNAT, SUBSET_AWAY4,
        SUBSET_AWAY6, SUBSET_DENY, SUBSET_NEAR4, SUBSET_NEAR6, SUBSET_REFUSE, SUBSET_SPARE4, SUBSET_SPARE6,
        Service, Subset, Table, Versioned, wire,
    },
};

/// The lookups that a decision needs, over the tables of one epoch.
pub trait Tables {
    fn epoch(&self) -> u64;
    fn service(&self, index: u32) -> Option<&Service>;
    fn fact(&self, index: u32) -> Option<&Fact>;
    fn rule(&self, index: u32) -> Option<&Rule>;
    fn identity(&self, hash: u64) -> Option<Versioned>;
    /// The class of the narrowest prefix that an address is in; `None`, 0: it is in none that is listed.
    fn prefix(&self, addr: &Addr) -> Option<u32>;
    fn class(&self, index: u32) -> Option<&Class>;
    /// Subset that owns a bucket of a weighted table.
    fn owner(&self, weighted: u32, bucket: u16) -> Option<u32>;
    fn subset(&self, index: u32) -> Option<&Subset>;
    /// A word of the arena: see [`slots`].
    fn arena(&self, index: u32) -> Option<u32>;
    fn instance(&self, index: u32) -> Option<&Instance>;
    /// How many turns a subset's table has had before this one: see [`turn_of`].
    fn turn(&self, at: u32) -> u32;
    /// The flags of a service that has a lease or a breaker, with [`kept_by`] if they keep this connection from gray.
    fn guard(&self, service: &Service) -> u32;
    /// Calls `f` with 0, 1 .. `n` - 1 until it answers false. A method, because in the kernel a plain loop is verified
    /// once for each turn.
    #[inline(always)]
    fn each(n: u32, mut f: impl FnMut(u32) -> bool) {
        let mut i = 0;
        while i < n && f(i) {
            i += 1;
        }
    }
    /// Called for every rule that is looked at, with the facts: the trail of `explain`. Free where not implemented.
    #[inline(always)]
    fn looked_at(&self, _rule: &Rule, _facts: u64, _matched: bool) {}
}

/// Flags that say that all that is gray is stable's: those of shadow, the reason in the highest byte.
pub const fn kept_by(reason: Reason) -> u32 {
    SERVICE_SHADOW | (reason as u32) << 24
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, C = Claims> {
    pub listener: ListenerValue,
    pub claims: &'a C,
    /// The source address, when known: what prefixes are matched against.
    pub source: Option<&'a Addr>,
    pub is_v4: bool,
    /// Spreads connections of one arm over instances, and decides weights where no identity is known.
    pub seed: u64,
    /// `SERVICE_*` bits: a service with one of these refuses nobody here. What it asks for cannot be known here, or whether
    /// it is known was settled before.
    pub spares: u32,
}

/// Of [`Decision::tunnel`]: the service has a breaker, which whoever records the flow asks for its marks.
pub const HAS_BREAKER: u8 = 1;
/// Of [`Decision::marks`]: the connection's numbers are translated; a breaker watches it; it tries.
pub const MARK_SPLICE: u8 = 1;
pub const MARK_WATCHED: u8 = (FLOW_WATCHED >> 7) as u8;
pub const MARK_TRIES: u8 = (FLOW_TRIES >> 7) as u8;
/// Of [`Decision::marks`] of one that tries.
pub const fn mark_opening(opens: u64) -> u8 {
    (((opens as u16) << 11 & FLOW_OPENING) >> 7) as u8
}
const _: () = assert!(FLOW_SPLICE >> 7 == MARK_SPLICE as u16 && SERVICE_BREAKER >> 12 == HAS_BREAKER as u32);

/// No bucket took part.
pub const NO_BUCKET: u16 = u16::MAX;

/// A decision. Small enough for registers and a little stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub identity: u64,
    pub instance: Instance,
    /// Service id and rule id as the counters know them; rule 0: default.
    pub service: u16,
    pub rule: u16,
    pub bucket: u16,
    /// `Reason` code.
    pub reason: u8,
    pub arm: u8,
    /// Not 0: the instance sees the node's address.
    pub snat: u8,
    /// `SERVICE_DSR` and `SERVICE_GUE` of the service; and [`HAS_BREAKER`], until it is recorded.
    pub tunnel: u8,
    /// Bits of the flow, from `FLOW_SPLICE` on.
    pub marks: u8,
    /// Not 0: refused, and of no arm.
    pub refused: u8,
    /// `Subset::target` of the subset that serves.
    pub target: u32,
    /// The lane that a lane's rule, or a route into one, decided by; 0: none did.
    pub lane: u32,
}

impl Decision {
    /// The lane that its connection is in by that; 0: none. In shadow it is as if there were no route.
    #[inline(always)]
    pub fn led(&self) -> u32 {
        if self.reason == Reason::Shadow as u8 { 0 } else { self.lane }
    }
}

wire!(Decision, size 48, {
    identity @ 0: u64, instance @ 8: Instance, service @ 28: u16, rule @ 30: u16, bucket @ 32: u16, reason @ 34: u8,
    arm @ 35: u8, snat @ 36: u8, tunnel @ 37: u8, marks @ 38: u8, refused @ 39: u8, target @ 40: u32, lane @ 44: u32,
});

/// Steer, stay on the address that was dialled (stable's own), refuse, or leave alone for a reason.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Steer(Decision),
    Stay(Decision),
    Deny(Decision),
    Pass(Reason),
}

/// Decides where a new connection to a listener goes.
#[inline(always)]
pub fn decide<T: Tables, C: Known>(t: &T, r: &Request<'_, C>) -> Verdict {
    let Some(index) = r.listener.service() else { return Verdict::Pass(Reason::NotManaged) };
    let Some(service) = t.service(index) else { return Verdict::Pass(Reason::TableHole) };
    let identity = r.claims.identity(&service.identify);
    if identity == 0 && service.flags & SERVICE_DENY != 0 && service.flags & r.spares == 0 {
        return Verdict::Deny(denied(service));
    }
    let Some(facts) = facts(t, service, r, identity) else { return Verdict::Pass(Reason::TableHole) };

    let mut out = Decision {
        identity,
        service: service.id,
        bucket: NO_BUCKET,
        reason: Reason::Default as u8,
        snat: (service.flags & SERVICE_SNAT != 0) as u8,
        tunnel: (service.flags & (SERVICE_DSR | SERVICE_GUE) | service.flags >> 12 & 1) as u8,
        ..Decision::default()
    };
    let Some(found) = first_match(t, service, facts) else { return Verdict::Pass(Reason::TableHole) };
    let mut subset = service.stable_subset;
    if let Some(rule) = found {
        out.rule = rule.id;
        out.reason = Precedence::reason(rule.precedence) as u8;
        // Of a weighted rule the salt is a salt.
        out.lane = rule.salt as u32 & u32::from(rule.weighted).wrapping_sub(1);
        subset = rule.target;
        if rule.weighted != 0 {
            out.bucket = bucket(if identity == 0 { r.seed } else { identity }, rule.salt);
            let Some(s) = t.owner(rule.target, out.bucket) else { return Verdict::Pass(Reason::TableHole) };
            subset = s;
        }
    }
    // No branch: the verifier would follow all that comes after once for each side.
    let sticky = u64::from(service.flags & SERVICE_AFFINITY != 0) & u64::from(identity != 0);
    let seed = r.seed ^ (r.seed ^ identity) & sticky.wrapping_neg();
    // In the word that is kept anyhow: there is no room on the stack for another one.
    let mut flags = service.flags;
    if flags & (SERVICE_LEASE | SERVICE_BREAKER) != 0 {
        flags = t.guard(service);
    }
    arrive(t, r, out, (subset, service.stable_subset), (seed, flags))
}

#[inline(always)]
fn denied(service: &Service) -> Decision {
    Decision {
        service: service.id,
        bucket: NO_BUCKET,
        reason: Reason::Denied as u8,
        arm: ARM_STABLE as u8,
        refused: 1,
        ..Decision::default()
    }
}

/// Where the turns of a subset's table are counted. Each family has its own: dual-stack clients that try one after the other
/// would meet the same instance again and again.
#[inline(always)]
pub fn turn_of(subset: u32, is_v4: bool) -> u32 {
    subset * 2 + u32::from(is_v4)
}

/// From the subset to the instance, with failover to stable, where shadow stays. The seed chooses the instance, or the subset's
/// turn does.
#[inline(always)]
fn arrive<T: Tables, C>(
    t: &T,
    r: &Request<'_, C>,
    mut out: Decision,
    (mut subset, stable): (u32, u32),
    (seed, flags): (u64, u32),
) -> Verdict {
    let Some(mut arm) = arm_of(t, subset, r) else { return Verdict::Pass(Reason::TableHole) };
    if arm.bits & SUBSET_REFUSE != 0 {
        return Verdict::Deny(Decision { reason: Reason::Isolated as u8, refused: 1, ..out });
    }
    let empty = arm.table.len == 0;
    let kept = (flags & SERVICE_SHADOW != 0) & (arm.which != ARM_STABLE);
    if (empty | kept) && subset != stable {
        if arm.bits & SUBSET_DENY != 0 && !kept {
            return Verdict::Deny(Decision { reason: Reason::FailoverDenied as u8, refused: 1, ..out });
        }
        let Some(s) = arm_of(t, stable, r) else { return Verdict::Pass(Reason::TableHole) };
        arm = s;
        subset = stable;
        // No branch, either.
        let kept = (flags >> 24) as u8;
        out.reason = kept ^ (kept ^ Reason::Failover as u8) & (empty as u8).wrapping_neg();
    }
    // No branch: the verifier would follow all that comes after once for each side.
    out.reason ^= (out.reason ^ Reason::Failover as u8) & ((arm.bits & SPARE) as u8).wrapping_neg();
    let table = arm.table;
    // Spare instances are none of the gray version: what befalls them says nothing of it.
    let counted = arm.which & (arm.bits & SPARE ^ 1);
    (out.arm, out.target) = (counted as u8, arm.target);
    if arm.which == ARM_STABLE && r.listener.is_self() && arm.bits & AWAY == 0 {
        return Verdict::Stay(out);
    }
    if table.len == 0 {
        return Verdict::Pass(Reason::NoInstance);
    }
    // Another mix than the buckets': the choice inside an arm must not follow the choice of the arm.
    let mut choice = mix(seed ^ 0x7361_6d65_2061_726d);
    if flags & SERVICE_ROUND_ROBIN != 0 {
        choice = u64::from(t.turn(turn_of(subset, r.is_v4)));
    }
    let slot = (choice % u64::from(table.len)) as u32;
    let Some(number) = slots::number(t, table, slot) else { return Verdict::Pass(Reason::TableHole) };
    match t.instance(number) {
        Some(i) if i.live != 0 => {
            out.instance = *i;
            Verdict::Steer(out)
        }
        _ => Verdict::Pass(Reason::TableHole),
    }
}

/// Slots that are looked at for another instance, at most. They are in no order: of half of the weight one in two is another's.
pub const SLOTS_TRIED: u32 = 1024;

/// Another instance of a subset's table than these two, which were tried: from a place on that `choice` says, the next one's. `None`: there
/// is none, or an entry is missing.
#[inline(always)]
pub fn another<T: Tables>(t: &T, table: Table, choice: u64, tried: [&Instance; 2]) -> Option<u32> {
    if table.len == 0 {
        return None;
    }
    let is = |a: &Instance, b: &Instance| a.addr == b.addr && a.port == b.port;
    let mut slot = (mix(choice) % u64::from(table.len)) as u32;
    let mut found = None;
    T::each(table.len.min(SLOTS_TRIED), |_| {
        let number = slots::number(t, table, slot);
        let Some((number, instance)) = number.and_then(|n| Some((n, t.instance(n)?))) else { return false };
        if instance.live != 0 && !is(instance, tried[0]) && !is(instance, tried[1]) {
            found = Some(number);
            return false;
        }
        slot += 1;
        if slot >= table.len {
            slot = 0;
        }
        true
    });
    found
}

/// One address family of a subset.
#[derive(Clone, Copy)]
struct Arm {
    which: u32,
    target: u32,
    table: Table,
    /// In one word, the stack is short: `SUBSET_REFUSE`, `SUBSET_DENY`, [`SPARE`] and [`AWAY`].
    bits: u32,
}

/// The table has others than the subset's own.
const SPARE: u32 = 1;
/// Stable does not stay on the address that is dialled.
const AWAY: u32 = 2;
const _: () = assert!((SUBSET_REFUSE | SUBSET_DENY) & (SPARE | AWAY) == 0);

#[inline(always)]
fn arm_of<T: Tables, C>(t: &T, subset: u32, r: &Request<'_, C>) -> Option<Arm> {
    // No branch: the verifier would follow all that comes after once for each side. The bits of IPv6 come next to those of IPv4.
    const {
        assert!(SUBSET_AWAY6 == SUBSET_AWAY4 << 1 && SUBSET_SPARE6 == SUBSET_SPARE4 << 1);
        assert!(SUBSET_NEAR6 == SUBSET_NEAR4 << 1);
    }
    let v6 = u32::from(!r.is_v4);
    let far = u32::from(r.listener.is_far());
    let arm = |s: &Subset| {
        let flags = s.flags >> v6;
        let away = ((flags / SUBSET_AWAY4) | (flags / SUBSET_NEAR4) & far) & 1;
        Arm {
            which: s.arm,
            target: s.target,
            table: if r.is_v4 { s.v4 } else { s.v6 },
            bits: s.flags & (SUBSET_REFUSE | SUBSET_DENY) | (flags / SUBSET_SPARE4) & SPARE | (away * AWAY),
        }
    };
    t.subset(subset).map(arm)
}

/// The service's facts about this client, one bit each; `None`: a table hole.
#[inline(always)]
fn facts<T: Tables, C: Known>(t: &T, service: &Service, r: &Request<'_, C>, identity: u64) -> Option<u64> {
    let members = members(t, service, r)?;
    let (mut facts, mut whole) = (0, true);
    T::each(u32::from(service.facts), |i| {
        let Some(fact) = t.fact(service.first_fact + i) else {
            whole = false;
            return false;
        };
        if rules::holds(fact, &members, r.claims, identity) {
            facts |= 1 << (i & 63);
        }
        true
    });
    whole.then_some(facts)
}

/// The first rule that matches, if one does; `None`: a table hole.
#[inline(always)]
fn first_match<'t, T: Tables>(t: &'t T, service: &Service, facts: u64) -> Option<Option<&'t Rule>> {
    let (mut found, mut whole) = (None, true);
    // Two at once: a turn is a call, which costs the kernel as much as a rule.
    T::each(u32::from(service.rules).div_ceil(2), |pair| {
        let mut i = pair * 2;
        loop {
            let Some(rule) = t.rule(service.first_rule + i) else {
                whole = false;
                return false;
            };
            let matched = rules::matches(rule, facts);
            t.looked_at(rule, facts, matched);
            if matched {
                found = Some(rule);
                return false;
            }
            i += 1;
            if i & 1 == 0 || i >= u32::from(service.rules) {
                return true;
            }
        }
    });
    whole.then_some(found)
}

/// Every explicit list that some claim of this client is on; `None`: a table hole.
#[inline(always)]
fn members<T: Tables, C: Known>(t: &T, service: &Service, r: &Request<'_, C>) -> Option<Members> {
    // The empty set, as a table says it: zeros that the verifier does not know, so that found, not found and missing are one
    // path to it.
    let empty = t.class(0)?;
    let (mut m, mut hole) = (Members::default(), empty.lists[0]);
    m.add(empty);
    m.add_switches(r.listener);
    let mut add = |class: Option<&Class>| match class {
        Some(class) => m.add(class),
        None => hole |= 1,
    };
    let epoch = t.epoch();
    let mut kind = 1;
    while kind <= C::LAST {
        let hash = r.claims.of(kind);
        if service.list_kinds & 1 << kind != 0
            && hash != 0
            && let Some(v) = t.identity(hash)
        {
            add(t.class(v.at(epoch)));
        }
        kind += 1;
    }
    let mut i = 0;
    while i < C::BEGINNINGS {
        let hash = r.claims.beginning(i);
        if hash != 0
            && let Some(v) = t.identity(hash)
        {
            add(t.class(v.at(epoch)));
        }
        i += 1;
    }
    if service.flags & SERVICE_PREFIXES != 0
        && let Some(a) = r.source
        && let Some(class) = t.prefix(a)
    {
        add(t.class(class));
    }
    if hole == 0 { Some(m) } else { None }
}
