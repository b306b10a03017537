//! Entries of connections that have ended. The kernel takes the place of who was silent the longest, whether the connection is over
//! or goes on: without this, new connections would push out those that live and are idle (docs/adr/0031-ended-connections-leave.md).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use gray_common::{
    limits, packet,
    wire::{
        Bound, FLOW_CLOSING, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_SPLICE, Flow4, Flow6, FlowKey4, FlowKey6,
        FlowState,
    },
};

use super::core::Core;
use crate::kernel::{FlowTables, KernelError, Live};

const EACH: Duration = Duration::from_secs(5);
/// Of a walk's own time, the least that lies between two: 2 % of a CPU at most. And the most, whatever it took.
const REST: u32 = 50;
const SOON: Duration = Duration::from_secs(30);
/// So long after both of its ends a connection's last acknowledgement has come, also when it was lost twice, seconds.
const ENDED_S: u32 = 10;
/// Of a side that has ended the other may go on for long; not for so long without a word, seconds.
const HALF_S: u32 = 1800;
/// A UDP peer that has said nothing for longer speaks first no more (RFC 4787, 4.3), seconds.
const UDP_S: u32 = 300;
/// Looked at, and removed, under one lock; then it is somebody else's turn, who may wait with a recall.
const AT_ONCE: usize = 32;
const TURN: Duration = Duration::from_micros(200);

/// Takes them out, again and again.
pub async fn watch(core: Arc<Core>) {
    loop {
        let sweep = core.clone();
        let mut took = Duration::ZERO;
        match tokio::task::spawn_blocking(move || sweep.forget_ended()).await {
            Ok(Ok((connections, walked))) => {
                tracing::debug!(connections, "ended connections are forgotten");
                took = walked;
            }
            Ok(Err(error)) => tracing::warn!(%error, "ended connections cannot be forgotten"),
            // The next round does.
            Err(error) => tracing::error!(%error, "ended connections cannot be forgotten"),
        }
        tokio::time::sleep(EACH.max(took * REST).min(SOON)).await;
    }
}

/// How an entry rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// It does not.
    No,
    /// Its side has ended, a moment ago.
    Ending,
    /// Its side has ended a minute ago, or never began.
    Ended,
    /// Nothing for long; the connection may live.
    Quiet,
    /// Nothing for longer than it may live.
    Silent,
}

impl Rest {
    /// At `now`, ticks; `moved`: its instance sees it by another tuple than the client's own, and remembers that for a minute (TIME_WAIT),
    /// in which nobody else is to have it.
    fn of((proto, moved): (u32, bool), s: &FlowState, now: u32, hz: u32) -> Self {
        // Signed: a CPU may have stamped it since.
        let ticks = i64::from(now.wrapping_sub(s.seen) as i32);
        let longer = |seconds: u32| ticks > i64::from(seconds) * i64::from(hz.max(1));
        let began = s.flags & (FLOW_ESTABLISHED | FLOW_SPLICE) != 0;
        match s.flags & FLOW_CLOSING != 0 {
            _ if proto != u32::from(packet::TCP) && longer(UDP_S) => Self::Silent,
            _ if proto != u32::from(packet::TCP) => Self::No,
            true if longer(limits::TCP_CLOSING_S) => Self::Ended,
            true if longer(ENDED_S) && !moved => Self::Ending,
            false if longer(limits::TCP_CLOSING_S) && !began => Self::Ended,
            false if longer(HALF_S) => Self::Quiet,
            _ => Self::No,
        }
    }

    /// Whether a connection one of whose entries rests so is over. `other`: the other direction's; `None`: there is none. What has not
    /// ended stays, however long it is silent: the kernel takes its place when it is needed.
    fn is_over(self, other: Option<Self>) -> bool {
        match (self, other) {
            (Self::Ended, other) => other != Some(Self::No),
            (Self::Ending, other) => matches!(other, Some(Self::Ending | Self::Ended)),
            (Self::Silent, other) => matches!(other, None | Some(Self::Silent)),
            _ => false,
        }
    }
}

