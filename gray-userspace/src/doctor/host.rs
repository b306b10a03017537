//! Where the checks get their facts: /proc and /sys below a root, links, the firewall's own listing. No judgement.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::DoctorInput;
use crate::sys::{
    command, lock,
    mounts::{self, Mount},
    netlink::{self, Link},
};

const TOOL_LIMIT: Duration = Duration::from_secs(5);

/// A host as one look found it.
#[derive(Debug)]
pub(super) struct Host {
    /// `/`, or a made-up tree.
    pub root: PathBuf,
    pub links: io::Result<Vec<Link>>,
    /// `nft list ruleset`; an error of kind `NotFound` means there is no such tool.
    pub nft: io::Result<String>,
    /// `iptables-save` and `ip6tables-save`, one after the other.
    pub iptables: io::Result<String>,
    /// How many rules route by a mark.
    pub marked_rules: io::Result<usize>,
    pub ipsec_policies: io::Result<usize>,
    /// Who has the lock of the bpffs directory.
    pub bpffs_owner: Option<u32>,
}

impl Host {
    pub fn here(input: &DoctorInput) -> Self {
        let tables = ["iptables-save", "ip6tables-save"].map(|tool| command::output(tool, &[], TOOL_LIMIT));
        let iptables = match tables {
            [Ok(v4), v6] => Ok(v4 + &v6.unwrap_or_default()),
            [Err(e), _] => Err(e),
        };
        Self {
            root: "/".into(),
            links: netlink::links(),
            nft: command::output("nft", &["list", "ruleset"], TOOL_LIMIT),
            iptables,
            marked_rules: netlink::marked_rules(),
            ipsec_policies: netlink::ipsec_policies(),
            bpffs_owner: lock::holder(&input.bpffs),
        }
    }

    /// `path` is absolute.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(Path::new(path))).ok()
    }

    /// A sysctl, in the form `net/ipv4/ip_forward`.
    pub fn sysctl<T: FromStr>(&self, name: &str) -> Option<T> {
        self.text(&format!("/proc/sys/{name}"))?.trim().parse().ok()
    }

    pub fn mounts(&self) -> Vec<Mount> {
        fs::read(self.path(Path::new("/proc/self/mountinfo"))).map(|b| mounts::parse(&b)).unwrap_or_default()
    }

    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.as_ref().ok()?.iter().find(|l| l.name == name)
    }

    /// Both firewall listings that could be had.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        [&self.nft, &self.iptables].into_iter().filter_map(|r| r.as_deref().ok())
    }
}
