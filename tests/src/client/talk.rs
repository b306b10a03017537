//! One HTTP/1.1 connection, spoken by hand: what is sent is the caller's, byte by byte; answers are read whole.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{netns::Netns, sys};

/// A connection that stays.
pub struct Talk {
    stream: TcpStream,
    read: BufReader<TcpStream>,
}

/// What the lab's server says of a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    fn of(&self, key: &str) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json[key].as_str().unwrap_or_default().to_owned()
    }

    pub fn version(&self) -> String {
        self.of("version")
    }

    pub fn nonce(&self) -> String {
        self.of("nonce")
    }

    /// The SHA-256 of the body that the server got.
    pub fn body_sha256(&self) -> String {
        self.of("body_sha256")
    }
}

impl Talk {
    pub fn connect(ns: &Netns, to: SocketAddr) -> Result<Self> {
        let stream = ns.enter(|| TcpStream::connect(to))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { read: BufReader::new(stream.try_clone()?), stream })
    }

    /// The DSCP of what is sent from now on.
    pub fn mark_dscp(&self, dscp: u8) -> Result<()> {
        let (level, option) = match self.stream.peer_addr()? {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        Ok(sys::set_int_option(self.stream.as_fd(), level, option, i32::from(dscp) << 2)?)
    }

    /// The TTL or hop limit of what is sent from now on.
    pub fn mark_hops(&self, hops: u8) -> Result<()> {
        let (level, option) = match self.stream.peer_addr()? {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        };
        Ok(sys::set_int_option(self.stream.as_fd(), level, option, i32::from(hops))?)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// The next answer.
    pub fn answer(&mut self) -> Result<Answer> {
        let (status, length) = self.read_head()?;
        let mut body = vec![0; length];
        self.read.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }

    /// The next answer, to a HEAD.
    pub fn head(&mut self) -> Result<Answer> {
        Ok(Answer { status: self.read_head()?.0, body: Vec::new() })
    }

    fn read_head(&mut self) -> Result<(u16, usize)> {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if self.read.read_line(&mut line)? == 0 {
                bail!("the connection ended before an answer");
            }
            let line = line.trim_end();
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest.split(' ').next().unwrap_or_default().parse()?;
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            } else if line.is_empty() && status >= 200 {
                return Ok((status, length));
            }
        }
    }

    /// A GET with that APP ID.
    pub fn get(&mut self, app: &str, nonce: &str) -> Result<Answer> {
        self.send(get(app, nonce).as_bytes())?;
        self.answer()
    }
}

/// The text of such a GET.
pub fn get(app: &str, nonce: &str) -> String {
    format!("GET /?nonce={nonce} HTTP/1.1\r\nHost: web\r\nX-App-Id: {app}\r\nAccept: */*\r\n\r\n")
}
