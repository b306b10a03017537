//! Programs from the Rust package registry, built once into `target/tools/bin`. Never the person's `~/.cargo/bin`.

use std::fs;

use anyhow::{Result, bail};

use super::{State, announce, fresh_dir};
use crate::{
    run,
    workspace::{Rustc, Workspace},
};

/// A program that `cargo install` builds.
pub struct CargoTool {
    name: &'static str,
    version: &'static str,
    args: &'static [&'static str],
    /// It loads rustc's own libLLVM, so it fits rustc of this LLVM only.
    llvm_major: Option<u32>,
}

pub const BPF_LINKER: CargoTool = CargoTool {
    name: "bpf-linker",
    version: "0.10.2",
    args: &["--no-default-features", "--features", "rust-llvm-22"],
    llvm_major: Some(22),
};

pub const CARGO_DENY: CargoTool =
    CargoTool { name: "cargo-deny", version: "0.20.2", args: &[], llvm_major: None };

pub const CARGO_FUZZ: CargoTool =
    CargoTool { name: "cargo-fuzz", version: "0.13.2", args: &[], llvm_major: None };

impl CargoTool {
    pub fn check(&self, ws: &Workspace, rustc: &Rustc) -> State {
        let want = format!("{} {}", self.name, self.version);
        if self.llvm_major.is_some_and(|l| l != rustc.llvm_major) {
            return State::Missing(format!("a {} for LLVM {}", self.name, rustc.llvm_major));
        }
        let bin = ws.tools().join("bin").join(self.name);
        // cargo's own list of what it installed; asking the program would load LLVM every time.
        let list = fs::read_to_string(ws.tools().join(".crates.toml")).unwrap_or_default();
        if bin.is_file() && list.contains(&format!("\"{want} ")) {
            State::Ready(format!("{} in {}", self.version, ws.show(&bin)))
        } else {
            State::Missing(want)
        }
    }

    pub fn make(&self, ws: &Workspace, rustc: &Rustc) -> Result<()> {
        if let Some(llvm) = self.llvm_major.filter(|l| *l != rustc.llvm_major) {
            bail!(
                "{} {} links with LLVM {llvm}, rustc {} brings LLVM {}: use the rustc that this checkout was made for",
                self.name,
                self.version,
                rustc.version,
                rustc.llvm_major
            );
        }
        let scratch = ws.tools().join(format!("build-{}", self.name));
        fresh_dir(&scratch)?;
        let mut cmd = run::cargo(&ws.root);
        let _ = run::without_build_settings(&mut cmd)
            .args(["install", self.name, "--version", self.version, "--locked", "--quiet"])
            .args(self.args)
            .arg("--root")
            .arg(ws.tools())
            .env("CARGO_TARGET_DIR", &scratch)
            // These tools run for seconds: build time is what counts.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        let built = announce(&format!("building {} {} (a minute or two)", self.name, self.version), &mut cmd);
        fs::remove_dir_all(&scratch)?;
        built
    }
}
