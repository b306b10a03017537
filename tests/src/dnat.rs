//! nftables destination NAT in a namespace, as a guard: what many use where gray stands. It knows no gray.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::command::{note, run_with_input};
use crate::netns::Netns;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A table of its own; a drop removes it.
#[derive(Debug)]
pub struct Dnat {
    ns: Arc<Netns>,
    table: String,
}

impl Dnat {
    /// Connections and datagrams to the first address of each pair go to the second: those that come in, and those of
    /// local callers.
    pub fn add(ns: &Arc<Netns>, pairs: &[(SocketAddr, SocketAddr)]) -> Result<Self> {
        let table = Self::name();
        let rules = rules(pairs);
        let script = format!(
            "table inet {table} {{
chain incoming {{ type nat hook prerouting priority -100; policy accept;
{rules}}}
chain local {{ type nat hook output priority -100; policy accept;
{rules}}}
}}
"
        );
        Self::made(ns, table, &script)
    }

    /// The same for what comes in by one interface; what comes by others is not tracked either.
    pub fn add_at(ns: &Arc<Netns>, ifname: &str, pairs: &[(SocketAddr, SocketAddr)]) -> Result<Self> {
        let table = Self::name();
        let script = format!(
            "table inet {table} {{
chain others {{ type filter hook prerouting priority -300; policy accept;
iifname != \"{ifname}\" notrack
}}
chain incoming {{ type nat hook prerouting priority -100; policy accept;
{}}}
}}
",
            rules(pairs)
        );
        Self::made(ns, table, &script)
    }

    fn name() -> String {
        format!("gray_lab_{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn made(ns: &Arc<Netns>, table: String, script: &str) -> Result<Self> {
        let done = run_with_input(ns.command("nft").args(["-f", "-"]), script);
        let _ = done.with_context(|| format!("nft in {}", ns.name()))?;
        Ok(Self { ns: Arc::clone(ns), table })
    }
}

fn rules(pairs: &[(SocketAddr, SocketAddr)]) -> String {
    pairs.iter().flat_map(|p| ["tcp", "udp"].map(|proto| rule(proto, p))).collect()
}

fn rule(proto: &str, (from, to): &(SocketAddr, SocketAddr)) -> String {
    let family = if from.is_ipv4() { "ip" } else { "ip6" };
    format!("{family} daddr {} {proto} dport {} dnat {family} to {to}\n", from.ip(), from.port())
}

impl Drop for Dnat {
    fn drop(&mut self) {
        let script = format!("delete table inet {}\n", self.table);
        if let Err(e) = run_with_input(self.ns.command("nft").args(["-f", "-"]), &script) {
            note(&format!("nft in {}: could not remove {}: {e:#}", self.ns.name(), self.table));
        }
    }
}
