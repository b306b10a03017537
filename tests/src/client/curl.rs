//! Thin wrappers of curl: one request, and 10 MB transfers compared byte by byte. Nothing is retried.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::command::output;
use crate::pace;
use crate::pattern;
use crate::place::Place;
use crate::server::Nginx;
use crate::server::nginx::FILE_BYTES;

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The peer that curl's socket names (`getpeername`).
    pub remote_ip: String,
    pub remote_port: u16,
    pub local_ip: String,
    /// Seconds.
    pub time_total: f64,
}

#[derive(Deserialize)]
struct WriteOut {
    http_code: u16,
    remote_ip: String,
    remote_port: u16,
    local_ip: String,
    time_total: f64,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("the answer is no JSON: {}", self.text()))
    }
}

/// Runs curl with a time-out of 30 s (`pace`); `args` are added before the URL (`-H`, `--interface`, `-T` ...).
/// An error when curl's exit code is not 0; any HTTP status is an answer.
pub fn get(place: &Place, url: &str, args: &[&str]) -> Result<Answer> {
    let mut command = command(place);
    let out = output(command.args(args).arg(url))?;
    answer(&out).with_context(|| format!("curl {args:?} {url}"))
}

/// curl, without what it shall do.
pub(super) fn command(place: &Place) -> Command {
    let mut command = place.command("curl");
    let seconds = pace::patience(Duration::from_secs(30)).as_secs().to_string();
    let _ = command.args(["-sS", "--max-time", &seconds, "--noproxy", "*", "-w", "%{stderr}%{json}"]);
    command
}

/// What curl wrote.
pub(super) fn answer(out: &Output) -> Result<Answer> {
    let err = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        bail!("{}: {err}", out.status);
    }
    let line = err.lines().last().context("curl wrote no report")?;
    let w: WriteOut = serde_json::from_str(line).with_context(|| format!("read curl's report {line}"))?;
    Ok(Answer {
        status: w.http_code,
        body: out.stdout.clone(),
        remote_ip: w.remote_ip,
        remote_port: w.remote_port,
        local_ip: w.local_ip,
        time_total: w.time_total,
    })
}

/// 10 MB from nginx at `url` (`.../file`), compared with what it serves.
pub fn download_10mb(place: &Place, url: &str) -> Result<()> {
    downloaded(&get(place, url, &[])?)
}

/// 10 MB to the address dialled, compared with what one of the `servers` stored; returns its version.
pub fn upload_10mb(
    place: &Place,
    temp: &Path,
    address: IpAddr,
    port: u16,
    servers: &[&Nginx],
) -> Result<String> {
    let (name, url) = upload_url(address, port);
    let file = temp.join(&name);
    fs::write(&file, wanted())?;
    let answer = get(place, &url, &["-T", &file.to_string_lossy()]);
    fs::remove_file(&file)?;
    uploaded(&answer?, &name, servers)
}

/// A name of its own for an upload, and where it goes.
pub(super) fn upload_url(address: IpAddr, port: u16) -> (String, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("up-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let url = format!("http://{}/up/{name}", std::net::SocketAddr::new(address, port));
    (name, url)
}

/// Checks a download.
pub(super) fn downloaded(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 200, "download: status {}", answer.status);
    ensure!(answer.body.len() == FILE_BYTES, "download: {} of {FILE_BYTES} bytes", answer.body.len());
    compare("download", &answer.body)
}

/// Checks an upload; the version that has it.
pub(super) fn uploaded(answer: &Answer, name: &str, servers: &[&Nginx]) -> Result<String> {
    ensure!(answer.status == 201, "upload: status {}: {}", answer.status, answer.text());
    let stored = servers.iter().find_map(|s| s.uploaded(name).ok().map(|body| (s, body)));
    let (server, body) = stored.context("no server has the upload")?;
    ensure!(body.len() == FILE_BYTES, "upload: {} of {FILE_BYTES} bytes", body.len());
    compare("upload", &body)?;
    Ok(server.version.clone())
}

/// What both ways carry; made once, as an unoptimised lab takes a second for it.
pub(super) fn wanted() -> &'static [u8] {
    static WANTED: LazyLock<Vec<u8>> = LazyLock::new(|| pattern::bytes(FILE_BYTES));
    &WANTED
}

/// All bytes, and not their digests, for the same reason.
fn compare(what: &str, got: &[u8]) -> Result<()> {
    if got == wanted() {
        return Ok(());
    }
    let differ: Vec<usize> = (0..wanted().len()).filter(|i| got[*i] != wanted()[*i]).take(10).collect();
    bail!("{what}: wrong bytes at {differ:?} ..., SHA-256 is {}", pattern::sha256(got));
}
