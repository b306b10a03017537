//! What a change would write, without writing it. Pure but for reading the store.

use gray_common::hash::HashKey;

use super::{
    change::{build_lists, same_lists, summary, too_large},
    core::Inner,
    health,
};
use crate::{
    api::{ApiError, types::WriteSummary},
    compile::{
        self, Compiled,
        lists::Lists,
        plan::{self, Want, Wanted},
    },
    model::{CohortBody, Policy, parse_member},
};

/// The steps that a change would take, for a dry run: planned on a copy.
pub fn rehearse(inner: &Inner, policy: &Policy, compiled: &Compiled) -> Result<WriteSummary, ApiError> {
    let key = inner.hash_key();
    let lists = match inner.revision {
        _ if same_lists(&inner.policy, policy) => None,
        // Before the first revision there are no live edits.
        0 => Some(document_lists(policy, compiled, key)),
        revision => Some(build_lists(&inner.store, revision, policy, compiled, key)?),
    };
    let mut have = inner.have.clone();
    let want = Want {
        revision: inner.revision + 1,
        key,
        compiled,
        identities: lists.as_ref().map_or(Wanted::Same, |l| Wanted::All(&l.identities)),
        prefixes: lists.as_ref().map(|l| &l.prefixes),
    };
    let placed = health::lock(&inner.board).rehearse(policy, compiled, health::now()).map_err(too_large)?;
    plan::plan_placed(&mut have, &want, placed).map(|steps| summary(&steps)).map_err(too_large)
}

fn document_lists(policy: &Policy, compiled: &Compiled, key: HashKey) -> Lists {
    let mut lists = Lists::default();
    for c in &policy.cohorts {
        if let (CohortBody::List { of, ids }, Some(bit)) = (&c.body, compiled.assigned.lists.get(&c.name)) {
            for m in ids.iter().filter_map(|id| parse_member(*of, id).ok()) {
                let _ = lists.set(bit, compile::lists::entry(key, *of, &m), true);
            }
        }
    }
    lists
}
