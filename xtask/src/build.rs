//! `build`: the eBPF object first, then the host programs that embed it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{ebpf, run, workspace::Workspace};

#[derive(clap::Args)]
pub struct Args {
    /// Build the host programs optimised, for measuring (the eBPF object always is optimised)
    #[arg(long)]
    release: bool,
    /// Also gray-abi2, of another kernel ABI, which some tests upgrade to (`cargo xtask test` does this by itself)
    #[arg(long, conflicts_with = "release")]
    abi_test: bool,
}

/// How host programs are compiled. The eBPF objects always are optimised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What demo and tests run: unoptimised, because making it is what takes the time on a fresh machine. The host tests
    /// share what was compiled.
    Debug,
    /// What is measured.
    Release,
    /// What runs emulated. Has the fail points of a debug build.
    Guest,
}

impl Profile {
    /// As cargo knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "dev",
            Self::Release => "release",
            Self::Guest => "guest",
        }
    }

    /// Its directory under `target`.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release | Self::Guest => self.name(),
        }
    }
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    match args {
        Args { release: true, .. } => all(ws, Profile::Release),
        Args { abi_test: true, .. } => for_tests(ws, Profile::Debug),
        _ => all(ws, Profile::Debug),
    }
}

/// Everything that the demo runs.
pub fn debug(ws: &Workspace) -> Result<()> {
    all(ws, Profile::Debug)
}

/// Everything that the lab's tests run.
pub fn for_tests(ws: &Workspace, profile: Profile) -> Result<()> {
    abi_test(ws, profile)?;
    all(ws, profile)
}

/// The eBPF objects, then the host programs: gray-userspace's build script finds the object in its place.
pub fn all(ws: &Workspace, profile: Profile) -> Result<()> {
    ebpf::build(ws)?;
    let packages = ["build", "-p", "gray-userspace", "-p", "gray-tests"];
    run::show(run::cargo(&ws.root).args(packages).args(["--profile", profile.name()]))?;
    if profile == Profile::Release { no_fail_points(&ws.bin(profile, "gray")) } else { Ok(()) }
}

/// `gray-abi2` beside gray: what its tests upgrade to. The same packages as in `all`, so that what they depend on is compiled once.
fn abi_test(ws: &Workspace, profile: Profile) -> Result<()> {
    let object = ebpf::build_abi_test(ws)?;
    let what = ["build", "-p", "gray-userspace", "-p", "gray-tests", "--bin", "gray"];
    let features = ["--features", "gray-userspace/abi-test", "--profile", profile.name()];
    run::show(run::cargo(&ws.root).args(what).args(features).env("GRAY_BPF_OBJECT", object))?;
    let (made, kept) = (ws.bin(profile, "gray"), ws.bin(profile, "gray-abi2"));
    // A copy, for cargo overwrites the other; and a new file, for the last one may be running.
    let new = kept.with_extension("new");
    let _ = fs::copy(&made, &new).with_context(|| ws.show(&new))?;
    fs::rename(&new, &kept).with_context(|| ws.show(&kept))
}

/// What is measured and shipped contains no fail point: none of its names, not the variable that arms them.
pub fn no_fail_points(binary: &Path) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| binary.display().to_string())?;
    let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    if let Some(found) = ["GRAY_FAIL", "change.flip", "fail point"].into_iter().find(|t| has(t)) {
        bail!("{} contains `{found}`: a fail point is in a build without debug assertions", binary.display());
    }
    Ok(())
}
