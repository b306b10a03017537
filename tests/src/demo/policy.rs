//! examples/demo.yaml as the demo applies it, and what the demo knows of it. It changes one number only.

use anyhow::{Result, ensure};

/// The file in the repository, as it was when this was compiled.
pub(super) const TEXT: &str = include_str!("../../../examples/demo.yaml");

pub(super) const SERVICE: &str = "shop";
pub(super) const PORT_STABLE: u16 = 80;
pub(super) const PORT_GRAY: u16 = 8080;

/// On the lists of the document.
pub(super) const LISTED: &[&str] = &["198.18.10.3", "fd00:18:10::3", "cart"];
/// Added live, by list.
pub(super) const ADDED: &[(&str, &[&str])] =
    &[("early", &["198.18.11.7", "fd00:18:11::7"]), ("early-callers", &["billing"])];
/// Programs on the edge host, each in a cgroup of its own.
pub(super) const CALLERS: &[&str] = &["cart", "search", "billing", "mail"];

const PERCENT: &str = "percent: 0,";

/// The document with another percentage.
pub(super) fn with_percent(percent: u32) -> Result<String> {
    ensure!(TEXT.matches(PERCENT).count() == 1, "examples/demo.yaml has not exactly one `{PERCENT}`");
    Ok(TEXT.replacen(PERCENT, &format!("percent: {percent},"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{vip4, vip6};

    #[test]
    fn the_example_names_the_demos_world() {
        for listed in LISTED {
            assert!(TEXT.contains(listed), "{listed}");
        }
        assert!(TEXT.contains(&format!("listen: [\"{}:80\", \"[{}]:80\"]", vip4(0), vip6(0))));
        assert!(with_percent(10).unwrap().contains("percent: 10, salt"));
    }
}
