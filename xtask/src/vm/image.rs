//! Debian's kernels: which package is meant by `6.1` or `newest`, fetched and unpacked once into `target/vm/images`. Never
//! installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    run,
    setup::apt::{self, Apt},
    workspace::Workspace,
};

/// An unpacked kernel.
pub struct Image {
    dir: PathBuf,
    /// As `uname -r` prints it.
    pub release: String,
}

/// Where a line of kernels is to be found; other lines are searched for in all suites.
const SUITES: [(&str, &[&str]); 3] =
    [("6.1", &["bookworm"]), ("6.12", &["trixie"]), ("newest", &["trixie-backports", "forky", "sid"])];
const ALL: [&str; 6] = ["bookworm", "bookworm-backports", "trixie", "trixie-backports", "forky", "sid"];

/// `6.1`, `6.12` (the newest of the line) or `newest`.
pub fn is_name(name: &str) -> bool {
    name == "newest"
        || name.split_once('.').is_some_and(|(a, b)| {
            [a, b].iter().all(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()))
        })
}

/// The kernel of this name: the one that was fetched before, unless `anew`, else Debian's newest of that line.
pub fn get(ws: &Workspace, name: &str, anew: bool) -> Result<Image> {
    let dir = ws.vm().join("images").join(name);
    if !anew && let Ok(image) = Image::open(&dir) {
        return Ok(image);
    }
    eprintln!("vm: fetching the kernel {name}");
    let suites = SUITES.iter().find(|(n, _)| *n == name).map_or(&ALL[..], |(_, s)| s);
    apt::from_mirrors(&ws.vm().join("images").join(format!("{name}.new")), suites, |apt| {
        fetch(&apt, name, &dir)
    })
    .with_context(|| format!("cannot get Debian's kernel {name}"))?;
    Image::open(&dir)
}

fn fetch(apt: &Apt, name: &str, to: &Path) -> Result<()> {
    let names = apt.names("^linux-image-[0-9].*-amd64$")?;
    let package = pick(&names, name);
    let package = package.with_context(|| match &apt.incomplete {
        Some(e) => format!("no linux-image of {name} there: {e:#}"),
        None => format!("no linux-image of {name} there"),
    })?;
    let mut root = apt.unpack(package)?;
    // Since Linux 7 the image package is empty and needs these.
    for part in ["linux-base-", "linux-binary-", "linux-modules-"] {
        let part = package.replacen("linux-image-", part, 1);
        if apt.names(&format!("^{}$", part.replace('+', "[+]")))?.contains(&part) {
            root = apt.unpack(&part)?;
        }
    }
    // Newer packages have everything below usr.
    let modules = ["lib/modules", "usr/lib/modules"].map(|d| root.join(d)).into_iter().find(|d| d.is_dir());
    let modules = modules.context("the package holds no modules")?;
    let release = fs::read_dir(&modules)?.next().context("the package holds no modules")??.file_name();
    let kernels = [
        root.join("boot").join(format!("vmlinuz-{}", release.display())),
        modules.join(&release).join("vmlinuz"),
    ];
    let kernel = kernels.iter().find(|k| k.is_file()).context("the package holds no kernel")?;
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
    }
    fs::create_dir_all(to.join("lib"))?;
    fs::rename(kernel, to.join("vmlinuz")).with_context(|| kernel.display().to_string())?;
    fs::rename(&modules, to.join("lib/modules")).context("the kernel's modules")?;
    run::show(Command::new(run::find("depmod").context("no depmod")?).arg("-b").arg(to).arg(&release))?;
    // The last file: without it the directory does not count.
    fs::write(to.join("release"), release.as_encoded_bytes()).with_context(|| to.display().to_string())
}

/// The newest package of a line, by the numbers in its name: `linux-image-6.12.117+deb12-amd64`. Variants (cloud, rt) are
/// not asked for: the cloud kernel has no 9p.
fn pick<'a>(names: &'a [String], line: &str) -> Option<&'a str> {
    let fits = |n: &&String| {
        let version = n.strip_prefix("linux-image-").and_then(|n| n.strip_suffix("-amd64")).unwrap_or("");
        let plain = !version.is_empty() && !version.split('-').any(|p| p == "cloud" || p == "rt");
        // Meta packages are named by the line alone.
        let whole = version.split(['.', '-']).count() > 2;
        plain && whole && (line == "newest" || version.starts_with(&format!("{line}.")))
    };
    names.iter().filter(fits).max_by_key(|n| numbers(n)).map(String::as_str)
}

fn numbers(name: &str) -> Vec<u64> {
    // What follows a `+` says for which release the package was made, not how new it is.
    let version = name.split('+').next().unwrap_or(name);
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

impl Image {
    fn open(dir: &Path) -> Result<Self> {
        let release = fs::read_to_string(dir.join("release"))?;
        if !dir.join("vmlinuz").is_file() {
            bail!("{} holds no kernel", dir.display());
        }
        Ok(Self { dir: dir.into(), release })
    }

    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// What belongs at `/lib/modules`.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules")
    }

    /// Files of a module and of those that it needs, in the order of loading. What is built in has no file.
    pub fn with_dependencies(&self, module: &str) -> Result<Vec<PathBuf>> {
        let modprobe = run::find("modprobe").context("no modprobe")?;
        let args = ["-S", &self.release, "--show-depends", module];
        let text = run::capture(Command::new(modprobe).arg("-d").arg(&self.dir).args(args))
            .with_context(|| format!("the kernel {} has no module {module}", self.release))?;
        Ok(text.lines().filter_map(|l| l.strip_prefix("insmod ")).map(|f| f.trim().into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_of_a_line_is_taken() {
        let names = [
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-57-cloud-amd64",
            "linux-image-6.12-amd64",
            "linux-image-6.12.99+deb12-amd64",
            "linux-image-6.12.101+deb12-amd64",
            "linux-image-6.12.107+deb13-rt-amd64",
            "linux-image-6.17.2+deb14-amd64",
        ]
        .map(String::from);
        assert_eq!(pick(&names, "6.1"), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(pick(&names, "6.12"), Some("linux-image-6.12.101+deb12-amd64"));
        assert_eq!(pick(&names, "newest"), Some("linux-image-6.17.2+deb14-amd64"));
        assert_eq!(pick(&names, "5.10"), None);
    }

    #[test]
    fn names_of_kernels_are_lines_or_the_newest() {
        assert!(["6.1", "6.12", "newest"].into_iter().all(is_name));
        assert!(["", "6", "6.", "smoke", "6.1.0", "6.x"].into_iter().all(|n| !is_name(n)));
    }
}
