//! TCP sockets of this thread's network namespace that carry a record of ours, and their end (sock_diag(7)). Needs
//! CAP_NET_ADMIN to close and CAP_BPF to see the records. Knows nothing of what a record says.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::netlink::{DATAGRAM, Datagram, F_ACK, F_DUMP, F_REQUEST, Socket, attributes, frame, messages};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// SYN_SENT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, as bits.
const OPEN: u32 = 1 << 2 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8;
/// Attributes: of the request INET_DIAG_REQ_SK_BPF_STORAGES and SK_DIAG_BPF_STORAGE_REQ_MAP_FD; of an answer
/// INET_DIAG_SK_BPF_STORAGES, SK_DIAG_BPF_STORAGE, SK_DIAG_BPF_STORAGE_MAP_VALUE.
const ASK_STORAGES: u16 = 2;
const ASK_MAP: u16 = 1;
const STORAGES: u16 = 20;
const STORAGE: u16 = 1;
const VALUE: u16 = 3;
const NESTED: u16 = 1 << 15;
/// Bytes of `struct inet_diag_sockid`, and of `struct inet_diag_msg`, in which it follows four bytes.
const ID: usize = 48;
const MSG: usize = 72;
/// Where in it the cookie is.
const COOKIE: usize = 40;

/// An open socket and its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    family: u8,
    id: [u8; ID],
    /// Its own end and its real peer, canonical.
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub record: Vec<u8>,
}

/// Every open TCP socket that has an entry in this socket storage map.
pub fn held(map: BorrowedFd<'_>) -> io::Result<Vec<Held>> {
    let socket = Socket::sock_diag()?;
    let mut out = Vec::new();
    for (seq, family) in [(1, INET), (2, INET6)] {
        let mut body = request(family, &[0; ID]);
        let map = attribute(ASK_MAP, &(map.as_raw_fd() as u32).to_ne_bytes());
        body.extend(attribute(ASK_STORAGES | NESTED, &map));
        socket.send(&frame(BY_FAMILY, F_REQUEST | F_DUMP, seq, &body))?;
        let _: Option<()> = first(&socket, seq, |body| {
            out.extend(parse(body));
            None
        })?;
    }
    Ok(out)
}

/// The cookie (`SO_COOKIE`) of the open TCP socket with these ends; `None`: there is none.
pub fn cookie(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u64>> {
    const SEQ: u32 = 1;
    let socket = Socket::sock_diag()?;
    let (family, id) = id_of(local, peer);
    socket.send(&frame(BY_FAMILY, F_REQUEST, SEQ, &request(family, &id)))?;
    match first(&socket, SEQ, |body| Some(cookie_of(body))) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        found => found.map(Option::flatten),
    }
}

/// Whether the kernel answers that: it says of every socket that it is not there where the module is not (tcp_diag).
pub fn tells_cookies() -> bool {
    let told = || -> io::Result<bool> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let at = listener.local_addr()?;
        let client = TcpStream::connect(at)?;
        Ok(cookie(client.local_addr()?, at)?.is_some())
    };
    told().unwrap_or(false)
}

/// `struct inet_diag_sockid` of any interface and any cookie.
fn id_of(local: SocketAddr, peer: SocketAddr) -> (u8, [u8; ID]) {
    let mut id = [0; ID];
    id[..2].copy_from_slice(&local.port().to_be_bytes());
    id[2..4].copy_from_slice(&peer.port().to_be_bytes());
    let mut family = INET6;
    for (at, ip) in [(4, local.ip()), (20, peer.ip())] {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                family = INET;
                id[at..at + 4].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => id[at..at + 16].copy_from_slice(&ip.octets()),
        }
    }
    // INET_DIAG_NOCOOKIE
    id[COOKIE..].fill(0xff);
    (family, id)
}

/// Two words, the lower one first.
fn cookie_of(body: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    Some(u64::from(word(4 + COOKIE)?) | u64::from(word(8 + COOKIE)?) << 32)
}

/// The first of the answers to a request that there is something in, by `of`; `None`: in none of them.
fn first<T>(socket: &Socket, seq: u32, mut of: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let len = match socket.receive(&mut buffer)? {
            Datagram::Kernel(len) => len,
            Datagram::Foreign => continue,
            Datagram::Overrun => return Err(io::Error::other("sockets: an answer of the kernel was lost")),
        };
        for m in messages(&buffer[..len]).filter(|m| m.seq == seq) {
            if m.is_done() {
                return Ok(None);
            }
            if let Some(e) = m.error() {
                return Err(e);
            }
            if let Some(found) = m.body_of(BY_FAMILY).and_then(&mut of) {
                return Ok(Some(found));
            }
        }
    }
}

