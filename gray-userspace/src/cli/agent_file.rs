//! The file behind `gray agent --config`: the same keys as the flags, unknown ones refused. Sets no defaults.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    Failure,
    agent::{Attach, LogFormat, Loopback},
    prefix::Prefix,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AgentFile {
    pub state_dir: Option<PathBuf>,
    pub bpffs: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub attach: Vec<Attach>,
    pub cgroup: Option<PathBuf>,
    pub metrics: Option<Loopback>,
    pub log_format: Option<LogFormat>,
    pub flows: Option<u32>,
    pub keep_revisions: Option<u32>,
    pub no_connect: Option<bool>,
    pub policy_dir: Option<PathBuf>,
    pub health_commands: Option<PathBuf>,
    pub release_hooks: Option<PathBuf>,
    pub snat: Vec<IpAddr>,
    pub dsr_source: Vec<IpAddr>,
    pub dsr_from: Vec<Prefix>,
    pub tags: Option<bool>,
    pub trust_tags: Vec<String>,
    pub zone: Option<String>,
    pub splice: Option<bool>,
}

impl AgentFile {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?;
        Self::parse(&text).map_err(|(place, what)| {
            let what = format!("{}{place}: {what}", path.display());
            Failure::usage(what, "the keys are those of `gray agent --help`, without the dashes in front")
        })
    }

    /// On error: place as `:line:column`, and what is wrong in one line.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let bare = text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'));
        if bare {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|e| {
            let e = e.without_snippet();
            let place = e.location().map(|l| format!(":{}:{}", l.line(), l.column())).unwrap_or_default();
            let what = e.to_string();
            // The library puts the place into its message as well.
            let what = what.lines().next().unwrap_or_default();
            (place, what.split(" at line ").next().unwrap_or(what).to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::XdpWish;

    #[test]
    fn reads_every_key() {
        let file = AgentFile::parse(
            "state-dir: /a\nbpffs: /b\nsocket: /c\nattach: [eth0=edge, eth1=backend]\ncgroup: /d\n\
             metrics: '[::1]:9464'\nlog-format: json\nflows: 4096\nno-connect: false\nhealth-commands: /e\npolicy-dir: /f\n\
             snat: [198.18.1.1, 'fd00:18::1']\ndsr-source: [198.18.1.1]\ndsr-from: [198.18.1.0/24, 'fd00:18::/64']\n\
             tags: true\ntrust-tags: [eth1]\nzone: z1\nsplice: true\n",
        )
        .unwrap();
        assert_eq!((file.attach.len(), file.snat.len()), (2, 2));
        assert_eq!((file.dsr_source.len(), file.dsr_from.len()), (1, 2));
        assert_eq!((file.tags, file.trust_tags), (Some(true), vec!["eth1".to_owned()]));
        assert_eq!((file.zone.as_deref(), file.splice), (Some("z1"), Some(true)));
        assert_eq!(
            (file.flows, file.no_connect, file.log_format),
            (Some(4096), Some(false), Some(LogFormat::Json))
        );
        assert_eq!(AgentFile::parse("# nothing\n").unwrap().attach, []);
        let ways =
            AgentFile::parse("attach: [a=edge, b=host:tc, c=backend:xdp, d=edge:auto]\n").unwrap().attach;
        let text: Vec<String> = ways.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["a=edge", "b=host:tc", "c=backend:xdp", "d=edge:auto"]);
        assert_eq!(
            ways.iter().map(|a| a.xdp).collect::<Vec<_>>(),
            [XdpWish::Unsaid, XdpWish::Off, XdpWish::Force, XdpWish::Auto]
        );
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (text, place, word) in [
            ("bpffs: /b\nstate_dir: /a\n", ":2:1", "state_dir"),
            ("attach: [eth0=egde]\n", ":1:", "`egde` is no role"),
            ("attach: [eth0]\n", ":1:", "IFACE=ROLE"),
            ("metrics: 0.0.0.0:1\n", ":1:", "loopback"),
            ("flows: many\n", ":1:8", "u32"),
            ("- a\n", ":1:", ""),
        ] {
            let (at, what) = AgentFile::parse(text).unwrap_err();
            assert!(at.starts_with(place) && what.contains(word), "{text:?}: {at} {what}");
            assert!(!what.contains('\n'), "{what}");
        }
    }
}
