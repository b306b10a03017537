//! Connections of the connect path: sockets of this node, found by their records. The flow table has none of them.

use std::{mem::offset_of, net::SocketAddr};

use gray_common::{
    packet,
    wire::{Call, FLOW_ESTABLISHED, FLOW_PASS, FlowState},
};

use super::{
    core::Inner,
    drain::{rule_of, steered},
    flows::Row,
};
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
