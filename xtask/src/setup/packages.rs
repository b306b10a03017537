//! Debian packages, found by their programs: those that demo and tests use, those of the benches, and those of the VMs. Installs what is missing and starts no service.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{State, announce, fresh_dir};
use crate::{
    run,
    workspace::{Workspace, is_root},
};

/// Programs, or files by their path with at most one `*` for a directory, and the packages that hold them.
pub type Programs = &'static [(&'static str, &'static str)];

pub const LAB: Programs = &[
    ("nginx", "nginx"),
    ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"),
    ("haproxy", "haproxy"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("iperf3", "iperf3"),
    ("ping", "iputils-ping"),
    ("wrk", "wrk"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ss", "iproute2"),
    ("ethtool", "ethtool"),
    ("bpftool", "bpftool"),
    ("tcpdump", "tcpdump"),
    ("strace", "strace"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("ps", "procps"),
    ("sysctl", "procps"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("/usr/lib/postgresql/*/bin/postgres", "postgresql"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("prometheus", "prometheus"),
    ("tmux", "tmux"),
    ("/lib/systemd/systemd", "systemd"),
];

/// What the benches compare with beside that.
pub const BENCH: Programs = &[
    ("/usr/lib/nginx/modules/ndk_http_module.so", "libnginx-mod-http-ndk"),
    ("/usr/lib/nginx/modules/ngx_http_lua_module.so", "libnginx-mod-http-lua"),
    ("/usr/share/lua/5.1/resty/core.lua", "lua-resty-core"),
];

pub const VM: Programs = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("modprobe", "kmod"),
    ("xz", "xz-utils"),
];

/// Packages that bring a service of the same name.
const SERVICES: [&str; 5] = ["nginx", "haproxy", "postgresql", "redis-server", "prometheus"];

pub fn check(programs: Programs) -> State {
    let missing = missing(programs, have);
    if missing.is_empty() {
        let mut all: Vec<&str> = programs.iter().map(|(_, package)| *package).collect();
        all.dedup();
        State::Ready(format!("have {}", all.join(" ")))
    } else {
        State::Missing(missing.join(" "))
    }
}

/// Packages of which a program is not there, each once.
fn missing(programs: Programs, have: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut out: Vec<&str> = programs.iter().filter(|(program, _)| !have(program)).map(|(_, p)| *p).collect();
    out.dedup();
    out
}

/// A `*` is a directory of any name: Debian's PostgreSQL lies below its version.
fn have(program: &str) -> bool {
    let Some((before, after)) = program.split_once("*/") else { return run::find(program).is_some() };
    let dirs = fs::read_dir(before).into_iter().flatten().flatten();
    dirs.into_iter().any(|d| d.path().join(after).is_file())
}

pub fn make(ws: &Workspace, programs: Programs) -> Result<()> {
    let packages = missing(programs, have);
    let by_hand = format!("as root: apt-get install {}", packages.join(" "));
    if run::find("apt-get").is_none() {
        bail!("this machine has no apt-get: install what holds {} by its own means", packages.join(", "));
    }
    if !is_root() {
        bail!("needs root; {by_hand}");
    }
    let stubs = ws.tools().join("no-services");
    no_services(&stubs)?;
    if !packages.iter().all(|p| has_candidate(p)) {
        announce("apt-get update", Command::new("apt-get").args(["-qq", "update"]))?;
    }
    // A list that is older than the mirror names files that are gone: once more with fresh lists.
    let done = install(&packages, &stubs).or_else(|_| {
        announce("apt-get update", Command::new("apt-get").args(["-qq", "update"]))?;
        install(&packages, &stubs)
    });
    fs::remove_dir_all(&stubs)?;
    done.context(by_hand)?;
    // Debian enables a service that it installs; nobody asked for a web server, a proxy or a database at the next boot.
    let services: Vec<&str> = SERVICES.into_iter().filter(|s| packages.contains(s)).collect();
    if !services.is_empty() && Path::new("/run/systemd/system").is_dir() {
        let what = format!("systemctl disable {}", services.join(" "));
        announce(&what, Command::new("systemctl").args(["--quiet", "disable"]).args(services))?;
    }
    Ok(())
}

fn install(packages: &[&str], stubs: &Path) -> Result<()> {
    let path = format!(
        "DPkg::Path={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        stubs.display()
    );
    announce(
        &format!("apt-get install {} (starting no service)", packages.join(" ")),
        Command::new("apt-get")
            .args(["-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "-o", &path, "install"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Maintainer scripts start services by the first two programs, and make a database by the third; for the time of one installation
/// they find ours first, which do nothing. A policy-rc.d would be a file of the system's.
fn no_services(dir: &Path) -> Result<()> {
    fresh_dir(dir)?;
    for name in ["invoke-rc.d", "deb-systemd-invoke", "pg_createcluster"] {
        let file = dir.join(name);
        fs::write(&file, "#!/bin/sh\nexit 0\n")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// apt's lists know a version to install.
fn has_candidate(package: &str) -> bool {
    let policy = run::capture(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"));
    policy.is_ok_and(|p| p.lines().any(|l| l.trim().starts_with("Candidate:") && !l.contains("(none)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_is_named_once() {
        assert_eq!(missing(LAB, |_| true), Vec::<&str>::new());
        assert_eq!(missing(LAB, |p| p != "ip" && p != "ss" && p != "curl"), ["curl", "iproute2"]);
    }

    #[test]
    fn a_star_is_one_directory() {
        let dir = std::env::temp_dir().join(format!("gray-xtask-star-{}", std::process::id()));
        fs::create_dir_all(dir.join("15/bin")).unwrap();
        fs::write(dir.join("15/bin/postgres"), "").unwrap();
        let found = |rest: &str| have(&format!("{}/{rest}", dir.display()));
        assert!(found("*/bin/postgres") && !found("*/bin/mysqld") && !found("*/postgres"));
        fs::remove_dir_all(&dir).unwrap();
        assert!(!found("*/bin/postgres"));
    }

    #[test]
    fn programs_of_one_package_stand_together() {
        for programs in [LAB, BENCH, VM] {
            let mut packages: Vec<_> = programs.iter().map(|(_, p)| *p).collect();
            packages.dedup();
            let mut unique = packages.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(packages.len(), unique.len(), "`dedup` in this file needs neighbours");
        }
    }
}
