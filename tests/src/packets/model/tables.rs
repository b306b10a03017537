//! A policy in memory: compiled and planned as the agent does, written into plain maps.

use std::collections::BTreeSet;

use gray_common::{decide::mem::MemTables, packet::filter_bit, wire::Addr};
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
    /// Of the filter in front: what a fragment is asked for first. They are only ever added.
    bits: BTreeSet<u32>,
    have: Have,
    compiled: Compiled,
}

impl Policy {
    /// Whether an address may be a service's or an instance's.
    pub fn maybe_ours(&self, addr: std::net::IpAddr) -> bool {
        self.bits.contains(&filter_bit(Addr::from(addr).words(), 0))
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
            self.bits.extend([port, 0].map(|port| filter_bit(addr.words(), port)));
        }
        self.compiled = compiled;
    }
}
