//! The relation of ticks to time, for the agent (it needs CONFIG_HZ and the current tick to print ages).

use gray_common::wire::Clock;

use crate::{ctx, maps};

pub fn note() -> i32 {
    if let Some(c) = maps::CLOCK.get_ptr_mut(0) {
        // SAFETY: the agent runs this program alone and reads the element afterwards.
        unsafe { *c = Clock { jiffies: ctx::jiffies(), ktime_ns: ctx::ktime_ns() } };
    }
    0
}
