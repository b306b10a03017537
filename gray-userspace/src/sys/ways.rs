//! Notices when packets may have to leave another way: routes, rules, next hops, links, and neighbours whose link address is another one.

use std::{collections::HashMap, io};

use rustix::net::SocketFlags;
use tokio::io::unix::AsyncFd;

use super::{
    netlink::{Datagram, Message, Socket, attributes, messages},
    watch::register,
};

/// Of `RTMGRP_*`, and as bits those groups that came later: links, neighbours, routes and rules of IPv4 and of IPv6, next hops.
const GROUPS: u32 = 1 | 4 | 0x40 | 0x80 | 0x400 | 1 << 18 | 1 << 31;
const QUEUE: usize = 1 << 20;
const DATAGRAM: usize = 64 << 10;
/// Datagrams that are read as one change.
const AT_ONCE: usize = 1024;

const NEW_NEIGHBOUR: u16 = 28;
const DEL_NEIGHBOUR: u16 = 29;
/// `struct ndmsg`.
const NEIGHBOUR: usize = 12;
const ADDRESS: u16 = 1;
const LINK_ADDRESS: u16 = 2;
/// The address is known, also if it has not been asked for long: all states but incomplete and failed.
const VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
const BRIDGE: u8 = 7;

/// Changes of one network namespace.
#[derive(Debug)]
pub struct WayEvents {
    socket: AsyncFd<Socket>,
    buffer: Box<[u8]>,
    known: Neighbours,
}

impl WayEvents {
    /// Watches the network namespace of the calling thread, also when it enters another one later.
    ///
    /// # Errors
    /// The kernel's. Must be called inside a tokio runtime with I/O enabled.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(GROUPS, SocketFlags::NONBLOCK)?;
        socket.set_receive_buffer(QUEUE)?;
        let buffer = vec![0; DATAGRAM].into_boxed_slice();
        Ok(Self { socket: register(socket)?, buffer, known: Neighbours::default() })
    }

    /// Waits for a change. All that has come by then is one.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut any = false;
            for _ in 0..AT_ONCE {
                let buffer = &mut self.buffer;
                let Ok(received) = ready.try_io(|socket| socket.get_ref().receive(buffer)) else { break };
                any |= match received? {
                    Datagram::Kernel(len) => self.known.changes(&self.buffer[..len]),
                    Datagram::Overrun => true,
                    Datagram::Foreign => false,
                };
            }
            if any {
                return Ok(());
            }
        }
    }
}

/// The link addresses that neighbours had when they were last told of. They are told of whenever they are asked for, too.
#[derive(Debug, Default)]
struct Neighbours(HashMap<(u32, Vec<u8>), Vec<u8>>);

impl Neighbours {
    /// More than this is forgotten; each of them then counts as a change once.
    const MOST: usize = 16_384;

    /// Whether a datagram tells of a change: everything but a neighbour that is as it was.
    fn changes(&mut self, datagram: &[u8]) -> bool {
        let mut any = false;
        for m in messages(datagram) {
            any |= self.is_change(&m);
        }
        any
    }

    fn is_change(&mut self, m: &Message<'_>) -> bool {
        if let Some(body) = m.body_of(DEL_NEIGHBOUR) {
            return parse(body).is_some_and(|n| self.0.remove(&n.key).is_some());
        }
        let Some(body) = m.body_of(NEW_NEIGHBOUR) else { return true };
        let Some(n) = parse(body) else { return false };
        if n.state & VALID == 0 {
            return self.0.remove(&n.key).is_some();
        }
        if self.0.get(&n.key) == Some(&n.at) {
            return false;
        }
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        let _ = self.0.insert(n.key, n.at);
        true
    }
}

struct Neighbour {
    key: (u32, Vec<u8>),
    at: Vec<u8>,
    state: u16,
}

/// `None`: it is of a bridge's table, or cut short.
fn parse(body: &[u8]) -> Option<Neighbour> {
    let head = body.get(..NEIGHBOUR)?;
    if head[0] == BRIDGE {
        return None;
    }
    let index = u32::from_ne_bytes(head[4..8].try_into().ok()?);
    let state = u16::from_ne_bytes(head[8..10].try_into().ok()?);
    let (mut address, mut at) = (Vec::new(), Vec::new());
    for (kind, value) in attributes(&body[NEIGHBOUR..]) {
        match kind {
            ADDRESS => address = value.to_vec(),
            LINK_ADDRESS => at = value.to_vec(),
            _ => {}
        }
    }
    Some(Neighbour { key: (index, address), at, state })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::netlink::frame;

    const ROUTE: u16 = 24;
    const REACHABLE: u16 = 2;
    const STALE: u16 = 4;
    const FAILED: u16 = 0x20;

    fn neighbour(kind: u16, family: u8, state: u16, link: u8) -> Vec<u8> {
        let mut body = vec![0; NEIGHBOUR];
        body[0] = family;
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body[8..10].copy_from_slice(&state.to_ne_bytes());
        for (kind, value) in [(ADDRESS, vec![10, 0, 0, 1]), (LINK_ADDRESS, vec![2, 0, 0, 0, 0, link])] {
            body.extend((value.len() as u16 + 4).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(&value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        frame(kind, 0, 1, &body)
    }

    #[test]
    fn a_neighbour_that_is_only_asked_again_is_no_change() {
        let mut known = Neighbours::default();
        let mut told = |m: Vec<u8>| known.changes(&m);
        assert!(told(neighbour(NEW_NEIGHBOUR, 2, REACHABLE, 1)), "it is new");
        assert!(!told(neighbour(NEW_NEIGHBOUR, 2, STALE, 1)));
        assert!(!told(neighbour(NEW_NEIGHBOUR, 2, REACHABLE, 1)));
        assert!(told(neighbour(NEW_NEIGHBOUR, 2, REACHABLE, 2)), "another link address");
        assert!(told(neighbour(NEW_NEIGHBOUR, 2, FAILED, 2)), "it is away");
        assert!(!told(neighbour(NEW_NEIGHBOUR, 2, FAILED, 2)));
        assert!(told(neighbour(NEW_NEIGHBOUR, 2, REACHABLE, 2)), "it is back");
        assert!(told(neighbour(DEL_NEIGHBOUR, 2, STALE, 2)));
        assert!(!told(neighbour(NEW_NEIGHBOUR, BRIDGE, REACHABLE, 9)), "of a bridge");
        assert!(told(frame(ROUTE, 0, 1, &[0; 12])), "a route");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, body: Vec<u8>) {
            let mut known = Neighbours::default();
            let _ = known.changes(&bytes);
            let _ = known.changes(&frame(NEW_NEIGHBOUR, 0, 1, &body));
        }
    }
}
