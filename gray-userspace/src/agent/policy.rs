//! Operations on the policy: apply, roll back, edit a list, drain an instance, import a key.

use std::{collections::BTreeSet, sync::Arc};

use gray_common::wire::PrefixKey;

use super::{
    change::{ListsChange, same_lists},
    core::Inner,
    rehearse::rehearse,
    release::admission::{could_not_go_on, not_loaded},
};
use crate::{
    api::{ApiError, ErrorKind, Who, types::*},
    compile::lists::{Edit, Entry, entry},
    config,
    fail::{self, Point},
    ids::Ids,
    model::{
        ClaimKind, CohortBody, Member, MemberError, Nat, Policy, Probe, Service, canonical_member,
        parse_member,
    },
    release,
    store::{Kind, ListEdit, Op, Store as _, key::HashKey as StoredKey},
};

/// So many bad ids are named in one error.
const SHOWN: usize = 20;

fn held(policy: &Policy) -> String {
    match policy.services.len() {
        1 => "a service is".into(),
        n => format!("{n} services are"),
    }
}

fn internal(e: crate::store::Error) -> ApiError {
    ApiError::internal(&e)
}

impl Inner {
    pub fn apply(&mut self, who: &Who, r: ApplyRequest) -> Result<ApplyReply, ApiError> {
        if let Some(wanted) = r.if_revision.filter(|n| *n != self.revision) {
            let now = match self.revision {
                0 => "no revision is".into(),
                n => format!("revision {n} is"),
            };
            return Err(ApiError::conflict(
                format!("{now} in force, not {wanted}"),
                "somebody changed the policy since: `gray history` says who; make the documents from what is in force now",
            ));
        }
        let mut sources: Vec<config::Source> = r.sources.into_iter().map(Into::into).collect();
        for s in &mut sources {
            // The names of the engine's documents are not a file's.
            if s.name.starts_with(release::SOURCE) {
                s.name.insert_str(0, "./");
            }
        }
        if config::say_nothing(&sources) && !self.policy.services.is_empty() {
            return Err(ApiError::new(
                ErrorKind::Invalid,
                format!("there is nothing in what is to be applied, and {} in force", held(&self.policy)),
                "did the program in front fail? To take the whole policy away say `services: {}`",
            ));
        }
        let ours = self.release_sources()?;
        sources.extend(ours.into_iter().map(|s| config::Source::new(s.name, s.text)));
        let loaded = config::load(&sources).map_err(|p| not_loaded(ApiError::from(&p)))?;
        let warnings = loaded.warnings.iter().map(Problem::from).collect();
        self.releases_go_on(&sources)?;
        self.may_restable(&loaded.policy)?;
        self.may_relist(&loaded.policy)?;
        self.replace(who, (loaded.policy, loaded.places), &sources, r.message, r.dry_run, warnings)
    }

    fn replace(
        &mut self,
        who: &Who,
        (policy, places): (Policy, config::Places),
        sources: &[config::Source],
        message: Option<String>,
        dry_run: bool,
        warnings: Vec<Problem>,
    ) -> Result<ApplyReply, ApiError> {
        self.may_run(&policy)?;
        self.may_stand_in(&policy)?;
        let changes: Vec<config::Change> = config::diff(&self.policy, &policy);
        let mut reply = ApplyReply { warnings, ..ApplyReply::default() };
        if policy == *self.policy && self.revision != 0 {
            return Ok(ApplyReply { unchanged: true, epoch: (!dry_run).then_some(self.have.epoch), ..reply });
        }
        let summary = summarise(&changes);
        reply.changes = changes.into_iter().map(Into::into).collect();
        // Instances that are gone need no draining.
        let drained = self.drained.iter().filter(|d| names_instance(&policy, d)).cloned().collect();
        if dry_run {
            let compiled = self.compile(&policy, &drained, &places)?;
            reply.writes = rehearse(self, &policy, &compiled)?;
            return Ok(reply);
        }
        let mut draft = self.draft(Kind::Apply, who, message, summary);
        let kept =
            sources.iter().map(|s| crate::store::Source { name: s.name.clone(), text: s.text.clone() });
        draft.sources = Some(kept.collect());
        let mut change = self.keep(draft);
        // A million ids are not compared for a change of a weight.
        if self.revision == 0 || !same_lists(&self.policy, &policy) {
            change.lists = ListsChange::Rebuild;
        }
        (change.policy, change.places) = (Arc::new(policy), places);
        change.drained = drained;
        let done = self.change(change)?;
        Ok(ApplyReply {
            revision: Some(done.revision),
            epoch: Some(done.epoch),
            writes: done.writes,
            timings: Some(done.timings),
            ..reply
        })
    }

