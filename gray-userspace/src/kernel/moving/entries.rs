//! Which entries of a flow table move, and in which order. Pure.

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::{BuildHasher as _, Hash},
};

use gray_common::{
    limits,
    packet::{TCP, UDP},
    wire::{FLOW_CLOSING, FLOW_FORWARD, Flow4, Flow6, FlowKey4, FlowKey6, FlowState, Wire},
};

/// A key of a flow table.
pub trait Tuple: Wire + Eq + Hash {
    type Flow: Wire;

    fn proto(&self) -> u8;
    fn state(f: &Self::Flow) -> &FlowState;
    /// The key of the connection's other direction.
    fn other_way(&self, f: &Self::Flow) -> Self;

    fn is_forward(f: &Self::Flow) -> bool {
        Self::state(f).flags & FLOW_FORWARD != 0
    }
}

macro_rules! tuple {
    ($key:ident => $flow:ident) => {
        impl Tuple for $key {
            type Flow = $flow;

            fn proto(&self) -> u8 {
                self.proto as u8
            }

            fn state(f: &$flow) -> &FlowState {
                &f.state
            }

            fn other_way(&self, f: &$flow) -> Self {
                Self { saddr: f.daddr, daddr: f.saddr, sport: f.dport, dport: f.sport, proto: self.proto }
            }
        }
    };
}

tuple!(FlowKey4 => Flow4);
tuple!(FlowKey6 => Flow6);

#[derive(Debug)]
pub struct Chosen<K: Tuple> {
    /// Least recently used first: what is written last is forgotten last.
    pub keep: Vec<(K, K::Flow)>,
    pub ended: u64,
    pub left_out: u64,
}

/// `now`: the low 32 bits of jiffies. `room`: entries that there is room for; both directions of a connection stay or neither.
pub fn choose<K: Tuple>(mut all: Vec<(K, K::Flow)>, now: u32, hz: u32, room: usize) -> Chosen<K> {
    let before = all.len();
    let idle = |f: &K::Flow| idle(now, K::state(f).seen);
    all.retain(|(k, f)| !is_over::<K>(k, f, idle(f), hz));
    let (ended, living) = ((before - all.len()) as u64, all.len());
    if living > room {
        let known: HashMap<K, u32> = all.iter().map(|(k, f)| (*k, idle(f))).collect();
        all.sort_by_cached_key(|(k, f)| {
            let (own, other) = (idle(f), k.other_way(f));
            let both = known.get(&other).map_or(own, |other| own.min(*other));
            // The same for both directions: they come one after the other.
            (both, known.hasher().hash_one(k) ^ known.hasher().hash_one(other))
        });
        let splits = room > 0 && all[room - 1].0.other_way(&all[room - 1].1) == all[room].0;
        all.truncate(room - usize::from(splits));
    }
    all.sort_unstable_by_key(|(_, f)| Reverse(idle(f)));
    Chosen { left_out: (living - all.len()) as u64, keep: all, ended }
}

/// How long ago an entry was stamped. 0: since `now` was read; programs go on meanwhile.
fn idle(now: u32, seen: u32) -> u32 {
    let idle = now.wrapping_sub(seen);
    if idle > u32::MAX / 2 { 0 } else { idle }
}

