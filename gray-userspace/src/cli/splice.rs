//! Options of `gray splice`: which data path, which addresses. Runs nothing.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::{Failure, LogFormat, agent, agent_file::AgentFile};
use crate::sys::netlink::is_dialled;

const CONNECTIONS: usize = 16_384;
const DRAIN_S: u64 = 30;

/// Everything the splice listener needs to know to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpliceOptions {
    /// The agent's.
    pub bpffs: PathBuf,
    /// To listen on, one of a family; none: the first ones that this node has.
    pub addresses: Vec<IpAddr>,
    /// Of both; 0: any.
    pub port: u16,
    /// At once, at most.
    pub connections: usize,
    /// How long connections may go on when it is told to stop.
    pub drain: Duration,
    pub log_format: LogFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Programs in the kernel read what a client says first where it is HTTP/1 or a TLS hello
of up to 4380 bytes. What is not (HTTP/2 and so gRPC, longer heads, heads in pieces,
PROXY headers, n-d-* headers of more than a plain value) they hand over to this
process, which reads it, decides by the same tables, and copies. Without it such a
connection is decided without what was not read. It needs CAP_BPF and no agent, and
runs where the agent runs: one for each --bpffs and network namespace. Started again,
the new one takes over and the old one ends with its last connection.

Examples:
  gray splice
  gray splice --config /etc/gray/agent.yaml --address 198.18.0.1 --address fd00:18::1")]
pub struct SpliceArgs {
    /// The agent's --config: takes its --bpffs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's --bpffs [default: /sys/fs/bpf/gray]
    #[arg(long, value_name = "DIR")]
    bpffs: Option<PathBuf>,
    /// An address of this node to listen on; one of each family [default: the first ones]
    #[arg(long, value_name = "ADDR")]
    address: Vec<IpAddr>,
    /// The port to listen on, for a firewall that has to know it; then no other one can take over [default: any]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Connections at once; more are decided without it [default: 16384, or half of the open files that are allowed]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// How many seconds connections may go on when it is told to stop [default: 30]
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
    /// How to log [default: auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl SpliceArgs {
    pub fn options(self) -> Result<SpliceOptions, Failure> {
        let file = match &self.config {
            Some(path) => AgentFile::read(path)?,
            None => AgentFile::default(),
        };
        for (i, a) in self.address.iter().enumerate() {
            if !is_dialled(a) {
                let what = format!("{a} is no address that clients' packets can be sent on to");
                return Err(Failure::usage(what, "give --address an address of this node's interfaces"));
            }
            if self.address.iter().take(i).any(|b| b.is_ipv4() == a.is_ipv4()) {
                let what = format!("--address {a}: there is one of its family already");
                return Err(Failure::usage(what, "give one IPv4 address and one IPv6 address at most"));
            }
        }
        if self.connections == Some(0) {
            return Err(Failure::usage("no connections at once", "give --connections 1 or more"));
        }
        Ok(SpliceOptions {
            bpffs: self.bpffs.or(file.bpffs).unwrap_or_else(|| agent::DEFAULT_BPFFS.into()),
            addresses: self.address,
            port: self.port.unwrap_or(0),
            connections: self.connections.unwrap_or(CONNECTIONS),
            drain: Duration::from_secs(self.drain.unwrap_or(DRAIN_S).min(86_400)),
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        splice: SpliceArgs,
    }

    #[test]
    fn a1_one_usable_address_of_each_family() {
        let of = |words: &[&str]| {
            let args = ["gray"].iter().chain(words);
            Only::parse_from(args).splice.options()
        };
        let o = of(&["--address=198.18.0.1", "--address=fd00:18::1", "--drain=5"]).unwrap();
        assert_eq!((o.addresses.len(), o.drain, o.connections), (2, Duration::from_secs(5), CONNECTIONS));
        for bad in [
            &["--address=127.0.0.1"][..],
            &["--address=fe80::1"],
            &["--address=198.18.0.1", "--address=198.18.0.2"],
            &["--connections=0"],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
