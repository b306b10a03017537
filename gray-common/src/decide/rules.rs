//! Rules over facts: what is true of a client becomes the bits of a word, and a rule is two masks.

use super::{bucket::in_percent, claims::Known, tail};
use crate::{
    Reason,
    wire::{Class, FACT_LANE, FACT_LIST, FACT_TAIL, Fact, ListenerValue, Rule},
};

/// The order of the decision, the only one there is. The compiler sorts rules by it; ties go to the rule for one
/// service over the rule for all, then to the first in the document.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precedence {
    /// A lane that names the service.
    Lane = 0,
    Explicit = 1,
    Condition = 2,
    Weight = 3,
}

impl Precedence {
    /// The reason that a match of this step is counted under.
    #[inline(always)]
    pub fn reason(code: u8) -> Reason {
        match code {
            0 => Reason::Lane,
            1 => Reason::Explicit,
            2 => Reason::Condition,
            _ => Reason::Weight,
        }
    }

    pub fn name(code: u8) -> &'static str {
        Self::reason(code).label()
    }
}

/// The explicit lists that a client is on, one bit each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    lists: [u64; 4],
}

impl Members {
    #[inline(always)]
    pub fn add(&mut self, class: &Class) {
        let mut i = 0;
        while i < 4 {
            self.lists[i] |= class.lists[i];
            i += 1;
        }
    }

    /// A listener's switches are looked up as lists are: one word less on a short stack.
    #[inline(always)]
    pub fn add_switches(&mut self, listener: ListenerValue) {
        self.lists[3] |= listener.as_lists();
    }

    #[inline(always)]
    pub fn has(&self, bit: u32) -> bool {
        self.lists[(bit >> 6) as usize & 3] >> (bit & 63) & 1 != 0
    }
}

/// Whether a fact is true of a client. Of nobody without the identity or claim that it is about.
#[inline(always)]
pub fn holds<C: Known>(fact: &Fact, members: &Members, claims: &C, identity: u64) -> bool {
    if fact.kind == FACT_LIST {
        return members.has(fact.value);
    }
    if fact.kind == FACT_LANE {
        return in_lane(claims.lane(), u64::from(fact.value)) != 0;
    }
    if fact.kind == FACT_TAIL {
        return tail::has(fact, claims.tail(fact.claim));
    }
    let who = if fact.claim == 0 { identity } else { claims.of(fact.claim) };
    who != 0 && in_percent(who, fact.salt, fact.value)
}

/// 1: the lane is the wanted one, or, of 0, it is one at all. No branch, which the verifier would follow both ways.
#[inline(always)]
fn in_lane(lane: u64, wanted: u64) -> u64 {
    let some = |x: u64| (x | x.wrapping_neg()) >> 63;
    some(lane ^ wanted) ^ some(wanted)
}

#[inline(always)]
pub fn matches(rule: &Rule, facts: u64) -> bool {
    // One comparison: no needed fact is missing, no forbidden one is there.
    (!facts & rule.need) | (facts & rule.forbid) == 0
}
