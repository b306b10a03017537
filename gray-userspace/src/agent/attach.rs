//! Interfaces that come and go: whatever shall be attached is, within a second of its appearance.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    change::ADOPT_NS,
    core::{AttachState, Core, Inner},
    time,
};
use crate::{
    cli::AttachRole,
    kernel::{Direction, KernelError},
    sys::{
        netlink::{Link, Xdp, links},
        watch::{LinkEvent, LinkEvents},
    },
};

/// The full comparison happens on its own interval, not on the feed's silence.
const RESYNC: Duration = Duration::from_secs(10);

/// What an interface was when something was tried with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    ifindex: u32,
    mtu: u32,
    xdp: Xdp,
}

impl Seen {
    pub fn of(link: &Link) -> Self {
        Self { ifindex: link.ifindex, mtu: link.mtu, xdp: link.xdp }
    }
}

/// `splice`: there may be a splice listener, whose answers are met on their way out.
pub fn directions(role: AttachRole, splice: bool) -> &'static [Direction] {
    match role {
        AttachRole::Edge if splice => &[Direction::Ingress, Direction::Egress],
        AttachRole::Edge | AttachRole::Backend => &[Direction::Ingress],
        AttachRole::Host => &[Direction::Ingress, Direction::Egress],
    }
}

/// Follows the links of this network namespace for ever.
pub async fn follow(core: Arc<Core>, mut events: LinkEvents) {
    let mut resync = tokio::time::interval(RESYNC);
    loop {
        let all = tokio::select! {
            _ = resync.tick() => true,
            event = events.next() => match event {
                Ok(LinkEvent::New(link)) => {
                    let mut inner = core.lock();
                    inner.link_is(&link);
                    inner.follow_trust();
                    false
                }
                Ok(LinkEvent::Del { ifindex, name }) => {
                    let mut inner = core.lock();
                    inner.link_is_gone(ifindex, &name);
                    inner.follow_trust();
                    false
                }
                Ok(LinkEvent::Overrun) => true,
                Err(e) => {
                    tracing::warn!(error = %e, "cannot follow the interfaces");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    true
                }
            },
        };
        if all {
            core.lock().sync_links();
        }
    }
}

impl Inner {
    /// Compares every wanted attachment with the links there are.
    pub fn sync_links(&mut self) {
        let links = match links() {
            Ok(l) => l,
            Err(e) => return tracing::warn!(error = %e, "cannot list the interfaces"),
        };
        for i in 0..self.attachments.len() {
            let name = self.attachments[i].iface.clone();
            match links.iter().find(|l| l.name == name) {
                Some(link) => self.link_is(link),
                None => self.set_attachment(i, None, AttachState::Waiting, None),
            }
        }
        // All at once: a new agent must not take from one what it has not got to yet.
        self.follow_trust();
    }

    fn link_is(&mut self, link: &Link) {
        let Some(i) = self.attachments.iter().position(|a| a.iface == link.name) else {
            // Renamed away from a name that shall be attached.
            if let Some(i) = self.attachments.iter().position(|a| a.ifindex == Some(link.ifindex)) {
                self.set_attachment(i, None, AttachState::Waiting, None);
            }
            return;
        };
        let a = self.attachments[i].clone();
        let directions = directions(a.role, self.splice);
        let there = |d: &Direction| self.live.is_attached(&a.iface, link.ifindex, *d);
        if a.state == AttachState::Attached && a.ifindex == Some(link.ifindex) && directions.iter().all(there)
        {
            return self.follow_front(i, link);
        }
        let lost = a.state == AttachState::Attached && a.ifindex == Some(link.ifindex);
        let done = directions.iter().try_fold(false, |new, d| {
            Ok::<_, KernelError>(new | self.live.attach(&a.iface, link.ifindex, *d)?)
        });
        if matches!(done, Ok(true)) {
            if lost {
                tracing::warn!(iface = a.iface, "somebody took gray's program off; it is attached again");
            }
            // Connections that passed here unsteered until now are stable's.
            let until = time::monotonic_ns() + ADOPT_NS;
            self.live.configure(|c| c.adopt_until_ns = until);
        }
        match done {
            Ok(_) => {
                self.set_attachment(i, Some(link.ifindex), AttachState::Attached, None);
                self.follow_front(i, link);
            }
            Err(e) => self.set_attachment(i, Some(link.ifindex), AttachState::Failed, Some(e.to_string())),
        }
    }

    fn link_is_gone(&mut self, ifindex: u32, name: &str) {
        if let Some(i) = self.attachments.iter().position(|a| a.iface == name && a.ifindex == Some(ifindex)) {
            self.set_attachment(i, None, AttachState::Waiting, None);
        }
    }

    pub(super) fn set_attachment(
        &mut self,
        i: usize,
        ifindex: Option<u32>,
        state: AttachState,
        error: Option<String>,
    ) {
        let a = &mut self.attachments[i];
        if a.state == state && a.ifindex == ifindex && a.error == error {
            return;
        }
        let role = a.role.name();
        match (&error, state) {
            (Some(e), _) => tracing::error!(iface = a.iface, role, error = e, "cannot attach"),
            (None, AttachState::Waiting) => {
                tracing::warn!(iface = a.iface, role, "no such interface; waiting for it")
            }
            (None, _) => tracing::info!(iface = a.iface, role, ifindex, "attached"),
        }
        (a.ifindex, a.state, a.since, a.error) = (ifindex, state, SystemTime::now(), error);
        if ifindex.is_none() {
            self.forget_front(i);
        }
    }
}
