//! One TCP connection to an echo server, held in the hand: its port is chosen, and it can be forgotten without a word.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gray_tests::{command::wait_for, netns::Netns, pace, sys::set_int_option};
use socket2::{Domain, Socket, Type};

/// Some tests of this file run beside others that fill this machine's queues: a segment may be lost five times on end.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Talk {
    stream: BufReader<TcpStream>,
    /// Who answers, `name/version`.
    pub server: String,
    asked: u32,
}

impl Talk {
    /// From this address and port, also when the port is in use towards another address.
    pub fn open(ns: &Netns, from: SocketAddr, to: SocketAddr) -> Result<Self> {
        Self::open_as(ns, from, to, from.ip())
    }

    /// The same; the server takes the client for `seen`.
    pub fn open_as(ns: &Netns, from: SocketAddr, to: SocketAddr, seen: IpAddr) -> Result<Self> {
        let dial = || -> Result<Option<TcpStream>> {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&from.into()).with_context(|| format!("bind {from}"))?;
            match socket.connect_timeout(&to.into(), pace::patience(PATIENCE)) {
                // The last connection's final acknowledgement is still on its way (LAST_ACK).
                Err(e) if e.kind() == ErrorKind::AddrNotAvailable => return Ok(None),
                done => done.context("connect")?,
            }
            socket.set_read_timeout(Some(pace::patience(PATIENCE)))?;
            Ok(Some(socket.into()))
        };
        let mut stream = None;
        wait_for("the last connection's end", PATIENCE, || {
            stream = ns.enter(dial)?;
            Ok(stream.is_some())
        })?;
        let stream = stream.context("no connection")?;
        let mut talk = Self { stream: BufReader::new(stream), server: String::new(), asked: 0 };
        let banner = talk.line().context("the banner")?;
        let words: Vec<&str> = banner.split(' ').collect();
        ensure!(words.len() == 4 && words[2] == seen.to_string(), "a banner of {banner:?}");
        talk.server = format!("{}/{}", words[0], words[1]);
        Ok(talk)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let n = self.stream.read_line(&mut line)?;
        // At once: on a busy machine the server would say it again before a late acknowledgement, and who speaks first when its entry
        // is forgotten ends the connection (README, limits).
        set_int_option(self.stream.get_ref().as_fd(), libc::SOL_TCP, libc::TCP_QUICKACK, 1)
            .context("TCP_QUICKACK")?;
        ensure!(line.ends_with('\n'), "end of stream after {n} bytes");
        Ok(line.trim_end().to_owned())
    }

    /// One line there and back. `nonce` makes it nobody else's.
    pub fn ask(&mut self, nonce: &str) -> Result<()> {
        self.asked += 1;
        let said = format!("{nonce}-{}", self.asked);
        self.stream.get_mut().write_all(format!("{said}\n").as_bytes())?;
        let heard = self.line()?;
        ensure!(heard == said, "said {said:?}, heard {heard:?}");
        Ok(())
    }

    /// The server closes first, and has the port in TIME_WAIT then.
    pub fn bye(mut self) -> Result<()> {
        self.stream.get_mut().write_all(b"bye x\n")?;
        let heard = self.line()?;
        ensure!(heard == "bye x", "heard {heard:?}");
        let mut rest = String::new();
        ensure!(self.stream.read_line(&mut rest)? == 0, "after the end: {rest:?}");
        Ok(())
    }

    /// As after a power cut: the socket is gone, and its peer was told nothing.
    pub fn forget(self) -> Result<()> {
        let stream = self.stream.into_inner();
        set_int_option(stream.as_fd(), libc::SOL_TCP, libc::TCP_REPAIR, 1).context("TCP_REPAIR")
    }
}
