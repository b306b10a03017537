//! The eBPF crates: the one place that knows their flags. Builds and links them, checks them; embeds nothing.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    run, setup,
    workspace::{EbpfCrate, Rustc, Workspace},
};

const TARGET: &str = "bpfel-unknown-none";

/// Compiles and links every object into its place below `target/bpf`. A file is written only when it changed, so that
/// its time stamp says so to host builds.
pub fn build(ws: &Workspace) -> Result<()> {
    setup::need(ws, setup::EBPF)?;
    ws.ebpf_crates().iter().try_for_each(|krate| object(ws, krate))
}

/// The data path with another layout under another ABI number, for the test of moving between two. Before [`build`], which
/// leaves the ordinary one where both are linked.
pub fn build_abi_test(ws: &Workspace) -> Result<PathBuf> {
    setup::need(ws, setup::EBPF)?;
    let [mut krate, ..] = ws.ebpf_crates();
    krate.object = krate.object.with_file_name("gray-abi2.o");
    object_with(ws, &krate, &["--features", "abi-test"])?;
    Ok(krate.object)
}

fn object(ws: &Workspace, krate: &EbpfCrate) -> Result<()> {
    object_with(ws, krate, &[])
}

fn object_with(ws: &Workspace, krate: &EbpfCrate, more: &[&str]) -> Result<()> {
    // Always optimised: what a debug build makes of these programs, no verifier accepts.
    run::show(cargo(ws, krate, "build")?.args(["--bin", krate.bin]).args(more))
        .with_context(|| format!("the eBPF object {}", krate.bin))?;
    let made = ws.ebpf_target().join(TARGET).join("release").join(krate.bin);
    let object = fs::read(&made).with_context(|| ws.show(&made))?;
    let kept = &krate.object;
    if fs::read(kept).ok().as_ref() != Some(&object) {
        fs::create_dir_all(ws.root.join("target/bpf"))?;
        // Renamed into place: a host build beside us never embeds half an object.
        let new = kept.with_extension("o.new");
        fs::write(&new, &object).with_context(|| ws.show(&new))?;
        fs::rename(&new, kept).with_context(|| ws.show(kept))?;
    }
    Ok(())
}

/// Clippy with denied warnings, for the target the programs run on.
pub fn clippy(ws: &Workspace) -> Result<()> {
    setup::need(ws, setup::EBPF)?;
    let each = |krate| run::show(cargo(ws, krate, "clippy")?.args(["--", "-D", "warnings"]));
    ws.ebpf_crates().iter().map(each).fold(Ok(()), Result::and)
}

/// cargo in an eBPF crate: this rustc with its `core` built from source, our flags and none of the caller's.
fn cargo(ws: &Workspace, krate: &EbpfCrate, verb: &str) -> Result<Command> {
    let rustc = Rustc::active()?;
    let library = setup::rust_src_library(ws, &rustc).context("no rust-src")?;
    let linker = ws.tools().join("bin/bpf-linker");
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".into(),
        // In order, nothing is expanded but copies: every zeroed field would be a call that writes it byte by byte.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        // 32-bit registers and jumps; v4's instructions want Linux 6.6.
        "-Ctarget-cpu=v3".into(),
        // Else packed wire fields are moved byte by byte, at the price of instructions and of the 512-byte stack. The
        // verifier takes such accesses on machines with efficient unaligned loads, x86-64 and arm64 among them.
        // rustc warns that it does not know the feature; given to bpf-linker instead, each function's own list overrides it.
        "-Ctarget-feature=+allows-misaligned-mem-access".into(),
        // What bindings of kernel structures (pt_regs and the like) are for: the machine that builds.
        format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
    ];
    let mut cmd = run::cargo(&krate.dir);
    let _ = run::without_build_settings(&mut cmd)
        .args([verb, "--release", "--quiet", "-Zbuild-std=core", "--target", TARGET])
        .env("RUSTC_BOOTSTRAP", "1")
        // Beats RUSTFLAGS and every configuration file; the separator allows spaces in paths.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_DIR", ws.ebpf_target())
        // bpf-linker searches it for rustc's own libLLVM.
        .env("LD_LIBRARY_PATH", rustc.sysroot.join("lib"));
    if !library.in_sysroot {
        let _ = cmd.env("__CARGO_TESTS_ONLY_SRC_ROOT", &library.path);
    }
    Ok(cmd)
}
