//! Options of `gray agent`: flags over a YAML file over defaults, checked before anything starts. Runs nothing.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use gray_common::limits::DSR_FROM;

use super::{Failure, agent_file::AgentFile, prefix::Prefix};
use crate::{
    api::DEFAULT_SOCKET,
    config::{META, is_meta},
};

pub const DEFAULT_STATE_DIR: &str = "/var/lib/gray";
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/gray";
/// Entries per address family.
pub const DEFAULT_FLOWS: u32 = gray_common::limits::FLOWS;
/// Revisions that can be restored.
pub const DEFAULT_KEEP: u32 = 1000;
const KEEP: std::ops::RangeInclusive<u32> = 1..=1_000_000;
const FLOWS: std::ops::RangeInclusive<u32> = 1024..=16_777_216;

/// Everything the agent needs to know to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    /// The file that some of this came from.
    pub config: Option<PathBuf>,
    pub state_dir: PathBuf,
    /// Directory on a bpf file system that this agent's pins live in.
    pub bpffs: PathBuf,
    pub socket: PathBuf,
    /// No interface twice.
    pub attach: Vec<Attach>,
    /// Of the connect path; none: the root of the cgroup2 mount.
    pub cgroup: Option<PathBuf>,
    /// Loopback only.
    pub metrics: Option<SocketAddr>,
    pub log_format: LogFormat,
    /// Size of each flow table.
    pub flows: u32,
    /// So many of the newest revisions can be restored.
    pub keep_revisions: u32,
    /// The connect path stays off.
    pub no_connect: bool,
    /// The directory whose files are the policy; none: it comes by the API.
    pub policy_dir: Option<PathBuf>,
    /// The directory of programs that health checks and alarms may run; none: none.
    pub health_commands: Option<PathBuf>,
    /// The directory of programs, and of what else the steps of releases may use; none: none.
    pub release_hooks: Option<PathBuf>,
    /// This node's own addresses for `nat: snat`; one of a family.
    pub snat: Vec<IpAddr>,
    /// This node's own addresses for `nat: dsr`; one of a family.
    pub dsr_source: Vec<IpAddr>,
    /// Whose packets in other ones are opened; at most [`DSR_FROM`].
    pub dsr_from: Vec<Prefix>,
    /// Sockets that dial services say their lane, where there is a connect path; tags that come in are read or overwritten.
    pub tags: bool,
    /// Interfaces of `attach` whose tags are believed.
    pub trust_tags: Vec<String>,
    /// This node's zone; none: it is in none.
    pub zone: Option<String>,
    /// What programs cannot read is handed over to this node's splice listener.
    pub splice: bool,
}

/// `IFACE=ROLE`, with `:auto`, `:xdp` or `:tc` behind it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Attach {
    pub iface: String,
    pub role: AttachRole,
    pub xdp: XdpWish,
}

/// Whether XDP stands in front of tc.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpWish {
    /// No, and status says where it could: drivers may reset a link when XDP comes or goes, which nobody shall meet unasked.
    #[default]
    Unsaid,
    /// Where it makes things faster: in hardware whose driver has it.
    Auto,
    Off,
    /// Also where it costs, on a veth.
    Force,
}

/// What comes in by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachRole {
    /// Clients: packets to service addresses are steered.
    Edge,
    /// Instances: their replies are translated back.
    Backend,
    /// Both.
    Host,
}

/// `auto`: human on a terminal, JSON otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Auto,
    Human,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Roles: edge (clients are there), backend (instances are there), host (both).
eth0=edge:auto puts XDP in front of tc where hardware has it in its driver (which may
reset the link for a moment); veth0=edge:xdp on other interfaces, too (a veth's TCP
becomes 3 to 5 times slower); eth0=edge:tc never. `gray status` says what was picked,
and why.

Examples:
  gray agent --attach eth0=edge --attach eth1=backend
  gray agent --config /etc/gray/agent.yaml
  gray agent --bpffs /sys/fs/bpf/lab --state-dir /tmp/lab --socket /tmp/lab.sock --attach veth0=host

