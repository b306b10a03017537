//! Flows of ABI 1.

use super::Other;
use crate::wire::{self, Addr, wire};

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    pub dmac: [u8; 6],
    pub smac: [u8; 6],
    pub l3: u16,
    pub l4_addr: u16,
    pub l4_port: u16,
    pub flags: u16,
    pub ifindex: u32,
    pub seen: u32,
    pub mtu: u16,
    pub rule: u16,
    pub counter: u16,
    pub hop_at: u16,
    pub at: u32,
    pub opened: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow4 {
    pub saddr: u32,
    pub daddr: u32,
    pub sport: u16,
    pub dport: u16,
    pub state: FlowState,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow6 {
    pub saddr: Addr,
    pub daddr: Addr,
    pub sport: u16,
    pub dport: u16,
    pub state: FlowState,
}

wire!(FlowState, size 44, {
    dmac @ 0: [u8; 6], smac @ 6: [u8; 6], l3 @ 12: u16, l4_addr @ 14: u16, l4_port @ 16: u16, flags @ 18: u16,
    ifindex @ 20: u32, seen @ 24: u32, mtu @ 28: u16, rule @ 30: u16, counter @ 32: u16, hop_at @ 34: u16,
    at @ 36: u32, opened @ 40: u32,
});
wire!(Flow4, size 56, { saddr @ 0: u32, daddr @ 4: u32, sport @ 8: u16, dport @ 10: u16, state @ 12: FlowState });
wire!(Flow6, size 80, { saddr @ 0: Addr, daddr @ 16: Addr, sport @ 32: u16, dport @ 34: u16, state @ 36: FlowState });

/// Field by field, from memory to memory: in the kernel there is no stack for more.
macro_rules! both_ways {
    ($from:expr, $into:expr, { $($field:ident),+ }) => {
        $($into.$field = $from.$field;)+
        $into.state.dmac = $from.state.dmac;
        $into.state.smac = $from.state.smac;
        $into.state.l3 = $from.state.l3;
        $into.state.l4_addr = $from.state.l4_addr;
        $into.state.l4_port = $from.state.l4_port;
        $into.state.flags = $from.state.flags;
        $into.state.ifindex = $from.state.ifindex;
        $into.state.seen = $from.state.seen;
        $into.state.mtu = $from.state.mtu;
        $into.state.rule = $from.state.rule;
        $into.state.counter = $from.state.counter;
        $into.state.hop_at = $from.state.hop_at;
        $into.state.at = $from.state.at;
        $into.state.opened = $from.state.opened;
    };
}

macro_rules! other {
    ($flow:ident) => {
        impl Other<wire::$flow> for $flow {
            #[inline(always)]
            fn read(&self, into: &mut wire::$flow) {
                both_ways!(self, into, { saddr, daddr, sport, dport });
                into.state.fresh = [0; 2];
            }

            #[inline(always)]
            fn write(&mut self, from: &wire::$flow) {
                both_ways!(from, self, { saddr, daddr, sport, dport });
            }
        }
    };
}

other!(Flow4);
other!(Flow6);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn h2_an_entry_that_goes_there_and_back_is_the_same(words in any::<[u32; 11]>(), tuple in any::<[u32; 3]>()) {
            // SAFETY: as many bytes, all of them integers.
            let state: FlowState = unsafe { std::mem::transmute(words) };
            let old = Flow4 { saddr: tuple[0], daddr: tuple[1], sport: tuple[2] as u16, dport: (tuple[2] >> 16) as u16, state };
            let (mut new, mut again) = (wire::Flow4::default(), Flow4::default());
            old.read(&mut new);
            again.write(&new);
            prop_assert_eq!(old, again);
            prop_assert_eq!((new.state.flags, new.state.seen, new.daddr), (old.state.flags, old.state.seen, old.daddr));
        }
    }
}
