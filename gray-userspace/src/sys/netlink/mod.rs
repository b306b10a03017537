//! A small rtnetlink client: one socket, dumps and notifications of links. Changes nothing in the kernel.

mod address;
mod features;
mod link;
mod message;
mod policy;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{SOCK_DIAG, SocketAddrNetlink},
        sockopt::{self, Timeout},
    },
};

pub use address::{is_dialled, own_addresses};
pub use features::{XdpFeatures, xdp_features};
pub use link::{Link, Xdp};
pub(super) use message::{F_ACK, F_DUMP, F_REQUEST, Message, attributes, frame, messages};
pub use policy::{ipsec_policies, marked_rules};

/// The kernel sends at most 32 KiB per datagram.
pub(super) const DATAGRAM: usize = 64 << 10;
const ATTEMPTS: usize = 8;
const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// A netlink socket of the thread's network namespace at the time of `open`.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// What one `receive` gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    /// Bytes of the buffer that are the kernel's.
    Kernel(usize),
    /// Messages were lost: the queue was full, or this one did not fit.
    Overrun,
    /// From somebody else, to be ignored.
    Foreign,
}

impl Socket {
    /// `groups`: multicast groups as a mask, 0 for none.
    pub fn open(groups: u32, flags: SocketFlags) -> io::Result<Self> {
        Self::of(None, groups, flags)
    }

    /// sock_diag(7), whose answers are waited for, but not for ever.
    pub(super) fn sock_diag() -> io::Result<Self> {
        let socket = Self::of(Some(SOCK_DIAG), 0, SocketFlags::empty())?;
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(REPLY_LIMIT))?;
        Ok(socket)
    }

    fn of(protocol: Option<net::Protocol>, groups: u32, flags: SocketFlags) -> io::Result<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::RAW, flags | SocketFlags::CLOEXEC);
        let fd = net::socket_with(kind.0, kind.1, kind.2, protocol)?;
        net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(fd))
    }

    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        let _ = net::send(&self.0, message, SendFlags::empty())?;
        Ok(())
    }

    pub(super) fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        // The plain option is capped by net.core.rmem_max; the force needs CAP_NET_ADMIN.
        sockopt::set_socket_recv_buffer_size_force(&self.0, bytes)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&self.0, bytes))
            .map_err(Into::into)
    }

    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let room = buffer.len();
        match net::recvfrom(&self.0, buffer, RecvFlags::TRUNC) {
            Err(Errno::NOBUFS) => Ok(Datagram::Overrun),
            Err(e) => Err(e.into()),
            Ok((_, len, _)) if len > room => Ok(Datagram::Overrun),
            Ok((_, len, from)) => {
                let kernel =
                    from.and_then(|a| SocketAddrNetlink::try_from(a).ok()).is_some_and(|a| a.pid() == 0);
                Ok(if kernel { Datagram::Kernel(len) } else { Datagram::Foreign })
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For tokio's readiness.
impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Every link of this thread's network namespace, by index.
///
/// # Errors
/// The kernel's; `Interrupted` when links kept changing during eight attempts.
pub fn links() -> io::Result<Vec<Link>> {
    let mut links = dumped(message::link_dump, |m| m.new_link())?;
    links.sort_by_key(|l| l.ifindex);
    Ok(links)
}

/// What a list has, asked for with a number of ours.
fn dumped<T>(
    request: impl Fn(u32) -> Vec<u8>,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> io::Result<Vec<T>> {
    let socket = Socket::open(0, SocketFlags::empty())?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(REPLY_LIMIT))?;
    let mut buffer = vec![0; DATAGRAM];
    for attempt in 1..=ATTEMPTS as u32 {
        let _ = net::send(&socket, &request(attempt), SendFlags::empty())?;
        if let Some(all) = dump(&socket, &mut buffer, attempt, &read)? {
            return Ok(all);
        }
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "the list kept changing while it was read"))
}

/// `None`: the list changed meanwhile, the answer may be inconsistent.
fn dump<T>(
    socket: &Socket,
    buffer: &mut [u8],
    seq: u32,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> io::Result<Option<Vec<T>>> {
    let (mut all, mut torn) = (Vec::new(), false);
    loop {
        let len = match socket.receive(buffer)? {
            Datagram::Kernel(len) => len,
            Datagram::Foreign => continue,
            Datagram::Overrun => return Ok(None),
        };
        for m in messages(&buffer[..len]).filter(|m| m.seq == seq) {
            torn |= m.interrupted();
            if m.is_done() {
                return Ok((!torn).then_some(all));
            }
            if let Some(e) = m.error() {
                return Err(e);
            }
            all.extend(read(&m));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_the_links_of_this_machine() {
        let links = links().unwrap();
        let lo = links.iter().find(|l| l.name == "lo").expect("loopback is everywhere");
        assert!(lo.ifindex > 0 && lo.mtu >= 1280 && lo.xdp == Xdp::None, "{lo:?}");
        assert!(links.is_sorted_by_key(|l| l.ifindex));
    }
}