The file of --config has the same keys; flags win:
  state-dir: /var/lib/gray
  attach: [eth0=edge, eth1=backend]
  metrics: 127.0.0.1:9464")]
pub struct AgentArgs {
    /// YAML file with the same keys as these options
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where policy, history and key are kept [default: /var/lib/gray]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where kernel objects are pinned [default: /sys/fs/bpf/gray]
    #[arg(long, value_name = "DIR")]
    bpffs: Option<PathBuf>,
    /// Steer on an interface; may be given several times
    #[arg(long, value_name = "IFACE=ROLE")]
    attach: Vec<Attach>,
    /// Steer callers of this cgroup [default: all of this node]
    #[arg(long, value_name = "PATH", conflicts_with = "no_connect")]
    cgroup: Option<PathBuf>,
    /// Serve metrics on a loopback port, too
    #[arg(long, value_name = "ADDR:PORT", value_parser = loopback)]
    metrics: Option<SocketAddr>,
    /// How to log [default: auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Entries of each flow table [default: 131072]
    #[arg(long, value_name = "N")]
    flows: Option<u32>,
    /// So many of the newest revisions can be restored; of older ones only who, when and why is kept [default: 1000]
    #[arg(long, value_name = "N")]
    keep_revisions: Option<u32>,
    /// Do not steer local callers
    #[arg(long)]
    no_connect: bool,
    /// The documents of this directory are the policy; a change of them is applied at once [default: none]
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// Health checks and alarms may run the programs of this directory [default: none may be run]
    #[arg(long, value_name = "DIR")]
    health_commands: Option<PathBuf>,
    /// Releases may run the programs of this directory [default: none may be run]
    #[arg(long, value_name = "DIR")]
    release_hooks: Option<PathBuf>,
    /// An address of this node that instances see in place of clients where a policy says `nat: snat`; one of each family
    #[arg(long, value_name = "ADDR")]
    snat: Vec<IpAddr>,
    /// An address of this node that packets to instances come from where a policy says `nat: dsr`; one of each family
    #[arg(long, value_name = "ADDR")]
    dsr_source: Vec<IpAddr>,
    /// Open what nodes of this prefix send to instances of this node by `nat: dsr`; may be given several times
    #[arg(long, value_name = "PREFIX")]
    dsr_from: Vec<Prefix>,
    /// Connections of this node's callers, and those that it sends on, say their lane to the next node, by a tag in the SYN
    #[arg(long, conflicts_with = "no_connect")]
    tags: bool,
    /// Believe the tags of SYNs that come in by this interface, one of --attach; may be given several times. On all others
    /// they are overwritten then, and with --tags
    #[arg(long, value_name = "IFACE")]
    trust_tags: Vec<String>,
    /// The zone of this node, whose instances serve first where a policy says `zone-affinity` [default: none]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Hand what programs cannot read over to `gray splice`, which is to run beside this agent
    #[arg(long)]
    splice: bool,
}

impl AgentArgs {
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn names_file(&self) -> bool {
        self.config.is_some()
    }

