//! Leaving nothing behind: links, maps, filters, state, socket.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;

use super::{choices, drain, files, start, steady};
use crate::{
    api::ApiError,
    cli::UninstallOptions,
    fail::{self, Point},
    kernel::{self, Hook, Pins},
    store::BALLAST,
    sys::{command, kernel::KernelVersion, lock, netlink},
};

/// Removes what an agent with these directories left. Returns what was (or would be) removed.
pub fn uninstall(o: UninstallOptions) -> anyhow::Result<Vec<String>> {
    if let Some(pid) = lock::holder(&o.bpffs)
        && !o.dry_run
    {
        let what = format!("an agent (pid {pid}) uses {}", o.bpffs.display());
        return Err(ApiError::conflict(what, "stop it, then run `gray uninstall` again").into());
    }
    fail::ready()?;
    let mut done = Vec::new();
    if o.bpffs.exists() {
        // Taken, not only looked at: an agent in another pid namespace shows in no list of locks.
        let _lock = if o.dry_run { None } else { Some(lock::DirLock::take(&o.bpffs)?) };
        let pins = Pins::ours(&o.bpffs)?;
        if !o.dry_run {
            kernel::stop_steering(&pins)?;
            fail::point(Point::UninstallStopped)?;
        }
        for path in pins {
            if !o.dry_run {
                kernel::take_off(&path);
            }
            remove(&path, o.dry_run, &mut done)?;
        }
        // Only when nothing of others is in it.
        if !o.dry_run && fs::remove_dir(&o.bpffs).is_ok() {
            done.push(o.bpffs.display().to_string());
        }
    }
    // Filters have no pins: where tcx does not exist, ours are found by their name. Two agents in one network namespace
    // share that name there.
    let clsact = KernelVersion::running().is_ok_and(|v| start::hook(v) == Hook::Clsact);
    if clsact && !o.dry_run {
        for link in netlink::links().unwrap_or_default() {
            let removed = kernel::clear_clsact(&link.name);
            if !removed.is_empty()
                && nobody_filters(&link.name)
                && tc(&["qdisc", "del", "dev", &link.name, "clsact"]).is_some()
            {
                done.push(format!("clsact qdisc of {}", link.name));
            }
            done.extend(removed);
        }
    }
    fail::point(Point::UninstallUnpinned)?;
    let store = ["gray.db", "gray.db-wal", "gray.db-shm", BALLAST, "hash.key", ".hash.key.new", "lock"];
    for name in store.iter().chain(&drain::FILES).chain(&steady::FILES).chain(&files::FILES) {
        remove(&o.state_dir.join(name), o.dry_run, &mut done)?;
    }
    for path in choices::left(&o.state_dir) {
        remove(&path, o.dry_run, &mut done)?;
    }
    // Only when nothing of others is in it.
    if !o.dry_run && fs::remove_dir(&o.state_dir).is_ok() {
        done.push(o.state_dir.display().to_string());
    }
    if std::os::unix::net::UnixStream::connect(&o.socket).is_err() {
        remove(&o.socket, o.dry_run, &mut done)?;
    }
    Ok(done)
}

/// Whether the clsact qdisc of a link has no filter left, also none of others.
fn nobody_filters(link: &str) -> bool {
    ["ingress", "egress"]
        .iter()
        .all(|d| tc(&["filter", "show", "dev", link, d]).is_some_and(|out| out.trim().is_empty()))
}

/// What tc(8) says; `None`: it is not there or fails.
fn tc(args: &[&str]) -> Option<String> {
    command::output("tc", args, Duration::from_secs(5)).ok()
}

fn remove(path: &Path, dry_run: bool, done: &mut Vec<String>) -> anyhow::Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !dry_run {
        fail::point(Point::UninstallRemove)?;
        let removed = if meta.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    done.push(path.display().to_string());
    Ok(())
}
