//! Segmentation and receive offloads off until the drop: then packets have the size of the wire.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{output, run};
use crate::link;
use crate::netns::Netns;

/// As `ethtool -K` and `ethtool --json -k` call them.
const FEATURES: [(&str, &str); 3] = [
    ("tso", "tcp-segmentation-offload"),
    ("gso", "generic-segmentation-offload"),
    ("gro", "generic-receive-offload"),
];

/// One interface without them.
pub(super) struct Segments {
    ns: Arc<Netns>,
    ifname: String,
    /// Those that were on.
    on: Vec<&'static str>,
    /// Of one packet of a TCP socket, as it was.
    gso_max_segs: u64,
}

impl Segments {
    pub fn off(ns: &Arc<Netns>, ifname: &str) -> Result<Self> {
        let text = run(ns.command("ethtool").args(["--json", "-k", ifname]))?;
        let all: Value = serde_json::from_str(&text).context("read the output of ethtool --json -k")?;
        let on = FEATURES.iter().filter(|(_, long)| all[0][long]["active"] == true).map(|(short, _)| *short);
        let text = run(ns.command("ip").args(["-d", "-j", "link", "show", "dev", ifname]))?;
        let link: Value = serde_json::from_str(&text).context("read the output of ip -j link show")?;
        let gso_max_segs = link[0]["gso_max_segs"].as_u64().unwrap_or(65_535);
        let segments = Self { ns: Arc::clone(ns), ifname: ifname.to_owned(), on: on.collect(), gso_max_segs };
        let off = FEATURES.iter().flat_map(|(short, _)| [*short, "off"]);
        let _ = run(ns.command("ethtool").args(["-K", ifname]).args(off))?;
        // TCP hands over super-packets also without offloads, and the stack cuts them after the egress programs.
        link::ip_batch(ns, &format!("link set {ifname} gso_max_segs 1\n"))?;
        Ok(segments)
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        let on = self.on.iter().flat_map(|short| [*short, "on"]);
        // An interface that is gone has nothing to be given back.
        let _ = output(self.ns.command("ethtool").args(["-K", &self.ifname]).args(on));
        let segs = self.gso_max_segs.to_string();
        let _ = output(self.ns.command("ip").args(["link", "set", &self.ifname, "gso_max_segs", &segs]));
    }
}
