//! One session with a server: dialling from a chosen source, asking, and checking the answer.

mod http;
mod line;
mod socket;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use super::report::Failure;
use super::{LoadSpec, Mode};

/// A checked answer.
#[derive(Debug)]
pub(super) struct Answer {
    name: String,
    version: String,
    /// The server saw our own address.
    pub peer_kept: bool,
}

impl Answer {
    pub fn server(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}

/// A failed request: its kind, and what happened in words.
#[derive(Debug)]
pub(super) struct Fault {
    pub kind: Failure,
    pub what: String,
}

impl Fault {
    fn new(kind: Failure, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }

    /// An I/O error while doing `what`.
    fn io(what: &str, e: &io::Error) -> Self {
        use io::ErrorKind as K;
        let kind = match e.kind() {
            K::ConnectionRefused => Failure::Refused,
            K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted | K::NotConnected => Failure::Reset,
            K::UnexpectedEof => Failure::Closed,
            K::TimedOut | K::WouldBlock => Failure::TimeOut,
            K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown => Failure::Unreachable,
            K::AddrNotAvailable | K::AddrInUse => Failure::Local,
            _ if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS)) => {
                Failure::Local
            }
            _ => Failure::Other,
        };
        Self::new(kind, format!("{what}: {e}"))
    }
}

pub(super) enum Session {
    Http(http::Http),
    Lines(line::Lines),
    Datagrams { socket: UdpSocket, connected: bool },
}

impl Session {
    /// Dials; returns the local address too.
    pub fn open(spec: &LoadSpec, source: Option<IpAddr>) -> Result<(Self, SocketAddr), Fault> {
        if let Mode::Udp { connected, .. } = spec.mode {
            let socket =
                socket::udp(spec, source, connected).map_err(|e| Fault::io("open a UDP socket", &e))?;
            if connected {
                expect_peer("getpeername", socket.peer_addr(), spec.target)?;
            }
            let local = socket.local_addr().map_err(|e| Fault::io("getsockname", &e))?;
            return Ok((Self::Datagrams { socket, connected }, local));
        }
        let stream: TcpStream = socket::tcp(spec, source).map_err(|e| Fault::io("connect", &e))?;
        expect_peer("getpeername", stream.peer_addr(), spec.target)?;
        let local = stream.local_addr().map_err(|e| Fault::io("getsockname", &e))?;
        let session = match spec.mode {
            Mode::Http { .. } => Self::Http(http::Http::new(stream)),
            _ => Self::Lines(line::Lines::greet(stream)?),
        };
        Ok((session, local))
    }

    /// One request; `last`: the connection ends with it, closed by the server first.
    pub fn ask(
        &mut self,
        spec: &LoadSpec,
        local: SocketAddr,
        nonce: &str,
        last: bool,
    ) -> Result<Answer, Fault> {
        match self {
            Self::Http(http) => http.ask(spec, local, nonce, last),
            Self::Lines(lines) => lines.ask(local, nonce, last),
            Self::Datagrams { socket, connected } => line::datagram(socket, *connected, spec, local, nonce),
        }
    }
}

fn expect_peer(what: &str, seen: io::Result<SocketAddr>, wanted: SocketAddr) -> Result<(), Fault> {
    let seen = seen.map_err(|e| Fault::io(what, &e))?;
    let seen = SocketAddr::new(seen.ip().to_canonical(), seen.port());
    if seen == wanted {
        Ok(())
    } else {
        Err(Fault::new(Failure::WrongPeer, format!("{what} is {seen}, dialled {wanted}")))
    }
}

fn expect_nonce(seen: &str, wanted: &str) -> Result<(), Fault> {
    if seen == wanted {
        Ok(())
    } else {
        Err(Fault::new(Failure::WrongNonce, format!("answered nonce {seen:?}, asked {wanted:?}")))
    }
}

/// Whether the server saw us as we are; an unbound UDP socket knows only its port.
fn peer_kept(local: SocketAddr, peer: &str, port: u16) -> bool {
    let Ok(peer) = peer.parse::<IpAddr>() else { return false };
    let same_ip = local.ip().is_unspecified() || local.ip().to_canonical() == peer.to_canonical();
    same_ip && local.port() == port
}
