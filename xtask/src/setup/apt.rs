//! Single Debian packages from suites that this machine does not use: apt with a state of its own, unpacked and never
//! installed. Touches no apt state but that.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{announce, fresh_dir};
use crate::run;

/// apt's lists of some suites of one mirror, in a directory of its own.
pub struct Apt {
    work: PathBuf,
    mirror: String,
    /// Why not every list could be read: a suite that the mirror has not yet, or no longer, is no reason to stop.
    pub incomplete: Option<anyhow::Error>,
}

/// Asks the mirrors that apt is configured with one after the other; the first that `take` gets something from wins. `work`
/// is emptied before each, and gone afterwards.
pub fn from_mirrors<T>(work: &Path, suites: &[&str], take: impl Fn(Apt) -> Result<T>) -> Result<T> {
    for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
        if run::find(tool).is_none() {
            bail!("no {tool} on this machine");
        }
    }
    let mut why = Vec::new();
    for mirror in mirrors() {
        fresh_dir(work)?;
        match Apt::read(work, &mirror, suites).and_then(&take) {
            Ok(done) => {
                fs::remove_dir_all(work).with_context(|| work.display().to_string())?;
                return Ok(done);
            }
            Err(e) => why.push(format!("{mirror}: {e:#}")),
        }
    }
    if why.is_empty() {
        bail!("apt is configured with no Debian mirror");
    }
    fs::remove_dir_all(work).with_context(|| work.display().to_string())?;
    bail!("{}", why.join("; "))
}

impl Apt {
    fn read(work: &Path, mirror: &str, suites: &[&str]) -> Result<Self> {
        let state = work.join("apt");
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(dir))?;
        }
        let keyring = ["gpg", "pgp"]
            .map(|e| PathBuf::from("/usr/share/keyrings/debian-archive-keyring").with_extension(e));
        let keyring = keyring.iter().find(|k| k.is_file()).context("no debian-archive-keyring")?;
        let list: String = suites
            .iter()
            .map(|s| format!("deb [signed-by={}] {mirror} {s} main\n", keyring.display()))
            .collect();
        fs::write(state.join("sources.list"), list)?;
        fs::write(state.join("status"), "")?;
        let mut apt = Self { work: work.into(), mirror: mirror.into(), incomplete: None };
        eprintln!("  reading Debian's package lists from {} (private apt state)", apt.mirror);
        apt.incomplete = run::capture(apt.program("apt-get").args(["-qq", "update"])).err();
        Ok(apt)
    }

    fn program(&self, name: &str) -> Command {
        let state = self.work.join("apt");
        let mut cmd = Command::new(name);
        for (key, value) in [
            ("Dir::Etc::sourcelist", state.join("sources.list")),
            ("Dir::Etc::sourceparts", state.join("none")),
            ("Dir::State::lists", state.join("lists")),
            ("Dir::State::status", state.join("status")), // nothing is installed
            ("Dir::Cache", state.join("cache")),
            ("APT::Sandbox::User", "root".into()), // its own user could not write here
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "2".into()),
        ] {
            let _ = cmd.arg("-o").arg(format!("{key}={}", value.display()));
        }
        let _ = cmd.current_dir(&self.work).env("LC_ALL", "C");
        cmd
    }

    /// The versions of a package that the suites have, the newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let text = run::capture(self.program("apt-cache").args(["madison", package]))?;
        Ok(text.lines().filter_map(|l| l.split('|').nth(1)).map(|v| v.trim().to_string()).collect())
    }

    /// Names of packages that match a regular expression.
    pub fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let text = run::capture(self.program("apt-cache").args(["search", "--names-only", pattern]))?;
        Ok(text.lines().filter_map(|l| l.split_whitespace().next()).map(str::to_string).collect())
    }

    /// Downloads a package, `name` or `name=version`, and unpacks it beside those before; the directory with the files.
    pub fn unpack(&self, package: &str) -> Result<PathBuf> {
        announce(
            &format!("downloading {package}"),
            self.program("apt-get").args(["-qq", "download"]).arg(package),
        )?;
        let deb = fs::read_dir(&self.work)?
            .filter_map(|e| Some(e.ok()?.path()))
            .find(|p| p.extension().is_some_and(|e| e == "deb"))
            .context("apt-get download left no package")?;
        let root = self.work.join("root");
        run::show(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root))?;
        fs::remove_file(&deb).with_context(|| deb.display().to_string())?;
        Ok(root)
    }
}

/// Debian archives in apt's configuration, without the security archive (it holds no newer suites).
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
}
