//! Links of workloads: what they are made by, and what is known of them.

use std::path::Path;

use gray_common::wire::{LinkCount, Thread};

use super::{
    super::{KernelError, attach, maps::failed},
    Live,
};

impl Live {
    /// Loads what [`Live::attach_links`] attaches.
    pub fn need_links(&mut self) -> Result<(), KernelError> {
        self.loaded.need_links()
    }

    /// What links are made by, which costs all of this machine's sockets something: attached, or taken off.
    pub fn attach_links(&mut self, path: &Path, wanted: bool) -> Result<(), KernelError> {
        if !wanted {
            return attach::detach_links(&self.pins);
        }
        self.loaded.need_links()?;
        attach::links(&self.pins, &mut self.loaded, path)
    }

    /// Whether all of that is there, on the cgroup with this id.
    pub fn are_links_attached(&self, id: u64) -> bool {
        attach::are_links_attached(&self.pins, id)
    }

    /// Says when workloads' links were set last: what programs remember of cgroups is older. 0: there is none.
    pub fn set_links(&mut self, at: u64) -> Result<(), KernelError> {
        self.maps.links.update(&0, &at).map_err(failed("the links"))
    }

    /// What threads of this labelled cgroup have read is not known any more.
    pub fn forget_threads(&mut self, label: u64) -> Result<(), KernelError> {
        let mut theirs = Vec::new();
        let visit = |task: u64, t: Thread| {
            if t.label == label {
                theirs.push(task);
            }
        };
        self.maps.threads.for_each(visit).map_err(failed("the threads"))?;
        self.maps.threads.delete_all(&theirs).map_err(failed("the threads"))
    }

    /// Calls are counted of these labelled cgroups, and of no other ones.
    pub fn count_link_calls(&mut self, labels: &[u64]) -> Result<(), KernelError> {
        let (mut gone, why) = (Vec::new(), || failed("the calls of links"));
        let visit = |label: u64, _: LinkCount| {
            if !labels.contains(&label) {
                gone.push(label);
            }
        };
        self.maps.link_calls.for_each(visit).map_err(why())?;
        self.maps.link_calls.delete_all(&gone).map_err(why())?;
        for label in labels {
            let _ = self.maps.link_calls.add(label, &LinkCount::default()).map_err(why())?;
        }
        Ok(())
    }

    pub fn link_calls(&self, label: u64) -> Result<LinkCount, KernelError> {
        Ok(self.maps.link_calls.lookup(&label).map_err(failed("the calls of links"))?.unwrap_or_default())
    }
}
