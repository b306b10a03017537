//! Every rule that was looked at, in words, and the bucket that mattered. Pure.

use gray_common::{
    decide::{Claims, Known as _, Precedence, bucket, tail},
    hash::salt,
    limits,
    wire::{FACT_LANE, FACT_LIST, FACT_PERCENT, FACT_TAIL, Fact, ListenerValue, Rule},
};

use crate::{
    agent::names::Names,
    api::types::TrailStep,
    compile::{Assigned, conditions::claim_code},
    model::{ClaimKind, CohortBody, Policy},
    paging::Answer,
};

/// What the words are made from.
pub struct Telling<'a> {
    pub policy: &'a Policy,
    pub assigned: &'a Assigned,
    pub names: &'a Names,
    /// The service's facts, by bit.
    pub facts: &'a [Fact],
    pub claims: &'a Claims,
    /// 0: none.
    pub identity: u64,
}

/// A bucket that a percentage compared, and what it had to lie below.
pub type Compared = (u16, u16);

impl Telling<'_> {
    pub fn trail(&self, answer: &Answer) -> Vec<TrailStep> {
        let mut steps: Vec<TrailStep> = answer.trail.iter().map(|(r, f, m)| self.step(r, *f, *m)).collect();
        if answer.service.is_some() && !answer.trail.iter().any(|(.., matched)| *matched) {
            let why = if steps.is_empty() { "no route is about this service" } else { "no route applied" };
            steps.push(TrailStep {
                rule: "default".into(),
                precedence: "default".into(),
                matched: true,
                why: format!("{why}: stable"),
            });
        }
        steps
    }

    /// The rules up to the one that a live connection is held by. What was known of its client is not kept: that it came so far says
    /// what must have been. Nothing where no rule has this name any more.
    pub fn held<'r>(&self, rules: impl Iterator<Item = &'r Rule>, by: Option<&str>) -> Vec<TrailStep> {
        let rules: Vec<(&Rule, String)> = rules
            .map(|r| (r, self.names.route(u32::from(r.id)).unwrap_or_else(|| "default".into())))
            .collect();
        let ways = rules.iter().filter(|(_, name)| Some(name.as_str()) == by).count();
        if by.is_some() && ways == 0 {
            return Vec::new();
        }
        let mut left = ways;
        let mut steps = Vec::new();
        for (rule, name) in &rules {
            if by.is_some() && left == 0 {
                break;
            }
            let wants = self.wants(rule);
            let matched = Some(name.as_str()) == by;
            left -= usize::from(matched);
            let why = match (matched, ways) {
                (true, 1) => format!("held by it, so it was: {wants}"),
                (true, n) => format!("held by it or by another of its {n} ways, so perhaps it was: {wants}"),
                _ => format!("passed over, so it was not all of: {wants}"),
            };
            let precedence = Precedence::name(rule.precedence).into();
            steps.push(TrailStep { rule: name.clone(), precedence, matched, why });
        }
        if by.is_none() {
            let why = "held by no route: stable".into();
            steps.push(TrailStep {
                rule: "default".into(),
                precedence: "default".into(),
                matched: true,
                why,
            });
        }
        steps
    }

    /// What a rule asks, of nobody in particular.
    fn wants(&self, rule: &Rule) -> String {
        let mut parts = Vec::new();
        for (bit, fact) in self.facts.iter().enumerate() {
            let mask = 1u64.checked_shl(bit as u32).unwrap_or(0);
            if (rule.need | rule.forbid) & mask == 0 {
                continue;
            }
            let holds = rule.need & mask != 0;
            parts.push(match fact.kind {
                FACT_LIST | FACT_LANE => self.fact(fact, holds),
                _ => format!("{}in {}", if holds { "" } else { "not " }, self.cohort(fact)),
            });
        }
        if parts.is_empty() { "anybody".into() } else { parts.join("; ") }
    }

    fn step(&self, rule: &Rule, facts: u64, matched: bool) -> TrailStep {
        let mut parts = Vec::new();
        for (bit, fact) in self.facts.iter().enumerate() {
            let mask = 1u64.checked_shl(bit as u32).unwrap_or(0);
            let holds = facts & mask != 0;
            // Of a rule that did not match, only what was in its way.
            if rule.need & mask != 0 && (matched || !holds) {
                parts.push(self.fact(fact, holds));
            }
            if rule.forbid & mask != 0 && (matched || holds) {
                let excluded = if holds { ", which it excludes" } else { "" };
                parts.push(format!("{}{excluded}", self.fact(fact, holds)));
            }
        }
        if parts.is_empty() {
            parts.push("it is for everybody".into());
        }
        TrailStep {
            rule: self.names.route(u32::from(rule.id)).unwrap_or_else(|| "default".into()),
            precedence: Precedence::name(rule.precedence).into(),
            matched,
            why: parts.join("; "),
        }
    }

    fn fact(&self, f: &Fact, holds: bool) -> String {
        if f.kind == FACT_LIST && f.value >= limits::LISTS {
            let what = if f.value == ListenerValue::list_of(ListenerValue::OVER_ROUTES) {
                "go before routes"
            } else {
                "count without a route"
            };
            return format!("at a listener where headers {}{what}", if holds { "" } else { "do not " });
        }
        if f.kind == FACT_LIST {
            let list = self.assigned.lists.name(f.value).unwrap_or("that is gone");
            // The values of a condition.
            if list.contains('=') {
                return format!("{}{list}", if holds { "" } else { "not " });
            }
            return format!("{} list {list}", if holds { "on" } else { "not on" });
        }
        if f.kind == FACT_LANE {
            return match self.assigned.lanes.name(f.value) {
                Some(lane) => format!("{}in lane {lane}", if holds { "" } else { "not " }),
                None => if holds { "in a lane" } else { "in no lane" }.into(),
            };
        }
        let cohort = self.cohort(f);
        if f.kind == FACT_TAIL {
            let of = ClaimKind::ALL
                .into_iter()
                .find(|k| claim_code(*k) == f.claim)
                .map_or("claim", ClaimKind::name);
            let ends = match self.claims.tail(f.claim) {
                _ if self.claims.of(f.claim) == 0 => format!("no {of} is known"),
                0 => format!("{of} ends with no digit"),
                one @ 1..=10 => format!("{of} ends with {}", one - 1),
                two => format!("{of} ends with {:02}", two - 11),
            };
            return format!("{ends}, {}in {cohort}", if holds { "" } else { "not " });
        }
        match self.who(f) {
            0 => format!("nothing known about this client that {cohort} could be a percentage of"),
            who => {
                let side = if holds { "is below" } else { "is not below" };
                format!("bucket {} of {cohort} {side} {}", bucket(who, f.salt), f.value)
            }
        }
    }

    /// Whom a percentage is about: the hash of the identity or of one claim; 0: absent.
    fn who(&self, f: &Fact) -> u64 {
        if f.claim == 0 { self.identity } else { self.claims.of(f.claim) }
    }

    /// The name of a cohort that is no list. Facts carry none: two cohorts that ask the same are one fact.
    fn cohort(&self, f: &Fact) -> &str {
        let same = |body: &CohortBody| match body {
            CohortBody::Percent { of, basis_points, salt: s } => {
                f.kind == FACT_PERCENT
                    && u32::from(*basis_points) == f.value
                    && of.map_or(0, claim_code) == f.claim
                    && salt(s) == f.salt
            }
            CohortBody::Tail { of, digits } => {
                tail::fact(claim_code(*of), digits.iter().map(String::as_str)).as_ref() == Some(f)
            }
            CohortBody::List { .. } | CohortBody::Joined(_) => false,
        };
        self.policy.cohorts.iter().find(|c| same(&c.body)).map_or("a cohort that is gone", |c| &c.name)
    }

    /// The percentage that decided: of the rule that matched, else of the last rule that has one.
    pub fn compared(&self, answer: &Answer) -> Option<Compared> {
        answer.trail.iter().rev().find_map(|(rule, ..)| {
            let of_rule =
                |bit: usize| (rule.need | rule.forbid).checked_shr(bit as u32).unwrap_or(0) & 1 != 0;
            let mut percentages =
                self.facts.iter().enumerate().filter(|(bit, f)| of_rule(*bit) && f.kind == FACT_PERCENT);
            let (_, f) = percentages.find(|(_, f)| self.who(f) != 0)?;
            Some((bucket(self.who(f), f.salt), f.value as u16))
        })
    }
}
