//! Labels of cgroups: names given by people, kept in the store, put into the kernel as claims.

use std::collections::BTreeMap;

use gray_common::{decide::claims::WORKLOAD, hash::HashKey, wire};

use super::{
    core::{Core, Inner, Label},
    links, time,
};
use crate::{
    api::{ApiError, Who, types::*},
    compile::{Compiled, lists::text_hash},
    config::is_name,
    fail::{self, Point},
    model::{ClaimKind, canonical_member},
    store::{Link, Workload as Kept, WorkloadKind},
    sys::workload::{Cgroup, CgroupMount},
};

/// Sets a label. Nobody waits for systemd but who asked.
pub fn set(core: &Core, who: &Who, set: WorkloadSet) -> Result<Workload, ApiError> {
    let name = canonical_member(ClaimKind::Workload, &set.name)
        .map_err(|e| ApiError::unusable(e.to_string(), "choose another name"))?
        .into_owned();
    let (kind, target) = set.which()?;
    if let Some(lane) = set.lane.as_ref().filter(|l| !is_name(l)) {
        return Err(ApiError::unusable(
            format!("`{}` is no lane's name", lane.chars().take(64).collect::<String>()),
            "give a name of the policy's `lanes`: 1 to 63 of a-z 0-9 . _ -",
        ));
    }
    let link = set.link.as_deref().map(link).transpose()?;
    if link.is_some() {
        core.lock().may_link()?;
    }
    let mount = core.lock().mount()?.clone();
    let cgroup = mount
        .resolve(kind, &target)
        .map_err(|e| ApiError::unusable(e.to_string(), "give another cgroup, unit, container, pod or pid"))?;
    // A process' cgroup is looked up once: what is kept is the cgroup, not the process.
    let (kind, target) = match kind {
        WorkloadKind::Pid => (WorkloadKind::Cgroup, cgroup.dir.display().to_string()),
        _ => (kind, target),
    };
    core.lock().keep_workload(who, Kept { name, kind, target, lane: set.lane, link }, cgroup)
}

fn link(name: &str) -> Result<Link, ApiError> {
    name.parse().map_err(|()| {
        let name: String = name.chars().take(64).collect();
        let what = format!("`{name}` is no way in which calls follow requests");
        ApiError::unusable(what, "give thread, run-to-completion or strict")
    })
}

pub fn list(core: &Core) -> Result<Vec<Workload>, ApiError> {
    // A statement of its own: the lock lasts as long as it.
    let targets = core.lock().targets()?;
    let found = targets.find();
    let inner = core.lock();
    let view = |Found { kept: w, now, .. }| Workload {
        state: if now.is_some() { "active" } else { "gone" }.into(),
        cgroup_id: now.as_ref().map_or(0, |c: &Cgroup| c.id),
        cgroup: now.map_or_else(|| w.target.clone().into(), |c| c.dir),
        lane_known: w.lane.as_ref().map(|l| inner.knows(l)),
        link: inner.link_status(&w.name).ok().flatten(),
        meta: inner.said_of(&w.name),
        lane: w.lane,
        name: w.name,
    };
    Ok(found.into_iter().map(view).collect())
}

/// What is labelled, and where it was found before: enough to look for it without the agent's lock.
pub struct Targets {
    mount: Option<CgroupMount>,
    kept: Vec<(Kept, Option<Cgroup>)>,
}

/// Where it is now.
pub struct Found {
    kept: Kept,
    before: Option<Cgroup>,
    now: Option<Cgroup>,
}

impl Targets {
    /// May take seconds: systemd is asked for units that have begun or ended.
    pub fn find(self) -> Vec<Found> {
        let Self { mount, kept } = self;
        let now = |w: &Kept, known: Option<&Cgroup>| mount.as_ref()?.follow(known, w.kind, &w.target).ok();
        let find = |(kept, before): (Kept, Option<Cgroup>)| {
            let now = now(&kept, before.as_ref());
            Found { kept, before, now }
        };
        kept.into_iter().map(find).collect()
    }
}

impl Inner {
    fn keep_workload(&mut self, who: &Who, kept: Kept, cgroup: Cgroup) -> Result<Workload, ApiError> {
        let at = time::now_ms();
        self.store.set_workload(&kept, at, &who.to_string()).map_err(|e| ApiError::internal(&e))?;
        fail::point(Point::WorkloadKept).map_err(|e| ApiError::internal(&e))?;
        let Kept { name, lane, link, .. } = kept;
        self.label(&name, Some(cgroup.clone()), lane.clone(), link)?;
        let lane_known = lane.as_ref().map(|l| self.knows(l));
        Ok(Workload {
            meta: self.said_of(&name),
            link: self.link_status(&name).map_err(|e| ApiError::internal(&e))?,
            name,
            cgroup: cgroup.dir,
            cgroup_id: cgroup.id,
            state: "active".into(),
            lane,
            lane_known,
        })
    }

    pub fn remove_workload(&mut self, who: &Who, name: &str) -> Result<Done, ApiError> {
        let there = self
            .store
            .remove_workload(name, time::now_ms(), &who.to_string())
            .map_err(|e| ApiError::internal(&e))?;
        if !there {
            return Err(ApiError::not_found(
                format!("there is no workload {name}"),
                "see `gray workload list`",
            ));
        }
        fail::point(Point::WorkloadKept).map_err(|e| ApiError::internal(&e))?;
        self.label(name, None, None, None)?;
        Ok(Done { revision: None, epoch: None, text: format!("{name} is no workload any more") })
    }

