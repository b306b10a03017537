//! Where the tables of a policy lie in the arena.

use std::{borrow::Cow, collections::HashSet};

use gray_common::{
    slots::Slots,
    wire::{Subset, Table},
};

use super::{CompileError, SubsetPlan, arena::Arena, plan::Write};

/// Where every table of a policy lies, and what is to be written there.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    pub subsets: Vec<Subset>,
    pub fresh: Vec<Write>,
}

/// What a subset's tables hold: those of the policy, or others because of health.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    pub v4: Cow<'a, Slots>,
    pub v6: Cow<'a, Slots>,
    /// `SUBSET_*`.
    pub flags: u32,
}

impl<'a> Content<'a> {
    /// As the policy says.
    pub fn of(s: &'a SubsetPlan) -> Self {
        Self { v4: Cow::Borrowed(&s.v4), v6: Cow::Borrowed(&s.v6), flags: s.flags }
    }
}

/// Gives every table a place in the arena. Tables that are there stay where they are and are shared when the content is
/// the same; new ones go into the gaps between them.
pub fn place<'a>(
    arena: &mut Arena,
    subsets: impl IntoIterator<Item = (&'a SubsetPlan, Content<'a>)>,
) -> Result<Placed, CompileError> {
    let mut out = Placed::default();
    let mut told = HashSet::new();
    for (plan, content) in subsets {
        let mut table = |slots: &Slots| -> Result<Table, CompileError> {
            if slots.is_empty() {
                return Ok(Table::default());
            }
            let at = arena.place(slots)?;
            if at.fresh && told.insert(at.offset) {
                out.fresh.push(Write::Arena { offset: at.offset, words: slots.words().to_vec() });
            }
            Ok(slots.at(at.offset))
        };
        let (v4, v6) = (table(&content.v4)?, table(&content.v6)?);
        out.subsets.push(Subset { v4, v6, arm: plan.arm, flags: content.flags, target: plan.target });
    }
    Ok(out)
}

/// Where the tables of these subsets lie.
pub fn places(subsets: &[Subset]) -> HashSet<u32> {
    subsets.iter().flat_map(|s| [s.v4, s.v6]).filter(|t| t.len > 0).map(|t| t.offset).collect()
}
