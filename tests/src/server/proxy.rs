//! What the proxies have in common: routes, a directory, and the wait until all of them listen.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::iperf::listeners;
use crate::command::{Daemon, wait_for};
use crate::place::Place;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address of the proxy's own, and the servers (in turn, if more than one) behind it.
#[derive(Debug, Clone)]
pub struct Route {
    pub listen: SocketAddr,
    pub to: Vec<SocketAddr>,
}

impl Route {
    pub fn new(listen: SocketAddr, to: SocketAddr) -> Self {
        Self { listen, to: vec![to] }
    }
}

/// A directory of its own for one proxy.
pub(super) fn directory(temp: &Path, what: &str, place: &Place) -> Result<PathBuf> {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = temp.join(format!("{what}-{}-{n}", place.ns.name()));
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    Ok(dir)
}

/// Starts it, and waits until there is one listener more for each route.
pub(super) fn listen(
    what: &str,
    command: &mut Command,
    log: &Path,
    place: &Place,
    routes: &[Route],
) -> Result<Daemon> {
    let ports: std::collections::BTreeSet<u16> = routes.iter().map(|r| r.listen.port()).collect();
    let count = || ports.iter().map(|p| listeners(place, *p)).sum::<usize>();
    let wanted = count() + routes.len();
    let mut daemon = Daemon::spawn(what, command, log)?;
    wait_for(&format!("{what} to listen"), Duration::from_secs(10), || {
        daemon.check_alive()?;
        Ok(count() >= wanted)
    })?;
    Ok(daemon)
}
