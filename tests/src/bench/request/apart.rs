//! An edge on a core of its own, as if it were a machine of its own: what it costs can then be told from what its client and its
//! server do, whose system calls carry a packet through the edge otherwise.

use std::process::Command;

use anyhow::{Result, ensure};

use super::path::Path;
use crate::command::{note, run};
use crate::netns::Netns;
use crate::sys;

/// Until the drop what arrives on the edge's interfaces is handled on one core (receive packet steering), what arrives at its ends on the
/// others; and so are their processes.
pub struct Apart<'a> {
    path: &'a Path,
    cores: Cores,
}

/// Of the edge, and of all else.
#[derive(Debug, Clone)]
pub struct Cores {
    pub edge: usize,
    pub others: Vec<usize>,
}

impl Cores {
    /// The last one is the edge's: the first one serves most interrupts.
    pub fn here() -> Result<Self> {
        let all = std::thread::available_parallelism()?.get();
        ensure!(all >= 2, "an edge on a core of its own needs two");
        Ok(Self { edge: all - 1, others: (0..all - 1).collect() })
    }
}

impl<'a> Apart<'a> {
    pub fn set(path: &'a Path, cores: &Cores) -> Result<Self> {
        let apart = Self { path, cores: cores.clone() };
        apart.put(&[cores.edge], &cores.others, true)?;
        Ok(apart)
    }

    fn put(&self, edge: &[usize], others: &[usize], steer: bool) -> Result<()> {
        let mask = |cores: &[usize]| if steer { cores.iter().map(|c| 1_u64 << c).sum() } else { 0 };
        let w = &self.path.world;
        let pairs = w.clients.iter().map(|c| &c.link).chain(w.backends.iter().map(|b| &b.link));
        for pair in pairs {
            receive_on(&pair.near.ns, &pair.near.ifname, mask(edge))?;
            receive_on(&pair.far.ns, &pair.far.ifname, mask(others))?;
        }
        let (at_edge, server) = self.path.processes();
        at_edge.iter().try_for_each(|pid| sys::stay_on(*pid, edge))?;
        server.iter().try_for_each(|pid| sys::stay_on(*pid, others))?;
        Ok(())
    }
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        let all: Vec<usize> = (0..=self.cores.edge).collect();
        if let Err(e) = self.put(&all, &all, false) {
            note(&format!("the edge stays on a core of its own: {e:#}"));
        }
    }
}

/// `ip netns exec` mounts the namespace's own sysfs.
fn receive_on(ns: &Netns, ifname: &str, mask: u64) -> Result<()> {
    let script = format!("for f in /sys/class/net/{ifname}/queues/rx-*/rps_cpus; do echo {mask:x} >$f; done");
    run(Command::new("ip").args(["netns", "exec", ns.name(), "sh", "-ec", &script])).map(drop)
}
