//! The lab's own eBPF programs (`tests/ebpf`), as they were embedded. It attaches nothing.

use anyhow::{Context, Result, ensure};
use aya::{Ebpf, EbpfLoader};

/// Empty when the lab was built without its object.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lab.o"));

/// The data path's decision by itself (`gray-ebpf/src/decide.rs`).
static DECIDE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/decide.o"));

/// Maps made anew, programs not yet loaded; `adjust` may set map sizes and constants.
pub fn open(adjust: impl FnOnce(&mut EbpfLoader<'_>)) -> Result<Ebpf> {
    load(OBJECT, adjust)
}

/// The programs that decide and do nothing else; their maps are the data path's where `adjust` says so.
pub fn open_decide(adjust: impl FnOnce(&mut EbpfLoader<'_>)) -> Result<Ebpf> {
    load(DECIDE, adjust)
}

fn load(object: &[u8], adjust: impl FnOnce(&mut EbpfLoader<'_>)) -> Result<Ebpf> {
    ensure!(!object.is_empty(), "the lab was built without its eBPF objects: run cargo xtask build");
    let mut loader = EbpfLoader::new();
    adjust(&mut loader);
    loader.load(object).context("load the lab's maps")
}

#[cfg(test)]
mod tests {
    use aya::programs::Program;

    use super::*;

    #[test]
    fn every_program_of_the_lab_passes_the_verifier() {
        let mut ebpf = open(|_| {}).unwrap();
        let mut names = Vec::new();
        for (name, program) in ebpf.programs_mut() {
            match program {
                Program::SchedClassifier(p) => p.load(),
                Program::Xdp(p) => p.load(),
                Program::CgroupSockAddr(p) => p.load(),
                other => panic!("{name}: the test does not know {other:?}"),
            }
            .unwrap_or_else(|e| panic!("{name}: {e}"));
            names.push(name.to_owned());
        }
        for wanted in ["lab_empty_tc", "lab_empty_xdp"] {
            assert!(names.iter().any(|n| n == wanted), "{names:?}");
        }
    }
}
