//! Entries of connections that have ended. The kernel takes the place of who was silent the longest, whether the connection is over
//! or goes on: without this, new connections would push out those that live and are idle (docs/adr/0031-ended-connections-leave.md).

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use gray_common::{
    limits, packet,
    wire::{
        FLOW_CLOSING, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_SPLICE, Flow4, Flow6, FlowKey4, FlowKey6,
        FlowState,
    },
};

use super::core::Core;
use crate::kernel::{FlowTables, KernelError, Live};

const EACH: Duration = Duration::from_secs(5);
/// Of a walk's own time, the least that lies between two: 2 % of a CPU at most.
const REST: u32 = 50;
/// So long after both of its ends a connection's last acknowledgement has come, also when it was lost twice, seconds.
const ENDED_S: u32 = 5;
/// Removed under one lock: somebody may wait with a recall.
const AT_ONCE: usize = 128;

/// Takes them out, again and again.
pub async fn watch(core: Arc<Core>) {
    loop {
        let sweep = core.clone();
        let began = std::time::Instant::now();
        match tokio::task::spawn_blocking(move || sweep.forget_ended()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(connections)) => tracing::debug!(connections, "ended connections are forgotten"),
            Ok(Err(error)) => tracing::warn!(%error, "ended connections cannot be forgotten"),
            // The next round does.
            Err(error) => tracing::error!(%error, "ended connections cannot be forgotten"),
        }
        tokio::time::sleep(EACH.max(began.elapsed() * REST)).await;
    }
}

/// How an entry rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// It does not.
    No,
    /// Nothing for a minute; the connection may live.
    Quiet,
    /// Its side has ended, a moment ago.
    Ending,
    /// Its side has ended a minute ago, or never began.
    Ended,
    /// Nothing for longer than a connection may be silent.
    Silent,
}

impl Rest {
    /// At `now`, ticks; what no program takes for its connection's any more rests (`hooks::life`).
    fn of(proto: u32, s: &FlowState, now: u32, hz: u32) -> Self {
        // Signed: a CPU may have stamped it since, a moment ago; what is further ahead is old, for the clock has come round.
        let (ticks, hz) = (i64::from(now.wrapping_sub(s.seen) as i32), i64::from(hz.max(1)));
        let longer = |seconds: u32| ticks < -hz || ticks > i64::from(seconds) * hz;
        let began = s.flags & (FLOW_ESTABLISHED | FLOW_SPLICE) != 0 || s.flags & FLOW_FORWARD == 0;
        match s.flags & FLOW_CLOSING != 0 {
            _ if proto != u32::from(packet::TCP) && longer(2 * limits::UDP_IDLE_S) => Self::Silent,
            _ if proto != u32::from(packet::TCP) => Self::No,
            true if longer(limits::TCP_CLOSING_S) => Self::Ended,
            true if longer(ENDED_S) => Self::Ending,
            false if longer(limits::TCP_IDLE_S) => Self::Silent,
            false if longer(limits::TCP_CLOSING_S) && !began => Self::Ended,
            false if longer(limits::TCP_CLOSING_S) => Self::Quiet,
            _ => Self::No,
        }
    }

    /// Whether a connection one of whose entries rests so is over. `other`: the other direction's; `None`: there is none.
    fn is_over(self, other: Option<Self>) -> bool {
        match (self, other) {
            (Self::Ended, other) => other != Some(Self::No),
            (Self::Ending, other) => matches!(other, Some(Self::Ending | Self::Ended)),
            (Self::Silent, other) => matches!(other, None | Some(Self::Silent | Self::Ended)),
            _ => false,
        }
    }
}

/// What both families have.
trait Entry: Copy {
    type Key: Copy + Eq + Hash;
    /// The other direction's key: the tuple that this one makes, turned round.
    fn other(&self, proto: u32) -> Self::Key;
    fn state(&self) -> &FlowState;
    fn proto(key: &Self::Key) -> u32;
    fn walk(tables: &FlowTables, visit: impl FnMut(Self::Key, Self)) -> Result<(), KernelError>;
    fn look(live: &Live, key: &Self::Key) -> Result<Option<Self>, KernelError>;
    fn forget(live: &Live, keys: &[Self::Key]) -> Result<(), KernelError>;
}

macro_rules! entry {
    ($entry:ident, $key:ident, $walk:ident, $look:ident, |$keys:ident| $forget:expr) => {
        impl Entry for $entry {
            type Key = $key;

            fn other(&self, proto: u32) -> $key {
                $key { saddr: self.daddr, daddr: self.saddr, sport: self.dport, dport: self.sport, proto }
            }

            fn state(&self) -> &FlowState {
                &self.state
            }

            fn proto(key: &$key) -> u32 {
                key.proto
            }

            fn walk(tables: &FlowTables, visit: impl FnMut($key, Self)) -> Result<(), KernelError> {
                tables.$walk(visit)
            }

            fn look(live: &Live, key: &$key) -> Result<Option<Self>, KernelError> {
                live.$look(key)
            }

            fn forget(live: &Live, $keys: &[$key]) -> Result<(), KernelError> {
                let (v4, v6) = $forget;
                live.forget_flows(v4, v6)
            }
        }
    };
}

entry!(Flow4, FlowKey4, walk4, settled4, |keys| (keys, &[]));
entry!(Flow6, FlowKey6, walk6, settled6, |keys| (&[], keys));

impl Core {
    /// How many connections were forgotten.
    fn forget_ended(&self) -> Result<usize, KernelError> {
        let (tables, hz) = {
            let inner = self.lock();
            (inner.live.flow_tables()?, inner.live.control().hz)
        };
        let flows = self.forget_of::<Flow4>(&tables, hz)? + self.forget_of::<Flow6>(&tables, hz)?;
        Ok(flows + self.forget_spliced(&tables)?)
    }

