//! Connections of the connect path: sockets of this node, found by their records, and ended. The flow table has none of them.

use std::{
    collections::BTreeSet,
    mem::offset_of,
    net::{IpAddr, SocketAddr},
};

use gray_common::{
    packet,
    wire::{Addr, Call, FLOW_ESTABLISHED, FLOW_PASS, FlowState, Peer},
};

use super::{core::Inner, flows::Row};
use crate::{
    kernel::KernelError,
    sys::sockets::{self, Held},
};

impl Inner {
    /// The TCP socket that this client has dialled the service with; `None`: no socket of this node that was decided on is it.
    pub(super) fn called(
        &mut self,
        client: SocketAddr,
        service: SocketAddr,
    ) -> Result<Option<Row>, KernelError> {
        if self.connect.is_none() {
            return Ok(None);
        }
        let failed = |source| KernelError::Write { what: "the list of sockets".into(), source };
        let now = self.live.clock()?.jiffies as u32;
        let records = self.live.unsteered()?;
        let all = sockets::held(records.records()).map_err(failed)?;
        Ok(all.iter().filter(|h| h.local == client).find_map(|h| row(h, service, now)))
    }

    /// Service address and instance of every socket of this node that was sent to one: of local callers and of a splice listener.
    pub(super) fn sent(&self) -> Result<Vec<(SocketAddr, SocketAddr)>, KernelError> {
        let failed = |source| KernelError::Write { what: "the list of sockets".into(), source };
        let records = self.live.unsteered()?;
        let held = sockets::held(records.records()).map_err(failed)?;
        Ok(held.iter().filter_map(|h| steered(&h.record).filter(|(_, i)| *i == h.peer)).collect())
    }

    /// Sockets of this node that were sent to an instance when they dialled one of these addresses; also those of a splice listener, which
    /// resets its client then.
    pub(super) fn close_local(
        &self,
        dialled: &BTreeSet<SocketAddr>,
        instance: SocketAddr,
        rules: Option<&BTreeSet<u32>>,
    ) -> Result<usize, KernelError> {
        if self.connect.is_none() && !self.splice {
            return Ok(0);
        }
        let failed = |source| KernelError::Write { what: "the end of drained sockets".into(), source };
        let records = self.live.unsteered()?;
        let mut closer = sockets::Closer::new().map_err(failed)?;
        let mut n = 0;
        for held in sockets::held(records.records()).map_err(failed)? {
            let ours = steered(&held.record).is_some_and(|(s, i)| i == instance && dialled.contains(&s));
            let sent = rules.is_none_or(|rules| rules.contains(&rule_of(&held.record)));
            if ours && sent && held.peer == instance {
                closer.destroy(&held).map_err(failed)?;
                n += 1;
            }
        }
        Ok(n)
    }
}

/// Service address and instance of a socket's record; `None`: it was not steered.
fn steered(record: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let address =
        |at: usize| Some(IpAddr::from(Addr(record.get(at..at + 16)?.try_into().ok()?)).to_canonical());
    let port = |at: usize| Some(u16::from_be_bytes(record.get(at..at + 2)?.try_into().ok()?));
    let service = SocketAddr::new(address(offset_of!(Peer, service))?, port(offset_of!(Peer, service_port))?);
    let instance =
        SocketAddr::new(address(offset_of!(Peer, instance))?, port(offset_of!(Peer, instance_port))?);
    (instance.port() != 0).then_some((service, instance))
}

/// The rule that has sent it there; 0: none.
fn rule_of(record: &[u8]) -> u32 {
    let at = offset_of!(Call, rule);
    record.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, |b| u32::from(u16::from_ne_bytes(b)))
}

/// As a forward entry of the flow table says it.
fn row(held: &Held, dialled: SocketAddr, now: u32) -> Option<Row> {
    let (service, instance) = steered(&held.record).filter(|(s, i)| *s == dialled && *i == held.peer)?;
    let at = offset_of!(Call, counter);
    let counter = u16::from_ne_bytes(held.record.get(at..at + 2)?.try_into().ok()?);
    let stays = if service == instance { FLOW_PASS } else { 0 };
    let state = FlowState {
        flags: FLOW_ESTABLISHED | stays,
        rule: rule_of(&held.record) as u16,
        counter,
        seen: now,
        ..FlowState::default()
    };
    Some(Row { proto: packet::TCP, client: held.local, service, instance, seen_as: held.local, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_whether_its_socket_was_steered() {
        let v4 = |d: [u8; 4]| Addr::v4(u32::from_ne_bytes(d)).0;
        let mut r = [v4([198, 18, 1, 100]), v4([198, 18, 2, 3])].concat();
        r.extend([80u16.to_be_bytes(), 8080u16.to_be_bytes()].concat());
        r.extend([0; 4]);
        let want = ("198.18.1.100:80".parse().unwrap(), "198.18.2.3:8080".parse().unwrap());
        assert_eq!((r.len(), steered(&r)), (size_of::<Peer>(), Some(want)));
        r.extend([[0; 12].as_slice(), &7u16.to_ne_bytes(), &[0; 2]].concat());
        assert_eq!((r.len(), steered(&r), rule_of(&r)), (size_of::<Call>(), Some(want), 7));
        assert_eq!(rule_of(&r[..50]), 0);
        assert_eq!(steered(&[0; 40]), None);
        assert_eq!(steered(&[0xff; 39][..20]), None);
    }
}
