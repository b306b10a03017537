//! Where things are: the workspace, its tools, the build directories, the active rustc. Runs nothing but cargo and rustc queries.

use std::{
    env,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{build::Profile, run};

/// Paths of this checkout. Tools and the eBPF object are always under the checkout's own `target/`,
/// whatever `CARGO_TARGET_DIR` says: that variable is about host crates only.
pub struct Workspace {
    pub root: PathBuf,
    /// Where cargo puts host crates (`CARGO_TARGET_DIR` and cargo's configuration honoured).
    pub host_target: PathBuf,
}

impl Workspace {
    pub fn find() -> Result<Self> {
        // `cargo run` sets the variable; the compile-time value serves an xtask that is started by hand.
        let xtask = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = xtask.parent().context("xtask has no parent directory")?.to_path_buf();
        let query = ["metadata", "--no-deps", "--format-version=1", "--offline"];
        let text = run::capture(run::cargo(&root).args(query))?;
        let meta: serde_json::Value = serde_json::from_str(&text).context("cargo metadata")?;
        let host_target = meta["target_directory"].as_str().context("cargo metadata: no target_directory")?;
        Ok(Self { host_target: host_target.into(), root })
    }

    /// What `setup` builds or fetches.
    pub fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// What the eBPF crates make: the data path, its decision by itself for tests, and the lab's own programs.
    pub fn ebpf_crates(&self) -> [EbpfCrate; 3] {
        [("gray-ebpf", "gray"), ("gray-ebpf", "decide"), ("tests/ebpf", "lab")].map(|(dir, bin)| EbpfCrate {
            dir: self.root.join(dir),
            bin,
            object: self.root.join(format!("target/bpf/{bin}.o")),
        })
    }

    pub fn ebpf_target(&self) -> PathBuf {
        self.root.join("target/ebpf")
    }

    /// Kernels and what goes into and comes out of their guests.
    pub fn vm(&self) -> PathBuf {
        self.root.join("target/vm")
    }

    /// A binary of the host workspace.
    pub fn bin(&self, profile: Profile, name: &str) -> PathBuf {
        self.host_target.join(profile.directory()).join(name)
    }

    /// A binary of the host workspace as demo and tests run it.
    pub fn debug_bin(&self, name: &str) -> PathBuf {
        self.bin(Profile::Debug, name)
    }

    /// A binary of the host workspace as `bench` makes it.
    pub fn release_bin(&self, name: &str) -> PathBuf {
        self.bin(Profile::Release, name)
    }

    /// `path` as a person wants to read it: relative to the checkout where it is inside.
    pub fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// A crate of eBPF programs.
pub struct EbpfCrate {
    pub dir: PathBuf,
    pub bin: &'static str,
    /// The linked object that host builds embed.
    pub object: PathBuf,
}

/// The active rustc.
pub struct Rustc {
    /// `1.95.0`, with `-nightly` and the like where rustc says so.
    pub version: String,
    pub llvm_major: u32,
    pub sysroot: PathBuf,
}

impl Rustc {
    pub fn active() -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let about = run::capture(Command::new(&rustc).arg("-vV"))?;
        let field = |name: &str| about.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let llvm = field("LLVM version:").and_then(|v| v.split('.').next()?.parse().ok());
        Ok(Self {
            version: field("release:").context("rustc -vV names no release")?.to_string(),
            llvm_major: llvm.context("rustc -vV names no LLVM version")?,
            sysroot: run::capture(Command::new(&rustc).args(["--print", "sysroot"]))?.trim().into(),
        })
    }
}

/// The effective user is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
