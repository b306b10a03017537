//! The lab's program behind gray's at `connect(2)`: when each backend was first and last chosen, by the kernel's clock.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{CgroupAttachMode, CgroupSockAddr};

use crate::object;

/// As `tests/ebpf/src/witness.rs` has it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
}

// SAFETY: three integers, no padding.
unsafe impl aya::Pod for Seen {}

/// Attached until it is dropped.
pub struct Witness {
    seen: Array<MapData, Seen>,
    _ebpf: Ebpf,
}

impl Witness {
    /// Behind what is attached to the cgroup already.
    pub fn attach(cgroup: &Path) -> Result<Self> {
        let mut ebpf = object::open(|_| {})?;
        let program: &mut CgroupSockAddr =
            ebpf.program_mut("lab_witness").context("no program lab_witness")?.try_into()?;
        program.load()?;
        let at = std::fs::File::open(cgroup).with_context(|| cgroup.display().to_string())?;
        // A link always stands beside others; the kernel takes no flag for that.
        let _ = program.attach(at, CgroupAttachMode::Single)?;
        let seen = Array::try_from(ebpf.take_map("WITNESS").context("no map WITNESS")?)?;
        Ok(Self { seen, _ebpf: ebpf })
    }

    pub fn seen(&self, backend: Ipv4Addr) -> Result<Seen> {
        Ok(self.seen.get(&slot(backend), 0)?)
    }

    /// Forgets a backend that nobody dials now.
    pub fn forget(&mut self, backend: Ipv4Addr) -> Result<()> {
        Ok(self.seen.set(slot(backend), Seen::default(), 0)?)
    }
}

fn slot(backend: Ipv4Addr) -> u32 {
    u32::from(backend.octets()[2])
}
