//! Where a connection goes whose first bytes were read: what the data path decides of the same bytes, attempt by attempt.

use std::net::SocketAddr;

use gray_common::{
    Reason,
    decide::{Claims, Decision, Request, Verdict, bucket::flow_seed, mem::MemTables},
    hash::HashKey,
    packet::TCP,
    request::machine::ATTEMPTS,
    wire::{Addr, Breaker, Control, Further, Instance, ListenerKey, Reading, SERVICE_DENY},
};

use super::First;
pub use crate::kernel::Whose;
use crate::{
    asks::{self, Asking},
    kernel::{KernelError, Miss},
    paging,
};

/// Decisions of which each met another policy, at most.
const FLIPS: u32 = 8;

/// The tables in force.
pub trait Tables {
    /// # Errors
    /// The kernel's.
    fn control(&self) -> Result<Control, KernelError>;

    /// Ticks now, which the agent's lease and breakers are held against.
    ///
    /// # Errors
    /// The kernel's.
    fn now(&self, control: &Control) -> Result<u64, KernelError>;

    /// # Errors
    /// The kernel's.
    fn fetch(&self, to: &mut MemTables, miss: Miss) -> Result<(), KernelError>;
}

/// What is read of a connection, and the number of its service as counters know it.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pub service: u16,
    pub reading: Reading,
    pub further: Further,
    /// Of its gray arm; all 0: it has none.
    pub breaker: Breaker,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goes {
    To(SocketAddr, Decision),
    Refused(Decision),
    /// No service, no instance, or a table hole.
    Nowhere(Reason),
}

impl Whose {
    fn listener(&self) -> ListenerKey {
        let to = Addr::from(self.service.ip().to_canonical());
        ListenerKey { addr: to, port: self.service.port().to_be(), proto: TCP, _pad: 0 }
    }

    /// What is read of such a connection; `None`: nothing, or it is of no service.
    ///
    /// # Errors
    /// The kernel's.
    pub fn served(&self, on: &impl Tables) -> Result<Option<Served>, KernelError> {
        let mut t = MemTables { control: on.control()?, ..MemTables::default() };
        let listener = paging::listener(&mut t, self.listener(), |t, miss| on.fetch(t, miss))?;
        let reading = paging::reading(&mut t, listener, |t, miss| on.fetch(t, miss))?;
        let service = paging::service(&mut t, listener, |t, miss| on.fetch(t, miss))?;
        let further = paging::further(&mut t, listener, |t, miss| on.fetch(t, miss))?;
        Ok(reading.zip(service).map(|(reading, service)| Served {
            service: service.id,
            reading,
            further,
            breaker: service.breaker,
        }))
    }

    /// Decides; `turn` counts this node's decisions, for round robin; `failed` is what the attempt before this one went by. A change of
    /// policy meanwhile has it decided again, so that it is of one policy.
    ///
    /// # Errors
    /// The kernel's.
    pub fn goes(
        &self,
        on: &impl Tables,
        first: &First,
        (attempt, turn): (u32, u32),
        failed: Option<&Decision>,
    ) -> Result<Goes, KernelError> {
        let mut control = on.control()?;
        for _ in 0..FLIPS {
            let goes = self.goes_at(on, control, first, (attempt, turn), failed)?;
            let now = on.control()?;
            if now.epoch == control.epoch {
                return Ok(goes);
            }
            control = now;
        }
        Ok(Goes::Nowhere(Reason::TableHole))
    }