    /// Reads the file, if one is named, and puts flags over it. `socket` is the global option.
    pub fn options(self, socket: Option<PathBuf>) -> Result<AgentOptions, Failure> {
        let file = match &self.config {
            Some(path) => AgentFile::read(path)?,
            None => AgentFile::default(),
        };
        let no_connect = self.no_connect || (self.cgroup.is_none() && file.no_connect.unwrap_or(false));
        let options = AgentOptions {
            config: self.config,
            state_dir: self.state_dir.or(file.state_dir).unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            bpffs: self.bpffs.or(file.bpffs).unwrap_or_else(|| DEFAULT_BPFFS.into()),
            socket: socket.or(file.socket).unwrap_or_else(|| DEFAULT_SOCKET.into()),
            attach: if self.attach.is_empty() { file.attach } else { self.attach },
            cgroup: self.cgroup.or(file.cgroup).filter(|_| !no_connect),
            metrics: self.metrics.or(file.metrics.map(|Loopback(a)| a)),
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
            flows: self.flows.or(file.flows).unwrap_or(DEFAULT_FLOWS),
            keep_revisions: self.keep_revisions.or(file.keep_revisions).unwrap_or(DEFAULT_KEEP),
            no_connect,
            policy_dir: self.policy_dir.or(file.policy_dir),
            health_commands: absolute(self.health_commands.or(file.health_commands))?,
            release_hooks: absolute(self.release_hooks.or(file.release_hooks))?,
            snat: if self.snat.is_empty() { file.snat } else { self.snat },
            dsr_source: if self.dsr_source.is_empty() { file.dsr_source } else { self.dsr_source },
            dsr_from: if self.dsr_from.is_empty() { file.dsr_from } else { self.dsr_from },
            tags: self.tags || file.tags.unwrap_or(false),
            trust_tags: if self.trust_tags.is_empty() { file.trust_tags } else { self.trust_tags },
            zone: self.zone.or(file.zone),
            splice: self.splice || file.splice.unwrap_or(false),
        };
        options.check()
    }
}

/// Programs run in directories of their own: theirs is the same from everywhere.
fn absolute(dir: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    let made = dir.as_deref().map(std::path::absolute).transpose();
    made.map_err(|e| Failure::usage(format!("a directory of programs: {e}"), "give its whole path"))
}

impl AgentOptions {
    fn check(self) -> Result<Self, Failure> {
        if !FLOWS.contains(&self.flows) {
            let what = format!("{} entries are no usable size of a flow table", self.flows);
            return Err(Failure::usage(what, format!("give --flows {} to {}", FLOWS.start(), FLOWS.end())));
        }
        if !KEEP.contains(&self.keep_revisions) {
            let what = format!("{} revisions cannot be kept", self.keep_revisions);
            return Err(Failure::usage(
                what,
                format!("give --keep-revisions {} to {}", KEEP.start(), KEEP.end()),
            ));
        }
        for (i, a) in self.attach.iter().enumerate() {
            if self.attach.iter().take(i).any(|b| b.iface == a.iface) {
                let what = format!("interface {} is given twice", a.iface);
                return Err(Failure::usage(
                    what,
                    "one interface has one role; `host` is edge and backend in one",
                ));
            }
        }
        if let Some(zone) = self.zone.as_ref().filter(|z| !is_meta(z)) {
            return Err(Failure::usage(format!("{zone:?} is no zone"), format!("give --zone {META}")));
        }
        if let Some(other) = self.trust_tags.iter().find(|t| !self.attach.iter().any(|a| a.iface == **t)) {
            let what = format!("tags by {other} are to be trusted, and gray is not attached there");
            let known: Vec<_> = self.attach.iter().map(|a| a.iface.as_str()).collect();
            let help = match known[..] {
                [] => format!("give --attach {other}=ROLE, too"),
                _ => format!("give --attach {other}=ROLE, too, or trust one of {}", known.join(", ")),
            };
            return Err(Failure::usage(what, help));
        }
        own_addresses("--snat", &self.snat)?;
        own_addresses("--dsr-source", &self.dsr_source)?;
        if self.dsr_from.len() > DSR_FROM {
            let what = format!("{} prefixes are trusted by --dsr-from", self.dsr_from.len());
            return Err(Failure::usage(what, format!("give at most {DSR_FROM}; join neighbouring ones")));
        }
        if self.no_connect && self.attach.is_empty() {
            return Err(Failure::usage(
                "nothing to do: no interface to attach to, and the connect path is off",
                "give --attach IFACE=ROLE, or leave out --no-connect",
            ));
        }
        Ok(self)
    }
}

