//! One HTTP/1.1 connection of the load generator: GET, an answer with Content-Length, JSON that is checked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde::Deserialize;

use super::{Answer, Fault, expect_nonce, peer_kept};
use crate::client::LoadSpec;
use crate::client::report::Failure;

pub(in crate::client) struct Http {
    stream: BufReader<TcpStream>,
}

/// What our server and the lab's nginx answer.
#[derive(Deserialize)]
struct Body {
    name: String,
    version: String,
    nonce: String,
    peer: String,
    peer_port: u16,
}

impl Http {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub fn ask(
        &mut self,
        spec: &LoadSpec,
        local: SocketAddr,
        nonce: &str,
        last: bool,
    ) -> Result<Answer, Fault> {
        let request = compose(spec, nonce, last);
        self.stream.get_mut().write_all(request.as_bytes()).map_err(|e| Fault::io("send a request", &e))?;
        let length = self.read_head()?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|e| Fault::io("read a body", &e))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let body: Body = serde_json::from_str(&text).map_err(|e| bad(&format!("the body ({e})"), &text))?;
        expect_nonce(&body.nonce, nonce)?;
        if last {
            self.await_close()?;
        }
        let kept = peer_kept(local, &body.peer, body.peer_port);
        Ok(Answer { name: body.name, version: body.version, peer_kept: kept })
    }

    /// Status 200 and the body's length.
    fn read_head(&mut self) -> Result<usize, Fault> {
        let status = self.read_line()?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(bad("status 200", &status));
        }
        let mut length = None;
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return length.ok_or_else(|| bad("a Content-Length", "none"));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse().map_err(|_| bad("a Content-Length", value))?);
            }
        }
    }

    fn read_line(&mut self) -> Result<String, Fault> {
        let mut line = String::new();
        let n = self.stream.read_line(&mut line).map_err(|e| Fault::io("read a head", &e))?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(Fault::new(Failure::Closed, format!("end of stream in a head after {n} bytes"))),
        }
    }

    fn await_close(&mut self) -> Result<(), Fault> {
        let mut rest = Vec::new();
        let n = self.stream.read_to_end(&mut rest).map_err(|e| Fault::io("await the close", &e))?;
        if n == 0 { Ok(()) } else { Err(bad("the end of stream", &String::from_utf8_lossy(&rest))) }
    }
}

fn compose(spec: &LoadSpec, nonce: &str, last: bool) -> String {
    let joint = if spec.path.contains('?') { '&' } else { '?' };
    let mut request = format!("GET {}{joint}nonce={nonce} HTTP/1.1\r\nHost: {}\r\n", spec.path, spec.target);
    for (name, value) in &spec.headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += if last { "Connection: close\r\n\r\n" } else { "\r\n" };
    request
}

fn bad(what: &str, got: &str) -> Fault {
    Fault::new(Failure::BadAnswer, format!("expected {what}, got {got:?}"))
}
