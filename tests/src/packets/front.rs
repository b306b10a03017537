//! XDP in front of tc, as on an interface: what XDP leaves alone goes to tc.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use gray_common::Reason;
use gray_userspace::kernel::Direction;

use super::{
    case::REDIRECT,
    frame::Packet,
    rig::{Rig, Way, hex},
    subject::Subject,
};
use crate::link;

/// `XDP_PASS`, `XDP_TX`, `XDP_REDIRECT`.
pub const PASS: i32 = 2;
pub const TX: i32 = 3;
pub const SENT: i32 = 4;
/// Shorter frames are no Ethernet.
const LEAST: usize = 14;

/// Both programs over one bench.
pub struct Front<'r> {
    pub rig: &'r mut Rig,
    xdp: bool,
    /// Frames that XDP sent on itself, and those that it left to tc.
    pub sent: u64,
    pub left: u64,
}

impl<'r> Front<'r> {
    /// With the bench's way out among the interfaces that take frames of XDP.
    ///
    /// # Panics
    /// When the kernel refuses that.
    pub fn on(rig: &'r mut Rig) -> Self {
        let out = link::info(&rig.ns, "out").map_or(0, |l| l.ifindex);
        rig.live.set_xdp_out(&[out]).unwrap_or_else(|e| panic!("{e}"));
        Self { rig, xdp: true, sent: 0, left: 0 }
    }

    /// tc alone.
    pub fn without(rig: &'r mut Rig) -> Self {
        Self { rig, xdp: false, sent: 0, left: 0 }
    }

    /// Verdict of tc and frame; what XDP sent on has that of a redirect. `None`: such a frame cannot be put in.
    ///
    /// # Panics
    /// When XDP changes what it leaves alone, or answers something else.
    pub fn try_run(&mut self, d: Direction, frame: &[u8], mark: u32) -> Option<(i32, Vec<u8>)> {
        // A frame has no mark yet where XDP sees it.
        if self.xdp && d == Direction::Ingress && mark == 0 && frame.len() >= LEAST {
            let (verdict, out) =
                self.rig.live.run_xdp(frame, 0).unwrap_or_else(|e| panic!("{e:?}\n{}", hex(frame)));
            if verdict == SENT {
                self.sent += 1;
                return Some((REDIRECT, out));
            }
            let untouched = untouched(verdict, frame, &out);
            assert!(untouched.is_ok(), "{untouched:?}\nin:\n{}\nout:\n{}", hex(frame), hex(&out));
            self.left += 1;
        }
        self.rig.try_run_marked(d, frame, mark)
    }
}

fn untouched(verdict: i32, frame: &[u8], out: &[u8]) -> Result<()> {
    ensure!(verdict == PASS, "XDP answered {verdict}");
    ensure!(out == frame, "XDP changed a frame that it left alone");
    Ok(())
}

impl Subject for Front<'_> {
    fn way(&self) -> &Way {
        &self.rig.way
    }

    fn run(&mut self, d: Direction, frame: &[u8], mark: u32) -> Option<(i32, Vec<u8>)> {
        self.try_run(d, frame, mark)
    }

    fn counters(&self) -> BTreeMap<Reason, u64> {
        self.rig.counters()
    }

    fn flow(&self, p: &Packet) -> Option<u16> {
        self.rig.flow(p)
    }

    fn age(&mut self) {
        self.rig.age();
    }

    fn young(&mut self) {
        self.rig.young();
    }
}