    fn mount(&self) -> Result<&CgroupMount, ApiError> {
        self.mount.as_ref().ok_or_else(|| {
            ApiError::conflict(
                "no cgroup2 file system is mounted",
                "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified",
            )
        })
    }

    /// For [`Targets::find`].
    pub fn targets(&self) -> Result<Targets, ApiError> {
        let kept = self.store.workloads().map_err(|e| ApiError::internal(&e))?;
        let known = |w: Kept| {
            let known = self.labels.get(&w.name).map(|l| l.cgroup.clone());
            (w, known)
        };
        Ok(Targets { mount: self.mount.clone(), kept: kept.into_iter().map(known).collect() })
    }

    /// Puts every kept label into the kernel, at the cgroups that were found; those that were deleted and made again get theirs
    /// anew. What was set or removed since is left as it is.
    pub fn follow_workloads(&mut self, found: Vec<Found>) -> Result<(), ApiError> {
        let kept = self.store.workloads().map_err(|e| ApiError::internal(&e))?;
        for f in found.into_iter().filter(|f| f.now != f.before && kept.contains(&f.kept)) {
            if self.labels.get(&f.kept.name).map(|l| &l.cgroup) == f.before.as_ref() {
                self.label(&f.kept.name, f.now, f.kept.lane, f.kept.link)?;
            }
        }
        Ok(())
    }

    fn label(
        &mut self,
        name: &str,
        to: Option<Cgroup>,
        lane: Option<String>,
        link: Option<Link>,
    ) -> Result<(), ApiError> {
        let internal = |e: crate::kernel::KernelError| ApiError::internal(&e);
        let now = to.as_ref().map(|c| c.id);
        if let Some(Label { cgroup: Cgroup { id: old, .. }, link: before, .. }) = self.labels.remove(name) {
            if Some(old) != now && !self.labels.values().any(|l| l.cgroup.id == old) {
                self.live.remove_workload(old).map_err(internal)?;
            }
            if before.is_some() && (before != link || Some(old) != now) {
                self.live.forget_threads(old).map_err(internal)?;
            }
        }
        if let Some(cgroup) = to {
            let key = self.hash_key();
            let number = number(&self.compiled, lane.as_deref());
            let label = Label { cgroup, number, lane, link };
            self.live.set_workload(label.cgroup.id, &claim(name, [key, key], &label)).map_err(internal)?;
            let _ = self.labels.insert(name.to_string(), label);
        }
        let any = !self.labels.is_empty();
        self.live.configure(|c| {
            c.flags &= !wire::CONTROL_WORKLOADS;
            c.flags |= if any { wire::CONTROL_WORKLOADS } else { 0 };
        });
        self.follow_links().map_err(internal)
    }

    /// Every label as it is under the key and the policy in use, in both banks: after a flip to another key, when no run uses
    /// the former one, and after a change that failed.
    pub fn relabel(&mut self) -> Result<(), ApiError> {
        let key = self.hash_key();
        for (name, label) in &mut self.labels {
            label.number = number(&self.compiled, label.lane.as_deref());
            self.live
                .set_workload(label.cgroup.id, &claim(name, [key, key], label))
                .map_err(|e| ApiError::internal(&e))?;
        }
        Ok(())
    }

    /// Before a flip to another key: the labels under both, each in its bank.
    pub fn rehash_workloads(&mut self, next: HashKey) -> Result<(), ApiError> {
        let keys = self.both_keys(next);
        for (name, label) in &self.labels {
            self.live
                .set_workload(label.cgroup.id, &claim(name, keys, label))
                .map_err(|e| ApiError::internal(&e))?;
        }
        Ok(())
    }

    /// Before a flip to a policy: labels whose lane it is the first to know get the lane's number, which the policy in force
    /// does not know.
    pub fn renumber_workloads(&mut self, next: &Compiled, key: HashKey) -> Result<(), ApiError> {
        let keys = self.both_keys(key);
        for (name, label) in &mut self.labels {
            let now = number(next, label.lane.as_deref());
            if label.number != now {
                label.number = now;
                self.live
                    .set_workload(label.cgroup.id, &claim(name, keys, label))
                    .map_err(|e| ApiError::internal(&e))?;
            }
        }
        Ok(())
    }

    /// By bank: the key in use, and the one that the planned flip turns to. `have.epoch` is the planned epoch already.
    fn both_keys(&self, next: HashKey) -> [HashKey; 2] {
        let now = self.hash_key();
        if self.have.epoch & 1 == 0 { [next, now] } else { [now, next] }
    }

    /// What the policy in force says of a workload.
    fn said_of(&self, name: &str) -> BTreeMap<String, String> {
        let meta = self.policy.workload(name).map(|w| &w.meta);
        meta.into_iter().flatten().map(|(key, value)| (key.name().to_owned(), value.clone())).collect()
    }

    /// Whether the policy in force has a lane of this name.
    fn knows(&self, lane: &str) -> bool {
        self.policy.lane(lane).is_some()
    }
}

/// The number of a lane; 0: no lane is meant.
fn number(compiled: &Compiled, lane: Option<&str>) -> u32 {
    lane.map_or(0, |l| compiled.assigned.lanes.get(l).unwrap_or(wire::Workload::NEW_LANE))
}

fn claim(name: &str, keys: [HashKey; 2], label: &Label) -> wire::Workload {
    // 0 would read as absent, as in the data path.
    let hash = keys.map(|k| text_hash(k, WORKLOAD, name).max(1));
    wire::Workload { hash, lane: label.number, link: links::number(label.link) }
}
