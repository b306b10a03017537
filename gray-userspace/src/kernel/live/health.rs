//! What health needs of the live data path, beside the changes of policy: descriptors of its own.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use gray_common::{
    limits, names,
    wire::{Call, Peer, Subset},
};

use super::{Live, tables::write_array};
use crate::{
    compile::plan::Write,
    datapath::Turns,
    kernel::{
        KernelError,
        bpf::{self, Map},
        maps::{failed, open},
        pins::Pins,
    },
};

/// Tables, and the subsets that point to them.
pub struct Turner {
    subsets: Map<u32, Subset>,
    arena: Map<u32, u32>,
}

/// Sockets that the connect path leaves alone.
pub struct Unsteered {
    peers: Map<u32, Call>,
}

impl Live {
    pub fn turner(&self) -> Result<Turner, KernelError> {
        Ok(Turner { subsets: open(&self.pins, names::SUBSETS)?, arena: open(&self.pins, names::ARENA)? })
    }

    pub fn unsteered(&self) -> Result<Unsteered, KernelError> {
        Unsteered::open(&self.pins)
    }
}

impl Turns for Turner {
    fn turn(&mut self, step: &Write) -> Result<(), KernelError> {
        let done = match step {
            Write::Arena { offset, words } => write_array(&self.arena, *offset, words),
            // The kernel copies an element in words, and every run reads a table's offset and its length in one each.
            Write::Turn { bank, index, subset } => {
                self.subsets.update(&(bank * limits::SUBSETS + index), subset)
            }
            other => Err(io::Error::other(format!("{other} is not for health to write"))),
        };
        done.map_err(failed(step))
    }

    fn grace(&mut self) -> Result<(), KernelError> {
        bpf::wait_for_runs().map_err(failed("the grace period"))
    }
}

impl Unsteered {
    pub(in crate::kernel) fn open(pins: &Pins) -> Result<Self, KernelError> {
        Ok(Self { peers: open(pins, names::PEERS)? })
    }

    /// The storage of sockets that the connect path steered, or was told not to.
    pub fn records(&self) -> BorrowedFd<'_> {
        self.peers.fd()
    }

    /// Says of a connected socket where it was sent when it dialled `service`: whoever closes what an instance has finds it.
    pub fn sent(
        &self,
        socket: &impl AsFd,
        (service, instance): (SocketAddr, SocketAddr),
        rule: u16,
    ) -> io::Result<()> {
        let peer = Peer {
            service: service.ip().into(),
            instance: instance.ip().into(),
            service_port: service.port().to_be(),
            instance_port: instance.port().to_be(),
            seen: 0,
        };
        let call = Call { peer, rule, ..Call::default() };
        self.peers.update(&(socket.as_fd().as_raw_fd() as u32), &call)
    }

    /// To be called before the socket is connected. A socket's storage is written by its descriptor.
    pub fn pass(&self, socket: &impl AsFd) -> io::Result<()> {
        self.peers.update(&(socket.as_fd().as_raw_fd() as u32), &Call::PROBE)
    }
}
