//! Labels of cgroups: names given by people, kept in the store, put into the kernel as claims.

use gray_common::{decide::claims::WORKLOAD, hash::HashKey, wire};

use super::{core::Inner, time};
use crate::{
    api::{ApiError, Who, types::*},
    compile::lists::text_hash,
    fail::{self, Point},
    model::{ClaimKind, canonical_member},
    store::{Workload as Kept, WorkloadKind},
};

impl Inner {
    pub fn set_workload(&mut self, who: &Who, set: WorkloadSet) -> Result<Workload, ApiError> {
        let name = canonical_member(ClaimKind::Workload, &set.name)
            .map_err(|e| ApiError::unusable(e.to_string(), "choose another name"))?
            .into_owned();
        let (kind, target) = match (set.cgroup, set.unit, set.pid) {
            (Some(c), None, None) => (WorkloadKind::Cgroup, c.display().to_string()),
            (None, Some(u), None) => (WorkloadKind::Unit, u),
            (None, None, Some(p)) => (WorkloadKind::Pid, p.to_string()),
            _ => {
                return Err(ApiError::unusable(
                    "exactly one of cgroup, unit and pid says which",
                    "give one of them",
                ));
            }
        };
        let cgroup = self
            .mount()?
            .resolve(kind, &target)
            .map_err(|e| ApiError::unusable(e.to_string(), "give another cgroup, unit or pid"))?;
        // A process' cgroup is looked up once: what is kept is the cgroup, not the process.
        let (kind, target) = match kind {
            WorkloadKind::Pid => (WorkloadKind::Cgroup, cgroup.dir.display().to_string()),
            _ => (kind, target),
        };
        let at = time::now_ms();
        let kept = Kept { name: name.clone(), kind, target };
        self.store.set_workload(&kept, at, &who.to_string()).map_err(|e| ApiError::internal(&e))?;
        fail::point(Point::WorkloadKept).map_err(|e| ApiError::internal(&e))?;
        self.label(&name, Some(cgroup.id))?;
        Ok(Workload { name, cgroup: cgroup.dir, cgroup_id: cgroup.id, state: "active".into() })
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
        self.label(name, None)?;
        Ok(Done { revision: None, epoch: None, text: format!("{name} is no workload any more") })
    }

    pub fn workloads(&self) -> Result<Vec<Workload>, ApiError> {
        let kept = self.store.workloads().map_err(|e| ApiError::internal(&e))?;
        Ok(kept
            .into_iter()
            .map(|w| {
                let found = self.mount.as_ref().and_then(|m| m.resolve(w.kind, &w.target).ok());
                Workload {
                    cgroup: found.as_ref().map_or_else(|| w.target.clone().into(), |c| c.dir.clone()),
                    cgroup_id: found.as_ref().map_or(0, |c| c.id),
                    state: if found.is_some() { "active" } else { "gone" }.into(),
                    name: w.name,
                }
            })
            .collect())
    }

    fn mount(&self) -> Result<&crate::sys::workload::CgroupMount, ApiError> {
        self.mount.as_ref().ok_or_else(|| {
            ApiError::conflict(
                "no cgroup2 file system is mounted",
                "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified",
            )
        })
    }

    /// Puts every kept label into the kernel; cgroups that were deleted and made again get theirs anew.
    pub fn refresh_workloads(&mut self) -> Result<(), ApiError> {
        let kept = self.store.workloads().map_err(|e| ApiError::internal(&e))?;
        for w in kept {
            let id = self.mount.as_ref().and_then(|m| m.resolve(w.kind, &w.target).ok()).map(|c| c.id);
            if self.workload_ids.get(&w.name).copied() != id {
                self.label(&w.name, id)?;
            }
        }
        Ok(())
    }

    fn label(&mut self, name: &str, id: Option<u64>) -> Result<(), ApiError> {
        let internal = |e: crate::kernel::KernelError| ApiError::internal(&e);
        if let Some(old) = self.workload_ids.remove(name)
            && Some(old) != id
            && !self.workload_ids.values().any(|v| *v == old)
        {
            self.live.remove_workload(old).map_err(internal)?;
        }
        if let Some(id) = id {
            let key = self.hash_key();
            self.live.set_workload(id, &claim(name, [key, key])).map_err(internal)?;
            let _ = self.workload_ids.insert(name.to_string(), id);
        }
        let any = !self.workload_ids.is_empty();
        self.live.configure(|c| c.flags = if any { wire::CONTROL_WORKLOADS } else { 0 });
        Ok(())
    }

    /// Every label under the key in use, in both banks: after a flip to another key, when no run uses the former one.
    pub fn relabel(&mut self) -> Result<(), ApiError> {
        let key = self.hash_key();
        for (name, id) in &self.workload_ids {
            self.live.set_workload(*id, &claim(name, [key, key])).map_err(|e| ApiError::internal(&e))?;
        }
        Ok(())
    }

    /// Before a flip to another key: the labels under both, each in its bank.
    pub fn rehash_workloads(&mut self, next: HashKey) -> Result<(), ApiError> {
        let now = self.hash_key();
        // `have.epoch` is the planned epoch already: the bank that the flip turns to.
        let keys = if self.have.epoch & 1 == 0 { [next, now] } else { [now, next] };
        for (name, id) in &self.workload_ids {
            self.live.set_workload(*id, &claim(name, keys)).map_err(|e| ApiError::internal(&e))?;
        }
        Ok(())
    }
}

fn claim(name: &str, keys: [HashKey; 2]) -> wire::Workload {
    // 0 would read as absent, as in the data path.
    wire::Workload { hash: keys.map(|k| text_hash(k, WORKLOAD, name).max(1)) }
}
