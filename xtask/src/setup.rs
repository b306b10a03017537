//! `setup`: makes a fresh machine ready. Knows the parts and their order; each part's file knows how to check and how to get it.

pub mod apt;
mod cargo_tools;
mod mounts;
mod packages;
mod rust_src;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

pub use rust_src::library as rust_src_library;

use crate::{
    run,
    workspace::{Rustc, Workspace},
};

#[derive(clap::Args)]
pub struct Args {
    /// Leave the rustup toolchain as it is: take the standard library's source from Debian
    #[arg(long)]
    no_rustup: bool,
}

/// Something that verbs need and that `setup` can get.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The standard library's source, for `-Z build-std`.
    RustSrc,
    /// bpf-linker in `target/tools/bin`.
    BpfLinker,
    /// The Debian packages that demo and tests use.
    Packages,
    /// bpffs, and a cgroup2 mount.
    Mounts,
    /// nginx's Lua module. `bench` alone wants it, so `setup` does not install it.
    Rivals,
    /// QEMU and what makes an initial file system. The tests in VMs alone want it, so `setup` does not install it.
    Vm,
    /// cargo-deny in `target/tools/bin`. `lint` alone wants it, so `setup` does not build it.
    CargoDeny,
    /// cargo-fuzz in `target/tools/bin`. `fuzz` alone wants it.
    CargoFuzz,
}

/// What building the eBPF object needs.
pub const EBPF: &[Part] = &[Part::RustSrc, Part::BpfLinker];
/// What running the data path in the lab needs.
pub const LAB: &[Part] = &[Part::RustSrc, Part::BpfLinker, Part::Packages, Part::Mounts];

/// What the benches need: they run in the lab, beside programs that tests do without.
pub const BENCH: &[Part] = &[Part::RustSrc, Part::BpfLinker, Part::Packages, Part::Mounts, Part::Rivals];

/// What a part's check found: where it is, or what is missing.
enum State {
    Ready(String),
    Missing(String),
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    let rustc = Rustc::active()?;
    eprintln!("setup: rustc {}, LLVM {}", rustc.version, rustc.llvm_major);
    let mut failed = 0;
    for part in LAB {
        if let Err(e) = get(ws, &rustc, *part, !args.no_rustup, true) {
            failed += 1;
            eprintln!("{}: cannot get it: {e:#}", part.name());
        }
    }
    if failed > 0 {
        bail!("setup: {failed} of {} parts are missing, see above", LAB.len());
    }
    eprintln!("setup: this machine is ready");
    Ok(())
}

/// Gets whatever of `parts` is missing. Fast and silent when nothing is.
pub fn need(ws: &Workspace, parts: &[Part]) -> Result<()> {
    let rustc = Rustc::active()?;
    for part in parts {
        get(ws, &rustc, *part, true, false).with_context(|| format!("setup: {}", part.name()))?;
    }
    Ok(())
}

fn get(ws: &Workspace, rustc: &Rustc, part: Part, rustup: bool, report: bool) -> Result<()> {
    if let State::Ready(where_) = part.check(ws, rustc) {
        if report {
            eprintln!("{}: {where_}", part.name());
        }
        return Ok(());
    }
    let _lock = lock(ws)?;
    // Another xtask may have got it while we waited.
    if let State::Missing(what) = part.check(ws, rustc) {
        eprintln!("{}: missing: {what}", part.name());
        part.make(ws, rustc, rustup)?;
    }
    match part.check(ws, rustc) {
        State::Ready(where_) => eprintln!("{}: {where_}", part.name()),
        State::Missing(what) => bail!("still missing: {what}"),
    }
    Ok(())
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::RustSrc => "rust-src",
            Self::BpfLinker => "bpf-linker",
            Self::Packages => "packages",
            Self::Mounts => "mounts",
            Self::Rivals => "rivals",
            Self::Vm => "vm",
            Self::CargoDeny => "cargo-deny",
            Self::CargoFuzz => "cargo-fuzz",
        }
    }

    fn check(self, ws: &Workspace, rustc: &Rustc) -> State {
        match self {
            Self::RustSrc => rust_src::check(ws, rustc),
            Self::BpfLinker => cargo_tools::BPF_LINKER.check(ws, rustc),
            Self::Packages => packages::check(packages::LAB),
            Self::Mounts => mounts::check(),
            Self::Rivals => packages::check(packages::BENCH),
            Self::Vm => packages::check(packages::VM),
            Self::CargoDeny => cargo_tools::CARGO_DENY.check(ws, rustc),
            Self::CargoFuzz => cargo_tools::CARGO_FUZZ.check(ws, rustc),
        }
    }

    fn make(self, ws: &Workspace, rustc: &Rustc, rustup: bool) -> Result<()> {
        match self {
            Self::RustSrc => rust_src::make(ws, rustc, rustup),
            Self::BpfLinker => cargo_tools::BPF_LINKER.make(ws, rustc),
            Self::Packages => packages::make(ws, packages::LAB),
            Self::Mounts => mounts::make(),
            Self::Rivals => packages::make(ws, packages::BENCH),
            Self::Vm => packages::make(ws, packages::VM),
            Self::CargoDeny => cargo_tools::CARGO_DENY.make(ws, rustc),
            Self::CargoFuzz => cargo_tools::CARGO_FUZZ.make(ws, rustc),
        }
    }
}

/// Held while something is fetched: two xtasks of one checkout must not unpack over each other.
fn lock(ws: &Workspace) -> Result<fs::File> {
    let path = ws.tools().join("lock");
    fs::create_dir_all(ws.tools())?;
    let file = fs::File::create(&path).with_context(|| ws.show(&path))?;
    file.lock().with_context(|| ws.show(&path))?;
    Ok(file)
}

/// An empty directory at `path`.
fn fresh_dir(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| path.display().to_string())?;
    }
    fs::create_dir_all(path).with_context(|| path.display().to_string())
}

/// Runs with its output on ours, under a line that says what runs.
fn announce(what: &str, cmd: &mut std::process::Command) -> Result<()> {
    eprintln!("  {what}");
    run::show(cmd)
}
