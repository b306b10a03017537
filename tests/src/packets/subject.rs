//! What a packet case is run on: the data path in the kernel, or the model of it.

use std::{collections::BTreeMap, thread, time::Duration};

use gray_common::Reason;
use gray_userspace::kernel::Direction;

use super::{
    frame::Packet,
    model::{Model, Tuple},
    rig::{HZ, Rig, Way},
};

/// Something that frames go through.
pub trait Subject {
    fn way(&self) -> &Way;
    /// Verdict and frame after one run; `None`: such a frame cannot be put in.
    fn run(&mut self, d: Direction, frame: &[u8], mark: u32) -> Option<(i32, Vec<u8>)>;
    fn counters(&self) -> BTreeMap<Reason, u64>;
    /// The flags of this packet's flow; `None`: there is no such flow.
    fn flow(&self, p: &Packet) -> Option<u16>;
    /// Lets every flow there is be idle for longer than any limit.
    fn age(&mut self);
    /// Time goes its usual way again.
    fn young(&mut self);
}

impl Subject for Rig {
    fn way(&self) -> &Way {
        &self.way
    }

    fn run(&mut self, d: Direction, frame: &[u8], mark: u32) -> Option<(i32, Vec<u8>)> {
        self.try_run_marked(d, frame, mark)
    }

    fn counters(&self) -> BTreeMap<Reason, u64> {
        Rig::counters(self)
    }

    fn flow(&self, p: &Packet) -> Option<u16> {
        Rig::flow(self, p)
    }

    /// The kernel's clock cannot be moved, but the limits are in ticks per second, which the agent says: with one tick
    /// in a second, a minute is 60 ticks.
    fn age(&mut self) {
        let begin = self.live.clock().unwrap().jiffies;
        while self.live.clock().unwrap().jiffies <= begin + 62 {
            thread::sleep(Duration::from_millis(20));
        }
        self.live.configure(|c| c.hz = 1);
    }

    fn young(&mut self) {
        self.live.configure(|c| c.hz = HZ);
    }
}

impl Subject for Model {
    fn way(&self) -> &Way {
        &self.way
    }

    fn run(&mut self, d: Direction, frame: &[u8], mark: u32) -> Option<(i32, Vec<u8>)> {
        Some(Model::run(self, d, frame, mark))
    }

    fn counters(&self) -> BTreeMap<Reason, u64> {
        self.counters.clone()
    }

    fn flow(&self, p: &Packet) -> Option<u16> {
        let tuple = Tuple { src: p.src, dst: p.dst, proto: p.proto };
        self.flows.table.get(&tuple).map(super::model::Entry::flags)
    }

    fn age(&mut self) {
        self.aged = true;
    }

    fn young(&mut self) {
        self.aged = false;
    }
}
