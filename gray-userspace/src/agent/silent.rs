//! Clients that say nothing to a service whose requests are read: they wait for the server. No packet of theirs comes, so they are asked
//! for one; the data path does the rest (`request::machine::probe`).

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use gray_common::{
    request::{
        cookie::Tuple,
        machine::{Terms, probe},
    },
    wire::{Addr, Bound},
};

use super::{
    core::{AttachState, Core, Inner},
    names::canonical,
    segment::{Ack, frame},
};
use crate::{
    compile,
    kernel::{KernelError, Sender},
};

const EACH: Duration = Duration::from_millis(500);
/// While somebody was asked not long ago, those who have an instance are looked at, too: their SYN may be lost.
const AGAIN: u32 = 60_000;

/// Asks, again and again, as long as the programs read requests.
pub async fn watch(core: Arc<Core>) {
    let mut tick = tokio::time::interval(EACH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        let _ = tick.tick().await;
        let core = core.clone();
        let mut asked = last;
        let done = tokio::task::spawn_blocking(move || {
            let done = core.lock().ask_the_silent(&mut asked);
            (asked, done)
        });
        match done.await {
            Ok((asked, Ok(_))) => last = asked,
            Ok((_, Err(error))) => {
                tracing::warn!(%error, "silent clients cannot be asked");
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            // The next round asks.
            Err(error) => tracing::error!(%error, "silent clients cannot be asked"),
        }
    }
}

/// When clients were asked before, and when one was found that waits; by the request path's clock.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    at: u32,
    found: Option<u32>,
}

impl Inner {
    /// How many were asked.
    fn ask_the_silent(&mut self, asked: &mut Option<Asked>) -> Result<usize, KernelError> {
        if !self.live.reads() {
            *asked = None;
            return Ok(0);
        }
        let now = self.live.request_ms()? as u32;
        let before = asked.unwrap_or(Asked { at: now, found: None });
        let terms: HashMap<SocketAddr, Terms> = (self.policy.services.iter())
            .flat_map(|s| s.listen.iter().map(|l| (canonical(l.addr), compile::terms(s))))
            .collect();
        let mut due = Vec::new();
        let mut look = |t: Tuple, b: Bound| {
            // Of a service that is gone nobody can be told where to go.
            let terms = terms.get(&end(t.service, t.service_port));
            due.extend(terms.and_then(|terms| question(&t, &b, (now, before.at), terms)));
        };
        self.live.waiting(&mut look)?;
        if before.found.is_some_and(|at| now.wrapping_sub(at) < AGAIN) {
            self.live.spliced(&mut look)?;
        }
        let found = if due.is_empty() { before.found } else { Some(now) };
        *asked = Some(Asked { at: now, found });
        if due.is_empty() {
            return Ok(0);
        }
        let sender = self.sender()?;
        for frame in &due {
            // Its next hop's address may have been forgotten: it is asked once more later.
            let _ = sender.send(frame).map_err(unsent)?;
        }
        Ok(due.len())
    }

    /// What sends frames of ours to the next hop of their destination, as if they had come in by one of our interfaces: whether routes are
    /// looked at is a setting of the interface.
    pub(super) fn sender(&mut self) -> Result<Sender, KernelError> {
        let ours = self.attachments.iter().filter(|a| a.state == AttachState::Attached);
        let ifindex = ours.filter_map(|a| a.ifindex).next().unwrap_or(0);
        self.live.sender(ifindex)
    }
}

fn unsent(source: std::io::Error) -> KernelError {
    KernelError::Write { what: "a frame".into(), source }
}

/// The frame that asks a client, if it is time for that: `now`, and when it was last looked at.
fn question(t: &Tuple, b: &Bound, (now, last): (u32, u32), terms: &Terms) -> Option<Vec<u8>> {
    let out = probe(&b.splice, now, last, terms)?;
    let time = (out.time != 0).then_some((out.time_value, out.time_echo));
    let ack = Ack { seq: out.seq, ack: out.ack, window: out.window, time };
    Some(frame(end(t.service, t.service_port), end(t.client, t.client_port), ack))
}

fn end(words: [u64; 2], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(Addr::from_words(words)), u16::from_be(port))
}
