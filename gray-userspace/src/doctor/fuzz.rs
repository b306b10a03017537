//! Fuzz targets of what `gray doctor` reads: firewall listings, and files of /proc.

use super::{firewall, memory, rights};
use crate::fuzz::{choice, text};

/// What `nft list ruleset` and `iptables-save` print.
pub fn firewall(data: &[u8]) {
    let Some((which, data)) = choice(data, 2) else { return };
    let text = text(data);
    let chains = if which == 0 { firewall::nft(&text) } else { firewall::iptables(&text) };
    assert!(chains.len() <= text.lines().count());
    let rules: u64 = chains.iter().map(|c| c.rules).sum();
    assert!(which == 1 || rules <= text.lines().count() as u64, "a rule counted twice");
}

pub fn proc(data: &[u8]) {
    let Some((which, data)) = choice(data, 2) else { return };
    match which {
        0 => assert!(memory::available(&text(data)).is_none_or(|b| b % 1024 == 0)),
        _ => assert!(rights::effective(&text(data)).is_none_or(|have| rights::missing(have).len() <= 3)),
    }
}