/// Ends connections, one after the other.
#[derive(Debug)]
pub struct Closer {
    socket: Socket,
    buffer: Vec<u8>,
    seq: u32,
}

impl Closer {
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: Socket::sock_diag()?, buffer: vec![0; DATAGRAM], seq: 0 })
    }

    /// Its owner gets ECONNABORTED, the peer a reset. One that is gone already is no fault.
    pub fn destroy(&mut self, held: &Held) -> io::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        let seq = self.seq;
        self.socket.send(&frame(DESTROY, F_REQUEST | F_ACK, seq, &request(held.family, &held.id)))?;
        loop {
            let Datagram::Kernel(len) = self.socket.receive(&mut self.buffer)? else { continue };
            for m in messages(&self.buffer[..len]).filter(|m| m.seq == seq) {
                match m.error() {
                    Some(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                    Some(e) => return Err(e),
                    None if m.acknowledges() => return Ok(()),
                    None => {}
                }
            }
        }
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, id: &[u8; ID]) -> Vec<u8> {
    let mut out = vec![family, TCP, 0, 0];
    out.extend(OPEN.to_ne_bytes());
    out.extend(id);
    out
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + value.len());
    out.extend(((4 + value.len()) as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// `None`: no record, or no answer that makes sense.
fn parse(body: &[u8]) -> Option<Held> {
    let family = *body.first()?;
    let id: [u8; ID] = body.get(4..4 + ID)?.try_into().ok()?;
    let inside = |bytes, kind| attributes(bytes).find(|(k, _)| *k == kind).map(|(_, v)| v);
    let record = inside(inside(inside(body.get(MSG..)?, STORAGES)?, STORAGE)?, VALUE)?;
    // Ports of both ends, then the addresses, sixteen bytes each.
    let end = |port: usize, ip: usize| {
        let port = u16::from_be_bytes(id.get(port..port + 2)?.try_into().ok()?);
        let ip = match family {
            INET => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(id.get(ip..ip + 4)?).ok()?)),
            _ => {
                IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(id.get(ip..ip + 16)?).ok()?)).to_canonical()
            }
        };
        Some(SocketAddr::new(ip, port))
    };
    Some(Held { family, id, local: end(0, 4)?, peer: end(2, 20)?, record: record.to_vec() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(family: u8, with_record: bool) -> Vec<u8> {
        let mut b = vec![family, 1, 0, 0];
        b.extend(40_000u16.to_be_bytes());
        b.extend(8080u16.to_be_bytes());
        b.extend([198, 18, 1, 1]);
        b.extend([0; 12]);
        b.extend([198, 18, 2, 3]);
        b.resize(MSG, 0);
        if with_record {
            let value = [attribute(2, &[9; 4]), attribute(VALUE, &[7; 40])].concat();
            b.extend(attribute(STORAGES, &attribute(STORAGE, &value)));
        }
        b
    }

    #[test]
    fn an_answer_has_its_ends_and_record() {
        let held = parse(&answer(INET, true)).unwrap();
        assert_eq!(held.local, "198.18.1.1:40000".parse().unwrap());
        assert_eq!((held.peer, held.record), ("198.18.2.3:8080".parse().unwrap(), vec![7; 40]));
        assert_eq!(parse(&answer(INET, false)), None);
        for n in 0..answer(INET, true).len() {
            let _ = parse(&answer(INET, true)[..n]);
        }
    }

    /// The kernel's own word for it.
    #[test]
    fn a_connections_cookie_is_its_sockets() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(ip).unwrap();
            let at = listener.local_addr().unwrap();
            let client = TcpStream::connect(at).unwrap();
            let local = client.local_addr().unwrap();
            let said = rustix::net::sockopt::socket_cookie(&client).unwrap();
            assert_eq!(cookie(local, at).unwrap(), Some(said), "{ip}");
            assert!(tells_cookies());
            let nobody = SocketAddr::new(local.ip(), 1);
            assert_eq!(cookie(nobody, at).unwrap(), None, "{ip}");
        }
        assert_eq!(cookie_of(&[0; 40]), None);
    }

    proptest! {
        #[test]
        fn any_answer_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
