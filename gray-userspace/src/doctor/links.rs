//! The check of links (`gray workload set --link`): whether they can follow here, and whether the calls of who has one do.

use super::{DoctorInput, Finding, fail, host::Host, ok, warn};
use crate::sys::kernel::{KernelVersion, MESSAGES};

/// What an agent knows of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The agent has a connect path.
    pub connect: bool,
    /// And says tags, or believes those of others.
    pub tags: bool,
    /// Why they are not in force, though they should be.
    pub error: Option<String>,
    pub workloads: Vec<Linked>,
}

/// A workload that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    pub workload: String,
    pub calls: u64,
    /// Of these: in another lane than their request.
    pub others: u64,
    /// What is said of it when these are too many.
    pub text: Option<String>,
}

pub(super) fn follow(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let links = &input.links;
    let lacks = lacks(links, host);
    if links.workloads.is_empty() {
        let can = lacks.map_or_else(|| "one can be made".into(), |(why, _)| why);
        return vec![ok(format!("no workload has one; {can}"))];
    }
    if let Some((why, fix)) = lacks {
        let names: Vec<&str> = links.workloads.iter().map(|l| l.workload.as_str()).collect();
        return vec![fail(format!("{why}: what {} calls is in no lane by its link", names.join(", ")), fix)];
    }
    let mut well = Vec::new();
    let mut found: Vec<Finding> = Vec::new();
    for l in &links.workloads {
        match &l.text {
            None => {
                well.push(format!("{}: {} of {} calls in another lane", l.workload, l.others, l.calls));
            }
            Some(text) => found.push(warn(
                text,
                "pass the lane on in a header that the called service reads (claims), or call by a new connection each time",
            )),
        }
    }
    if found.is_empty() {
        found.push(ok(well.join("; ")));
    }
    found
}

/// What is not there, and what to do.
fn lacks(links: &Links, host: &Host) -> Option<(String, String)> {
    let headers = "let the workload pass its lane on in headers";
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    if let Some(why) = KernelVersion::parse(&release).and_then(|v| v.needs(MESSAGES, "a link")) {
        return Some((why, format!("boot a newer kernel, or {headers}")));
    }
    if !links.connect {
        return Some(("a link needs the connect path".into(), "start the agent without --no-connect".into()));
    }
    if !links.tags {
        let fix =
            "start the agent with --tags for callers on this node, with --trust-tags for those of others";
        return Some(("a link needs tags".into(), fix.into()));
    }
    let error = links.error.as_ref()?;
    Some((error.clone(), format!("start the agent again; if that does not help, {headers}")))
}
