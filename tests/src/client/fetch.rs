//! One large download over HTTP/1.1, compared byte by byte with what is served: a pattern that repeats.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::helper::Helper;
use crate::pattern;
use crate::place::Place;
use crate::sys::monotonic_ns;

/// The pattern's length: odd, so that no segment can take another one's place; short, so that comparing costs little.
const PERIOD: usize = 65_537;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FetchSpec {
    pub dial: SocketAddr,
    pub path: String,
    /// What its `X-App-Id` says.
    pub app: String,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Fetched {
    pub seconds: f64,
}

/// What is served: so many bytes.
pub fn make(path: &Path, bytes: u64) -> Result<()> {
    let part = pattern::bytes(PERIOD);
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut left = bytes;
    while left > 0 {
        let n = left.min(PERIOD as u64);
        file.write_all(&part[..n as usize]).with_context(|| path.display().to_string())?;
        left -= n;
    }
    // Nobody shall write it back while something is measured.
    file.into_inner()?.sync_all().with_context(|| path.display().to_string())
}

impl FetchSpec {
    /// Ready to ask: what the run costs does not include the start of a process.
    pub fn prepare(&self, place: &Place) -> Result<Fetch> {
        Ok(Fetch { helper: Helper::start(place, "fetch", self).context("start the download")? })
    }
}

/// Waits for its start; a drop ends it.
#[derive(Debug)]
pub struct Fetch {
    helper: Helper,
}

impl Fetch {
    /// An error when a byte is another.
    pub fn run(mut self) -> Result<Fetched> {
        Ok(serde_json::from_value(self.helper.ask("go")?)?)
    }
}

pub fn main() -> Result<()> {
    let mut input = std::io::stdin().lines();
    let spec = input.next().context("no spec on stdin")??;
    let spec: FetchSpec = serde_json::from_str(&spec).context("read the spec")?;
    let want = pattern::bytes(PERIOD).repeat(1 + BUFFER.div_ceil(PERIOD));
    say("\"ready\"")?;
    if input.next().is_some() {
        let begun = monotonic_ns();
        let stream = TcpStream::connect(spec.dial).with_context(|| format!("dial {}", spec.dial))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        fetch(&spec, stream, &want)?;
        let seconds = (monotonic_ns() - begun) as f64 / 1e9;
        say(&serde_json::to_string(&Fetched { seconds })?)?;
    }
    Ok(())
}

const BUFFER: usize = 1 << 18;

fn fetch(spec: &FetchSpec, mut stream: TcpStream, want: &[u8]) -> Result<()> {
    let FetchSpec { dial, path, app, bytes } = spec;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nX-App-Id: {app}\r\n\r\n", dial.ip());
    stream.write_all(request.as_bytes()).context("ask")?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let head = loop {
        let n = stream.read(&mut buffer[filled..]).context("read the head")?;
        ensure!(n > 0, "ended in the head");
        filled += n;
        if let Some(at) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let whole = text.starts_with("http/1.1 200 ") && text.contains(&format!("content-length: {bytes}\r\n"));
    ensure!(whole, "another answer: {text}");
    buffer.copy_within(head..filled, 0);
    filled -= head;
    let mut at = 0;
    loop {
        let from = (at % PERIOD as u64) as usize;
        ensure!(buffer[..filled] == want[from..from + filled], "other bytes than served, from {at} on");
        at += filled as u64;
        if at >= *bytes {
            break;
        }
        filled = stream.read(&mut buffer).with_context(|| format!("read after {at} bytes"))?;
        ensure!(filled > 0, "ended after {at} of {bytes} bytes");
    }
    ensure!(at == *bytes, "{at} bytes of {bytes}");
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_another_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bulk");
        let bytes = 3 * BUFFER as u64 + 5;
        make(&path, bytes).unwrap();
        let served = std::fs::read(&path).unwrap();
        let want = pattern::bytes(PERIOD).repeat(1 + BUFFER.div_ceil(PERIOD));
        for bent in [None, Some(0), Some(served.len() - 1), Some(PERIOD)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let dial = listener.local_addr().unwrap();
            let mut body = served.clone();
            if let Some(at) = bent {
                body[at] ^= 1;
            }
            let server = std::thread::spawn(move || {
                let (mut s, _) = listener.accept().unwrap();
                let _ = s.read(&mut [0; 1024]).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                // Whoever has seen a wrong byte does not wait for the rest.
                let _ = s.write_all(head.as_bytes()).and_then(|()| s.write_all(&body));
            });
            let spec = FetchSpec { dial, path: "/".into(), app: "a".into(), bytes };
            let found = fetch(&spec, TcpStream::connect(dial).unwrap(), &want);
            assert_eq!(found.is_ok(), bent.is_none(), "{bent:?}: {found:?}");
            server.join().unwrap();
        }
    }
}