    fn goes_at(
        &self,
        on: &impl Tables,
        control: Control,
        first: &First,
        (attempt, turn): (u32, u32),
        failed: Option<&Decision>,
    ) -> Result<Goes, KernelError> {
        // No program sees the end of such a connection: where a breaker is open it does not try.
        let mut t = MemTables { control, now: on.now(&control)?, unseen: true, ..MemTables::default() };
        let key = control.key[(control.epoch & 1) as usize];
        let listener = paging::listener(&mut t, self.listener(), |t, miss| on.fetch(t, miss))?;
        let source = self.source(first);
        let claims = self.claims((control.epoch, key), first, (attempt, source.as_ref()));
        let request = Request {
            listener,
            claims: &claims,
            source: source.as_ref(),
            is_v4: self.service.ip().to_canonical().is_ipv4(),
            seed: self.seed(key),
            // Whom the policy denies was refused at the first attempt.
            spares: if attempt == 0 { 0 } else { SERVICE_DENY },
        };
        let asks = first.asks();
        if !asks.is_empty() && attempt + 1 < ATTEMPTS {
            let failed = failed.map(|d| &d.instance);
            let own = self.own();
            // As the tables in force have it: they may be another policy's than those that it was read by.
            let further = &paging::further(&mut t, listener, |t, miss| on.fetch(t, miss))?;
            let asking = Asking { asks: &asks, reading: first.reading(), further, key, turn, own, failed };
            let answer = asks::ask(&mut t, &request, &asking, |t, miss| on.fetch(t, miss))?;
            return Ok(self.arrives(answer.verdict));
        }
        let answer = paging::ask_in_turn(&mut t, &request, turn, |t, miss| on.fetch(t, miss))?;
        let (Some(failed), Some(subset)) = (failed, answer.subset) else {
            return Ok(self.arrives(answer.verdict));
        };
        let d = match answer.verdict {
            Verdict::Steer(d) => d,
            Verdict::Stay(d) => Decision { instance: self.own(), ..d },
            other => return Ok(self.arrives(other)),
        };
        // The first of another subset was not tried yet.
        if d.target != failed.target {
            return Ok(self.arrives(answer.verdict));
        }
        let tried = [&d.instance, &failed.instance];
        let seed = self.seed(key);
        Ok(match paging::other(&mut t, (subset, request.is_v4), seed, tried, |t, miss| on.fetch(t, miss))? {
            Some(instance) => self.arrives(Verdict::Steer(Decision { instance, ..d })),
            None => self.arrives(answer.verdict),
        })
    }

    /// The address that was dialled, as an instance.
    fn own(&self) -> Instance {
        let addr = Addr::from(self.service.ip().to_canonical());
        Instance { addr, port: self.service.port().to_be(), proto: TCP, live: 1 }
    }

    /// The client's address, or the one that its load balancer says. A caller's on this node is one that it has chosen, as in the connect
    /// path.
    fn source(&self, first: &First) -> Option<Addr> {
        let own = || self.caller.map_or(Some(Addr::from(self.client.ip().to_canonical())), |c| c.source);
        first.source().map(|ip| Addr::from(ip.to_canonical())).or_else(own)
    }

    /// The last attempt is stable's.
    fn claims(
        &self,
        (epoch, key): (u64, HashKey),
        first: &First,
        (attempt, source): (u32, Option<&Addr>),
    ) -> Claims {
        let mut claims = Claims::none(0);
        if attempt + 1 < ATTEMPTS {
            first.claims(key, &mut claims);
            claims.set_tag(self.tag.identity, self.caller.map_or(self.tag.lane, |c| c.lane));
            if let Some(w) = self.caller.and_then(|c| c.workload) {
                claims.set_workload(epoch, &w);
            }
        }
        if let Some(source) = source {
            claims.set_source(key, source);
        }
        claims.set_mark(key, self.mark);
        claims.set_dscp(key, self.dscp);
        claims
    }

    fn seed(&self, key: HashKey) -> u64 {
        let [from, to] = [self.client, self.service].map(|a| Addr::from(a.ip().to_canonical()));
        flow_seed(key.k0, &from, &to, self.client.port().to_be(), self.service.port().to_be(), TCP)
    }

    fn arrives(&self, verdict: Verdict) -> Goes {
        match verdict {
            Verdict::Steer(d) => {
                let at =
                    SocketAddr::new(std::net::IpAddr::from(d.instance.addr), u16::from_be(d.instance.port));
                Goes::To(at, d)
            }
            Verdict::Stay(d) => Goes::To(self.service, Decision { instance: self.own(), ..d }),
            Verdict::Deny(d) => Goes::Refused(d),
            Verdict::Pass(reason) => Goes::Nowhere(reason),
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
pub(super) mod tests;
