//! Another build of the data path, loaded over the same pinned maps: both see the same flows and policy.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context, Result};
use aya::{EbpfLoader, programs::SchedClassifier};
use gray_common::names::{MAPS, TC_INGRESS};
use gray_userspace::kernel::Pins;

use super::testrun::Program;

/// Names the other object; its maps must have the shapes of ours.
pub const VARIABLE: &str = "GRAY_BENCH_RIVAL";

/// The ingress program of the object at `path`. It and its maps live as long as what is returned.
pub fn load(path: &Path, pins: &Pins) -> Result<(aya::Ebpf, Program)> {
    let object = std::fs::read(path)?;
    let mut loader = EbpfLoader::new();
    let _ = loader.allow_unsupported_maps();
    for spec in MAPS {
        let _ = loader.map_pin_path(spec.name, pins.map(spec.name));
    }
    let mut ebpf = loader.load(&object).context("its maps")?;
    let program = ebpf.program_mut(TC_INGRESS).with_context(|| format!("it has no program {TC_INGRESS}"))?;
    let program: &mut SchedClassifier = program.try_into()?;
    program.load().context("its program")?;
    let fd = program.fd()?.as_fd().try_clone_to_owned()?;
    Ok((ebpf, Program::new(fd)))
}
