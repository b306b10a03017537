//! Counters of a namespace's IP stack (`/proc/net/snmp`, `snmp6`, `netstat`). It resets none.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::netns::Netns;

/// All of them: `Tcp InCsumErrors`, `TcpExt TCPLostRetransmit`, `Udp6InCsumErrors` (snmp6 has no groups).
pub fn counters(ns: &Netns) -> Result<BTreeMap<String, u64>> {
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let (grouped, flat) = ns.enter(|| (["snmp", "netstat"].map(read), read("snmp6").unwrap_or_default()));
    let mut all = BTreeMap::new();
    for text in grouped {
        let text = text.with_context(|| format!("read the counters of {}", ns.name()))?;
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let Some((group, names)) = pair[0].split_once(": ") else {
                bail!("a line without a group: {}", pair[0])
            };
            let values = pair[1].split_whitespace().skip(1);
            for (name, value) in names.split_whitespace().zip(values) {
                // A few are signed: -1 is "none".
                let _ = all.insert(format!("{group} {name}"), value.parse().unwrap_or(0));
            }
        }
    }
    for line in flat.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next()) {
            let _ = all.insert(name.to_owned(), value.parse().unwrap_or(0));
        }
    }
    Ok(all)
}

/// One of them; an error when the kernel has none of that name.
pub fn counter(ns: &Netns, name: &str) -> Result<u64> {
    counters(ns)?.get(name).copied().with_context(|| format!("this kernel has no counter {name}"))
}