/// What both families have.
trait Entry: Copy {
    type Key: Copy + Eq + Hash;
    /// The other direction's key: the tuple that this one makes, turned round.
    fn other(&self, proto: u32) -> Self::Key;
    fn rest(&self, key: &Self::Key, now: u32, hz: u32) -> Rest;
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

            fn rest(&self, key: &$key, now: u32, hz: u32) -> Rest {
                let s = &self.state;
                // The client stands first in its own key, and last in that of its answers.
                let moved = match s.flags & FLOW_FORWARD != 0 {
                    true => (self.saddr, self.sport) != (key.saddr, key.sport),
                    false => (self.daddr, self.dport) != (key.daddr, key.dport),
                };
                Rest::of((key.proto, moved), s, now, hz)
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
                live.forget_settled(v4, v6)
            }
        }
    };
}

entry!(Flow4, FlowKey4, walk4, settled4, |keys| (keys, &[]));
entry!(Flow6, FlowKey6, walk6, settled6, |keys| (&[], keys));

impl Core {
    /// How many connections were forgotten, and how long the tables were walked.
    fn forget_ended(&self) -> Result<(usize, Duration), KernelError> {
        let (tables, hz) = {
            let inner = self.lock();
            (inner.live.flow_tables()?, inner.live.control().hz)
        };
        let mut walked = Duration::ZERO;
        let v4 = self.forget_of::<Flow4>(&tables, hz, &mut walked)?;
        let v6 = self.forget_of::<Flow6>(&tables, hz, &mut walked)?;
        Ok((v4 + v6 + self.forget_spliced(&tables, &mut walked)?, walked))
    }

    fn forget_of<E: Entry>(
        &self,
        tables: &FlowTables,
        hz: u32,
        walked: &mut Duration,
    ) -> Result<usize, KernelError> {
        // Before the walk: what is stamped meanwhile does not rest.
        let now = self.lock().live.clock()?.jiffies as u32;
        let began = Instant::now();
        let mut all = HashMap::new();
        E::walk(tables, |k, f| {
            let rest = f.rest(&k, now, hz);
            if rest != Rest::No {
                let _ = all.insert(k, (rest, f.other(E::proto(&k))));
            }
        })?;
        // What is not among them lives, or is not there, or is another connection's by now: the tables say.
        let may = |(key, (rest, other)): (&E::Key, &(Rest, E::Key))| {
            let other_rests = all.get(other).filter(|o| o.1 == *key).map(|o| o.0);
            rest.is_over(other_rests).then_some((*key, *other))
        };
        let due: Vec<(E::Key, E::Key)> = all.iter().filter_map(may).collect();
        *walked += began.elapsed();
        let mut forgotten = 0;
        for some in due.chunks(AT_ONCE) {
            let mut inner = self.lock();
            let mut there = Vec::with_capacity(AT_ONCE);
            for (key, other) in some {
                // A client may have come again since, and have gone elsewhere.
                if let Some(f) = E::look(&inner.live, key)? {
                    let other = (f.other(E::proto(key)) == *other).then_some(*other);
                    let theirs = other.map(|o| E::look(&inner.live, &o)).transpose()?.flatten();
                    let theirs = theirs.filter(|t| t.other(E::proto(key)) == *key);
                    there.push((*key, f, other.zip(theirs)));
                }
            }
            // Behind them: no packet that is in them is later than this.
            let now = inner.live.clock()?.jiffies as u32;
            let mut keys = Vec::with_capacity(2 * AT_ONCE);
            for (key, f, theirs) in there {
                if f.rest(&key, now, hz).is_over(theirs.map(|(o, t)| t.rest(&o, now, hz))) {
                    keys.push(key);
                    keys.extend(theirs.map(|(o, _)| o));
                    forgotten += 1;
                }
            }
            E::forget(&inner.live, &keys)?;
            drop(inner);
            std::thread::sleep(TURN);
        }
        Ok(forgotten)
    }