/// Addresses of this node for an option that takes one of a family.
fn own_addresses(option: &str, given: &[IpAddr]) -> Result<(), Failure> {
    for (i, a) in given.iter().enumerate() {
        let unusable = a.is_unspecified() || a.is_multicast() || a.is_loopback() || a.to_canonical() != *a;
        if unusable {
            let what = format!("{a} is no address that instances can answer to");
            return Err(Failure::usage(what, format!("give {option} an address of this node's interfaces")));
        }
        if given.iter().take(i).any(|b| b.is_ipv4() == a.is_ipv4()) {
            let what = format!("{option} {a}: there is one of its family already");
            return Err(Failure::usage(what, "give one IPv4 address and one IPv6 address at most"));
        }
    }
    Ok(())
}

impl FromStr for Attach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (iface, rest) = text.split_once('=').ok_or("not of the form IFACE=ROLE, such as eth0=edge")?;
        let (role, path) = rest.split_once(':').map_or((rest, None), |(role, path)| (role, Some(path)));
        // What the kernel takes as a name (dev_valid_name): 1 to 15 bytes.
        let fits = (1..=15).contains(&iface.len()) && iface != "." && iface != "..";
        if !fits || iface.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
            return Err(format!("`{iface}` is no interface name"));
        }
        let role =
            match role {
                "edge" => AttachRole::Edge,
                "backend" => AttachRole::Backend,
                "host" => AttachRole::Host,
                "lo" => return Err(
                    "role `lo` is not supported yet; callers of this node are steered by the connect path"
                        .into(),
                ),
                other => return Err(format!("`{other}` is no role; use edge, backend or host")),
            };
        let xdp = match path {
            None => XdpWish::Unsaid,
            Some("auto") => XdpWish::Auto,
            Some("tc") => XdpWish::Off,
            Some("xdp") => XdpWish::Force,
            Some(other) => {
                return Err(format!("`{other}` is no way to attach; use auto, xdp, tc or nothing"));
            }
        };
        Ok(Self { iface: iface.into(), role, xdp })
    }
}

impl TryFrom<String> for Attach {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|e| format!("attach `{text}`: {e}"))
    }
}

impl AttachRole {
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Backend => "backend",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.xdp {
            XdpWish::Unsaid => "",
            XdpWish::Auto => ":auto",
            XdpWish::Off => ":tc",
            XdpWish::Force => ":xdp",
        };
        write!(f, "{}={}{path}", self.iface, self.role.name())
    }
}

/// An address that only this host reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Loopback(pub SocketAddr);

impl TryFrom<String> for Loopback {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        loopback(&text).map(Self).map_err(|e| format!("metrics `{text}`: {e}"))
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr = text.parse().map_err(|_| "not of the form ADDR:PORT, such as 127.0.0.1:9464")?;
    match addr.ip().to_canonical().is_loopback() {
        true => Ok(addr),
        false => Err("not a loopback address; this port has no authentication".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        agent: AgentArgs,
    }

    #[test]
    fn f2_directories_of_programs_are_the_same_from_everywhere() {
        let words = ["gray", "--attach=eth0=edge", "--release-hooks=hooks", "--health-commands=/etc/checks"];
        let o = Only::parse_from(words).agent.options(None).unwrap();
        assert_eq!(o.release_hooks, Some(std::env::current_dir().unwrap().join("hooks")));
        assert_eq!(o.health_commands, Some("/etc/checks".into()));
    }

    /// Without a connect path nobody says anything here, and what others say still ends at what is not trusted.
    #[test]
    fn a6_tags_of_the_file_hold_without_a_connect_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "tags: true\nno-connect: true\n").unwrap();
        let file = format!("--config={}", file.path().display());
        for (more, no_connect) in [("--no-connect", true), ("--tags", true), ("--cgroup=/c", false)] {
            let o =
                Only::parse_from(["gray", "--attach=eth0=edge", &file, more]).agent.options(None).unwrap();
            assert_eq!((o.tags, o.no_connect), (true, no_connect), "{more}");
        }
        assert!(
            Only::try_parse_from(["gray", "--tags", "--no-connect"]).is_err(),
            "in one breath it is a slip"
        );
    }
}
