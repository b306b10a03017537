//! The check after a test: gray left no pin, program, qdisc, process or file in the world. It removes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::agent::Agent;
use crate::bpf;
use crate::command::run;
use crate::link;
use crate::netns::Netns;
use crate::skip;
use crate::world::World;

/// Uninstalls, then fails with everything that is still there.
///
/// # Panics
/// When the uninstall fails, or something is left.
#[track_caller]
pub fn assert_none(world: &World, agent: Agent) {
    let (bpffs, state, socket) =
        (agent.bpffs().to_owned(), agent.state_dir().to_owned(), agent.socket().to_owned());
    let binary = agent.binary().to_owned();
    if let Err(e) = agent.uninstall() {
        panic!("gray uninstall failed: {e:#}");
    }
    let mut left = find(world).unwrap_or_else(|e| panic!("could not look for leftovers: {e:#}"));
    left.extend(files(&bpffs, &state, &socket));
    left.extend(processes(world, &binary));
    assert!(left.is_empty(), "gray left behind:\n  {}", left.join("\n  "));
}

/// What is attached in the namespaces and cgroups of the world, one line each.
pub fn find(world: &World) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for ns in world.namespaces() {
        left.extend(in_namespace(&ns).with_context(|| format!("look into {}", ns.name()))?);
    }
    for path in cgroups(world.lab().cgroup().path()) {
        for &(attach_type, name) in bpf::CGROUP_TYPES {
            for id in bpf::on_cgroup(&path, attach_type)? {
                left.push(format!("cgroup {}: {name}: program {id}", path.display()));
            }
        }
    }
    Ok(left)
}

fn in_namespace(ns: &Netns) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let mut clsact = Vec::new();
    for qdisc in json_list(&run(ns.command("tc").args(["-j", "qdisc", "show"]))?)? {
        if matches!(qdisc["kind"].as_str(), Some("clsact" | "ingress")) {
            left.push(format!("{} {}: qdisc {}", ns.name(), qdisc["dev"], qdisc["kind"]));
            clsact.extend(qdisc["dev"].as_str().map(str::to_owned));
        }
    }
    // Without tcx a program needs the qdisc, and each look is a process.
    for link in link::list(ns)?.into_iter().filter(|l| skip::tcx() || clsact.contains(&l.ifname)) {
        for (attach_type, name) in [(bpf::TCX_INGRESS, "tcx/ingress"), (bpf::TCX_EGRESS, "tcx/egress")] {
            for id in bpf::on_interface(ns, &link.ifname, attach_type)? {
                left.push(format!("{} {}: {name}: program {id}", ns.name(), link.ifname));
            }
        }
    }
    for (attach_type, name) in [(bpf::SK_LOOKUP, "sk_lookup"), (bpf::FLOW_DISSECTOR, "flow_dissector")] {
        for id in bpf::on_netns(ns, attach_type)? {
            left.push(format!("{}: {name}: program {id}", ns.name()));
        }
    }
    for link in json_list(&run(ns.command("ip").args(["-j", "-d", "link", "show"]))?)? {
        if let Some(xdp) = link.get("xdp") {
            left.push(format!("{} {}: xdp: {xdp}", ns.name(), link["ifname"]));
        }
    }
    Ok(left)
}

fn json_list(text: &str) -> Result<Vec<Value>> {
    if text.trim().is_empty() { Ok(Vec::new()) } else { serde_json::from_str(text).context("read JSON") }
}

/// Pins, and files of the agent other than logs.
fn files(bpffs: &Path, state: &Path, socket: &Path) -> Vec<String> {
    let mut left: Vec<String> = walk(bpffs).iter().map(|p| format!("pin {}", p.display())).collect();
    if bpffs.exists() {
        left.push(format!("bpffs directory {}", bpffs.display()));
    }
    if socket.exists() {
        left.push(format!("socket {}", socket.display()));
    }
    let is_log = |p: &PathBuf| p.extension().is_some_and(|e| e == "log");
    let kept = walk(state).into_iter().filter(|p| !is_log(p));
    left.extend(kept.map(|p| format!("state {}", p.display())));
    left
}

/// Processes of the binary in the lab's cgroups.
fn processes(world: &World, binary: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for dir in cgroups(world.lab().cgroup().path()) {
        let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary) {
                let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&words).replace('\0', " ");
                left.push(format!("process {pid}: {line}"));
            }
        }
    }
    left
}

/// A cgroup and all below it.
fn cgroups(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_path_buf()];
    all.extend(walk(root).into_iter().filter(|p| p.is_dir()));
    all
}

/// Everything below a directory; nothing when it is not there.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(walk(&path));
        }
        all.push(path);
    }
    all
}
