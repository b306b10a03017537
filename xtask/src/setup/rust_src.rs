//! The standard library's source for `-Z build-std`: the toolchain's own, rustup's component, or Debian's package of the
//! same version in `target/tools/rust-src`. Touches no apt state but its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{State, announce, fresh_dir};
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
    for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
        if run::find(tool).is_none() {
            bail!("no {tool} on this machine");
        }
    }
    let work = ws.tools().join("rust-src.new");
    fresh_dir(&work)?;
    let mut why = Vec::new();
    for mirror in mirrors() {
        match from_mirror(&work, &mirror, rustc) {
            Ok(package) => {
                let done = ws.tools().join("rust-src");
                fresh_dir(&done)?;
                fs::rename(unpacked(&work)?, done.join("library"))?;
                // The last file: without it the directory does not count.
                fs::write(done.join("rustc-version"), &rustc.version)?;
                eprintln!("  took rust-src {package}");
                return fs::remove_dir_all(&work).context("rust-src.new");
            }
            Err(e) => why.push(format!("{mirror}: {e:#}")),
        }
    }
    fs::remove_dir_all(&work)?;
    if why.is_empty() {
        bail!("apt is configured with no Debian mirror");
    }
    bail!("{}", why.join("; "))
}

/// Downloads and unpacks the package into `work`; its version.
fn from_mirror(work: &Path, mirror: &str, rustc: &Rustc) -> Result<String> {
    let state = work.join("apt");
    for dir in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.join(dir))?;
    }
    let keyring =
        ["gpg", "pgp"].map(|e| PathBuf::from("/usr/share/keyrings/debian-archive-keyring").with_extension(e));
    let keyring = keyring.iter().find(|k| k.is_file()).context("no debian-archive-keyring")?;
    let list: String =
        SUITES.iter().map(|s| format!("deb [signed-by={}] {mirror} {s} main\n", keyring.display())).collect();
    fs::write(state.join("sources.list"), list)?;
    let apt = |program: &str| {
        let mut cmd = Command::new(program);
        for (key, value) in [
            ("Dir::Etc::sourcelist", state.join("sources.list")),
            ("Dir::Etc::sourceparts", state.join("none")),
            ("Dir::State::lists", state.join("lists")),
            ("Dir::Cache", state.join("cache")),
            ("APT::Sandbox::User", "root".into()), // its own user could not write here
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "2".into()),
        ] {
            let _ = cmd.arg("-o").arg(format!("{key}={}", value.display()));
        }
        let _ = cmd.current_dir(work).env("LC_ALL", "C");
        cmd
    };
    eprintln!("  reading Debian's package lists from {mirror} (private apt state)");
    // A suite that the mirror has not yet, or no longer, is no reason to stop: what counts is what is found.
    let update = run::capture(apt("apt-get").args(["-qq", "update"]));
    let found = run::capture(apt("apt-cache").args(["madison", "rust-src"]))?;
    let Some(pick) = pick(&found, &rustc.version) else {
        return Err(update.err().unwrap_or_else(|| anyhow::anyhow!("no rust-src {}", rustc.version)));
    };
    announce(
        &format!("downloading rust-src {pick}"),
        apt("apt-get").args(["-qq", "download"]).arg(format!("rust-src={pick}")),
    )?;
    let deb = fs::read_dir(work)?
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.extension().is_some_and(|e| e == "deb"))
        .context("apt-get download left no package")?;
    run::show(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(work.join("root")))?;
    Ok(pick)
}

/// `library` in the unpacked package.
fn unpacked(work: &Path) -> Result<PathBuf> {
    let src = work.join("root/usr/src");
    let dirs = fs::read_dir(&src).context("the package has no usr/src")?;
    dirs.filter_map(|e| Some(e.ok()?.path().join("library")))
        .find(|l| complete(l))
        .context("the package holds no complete library")
}

/// The package version that fits best: the same release, else the same minor (point releases leave the library alone).
fn pick(madison: &str, rustc: &str) -> Option<String> {
    let versions = || madison.lines().filter_map(|l| l.split('|').nth(1)).map(str::trim);
    let minor = rustc.rsplit_once('.').map(|(m, _)| format!("{m}."))?;
    let exact = format!("{rustc}+");
    versions()
        .find(|v| v.starts_with(&exact))
        .or_else(|| versions().find(|v| v.starts_with(&minor)))
        .map(str::to_string)
}

/// Debian archives in apt's configuration, without the security archive (it holds no toolchains).
fn mirrors() -> Vec<String> {
    let parts =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let mut files: Vec<PathBuf> = parts.collect();
    files.sort();
    files.push("/etc/apt/sources.list".into());
    let mut out = Vec::new();
    for uri in files.iter().filter_map(|f| fs::read_to_string(f).ok()).flat_map(|t| uris(&t)) {
        if uri.ends_with("/debian") && !out.contains(&uri) {
            out.push(uri);
        }
    }
    out
}

/// The archive URIs of a sources file, in either of apt's two formats, without the last slash.
fn uris(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = if let Some(rest) = line.strip_prefix("URIs:") {
            rest.split_whitespace().collect()
        } else if let Some(rest) = line.strip_prefix("deb ") {
            // Options in brackets come first and may hold spaces.
            let rest = rest.trim_start();
            let rest = rest.strip_prefix('[').and_then(|r| r.split_once(']')).map_or(rest, |(_, r)| r);
            rest.split_whitespace().take(1).collect()
        } else {
            continue;
        };
        out.extend(words.iter().map(|w| w.trim_end_matches('/').to_string()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sources_are_read() {
        let deb822 = "Types: deb\n# URIs: http://no/debian\nURIs: http://a.example/debian/ http://b.example/debian\nSuites: bookworm\n";
        assert_eq!(uris(deb822), ["http://a.example/debian", "http://b.example/debian"]);
        let lines = "# deb http://no/debian x main\ndeb [arch=amd64 signed-by=/k] http://c.example/debian bookworm main\ndeb-src http://no/debian x main\ndeb http://d.example/debian/ sid main";
        assert_eq!(uris(lines), ["http://c.example/debian", "http://d.example/debian"]);
    }

    #[test]
    fn the_same_release_wins_then_the_same_minor() {
        let list = " rust-src | 1.96.0+dfsg1-1 | http://m sid/main amd64 Packages\n rust-src | 1.95.1+dfsg1-1 | m\n rust-src | 1.95.0+dfsg1-2~bpo13+1 | m\n";
        assert_eq!(pick(list, "1.95.0").as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(pick(list, "1.95.3").as_deref(), Some("1.95.1+dfsg1-1"));
        assert_eq!(pick(list, "1.9.0"), None);
        assert_eq!(pick("", "1.95.0"), None);
    }
}