    /// What a release asks for in a later stage is as much a part of the policy as what it has now.
    fn releases_go_on(&self, sources: &[config::Source]) -> Result<(), ApiError> {
        self.may_go_on(sources.to_vec(), None).map_err(could_not_go_on)
    }

    /// Which programs run on this machine is for its administrator to say, not for a policy.
    fn may_run(&self, policy: &Policy) -> Result<(), ApiError> {
        let checks = |s: &Service| s.health.as_ref().is_some_and(|h| matches!(h.probe, Probe::Command(_)));
        let runs = |s: &&Service| checks(s) || s.alarm.as_ref().is_some_and(|a| a.command.is_some());
        match policy.services.iter().find(runs) {
            Some(s) if self.health_commands.is_none() => Err(ApiError::new(
                ErrorKind::Invalid,
                format!("service {} has a check or an alarm by a command, and this agent runs none", s.name),
                "start the agent with --health-commands DIR, and put the programs there",
            )),
            _ => Ok(()),
        }
    }

    /// The node's address of each family that the policy wants.
    pub(super) fn may_stand_in(&self, policy: &Policy) -> Result<(), ApiError> {
        for s in &policy.services {
            let (have, option, ends) = match s.nat {
                Nat::Dnat => continue,
                Nat::Snat => (&self.snat, "--snat", "that instances can answer to"),
                Nat::Dsr => (&self.dsr_source, "--dsr-source", "that its packets to instances come from"),
            };
            for v4 in [true, false] {
                let wanted = s.listen.iter().any(|l| l.addr.is_ipv4() == v4);
                if wanted && !have.iter().any(|a| a.is_ipv4() == v4) {
                    let family = if v4 { "IPv4" } else { "IPv6" };
                    return Err(ApiError::new(
                        ErrorKind::Invalid,
                        format!(
                            "service {} has `nat: {}`, and this agent has no {family} address for it",
                            s.name,
                            s.nat.name()
                        ),
                        format!("start the agent with {option} ADDR, an address of its node {ends}"),
                    ));
                }
            }
        }
        Ok(())
    }

    pub fn rollback(&mut self, who: &Who, r: RollbackRequest) -> Result<ApplyReply, ApiError> {
        let target = self.store.revision(r.revision).map_err(|e| match e {
            crate::store::Error::NoRevision { rev } => ApiError::not_found(
                format!("there is no revision {rev}"),
                "see `gray history` for those there are",
            ),
            e => internal(e),
        })?;
        if !matches!(target.state, crate::store::State::Active | crate::store::State::Superseded) {
            return Err(ApiError::conflict(
                format!("revision {} never took effect", r.revision),
                "roll back to one that `gray history` shows as active or superseded",
            ));
        }
        if target.dropped {
            return Err(ApiError::conflict(
                format!(
                    "what revision {} held was dropped: it is older than the {} that are kept",
                    r.revision, self.keep_revisions
                ),
                "roll back to one that `gray history` shows as active or superseded, or apply its documents again; `gray agent --keep-revisions N` keeps more of those to come",
            ));
        }
        let mut sources = self.store.sources(r.revision).map_err(internal)?;
        // What a release takes of the traffic is for the release to say.
        sources.retain(|s| !s.name.starts_with(release::SOURCE));
        sources.extend(self.release_sources()?);
        let documents: Vec<_> =
            sources.iter().map(|s| config::Source::new(s.name.clone(), s.text.clone())).collect();
        let loaded = config::load(&documents).map_err(|p| not_loaded(ApiError::from(&p)))?;
        self.releases_go_on(&documents)?;
        self.may_restable(&loaded.policy)?;
        self.may_relist(&loaded.policy)?;
        self.may_run(&loaded.policy)?;
        self.may_stand_in(&loaded.policy)?;
        let changes = config::diff(&self.policy, &loaded.policy);
        let mut draft = self.draft(
            Kind::Rollback,
            who,
            r.message,
            format!("back to revision {}: {}", r.revision, summarise(&changes)),
        );
        draft.sources = Some(sources);
        draft.restore_lists_of = Some(r.revision);
        let mut change = self.keep(draft);
        (change.policy, change.places) = (Arc::new(loaded.policy), loaded.places);
        change.drained = target.drained;
        change.lists = ListsChange::Rebuild;
        let done = self.change(change)?;
        Ok(ApplyReply {
            revision: Some(done.revision),
            epoch: Some(done.epoch),
            changes: changes.into_iter().map(Into::into).collect(),
            writes: done.writes,
            timings: Some(done.timings),
            ..ApplyReply::default()
        })
    }

