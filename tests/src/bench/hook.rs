//! Time and runs of programs in the kernel, by its own statistics.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

use crate::bpf;

/// Counts while it lives; costs every program of the machine some 40 ns a run.
#[derive(Debug)]
pub struct Watch {
    programs: Vec<u32>,
    before: Runs,
    _on: OwnedFd,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Runs {
    pub runs: u64,
    pub ns: u64,
}

impl Watch {
    /// The programs attached to this cgroup by one attach type.
    pub fn cgroup(path: &Path, attach_type: u32) -> Result<Self> {
        let programs = bpf::on_cgroup(path, attach_type)?;
        let on = enable_stats(Stats::RunTime).context("turn the kernel's statistics of programs on")?;
        let before = read(&programs)?;
        Ok(Self { programs, before, _on: on })
    }

    pub fn since(&self) -> Result<Runs> {
        let now = read(&self.programs)?;
        Ok(Runs { runs: now.runs - self.before.runs, ns: now.ns - self.before.ns })
    }
}

fn read(ids: &[u32]) -> Result<Runs> {
    let mut sum = Runs::default();
    for program in loaded_programs() {
        // Another's program may be gone between being listed and being asked.
        let Ok(program) = program else { continue };
        if ids.contains(&program.id()) {
            sum.runs += program.run_count();
            sum.ns += program.run_time().as_nanos() as u64;
        }
    }
    Ok(sum)
}
