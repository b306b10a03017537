//! Notices links that come, change and go in one network namespace. Decides nothing about them.

use std::{collections::VecDeque, io};

use rustix::net::SocketFlags;
use tokio::io::unix::AsyncFd;

use super::netlink::{Datagram, Link, Socket, messages};

const RTMGRP_LINK: u32 = 1;
const QUEUE: usize = 1 << 20;
const DATAGRAM: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link is there or changed (also: renamed, up, down). The same state may come more than once.
    New(Link),
    /// A link is gone, or has moved to another namespace.
    Del { ifindex: u32, name: String },
    /// Events were lost: read [`super::netlink::links`] again.
    Overrun,
}

/// Open it before reading `links()`: then nothing falls in between.
#[derive(Debug)]
pub struct LinkEvents {
    socket: AsyncFd<Socket>,
    buffer: Box<[u8]>,
    queue: VecDeque<LinkEvent>,
}

impl LinkEvents {
    /// Watches the network namespace of the calling thread, also when it enters another one later.
    ///
    /// # Errors
    /// The kernel's. Must be called inside a tokio runtime with I/O enabled.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(RTMGRP_LINK, SocketFlags::NONBLOCK)?;
        socket.set_receive_buffer(QUEUE)?;
        Ok(Self {
            socket: register(socket)?,
            buffer: vec![0; DATAGRAM].into_boxed_slice(),
            queue: VecDeque::new(),
        })
    }

    /// The next event. Cancel safe: an event that was not returned comes next time.
    pub async fn next(&mut self) -> io::Result<LinkEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let mut ready = self.socket.readable().await?;
            let buffer = &mut self.buffer;
            let Ok(received) = ready.try_io(|socket| socket.get_ref().receive(buffer)) else { continue };
            match received? {
                Datagram::Kernel(len) => self.queue.extend(events(&self.buffer[..len])),
                Datagram::Overrun => self.queue.push_back(LinkEvent::Overrun),
                Datagram::Foreign => {}
            }
        }
    }
}

#[expect(unsafe_code, reason = "AsyncFd asks for a promise about the descriptor")]
pub(super) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // Outside of a runtime tokio would panic.
    let _runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    // SAFETY: a `Socket` owns its descriptor, always names the same one, and closes it only when it is dropped, which
    // `AsyncFd` does after it has left the reactor.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}

pub(super) fn events(datagram: &[u8]) -> impl Iterator<Item = LinkEvent> {
    messages(datagram).filter_map(|m| {
        let gone = || m.del_link().map(|l| LinkEvent::Del { ifindex: l.ifindex, name: l.name });
        m.new_link().map(LinkEvent::New).or_else(gone)
    })
}

#[cfg(test)]
mod tests;
