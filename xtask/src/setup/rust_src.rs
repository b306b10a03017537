//! The standard library's source for `-Z build-std`: the toolchain's own, rustup's component, or Debian's package of the
//! same version in `target/tools/rust-src`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use super::{State, apt, fresh_dir};
use crate::{
    run,
    workspace::{Rustc, Workspace},
};

/// Where new versions of Rust arrive first comes last: the nearest suite that has the version wins.
const SUITES: [&str; 5] = ["trixie-backports", "trixie", "forky", "sid", "experimental"];
/// A mirror that does not answer must not hold up the other way for long.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// The library's directory; `None` as second value when it is the toolchain's own and cargo finds it by itself.
pub struct Library {
    pub path: PathBuf,
    pub in_sysroot: bool,
}

/// The source of the active rustc's standard library, wherever it is.
pub fn library(ws: &Workspace, rustc: &Rustc) -> Option<Library> {
    let own = rustc.sysroot.join("lib/rustlib/src/rust/library");
    if complete(&own) {
        return Some(Library { path: own, in_sysroot: true });
    }
    let debians = ws.tools().join("rust-src");
    let version = fs::read_to_string(debians.join("rustc-version")).ok()?;
    let path = debians.join("library");
    (version.trim() == rustc.version && complete(&path)).then_some(Library { path, in_sysroot: false })
}

/// cargo wants the manifests and the lock file of the library's workspace.
fn complete(library: &Path) -> bool {
    ["Cargo.toml", "Cargo.lock", "core/Cargo.toml"].iter().all(|f| library.join(f).is_file())
}

pub fn check(ws: &Workspace, rustc: &Rustc) -> State {
    match library(ws, rustc) {
        Some(l) => State::Ready(format!("{} in {}", rustc.version, ws.show(&l.path))),
        None => State::Missing(format!("the source of rustc {}'s standard library", rustc.version)),
    }
}

pub fn make(ws: &Workspace, rustc: &Rustc, rustup: bool) -> Result<()> {
    if rustup && run::find("rustup").is_some() {
        eprintln!("  rustup component add rust-src");
        match run::capture_within(Command::new("rustup").args(["component", "add", "rust-src"]), RUSTUP_LIMIT)
        {
            Ok(()) => return Ok(()),
            Err(e) => eprintln!("  {e:#}"),
        }
    }
    from_debian(ws, rustc)
        .context("Debian's rust-src (or run `rustup component add rust-src` where the network allows it)")
}

fn from_debian(ws: &Workspace, rustc: &Rustc) -> Result<()> {
    apt::from_mirrors(&ws.tools().join("rust-src.new"), &SUITES, |apt| {
        let found = apt.versions("rust-src")?;
        let Some(pick) = pick(&found, &rustc.version) else {
            return Err(apt.incomplete.unwrap_or_else(|| anyhow!("no rust-src {}", rustc.version)));
        };
        let root = apt.unpack(&format!("rust-src={pick}"))?;
        let done = ws.tools().join("rust-src");
        fresh_dir(&done)?;
        fs::rename(unpacked(&root)?, done.join("library"))?;
        // The last file: without it the directory does not count.
        fs::write(done.join("rustc-version"), &rustc.version)?;
        eprintln!("  took rust-src {pick}");
        Ok(())
    })
}

/// `library` in the unpacked package.
fn unpacked(root: &Path) -> Result<PathBuf> {
    let src = root.join("usr/src");
    let dirs = fs::read_dir(&src).context("the package has no usr/src")?;
    dirs.filter_map(|e| Some(e.ok()?.path().join("library")))
        .find(|l| complete(l))
        .context("the package holds no complete library")
}

/// The package version that fits best: the same release, else the same minor (point releases leave the library alone).
fn pick(versions: &[String], rustc: &str) -> Option<String> {
    let minor = rustc.rsplit_once('.').map(|(m, _)| format!("{m}."))?;
    let exact = format!("{rustc}+");
    let starting = |with: &str| versions.iter().find(|v| v.starts_with(with)).cloned();
    starting(&exact).or_else(|| starting(&minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_release_wins_then_the_same_minor() {
        let list = ["1.96.0+dfsg1-1", "1.95.1+dfsg1-1", "1.95.0+dfsg1-2~bpo13+1"].map(String::from);
        assert_eq!(pick(&list, "1.95.0").as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(pick(&list, "1.95.3").as_deref(), Some("1.95.1+dfsg1-1"));
        assert_eq!(pick(&list, "1.9.0"), None);
        assert_eq!(pick(&[], "1.95.0"), None);
    }
}
