//! A policy in memory: compiled and planned as the agent does, written into plain maps.

use gray_common::decide::mem::MemTables;
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
    have: Have,
    compiled: Compiled,
}

impl Policy {
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
        self.compiled = compiled;
    }
}
