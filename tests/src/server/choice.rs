//! What the HTTP proxies have in common that look a header up in a list: two servers, and whose requests get the second.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::proxy::{self, Route};
use crate::command::Daemon;
use crate::place::Place;

/// An address of the proxy's own. Requests whose header has one of `values` go to `listed`, all others to `other`.
#[derive(Debug, Clone)]
pub struct Choice {
    pub listen: SocketAddr,
    /// `X-App-Id`
    pub header: String,
    pub values: Vec<String>,
    pub listed: SocketAddr,
    pub other: SocketAddr,
}

/// The values as a file, each on a line that ends with `rest`.
pub(super) fn list(dir: &Path, values: &[String], rest: &str) -> Result<PathBuf> {
    let path = dir.join("values");
    let text: String = values.iter().map(|v| format!("{v}{rest}\n")).collect();
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Starts the proxy, and waits until it listens.
pub(super) fn listen(
    what: &str,
    command: &mut Command,
    log: &Path,
    place: &Place,
    choice: &Choice,
) -> Result<Daemon> {
    proxy::listen(what, command, log, place, &[Route::new(choice.listen, choice.other)])
}
