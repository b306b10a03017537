//! The line protocols: TCP echo with a banner, UDP echo. Formats are those of `server::echo`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use super::socket::dialled;
use super::{Answer, Fault, expect_nonce, expect_peer, peer_kept};
use crate::client::LoadSpec;
use crate::client::report::Failure;

pub(in crate::client) struct Lines {
    stream: BufReader<TcpStream>,
    /// name, version, peer, peer port: said once, on connect.
    banner: (String, String, String, u16),
}

impl Lines {
    pub fn greet(stream: TcpStream) -> Result<Self, Fault> {
        let mut stream = BufReader::new(stream);
        let line = read_line(&mut stream, "the banner")?;
        let banner = words(&line).ok_or_else(|| bad("the banner", &line))?;
        Ok(Self { stream, banner })
    }

    pub fn ask(&mut self, local: SocketAddr, nonce: &str, last: bool) -> Result<Answer, Fault> {
        let prefix = if last { "bye " } else { "" };
        let sent = self.stream.get_mut().write_all(format!("{prefix}{nonce}\n").as_bytes());
        sent.map_err(|e| Fault::io("send a line", &e))?;
        let line = read_line(&mut self.stream, "an echo")?;
        let echoed = line.strip_prefix(prefix).ok_or_else(|| bad("an echo", &line))?;
        expect_nonce(echoed, nonce)?;
        if last {
            let mut rest = Vec::new();
            let n = self.stream.read_to_end(&mut rest).map_err(|e| Fault::io("await the close", &e))?;
            if n > 0 {
                return Err(bad("the end of stream", &String::from_utf8_lossy(&rest)));
            }
        }
        let (name, version, peer, port) = self.banner.clone();
        Ok(Answer { name, version, peer_kept: peer_kept(local, &peer, port) })
    }
}

pub(in crate::client) fn datagram(
    socket: &UdpSocket,
    connected: bool,
    spec: &LoadSpec,
    local: SocketAddr,
    nonce: &str,
) -> Result<Answer, Fault> {
    let ask = nonce.as_bytes();
    let sent = if connected { socket.send(ask) } else { socket.send_to(ask, dialled(spec)) };
    let _ = sent.map_err(|e| Fault::io("send a datagram", &e))?;
    let mut buffer = [0; 2048];
    let (n, from) = socket.recv_from(&mut buffer).map_err(|e| Fault::io("receive a datagram", &e))?;
    expect_peer("the datagram's source", Ok(from), spec.target)?;
    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
    let parts: Vec<&str> = text.split(' ').collect();
    let [name, version, echoed, peer, port] = parts[..] else { return Err(bad("a datagram", &text)) };
    expect_nonce(echoed, nonce)?;
    let port = port.parse().map_err(|_| bad("a port", &text))?;
    Ok(Answer { name: name.into(), version: version.into(), peer_kept: peer_kept(local, peer, port) })
}

fn read_line(stream: &mut BufReader<TcpStream>, what: &str) -> Result<String, Fault> {
    let mut line = String::new();
    let n = stream.read_line(&mut line).map_err(|e| Fault::io(&format!("read {what}"), &e))?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(Fault::new(Failure::Closed, format!("end of stream in {what} after {n} bytes"))),
    }
}

fn words(line: &str) -> Option<(String, String, String, u16)> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [name, version, peer, port] = parts[..] else { return None };
    Some((name.into(), version.into(), peer.into(), port.parse().ok()?))
}

fn bad(what: &str, got: &str) -> Fault {
    Fault::new(Failure::BadAnswer, format!("expected {what}, got {got:?}"))
}