    fn forget_of<E: Entry>(&self, tables: &FlowTables, hz: u32) -> Result<usize, KernelError> {
        // Before the walk: what is stamped meanwhile is no older than it looks.
        let now = self.lock().live.clock()?.jiffies as u32;
        let mut all = HashMap::new();
        E::walk(tables, |k, f| {
            let rest = Rest::of(E::proto(&k), f.state(), now, hz);
            if rest != Rest::No {
                let _ = all.insert(k, (rest, f.other(E::proto(&k))));
            }
        })?;
        // What is not among them lives, or is not there: the tables say.
        let may = |(key, (rest, other)): (&E::Key, &(Rest, E::Key))| {
            let other_rests = all.get(other).map(|(rest, _)| *rest);
            rest.is_over(other_rests).then_some((*key, *other))
        };
        let due: Vec<(E::Key, E::Key)> = all.iter().filter_map(may).collect();
        let mut forgotten = 0;
        for some in due.chunks(AT_ONCE) {
            let mut inner = self.lock();
            let now = inner.live.clock()?.jiffies as u32;
            let mut keys = Vec::with_capacity(2 * AT_ONCE);
            for (key, other) in some {
                // Its client may have come again since.
                let rest = |key: &E::Key| -> Result<Option<Rest>, KernelError> {
                    Ok(E::look(&inner.live, key)?.map(|f| Rest::of(E::proto(key), f.state(), now, hz)))
                };
                if let Some(here) = rest(key)?
                    && here.is_over(rest(other)?)
                {
                    keys.extend([*key, *other]);
                    forgotten += 1;
                }
            }
            E::forget(&inner.live, &keys)?;
        }
        Ok(forgotten)
    }

    /// The same of translated connections, and of the messages of those where every request chooses.
    fn forget_spliced(&self, tables: &FlowTables) -> Result<usize, KernelError> {
        let now = self.lock().live.request_ms()? as u32;
        let mut due = Vec::new();
        tables.walk_spliced(|t, b| {
            if b.lock == 0 && b.splice.is_over(now, ENDED_S * 1000) {
                due.push(t);
            }
        })?;
        let mut forgotten = 0;
        for some in due.chunks(AT_ONCE) {
            let mut inner = self.lock();
            let now = inner.live.request_ms()? as u32;
            let mut keys = Vec::with_capacity(AT_ONCE);
            for t in some {
                let there = inner.live.splice(t)?;
                if there.is_some_and(|b| b.lock == 0 && b.splice.is_over(now, ENDED_S * 1000)) {
                    keys.push(*t);
                }
            }
            inner.live.forget_splices(&keys)?;
            forgotten += keys.len();
        }
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u32 = 250;
    const NOW: u32 = 1_000_000;

    fn rest(proto: u8, flags: u16, idle_s: u32) -> Rest {
        let s = FlowState { flags, seen: NOW.wrapping_sub(idle_s * HZ + 1), ..FlowState::default() };
        Rest::of(proto.into(), &s, NOW, HZ)
    }

    #[test]
    fn h1_an_entry_rests_when_no_program_takes_it_for_its_connections_any_more() {
        const FORWARD: u16 = FLOW_FORWARD | FLOW_ESTABLISHED;
        for (flags, idle, want) in [
            (FORWARD, 10, Rest::No),
            (FORWARD, 60, Rest::Quiet),
            (FORWARD, limits::TCP_IDLE_S, Rest::Silent),
            (FORWARD | FLOW_CLOSING, 4, Rest::No),
            (FORWARD | FLOW_CLOSING, 5, Rest::Ending),
            (FORWARD | FLOW_CLOSING, 60, Rest::Ended),
            // A SYN that nothing came of; its answer, which may have.
            (FLOW_FORWARD, 10, Rest::No),
            (FLOW_FORWARD, 60, Rest::Ended),
            (0, 60, Rest::Quiet),
            // At its flow the request path knows more.
            (FLOW_FORWARD | FLOW_SPLICE, 60, Rest::Quiet),
        ] {
            assert_eq!(rest(packet::TCP, flags, idle), want, "{flags:#x} after {idle} s");
        }
        assert_eq!(rest(packet::UDP, FLOW_FORWARD, 119), Rest::No);
        assert_eq!(rest(packet::UDP, FLOW_FORWARD, 120), Rest::Silent);
        // Stamped by another CPU since the clock was read.
        let ahead = FlowState { flags: FORWARD | FLOW_CLOSING, seen: NOW + 1, ..FlowState::default() };
        assert_eq!(Rest::of(packet::TCP.into(), &ahead, NOW, HZ), Rest::No);
    }

    #[test]
    fn h1_a_connection_is_over_when_both_of_its_sides_are() {
        use Rest::{Ended, Ending, No, Quiet, Silent};
        for (here, other, over) in [
            (Ending, Some(Ending), true),
            // Half of it goes on, or may.
            (Ending, Some(No), false),
            (Ending, Some(Quiet), false),
            (Ending, None, false),
            (Ended, Some(No), false),
            // A reset, of which the other side's entry never hears.
            (Ended, Some(Quiet), true),
            (Ended, None, true),
            (Silent, Some(Quiet), false),
            (Silent, Some(Silent), true),
            (Silent, None, true),
            (Quiet, None, false),
            (Quiet, Some(Quiet), false),
            (No, None, false),
        ] {
            assert_eq!(here.is_over(other), over, "{here:?} beside {other:?}");
        }
    }
}