/// Whether the programs would take its next packet for one of another connection (`packet::follow`).
fn is_over<K: Tuple>(key: &K, f: &K::Flow, idle: u32, hz: u32) -> bool {
    let longer_than = |seconds: u32| idle > seconds.wrapping_mul(hz);
    match key.proto() {
        TCP => K::state(f).flags & FLOW_CLOSING != 0 && longer_than(limits::TCP_CLOSING_S),
        UDP => K::is_forward(f) && longer_than(limits::UDP_IDLE_S),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use gray_common::wire::{FLOW_ESTABLISHED, FLOW_PASS};

    use super::*;

    const HZ: u32 = 250;
    /// Just over: `seen` of before wraps.
    const NOW: u32 = 1000;

    fn entry(client: u16, forward: bool, flags: u16, idle_s: u32, proto: u8) -> (FlowKey4, Flow4) {
        let (service, instance, address) = (80, 8080, 7);
        let seen = NOW.wrapping_sub(idle_s * HZ);
        let (key, new) = match forward {
            true => ([address, 1, u32::from(client), service], [address, 2, u32::from(client), instance]),
            false => ([2, address, instance, u32::from(client)], [1, address, service, u32::from(client)]),
        };
        let flags = flags | if forward { FLOW_FORWARD } else { 0 };
        (
            FlowKey4 {
                saddr: key[0],
                daddr: key[1],
                sport: key[2] as u16,
                dport: key[3] as u16,
                proto: u32::from(proto),
            },
            Flow4 {
                saddr: new[0],
                daddr: new[1],
                sport: new[2] as u16,
                dport: new[3] as u16,
                state: FlowState { flags, seen, ..FlowState::default() },
            },
        )
    }

    fn pair(client: u16, idle_s: [u32; 2]) -> [(FlowKey4, Flow4); 2] {
        [true, false]
            .map(|forward| entry(client, forward, FLOW_ESTABLISHED, idle_s[usize::from(!forward)], TCP))
    }

    #[test]
    fn the_two_directions_lead_to_one_another() {
        let [(forward, f), (back, b)] = pair(9, [0, 0]);
        assert_eq!((forward.other_way(&f), back.other_way(&b)), (back, forward));
    }

    #[test]
    fn what_is_over_stays_behind() {
        for (name, e, moves) in [
            ("established, silent for a day", entry(1, true, FLOW_ESTABLISHED, 86_400, TCP), true),
            ("closing", entry(1, true, FLOW_CLOSING, 59, TCP), true),
            ("closed", entry(1, true, FLOW_CLOSING, 61, TCP), false),
            ("closed, the reply's", entry(1, false, FLOW_CLOSING, 61, TCP), false),
            ("opened and nothing more", entry(1, true, 0, 3600, TCP), true),
            ("stays with stable", entry(1, true, FLOW_PASS | FLOW_ESTABLISHED, 3600, TCP), true),
            ("UDP", entry(1, true, 0, 59, UDP), true),
            ("UDP, idle", entry(1, true, 0, 61, UDP), false),
            ("UDP, the reply's", entry(1, false, 0, 61, UDP), true),
        ] {
            let chosen = choose(vec![e], NOW, HZ, 10);
            assert_eq!((chosen.keep.len(), chosen.ended), (usize::from(moves), u64::from(!moves)), "{name}");
        }
    }

    /// Programs stamp entries while they are read.
    #[test]
    fn what_was_stamped_since_is_the_youngest() {
        let mut since = entry(1, true, 0, 0, UDP);
        since.1.state.seen = NOW + 1;
        let chosen = choose(vec![since, entry(2, true, 0, 3, UDP)], NOW, HZ, 1);
        assert_eq!((chosen.keep, chosen.ended), (vec![since], 0));
    }

    #[test]
    fn without_room_the_least_recently_used_stay_behind_in_pairs() {
        // The reply of 2 was seen last of all: its other direction moves, too.
        let all = [pair(1, [40, 40]), pair(2, [90, 1]), pair(3, [20, 20]), pair(4, [80, 70])].concat();
        let clients = |keep: &[(FlowKey4, Flow4)]| {
            let mut all: Vec<u16> =
                keep.iter().map(|(k, f)| if FlowKey4::is_forward(f) { k.sport } else { k.dport }).collect();
            all.sort_unstable();
            all
        };
        for (room, kept, left_out) in [
            (8, vec![1, 1, 2, 2, 3, 3, 4, 4], 0),
            (7, vec![1, 1, 2, 2, 3, 3], 2),
            (6, vec![1, 1, 2, 2, 3, 3], 2),
            (4, vec![2, 2, 3, 3], 4),
            (0, vec![], 8),
        ] {
            let chosen = choose(all.clone(), NOW, HZ, room);
            assert_eq!((clients(&chosen.keep), chosen.left_out), (kept, left_out), "room for {room}");
        }
        let order: Vec<u32> =
            choose(all, NOW, HZ, 8).keep.iter().map(|(_, f)| NOW.wrapping_sub(f.state.seen)).collect();
        assert!(order.is_sorted_by(|a, b| a >= b), "the latest comes last: {order:?}");
    }
}
