//! Checks for host firewall rules that a redirected packet passes by: tc redirects before netfilter sees the packet.

use super::{DoctorInput, Finding, host::Host, ok, warn};

/// Netfilter hooks between an attached interface's ingress and another one's egress.
const PASSED_BY: [&str; 3] = ["prerouting", "forward", "postrouting"];

/// Chains that one table of iptables can have from the start: one per hook. What lists more is no listing, and would cost
/// the product of its chains and its rules.
const BUILT_IN: usize = 5;

/// A chain that netfilter itself calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// `ip filter FORWARD`.
    name: String,
    hook: String,
    drops: bool,
    pub(super) rules: u64,
}

pub(super) fn bypassed(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    let mut chains: Vec<Base> = host.nft.as_deref().map(nft).unwrap_or_default();
    // iptables-nft shows the same rules that nft has shown.
    if chains.is_empty() {
        chains = host.iptables.as_deref().map(iptables).unwrap_or_default();
    }
    chains.retain(|c| PASSED_BY.contains(&&*c.hook) && (c.drops || c.rules > 0));
    if !chains.is_empty() {
        let list: Vec<_> = chains
            .iter()
            .take(8)
            .map(|c| format!("{} ({} rules{})", c.name, c.rules, if c.drops { ", policy drop" } else { "" }))
            .collect();
        return vec![warn(
            format!("steered packets pass by the host's firewall: {}", list.join("; ")),
            "filter and masquerade steered services elsewhere: on the instances, or at tc ingress before gray",
        )];
    }
    let unread: Vec<_> = [&host.nft, &host.iptables]
        .into_iter()
        .filter_map(|r| r.as_ref().err())
        .filter(|e| e.kind() != std::io::ErrorKind::NotFound)
        .map(ToString::to_string)
        .collect();
    vec![if !unread.is_empty() {
        warn(format!("cannot list the firewall: {}", unread.join("; ")), "run gray doctor as root")
    } else if host.nft.is_err() && host.iptables.is_err() {
        ok("neither nft nor iptables is installed")
    } else {
        ok("no rules in the forwarding path")
    }]
}

/// Reads `nft list ruleset`. A chain's rules are the lines directly inside it.
pub(super) fn nft(ruleset: &str) -> Vec<Base> {
    let (mut chains, mut table, mut open): (Vec<Base>, String, Option<Base>) =
        (Vec::new(), String::new(), None);
    let mut depth = 0usize;
    for line in ruleset.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let name = |prefix| line.strip_prefix(prefix).and_then(|l: &str| l.strip_suffix('{')).map(str::trim);
        if depth == 0
            && let Some(name) = name("table ")
        {
            name.clone_into(&mut table);
        } else if depth == 1
            && let Some(chain) = name("chain ")
        {
            open =
                Some(Base { name: format!("{table} {chain}"), hook: String::new(), drops: false, rules: 0 });
        } else if depth == 2
            && let Some(chain) = &mut open
        {
            if let Some(hook) = line.strip_prefix("type ").and_then(|l| l.split(" hook ").nth(1)) {
                chain.hook = hook.split_whitespace().next().unwrap_or_default().to_owned();
                chain.drops = line.contains("policy drop");
            } else if line == "}" {
                chains.extend(open.take().filter(|c| !c.hook.is_empty()));
            } else if !line.starts_with("comment ") {
                chain.rules += 1;
            }
        }
        let (opens, closes) = braces(line);
        depth = (depth + opens).saturating_sub(closes);
    }
    chains
}

/// Braces outside of quotes.
fn braces(line: &str) -> (usize, usize) {
    let (mut opens, mut closes, mut quoted) = (0, 0, false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' if !quoted => opens += 1,
            '}' if !quoted => closes += 1,
            _ => {}
        }
    }
    (opens, closes)
}

/// Reads `iptables-save`.
pub(super) fn iptables(save: &str) -> Vec<Base> {
    let (mut chains, mut table): (Vec<Base>, &str) = (Vec::new(), "");
    let mut first = 0;
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            (table, first) = (name.trim(), chains.len());
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut fields = chain.split_whitespace();
            let (name, policy) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            // Chains of users have no policy.
            if policy != "-" && chains.len() - first < BUILT_IN {
                chains.push(Base {
                    name: format!("{table} {name}"),
                    hook: name.to_lowercase(),
                    drops: policy == "DROP",
                    rules: 0,
                });
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let hook = rule.split_whitespace().next().unwrap_or_default().to_lowercase();
            chains[first..].iter_mut().filter(|c| c.hook == hook).for_each(|c| c.rules += 1);
        }
    }
    chains
}

#[cfg(test)]
mod tests;
