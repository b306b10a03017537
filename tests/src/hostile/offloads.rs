//! Segmentation and receive offloads off until the drop: then packets have the size of the wire.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{output, run};
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
}

impl Segments {
    pub fn off(ns: &Arc<Netns>, ifname: &str) -> Result<Self> {
        let text = run(ns.command("ethtool").args(["--json", "-k", ifname]))?;
        let all: Value = serde_json::from_str(&text).context("read the output of ethtool --json -k")?;
        let on = FEATURES.iter().filter(|(_, long)| all[0][long]["active"] == true).map(|(short, _)| *short);
        let segments = Self { ns: Arc::clone(ns), ifname: ifname.to_owned(), on: on.collect() };
        let off = FEATURES.iter().flat_map(|(short, _)| [*short, "off"]);
        let _ = run(ns.command("ethtool").args(["-K", ifname]).args(off))?;
        Ok(segments)
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        let on = self.on.iter().flat_map(|short| [*short, "on"]);
        // An interface that is gone has nothing to be given back.
        let _ = output(self.ns.command("ethtool").args(["-K", &self.ifname]).args(on));
    }
}
