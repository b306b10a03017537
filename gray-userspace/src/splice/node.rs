//! The node as it is: the tables in the kernel.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use gray_common::{
    decide::mem::MemTables,
    wire::{Breaker, Control, ListenCount},
};
use tokio::net::{TcpSocket, TcpStream};

use super::{Node, Tables, Whose};
use crate::kernel::{KernelError, Listener, Miss};

pub struct Kernel {
    pub tables: Listener,
    /// What the tables are yet to be told, by service.
    counts: Mutex<BTreeMap<u16, ListenCount>>,
}

impl Kernel {
    pub fn new(tables: Listener) -> Self {
        Self { tables, counts: Mutex::default() }
    }

    /// Tells the tables what was counted. What they refuse is kept for the next time.
    ///
    /// # Errors
    /// The kernel's.
    pub fn settle(&self) -> Result<(), KernelError> {
        let counted = std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failed = Ok(());
        for (service, more) in counted {
            if let Err(e) = self.tables.count(service, &more) {
                self.count(service, &more);
                failed = Err(e);
            }
        }
        failed
    }
}

impl Tables for Kernel {
    fn control(&self) -> Result<Control, KernelError> {
        self.tables.control()
    }

    fn now(&self, control: &Control) -> Result<u64, KernelError> {
        self.tables.now(control)
    }

    fn fetch(&self, to: &mut MemTables, miss: Miss) -> Result<(), KernelError> {
        self.tables.fetch(to, miss)
    }
}

impl Node for Kernel {
    fn whose(&self, peer: SocketAddr, local: SocketAddr) -> Result<Option<Whose>, KernelError> {
        self.tables.whose(peer, local)
    }

    fn count(&self, service: u16, more: &ListenCount) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(service).or_default().add(more);
    }

    fn failed(&self, service: u16, breaker: Breaker) {
        if let Err(e) = self.tables.fails(service, breaker) {
            tracing::debug!("a breaker was not told: {e}");
        }
    }

    fn unsteered(&self, socket: &TcpSocket) -> io::Result<()> {
        self.tables.unsteered(socket)
    }

    fn sent(&self, socket: &TcpStream, ends: (SocketAddr, SocketAddr), rule: u16) -> io::Result<()> {
        self.tables.sent(socket, ends, rule)
    }
}
