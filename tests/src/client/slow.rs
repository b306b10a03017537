//! The 10 MB transfers of `curl`, made to last: curl's pipe is read or fed in small parts, so that something can happen
//! in the middle. (curl's own `--limit-rate` lets 10 MB pass at once where the network is fast.)

use std::io::{Read, Write};
use std::net::IpAddr;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::curl;
use crate::place::Place;
use crate::server::Nginx;
use crate::server::nginx::FILE_BYTES;

const PARTS: u32 = 100;
const PART: usize = FILE_BYTES / PARTS as usize;

/// As `curl::download_10mb`, for at least as long as this.
pub fn download_10mb(place: &Place, url: &str, lasts: Duration) -> Result<()> {
    let mut command = curl::command(place);
    let command = command.arg(url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start curl")?;
    let mut body = Vec::with_capacity(FILE_BYTES);
    let mut stdout = child.stdout.take().context("curl has no stdout")?;
    loop {
        // Smaller at the end of the stream only.
        let n = (&mut stdout).take(PART as u64).read_to_end(&mut body)?;
        if n < PART {
            break;
        }
        std::thread::sleep(lasts / PARTS);
    }
    curl::downloaded(&curl::answer(&Output { stdout: body, ..end(child)? })?)
}

/// As `curl::upload_10mb`, for at least as long as this.
pub fn upload_10mb(
    place: &Place,
    address: IpAddr,
    port: u16,
    servers: &[&Nginx],
    lasts: Duration,
) -> Result<String> {
    let (name, url) = curl::upload_url(address, port);
    let mut command = curl::command(place);
    let _ =
        command.args(["-T", "-", &url]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start curl")?;
    let mut stdin = child.stdin.take().context("curl has no stdin")?;
    for part in curl::wanted().chunks(PART) {
        // A curl that gave up says why below.
        if stdin.write_all(part).is_err() {
            break;
        }
        std::thread::sleep(lasts / PARTS);
    }
    drop(stdin);
    curl::uploaded(&curl::answer(&end(child)?)?, &name, servers)
}

fn end(child: Child) -> Result<Output> {
    child.wait_with_output().context("await curl")
}