    pub fn edit_cohort(&mut self, who: &Who, name: &str, edit: CohortEdit) -> Result<CohortEdited, ApiError> {
        let (of, bit) = self.list_cohort(name)?;
        self.may_edit(name)?;
        let ids = canonical(of, &edit.ids)?.sorted();
        let named = ids.len() as u64;
        let entries = self.edit(of, bit, edit.op, &ids);
        let (added, removed) = entries.counts();
        let mut done = CohortEdited { added, removed, ..CohortEdited::default() };
        let before = self.on_list(bit);
        done.unchanged = named.saturating_sub(if edit.op == CohortOp::Remove { removed } else { added });
        if entries.is_empty() && edit.op != CohortOp::Reset {
            return Ok(CohortEdited { size: before, ..done });
        }
        let what = match edit.op {
            CohortOp::Add => format!("{name}: +{added}"),
            CohortOp::Remove => format!("{name}: -{removed}"),
            CohortOp::Replace => format!("{name}: loaded, +{added} -{removed}"),
            CohortOp::Reset => format!("{name}: live edits forgotten"),
        };
        let mut draft = self.draft(Kind::Cohort, who, edit.message, what);
        let op = match edit.op {
            CohortOp::Add => Op::Add,
            CohortOp::Remove => Op::Remove,
            CohortOp::Replace => Op::Replace,
            CohortOp::Reset => Op::Reset,
        };
        draft.lists = vec![ListEdit { cohort: name.to_string(), op, ids }];
        let mut change = self.keep(draft);
        change.lists =
            if edit.op == CohortOp::Reset { ListsChange::Rebuild } else { ListsChange::Edit(entries) };
        let made = self.change(change)?;
        let size = self.on_list(bit);
        if edit.op == CohortOp::Reset {
            (done.added, done.removed) = (size.saturating_sub(before), before.saturating_sub(size));
        }
        Ok(CohortEdited {
            revision: Some(made.revision),
            epoch: Some(made.epoch),
            timings: Some(made.timings),
            size,
            ..done
        })
    }

    /// Entries on a list.
    pub(super) fn on_list(&self, bit: u32) -> u64 {
        self.have.identities.count_on(bit, &self.have.classes) + self.prefixes.on(bit).count() as u64
    }

    /// What an edit with these ids changes. `Replace` costs a walk over all identities only if the list has others.
    fn edit(&self, of: ClaimKind, bit: u32, op: CohortOp, ids: &Ids) -> Edit {
        let key = self.hash_key();
        let (classes, present) = (&self.have.classes, &self.have.identities);
        let (mut hashes, mut prefixes) = (Vec::with_capacity(ids.len()), Vec::new());
        for m in ids.iter().filter_map(|id| parse_member(of, id).ok()) {
            match entry(key, of, &m) {
                Entry::Identity(h) => hashes.push(h),
                Entry::Prefix(p) => prefixes.push(p),
            }
        }
        let mut out = Edit { bit, ..Edit::default() };
        let mut stays = 0;
        let on = op != CohortOp::Remove;
        let listed = |h: &u64| present.is_on(bit, *h, classes);
        if op == CohortOp::Replace {
            stays = hashes.iter().filter(|h| listed(h)).count() as u64;
            if stays < present.count_on(bit, classes) {
                let mut sorted = hashes.clone();
                sorted.sort_unstable();
                out.off = present.on(bit, classes).filter(|h| sorted.binary_search(h).is_err()).collect();
            }
            let named: BTreeSet<&PrefixKey> = prefixes.iter().collect();
            out.prefixes.extend(self.prefixes.on(bit).filter(|p| !named.contains(p)).map(|p| (p, false)));
        }
        if op != CohortOp::Replace || stays > 0 {
            hashes.retain(|h| listed(h) != on);
        }
        out.prefixes
            .extend(prefixes.into_iter().filter(|p| self.prefixes.is_on(bit, p) != on).map(|p| (p, on)));
        if on {
            out.on = hashes
        } else {
            out.off = hashes
        }
        out
    }

