//! A policy in memory: compiled and planned as the agent does, written into plain maps.

use std::net::SocketAddr;

use gray_common::{decide::mem::MemTables, filter::Filter, wire::Addr};
use gray_userspace::{
    compile::{
        self, Circumstances, Compiled,
        have::Have,
        plan::{Want, plan},
    },
    config::{self, Source},
    datapath::write_mem,
};

use crate::packets::rig::{KEY, lists};

#[derive(Debug, Default)]
pub struct Policy {
    pub tables: MemTables,
    /// What everything is asked for first.
    filter: Filter,
    have: Have,
    compiled: Compiled,
}

impl Policy {
    /// Whether an address may be a service's or an instance's.
    pub fn knows_address(&self, addr: std::net::IpAddr) -> bool {
        self.filter.knows_address(&Addr::from(addr))
    }

    /// The same of an address and port.
    pub fn knows_end(&self, end: SocketAddr) -> bool {
        let (addr, port) = (Addr::from(end.ip()), end.port().to_be());
        match addr.is_v4() {
            true => self.filter.knows_end4(addr.as_v4(), port),
            false => self.filter.knows_end6(addr.words(), port),
        }
    }

    pub fn is_active(&self) -> bool {
        self.tables.control.epoch != 0
    }

    pub fn apply(&mut self, text: &str, around: &Circumstances) {
        let policy =
            config::load(&[Source::new("test", text)]).unwrap_or_else(|e| panic!("{e}\n{text}")).policy;
        let compiled = compile::compile(&policy, &self.compiled.assigned, around).unwrap();
        let lists = lists(&policy, &compiled);
        let revision = self.have.revision + 1;
        let want = Want::all(revision, KEY, &compiled, &lists);
        for step in plan(&mut self.have, &want).unwrap() {
            write_mem(&mut self.tables, &step);
        }
        let listeners = compiled.listeners.keys().map(|l| (l.addr, l.port));
        let instances = compiled.instances.values().map(|i| (i.addr, i.port));
        for (addr, port) in listeners.chain(instances) {
            let _ = self.filter.add(&addr, port);
        }
        self.compiled = compiled;
    }
}
