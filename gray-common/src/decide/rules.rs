//! Rules: a conjunction of terms over list membership and percentages, in the order of [`Precedence`].

use super::{bucket::in_percent, claims::Claims};
use crate::{
    Reason, limits,
    wire::{Class, Rule, TERM_LIST, TERM_PERCENT, Term},
};

/// The order of the decision, the only one there is. The compiler sorts rules by it; ties go to the rule for one
/// service over the rule for all, then to the first in the document.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precedence {
    Explicit = 1,
    Condition = 2,
    Weight = 3,
}

impl Precedence {
    /// The reason that a match of this step is counted under.
    #[inline(always)]
    pub fn reason(code: u8) -> Reason {
        match code {
            1 => Reason::Explicit,
            2 => Reason::Condition,
            _ => Reason::Weight,
        }
    }
}

/// The explicit lists that a client is on, one bit each.
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

    /// Branch-free: the verifier follows one path, whatever the bit.
    #[inline(always)]
    pub fn has(&self, bit: u32) -> bool {
        let word = bit >> 6;
        let mut w = 0;
        let mut i = 0;
        while i < 4 {
            w |= self.lists[i as usize] & 0u64.wrapping_sub(u64::from(word == i));
            i += 1;
        }
        w >> (bit & 63) & 1 != 0
    }
}

#[inline(always)]
pub fn matches(rule: &Rule, members: &Members, claims: &Claims, identity: Option<u64>) -> bool {
    let mut i = 0;
    while i < limits::TERMS {
        if !holds(&rule.terms[i], members, claims, identity) {
            return false;
        }
        i += 1;
    }
    true
}

#[inline(always)]
fn holds(term: &Term, members: &Members, claims: &Claims, identity: Option<u64>) -> bool {
    let plain = match term.kind {
        TERM_LIST => members.has(term.value),
        TERM_PERCENT => {
            let who = if term.claim == 0 { identity } else { claims.hash(term.claim) };
            match who {
                Some(id) => in_percent(id, term.salt, term.value),
                None => false,
            }
        }
        _ => true,
    };
    plain != (term.negate != 0)
}

const _: () = assert!(limits::LISTS == 4 * 64);