    /// The claim and bit of a list cohort.
    pub fn list_cohort(&self, name: &str) -> Result<(ClaimKind, u32), ApiError> {
        let cohort = self.policy.cohort(name).ok_or_else(|| self.no_cohort(name))?;
        match (&cohort.body, self.compiled.assigned.lists.get(name)) {
            (CohortBody::List { of, .. }, Some(bit)) => Ok((*of, bit)),
            (CohortBody::Tail { .. }, _) => Err(ApiError::conflict(
                format!("cohort {name} is a tail, it has no list"),
                "change its digits in the document and apply it",
            )),
            (CohortBody::Joined(of), _) => Err(ApiError::conflict(
                format!("cohort {name} is made of others, {}, and has no list", config::condition_text(of)),
                "edit the list of one of those, or apply a changed document",
            )),
            _ => Err(ApiError::conflict(
                format!("cohort {name} is a percentage, it has no list"),
                "change its percentage in the document and apply it",
            )),
        }
    }

    pub fn no_cohort(&self, name: &str) -> ApiError {
        let names: Vec<&str> = self.policy.cohorts.iter().map(|c| c.name.as_str()).collect();
        let near = names.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
        let help = match near {
            Some(n) if strsim::jaro(n, name) > 0.7 => format!("did you mean {n}?"),
            _ => "`gray get cohorts` lists those there are".to_string(),
        };
        ApiError::not_found(format!("there is no cohort {name}"), help)
    }

    pub fn import_key(&mut self, who: &Who, key: &HashKey) -> Result<Done, ApiError> {
        let key = StoredKey::from_hex(&key.key).map_err(|e| {
            ApiError::new(
                ErrorKind::Invalid,
                e.to_string(),
                "give the 32 hex digits that `gray key export` printed",
            )
        })?;
        if key.bytes() == self.key.bytes() {
            let text = "this is the key in use already".to_string();
            return Ok(Done { revision: None, epoch: Some(self.have.epoch), text });
        }
        if self.revision == 0 {
            key.import(&self.state_dir).map_err(|e| ApiError::internal(&e))?;
            fail::point(Point::KeyBeforePolicy).map_err(|e| ApiError::internal(&e))?;
            self.key = key;
            self.relabel()?;
            return Ok(Done {
                revision: None,
                epoch: None,
                text: "the key is in use from the first policy on".into(),
            });
        }
        let draft = self.draft(Kind::Import, who, None, "another hash key".to_string());
        let mut change = self.keep(draft);
        change.lists = ListsChange::Rebuild;
        change.key = Some(key);
        let made = self.change(change)?;
        let text = "the key is in use; every percentage was dealt anew".to_string();
        Ok(Done { revision: Some(made.revision), epoch: Some(made.epoch), text })
    }
}

/// Canonical forms; every id that cannot be read is named.
fn canonical(of: ClaimKind, ids: &Ids) -> Result<Ids, ApiError> {
    let (mut out, mut bad) = (Ids::with_capacity(ids.len(), ids.text().len()), Vec::new());
    for id in ids.iter() {
        match canonical_member(of, id) {
            Ok(_) if matches!(parse_member(of, id), Ok(Member::Beginning(_))) => bad.push(MemberError {
                text: id.chars().take(64).collect(),
                expected: "a value; wildcards stand in the document",
            }),
            Ok(c) => out.push(&c),
            Err(e) => bad.push(e),
        }
    }
    if bad.is_empty() {
        return Ok(out);
    }
    let mut problems: Vec<Problem> = bad.iter().take(SHOWN).map(|e| Problem::note(e.to_string())).collect();
    if bad.len() > SHOWN {
        problems.push(Problem::note(format!("{} more are not shown", bad.len() - SHOWN)));
    }
    let mut e = ApiError::invalid(problems);
    e.error = format!("{} of {} ids cannot be read", bad.len(), ids.len());
    e.help = "nothing was changed; correct the ids and try again".to_string();
    Err(e)
}

pub(super) fn names_instance(policy: &Policy, id: &str) -> bool {
    id.split_once('/').is_some_and(|(service, instance)| {
        policy.service(service).is_some_and(|s| s.instances.iter().any(|i| i.id == instance))
    })
}

/// One line for the history.
fn summarise(changes: &[config::Change]) -> String {
    match changes {
        [] => "no visible change".to_string(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}
