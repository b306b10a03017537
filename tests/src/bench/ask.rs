//! The agent's API over its socket, one connection for many requests: what a change costs without a process for each.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

#[derive(Debug)]
pub struct Ask {
    stream: BufReader<UnixStream>,
}

impl Ask {
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The answer, which must be 200.
    pub fn get(&mut self, path: &str) -> Result<Value> {
        self.send(path, &format!("GET {path} HTTP/1.1\r\nhost: gray\r\n\r\n"))
    }

    /// The answer, which must be 200.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gray\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(path, &(head + &body))
    }

    fn send(&mut self, path: &str, request: &str) -> Result<Value> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut status = String::new();
        let _ = self.stream.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            ensure!(self.stream.read_line(&mut line)? > 0, "the agent closed the connection");
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(n) = line.strip_prefix("content-length:") {
                length = n.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        ensure!(status.contains(" 200 "), "{path}: {status}{}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }
}
