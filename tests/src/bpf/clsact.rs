//! Interfaces where there is no tcx: clsact filters, seen and added by tc(8).

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{TCX_INGRESS, bpf};
use crate::command::{note, output, run};
use crate::netns::Netns;

const OBJ_PIN: i32 = 6;

/// `union bpf_attr`, the part for BPF_OBJ_PIN.
#[repr(C)]
#[derive(Default)]
struct PinAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// One filter of ours; a drop removes it, and the qdisc when no filter is left.
#[derive(Debug)]
pub(super) struct Filter {
    ns: Arc<Netns>,
    ifname: String,
    way: &'static str,
    preference: String,
}

impl Filter {
    /// After the filters that are there.
    pub fn add(ns: &Arc<Netns>, ifname: &str, attach_type: u32, prog: &OwnedFd) -> Result<Self> {
        // It may be there already.
        let _ = output(ns.command("tc").args(["qdisc", "add", "dev", ifname, "clsact"]))?;
        let way = way(attach_type);
        let last = filters(ns, ifname, way)?.last().map_or(0, |(preference, _)| *preference);
        let filter =
            Self { ns: Arc::clone(ns), ifname: ifname.to_owned(), way, preference: (last + 1).to_string() };
        let pin = pin(prog)?;
        let mut tc = filter.tc("add");
        let done = run(tc.args(["bpf", "direct-action", "object-pinned", &pin]));
        std::fs::remove_file(&pin).with_context(|| format!("remove {pin}"))?;
        done.map(|_| filter)
    }

    fn tc(&self, verb: &str) -> std::process::Command {
        let mut tc = self.ns.command("tc");
        let _ = tc.args(["filter", verb, "dev", &self.ifname, self.way, "protocol", "all"]);
        let _ = tc.args(["pref", &self.preference]);
        tc
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let (ns, ifname) = (&self.ns, &self.ifname);
        let done = run(&mut self.tc("del")).and_then(|_| {
            let left = filters(ns, ifname, "ingress")?.len() + filters(ns, ifname, "egress")?.len();
            if left == 0 {
                let _ = run(ns.command("tc").args(["qdisc", "del", "dev", ifname, "clsact"]))?;
            }
            Ok(())
        });
        if let Err(e) = done {
            note(&format!("remove a foreign filter: {e:#}"));
        }
    }
}

/// Ids of the programs, first to run first.
pub(super) fn programs(ns: &Netns, ifname: &str, attach_type: u32) -> Result<Vec<u32>> {
    Ok(filters(ns, ifname, way(attach_type))?.into_iter().map(|(_, id)| id).collect())
}

fn way(attach_type: u32) -> &'static str {
    if attach_type == TCX_INGRESS { "ingress" } else { "egress" }
}

/// Preference and program of each BPF filter, as tc lists them: by preference, which is the order that they run in.
fn filters(ns: &Netns, ifname: &str, way: &str) -> Result<Vec<(u64, u32)>> {
    let text = run(ns.command("tc").args(["-j", "filter", "show", "dev", ifname, way]))?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<Value> = serde_json::from_str(&text).context("read the output of tc -j filter show")?;
    // Each preference comes twice, first without a program.
    let of = |f: &Value| Some((f["pref"].as_u64()?, f["options"]["prog"]["id"].as_u64()? as u32));
    Ok(list.iter().filter_map(of).collect())
}

/// tc takes programs by path.
fn pin(prog: &OwnedFd) -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = format!("/sys/fs/bpf/lab-foreign-{}-{n}", std::process::id());
    let text = std::ffi::CString::new(path.as_str())?;
    let mut attr = PinAttr { path: text.as_ptr() as u64, fd: prog.as_raw_fd() as u32, flags: 0 };
    let _ = bpf(OBJ_PIN, &mut attr).with_context(|| format!("pin a foreign program at {path}"))?;
    Ok(path)
}
