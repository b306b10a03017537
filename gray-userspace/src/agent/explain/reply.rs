//! The answer in words. Pure.

use std::collections::BTreeSet;

use gray_common::{
    Reason,
    decide::{Decision, Known as _, MARK_TRIES, NO_BUCKET, Verdict, mem::MemTables},
    limits,
    wire::{Fact, SERVICE_ROUND_ROBIN},
};

use super::{Tables, asked::Asked, claimed::Known, trail::Telling};
use crate::{
    agent::names::{Names, arm_name, canonical, socket_addr},
    api::types::{ArmName, ClaimShown, ExplainReply, Flow, TrailStep},
    compile::conditions::claim_code,
    model::{ClaimKind, Failover},
    paging::Answer,
};

pub struct Explained<'a> {
    pub on: &'a Tables<'a>,
    pub asked: &'a Asked,
    pub names: &'a Names,
    pub known: &'a Known,
    pub answer: &'a Answer,
    /// What was fetched on the way.
    pub tables: &'a MemTables,
}

impl Explained<'_> {
    pub fn reply(&self) -> ExplainReply {
        let service = self.answer.service.unwrap_or_default();
        let facts = self.facts(service.first_fact, service.facts);
        let telling = self.telling(&facts, self.known.claims.identity(&service.identify));
        let mut reply = ExplainReply {
            service: self.asked.service.clone(),
            listener: self.asked.listener.to_string(),
            claims: self.claims(),
            identity: self.known.identity_text(&service.identify),
            trail: telling.trail(self.answer),
            bucket: None,
            threshold: None,
            route: None,
            arm: ArmName::Stable,
            subset: String::new(),
            instance: None,
            reason: String::new(),
            text: String::new(),
            epoch: self.on.control.epoch,
            held: None,
            held_trail: Vec::new(),
            out: Vec::new(),
        };
        match self.answer.verdict {
            Verdict::Pass(reason) => {
                reply.reason = reason.label().into();
                reply.text = format!("left alone: {}", reason.doc());
            }
            Verdict::Deny(d) if d.reason == Reason::FailoverDenied as u8 => {
                reply.reason = Reason::FailoverDenied.label().into();
                reply.route = self.names.route(u32::from(d.rule));
                let plan = self.answer.wanted.and_then(|i| self.on.compiled.subsets.get(i as usize));
                let service = plan.and_then(|p| self.on.policy.services.get(p.who.service));
                let whole = service.is_some_and(|s| s.failover == Failover::Deny);
                let by = if whole { "failover" } else { "failover-by" };
                reply.text = format!(
                    "refused: route {} wants {}, of which no instance serves, and the service's `{by}` denies that",
                    reply.route.as_deref().unwrap_or("default"),
                    self.name_of(self.answer.wanted)
                );
            }
            Verdict::Deny(d) if d.reason == Reason::Isolated as u8 => {
                reply.reason = Reason::Isolated.label().into();
                reply.route = self.names.route(u32::from(d.rule));
                reply.text = format!(
                    "refused: route {} leads to {}, and instances of that take connections from others only (`accept`)",
                    reply.route.as_deref().unwrap_or("default"),
                    self.name_of(self.answer.wanted).trim_end_matches(" (refused)")
                );
            }
            Verdict::Deny(_) => {
                reply.reason = Reason::Denied.label().into();
                reply.text = "refused: nothing that the service's `identify` asks for is known of it, and the policy denies that".into();
            }
            Verdict::Steer(d) => self.decided(&mut reply, &d, &telling, false),
            Verdict::Stay(d) => self.decided(&mut reply, &d, &telling, true),
        }
        if let Some(lane) = self.asked.unknown_lane() {
            reply.text.push_str(&format!("; its workload's lane {lane} is none of the policy's"));
        }
        if let Some(unread) = self.unread() {
            reply.text.push_str(&format!("; it calls on this node, where its request is not read: routes that ask for {unread} do not know it"));
        }
        match self.known.request {
            Some(false) => {
                reply.text.push_str("; its request cannot be read to the end, and counts as far as it can")
            }
            None if self.asked.says_something() => {
                reply.text.push_str("; requests to this service are not read")
            }
            _ => {}
        }
        reply
    }

    fn telling<'a>(&'a self, facts: &'a [Fact], identity: u64) -> Telling<'a> {
        Telling {
            policy: self.on.policy,
            assigned: &self.on.compiled.assigned,
            names: self.names,
            facts,
            claims: &self.known.claims,
            identity,
        }
    }

    /// What is known, and what the policy says of the workload that calls.
    fn claims(&self) -> Vec<ClaimShown> {
        let mut out = self.known.shown();
        let of = |(_, name): &(ClaimKind, String)| self.on.policy.workload(name);
        let calls = self.known.values.iter().find(|v| v.0 == ClaimKind::Workload).and_then(of);
        if let Some(w) = calls {
            let hash = format!("{:016x}", self.known.claims.of(claim_code(ClaimKind::Workload)));
            out.push(ClaimShown { kind: "caller".into(), value: w.to_string(), hash });
        }
        out
    }

    /// How a live connection came to the rule of this name, `None` to stable by default: see [`Telling::held`].
    pub fn held_trail(&self, rule: Option<&str>) -> Vec<TrailStep> {
        let Some(service) = self.answer.service else { return Vec::new() };
        let facts = self.facts(service.first_fact, service.facts);
        let telling = self.telling(&facts, 0);
        let all = self.on.compiled.rules.iter().skip(service.first_rule as usize);
        telling.held(all.take(usize::from(service.rules)), rule)
    }

    /// A13: what a request by packets would say of a client, and a call on this node does not.
    fn unread(&self) -> Option<String> {
        let service = self.on.policy.service(&self.asked.service)?;
        let local = self.known.values.iter().any(|v| v.0 == ClaimKind::Workload);
        let names: BTreeSet<_> = service.claims.keys().chain(service.tls.keys()).map(|k| k.name()).collect();
        (local && !self.asked.handed && service.reads())
            .then(|| names.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// The service's facts, as far as the decision asked for them.
    fn facts(&self, first: u32, count: u16) -> Vec<Fact> {
        let bank = (self.on.control.epoch & 1) as u32 * limits::FACTS;
        (first..first + u32::from(count))
            .filter_map(|i| self.tables.facts.get(&(bank + i)).copied())
            .collect()
    }

    fn decided(&self, reply: &mut ExplainReply, d: &Decision, telling: &Telling<'_>, stay: bool) {
        let reason = Reason::from_code(d.reason).unwrap_or(Reason::TableHole);
        reply.reason = reason.label().into();
        reply.arm = arm_name(u32::from(d.arm));
        reply.route = self.names.route(u32::from(d.rule));
        reply.subset = self.subset();
        (reply.bucket, reply.threshold) = match telling.compared(self.answer) {
            _ if d.bucket != NO_BUCKET => (Some(d.bucket), None),
            Some((bucket, threshold)) => (Some(bucket), Some(threshold)),
            None => (None, None),
        };
        let at = if stay {
            canonical(self.asked.listener.addr)
        } else {
            socket_addr(d.instance.addr, d.instance.port)
        };
        let instance = match self.names.instance(u32::from(d.service), at) {
            Some(id) if id != at.to_string() => format!("{id} ({at})"),
            _ => at.to_string(),
        };
        reply.text = self.sentence(reply, reason, &instance, d, telling.identity, stay);
        reply.instance = Some(instance);
    }

    fn sentence(
        &self,
        r: &ExplainReply,
        reason: Reason,
        instance: &str,
        d: &Decision,
        identity: u64,
        stay: bool,
    ) -> String {
        let arm = r.arm.name();
        let route = r.route.as_deref().unwrap_or("default");
        let wanted = self.name_of(self.answer.wanted);
        let mut text = match reason {
            Reason::Shadow => {
                format!(
                    "{arm}: in shadow; route {route} would have sent it to {wanted}, and it goes to {instance}"
                )
            }
            Reason::Broken => {
                format!(
                    "{arm}: the breaker is open; route {route} would have sent it to {wanted}, and it goes to {instance}"
                )
            }
            Reason::AgentLost => {
                format!(
                    "{arm}: no agent has renewed its lease; route {route} would have sent it to {wanted}, and it goes to {instance}"
                )
            }
            Reason::Default => format!("{arm}: no route applies, so it goes to {instance}"),
            Reason::Failover => {
                format!(
                    "{arm}: route {route} wants {wanted}, of which no instance serves, so it goes to {instance}"
                )
            }
            _ => format!("{arm}: route {route} sends it to {instance}"),
        };
        if reason == Reason::Failover && self.answer.wanted != self.answer.subset {
            text.push_str(&self.passed_over(self.answer.wanted, None));
        }
        if !stay {
            text.push_str(&self.passed_over(self.answer.subset, Some(d)));
        }
        if self.tables.view().marks(d) & MARK_TRIES != 0 {
            text.push_str("; the breaker is open, and this one tries whether gray works again");
        }
        if stay {
            text.push_str(", the address that it dials");
        }
        if d.bucket != NO_BUCKET && identity == 0 {
            text.push_str("; without an identity each connection is weighed anew");
        } else if !stay && self.choices() > 1 && self.takes_turns(d) {
            text.push_str("; the instances of its subset take turns, and this is one of them");
        } else if !stay && self.asked.sport.is_none() && self.choices() > 1 {
            text.push_str("; another connection may get another instance of the same subset");
        }
        text
    }

    /// Instances of a subset that are in other zones than the agent's, where that is why they do not serve. `by`: what was decided, which
    /// says whether they do.
    fn passed_over(&self, subset: Option<u32>, by: Option<&Decision>) -> String {
        let Some(plan) = subset.and_then(|i| self.on.compiled.subsets.get(i as usize)) else {
            return String::new();
        };
        let family = if self.asked.is_v4() { &plan.who.v4 } else { &plan.who.v6 };
        let chosen = |number: u32| {
            let instance = self.on.compiled.instances.get(&number);
            by.is_some_and(|d| {
                instance.is_some_and(|i| (i.addr, i.port) == (d.instance.addr, d.instance.port))
            })
        };
        let far = family.members.iter().filter(|m| m.far);
        let service = self.on.policy.services.get(plan.who.service);
        let names: Vec<&str> =
            far.clone().filter_map(|m| Some(service?.instances.get(m.instance)?.id.as_str())).collect();
        if names.is_empty() || far.clone().any(|m| chosen(m.number)) {
            return String::new();
        }
        format!("; in other zones than this node, and passed over for that: {}", names.join(", "))
    }

    /// `version=2.0`.
    fn subset(&self) -> String {
        self.name_of(self.answer.subset)
    }

    fn name_of(&self, index: Option<u32>) -> String {
        let plan = index.and_then(|i| self.on.compiled.subsets.get(i as usize));
        plan.map_or_else(String::new, |p| match p.name.split_once(": ") {
            Some((_, selector)) => selector.to_string(),
            None => p.name.clone(),
        })
    }

    fn takes_turns(&self, d: &Decision) -> bool {
        self.on.compiled.services.iter().any(|s| s.id == d.service && s.flags & SERVICE_ROUND_ROBIN != 0)
    }

    /// Instances that this connection's subset may choose from.
    fn choices(&self) -> usize {
        let plan = self.answer.subset.and_then(|i| self.on.compiled.subsets.get(i as usize));
        plan.map_or(0, |p| {
            let slots = if self.asked.is_v4() { &p.v4 } else { &p.v6 };
            slots.members().len()
        })
    }
}

/// Says who gets nothing now because of health.
pub fn tell_out(reply: &mut ExplainReply, out: Vec<String>) {
    if !out.is_empty() {
        reply.text.push_str("; by health nothing goes to ");
        reply.text.push_str(&out.join(", "));
    }
    reply.out = out;
}

/// Puts what the flow table holds before what would be decided now.
pub fn tell_held(reply: &mut ExplainReply, held: Flow, holds: &str) {
    let cause = held.rule.as_ref().map_or_else(|| "the default".into(), |r| format!("route {r}"));
    let instance = if held.instance == held.instance_addr {
        held.instance.clone()
    } else {
        format!("{} ({})", held.instance, held.instance_addr)
    };
    let arm = held.arm.name();
    let now = format!(
        "{holds} {instance}, {arm}, by {cause}, {}; a new connection without mark, DSCP, workload and request \
         would now be {}",
        held.state, reply.text
    );
    reply.text = now;
    reply.held = Some(held);
}
