//! What a change would write, without writing it. Pure but for reading the store.

use super::{
    change::{build_lists, same_lists, summary},
    core::Inner,
    health,
    refused::too_large,
};
use crate::{
    api::{ApiError, types::WriteSummary},
    compile::{
        Compiled,
        lists::of_policy,
        plan::{self, Want, Wanted},
    },
    model::Policy,
};

/// The steps that a change would take, for a dry run: planned on a copy.
pub fn rehearse(inner: &Inner, policy: &Policy, compiled: &Compiled) -> Result<WriteSummary, ApiError> {
    let key = inner.hash_key();
    let lists = match inner.revision {
        _ if same_lists(&inner.policy, policy) => None,
        // Before the first revision there are no live edits.
        0 => Some(of_policy(policy, &compiled.assigned.lists, key)),
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