    /// The same of translated connections, and of the messages of those where every request chooses.
    fn forget_spliced(&self, tables: &FlowTables, walked: &mut Duration) -> Result<usize, KernelError> {
        let now = self.lock().live.request_ms()? as u32;
        let is_over = |b: &Bound, now| b.lock == 0 && b.splice.is_over(now, ENDED_S * 1000);
        let began = Instant::now();
        let mut due = Vec::new();
        tables.walk_spliced(|t, b| {
            if is_over(&b, now) {
                due.push(t);
            }
        })?;
        *walked += began.elapsed();
        let mut forgotten = 0;
        for some in due.chunks(AT_ONCE) {
            let inner = self.lock();
            let mut keys = Vec::with_capacity(AT_ONCE);
            for t in some {
                // By the walk's clock: what has come since makes it no older.
                if inner.live.splice(t)?.is_some_and(|b| is_over(&b, now)) {
                    keys.push(*t);
                }
            }
            inner.live.forget_splices(&keys)?;
            forgotten += keys.len();
            drop(inner);
            std::thread::sleep(TURN);
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
        Rest::of((proto.into(), false), &s, NOW, HZ)
    }

    #[test]
    fn h1_an_entry_rests_when_no_program_takes_it_for_its_connections_any_more() {
        const FORWARD: u16 = FLOW_FORWARD | FLOW_ESTABLISHED;
        for (flags, idle, want) in [
            (FORWARD, HALF_S - 1, Rest::No),
            (FORWARD, HALF_S, Rest::Quiet),
            (FORWARD | FLOW_CLOSING, 9, Rest::No),
            (FORWARD | FLOW_CLOSING, 10, Rest::Ending),
            (FORWARD | FLOW_CLOSING, 60, Rest::Ended),
            // A SYN that nothing came of, and the entry of answers that did not come.
            (FLOW_FORWARD, 10, Rest::No),
            (FLOW_FORWARD, 60, Rest::Ended),
            (0, 60, Rest::Ended),
            // Of these the request path knows more.
            (FLOW_FORWARD | FLOW_SPLICE, 60, Rest::No),
        ] {
            assert_eq!(rest(packet::TCP, flags, idle), want, "{flags:#x} after {idle} s");
        }
        assert_eq!(rest(packet::UDP, FLOW_FORWARD, UDP_S - 1), Rest::No);
        assert_eq!(rest(packet::UDP, FLOW_FORWARD, UDP_S), Rest::Silent);
        // Stamped since the clock was read, also when that is long ago.
        for ahead in [1, 100 * HZ] {
            let s = FlowState { flags: FORWARD | FLOW_CLOSING, seen: NOW + ahead, ..FlowState::default() };
            assert_eq!(Rest::of((packet::TCP.into(), false), &s, NOW, HZ), Rest::No);
        }
        // Its port is one that was found for it.
        let moved = FlowState { flags: FORWARD | FLOW_CLOSING, seen: NOW - 20 * HZ, ..FlowState::default() };
        assert_eq!(Rest::of((packet::TCP.into(), true), &moved, NOW, HZ), Rest::No);
    }

    #[test]
    fn h1_a_connection_is_over_when_both_of_its_sides_are() {
        use Rest::{Ended, Ending, No, Quiet, Silent};
        for (here, other, over) in [
            (Ending, Some(Ending), true),
            (Ending, Some(Ended), true),
            // Half of it goes on, or may.
            (Ending, Some(No), false),
            (Ending, Some(Quiet), false),
            (Ending, None, false),
            (Ended, Some(No), false),
            // A reset, of which the other side's entry never hears.
            (Ended, Some(Quiet), true),
            (Ended, None, true),
            (Silent, Some(No), false),
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
