//! What becomes of breakers, which programs open and close by themselves: told once a second, in events and the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use gray_common::{
    limits,
    wire::{ARM_STABLE, Trip},
};
use tokio::time::MissedTickBehavior;

use super::{
    core::{Core, Inner},
    done, time,
};
use crate::{
    api::{
        ApiError,
        types::{BreakerEvent, BreakerStatus, EventLine},
    },
    kernel::KernelError,
    model::Breaker,
};

const EVERY: Duration = Duration::from_secs(1);

/// Runs as long as the agent.
pub async fn watch(core: Arc<Core>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let _ = tick.tick().await;
        let core = core.clone();
        let _ = done("breakers", move || core.lock().look_at_breakers().map_err(|e| ApiError::internal(&e)))
            .await;
    }
}

/// What was known of a service's breaker.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The service's number, which it may lose.
    id: u16,
    open: bool,
    opens: u64,
}

impl Inner {
    fn look_at_breakers(&mut self) -> Result<(), KernelError> {
        if self.revision == 0 && self.have.epoch != 0 {
            // The record is lost: whose breakers those are that the kernel goes by, nobody knows.
            return Ok(());
        }
        let mut seen = BTreeMap::new();
        for (service, rule, trip) in self.trips()? {
            let id = self.compiled.assigned.services.get(&service).unwrap_or(0) as u16;
            let now = Seen { id, open: trip.opened != 0, opens: trip.opens };
            let was = self.breakers.get(&service).copied().unwrap_or(Seen { open: false, ..now });
            // It may have opened and closed in between.
            if now.opens > was.opens || now.open && !was.open {
                self.tell(&service, true, &rule, &trip);
            }
            if !now.open && (was.open || now.opens > was.opens) {
                self.tell(&service, false, &rule, &trip);
            }
            let _ = seen.insert(service, now);
        }
        // What nobody asks for any more does not stay open: its number may become another service's.
        let kept: BTreeSet<u16> = seen.values().map(|s| s.id).collect();
        let gone: Vec<u16> = match self.breakers_known {
            true => self.breakers.values().map(|s| s.id).filter(|id| !kept.contains(id)).collect(),
            // An agent before this one may have seen it go.
            false => (0..limits::SERVICES as u16).filter(|id| !kept.contains(id)).collect(),
        };
        for id in gone.into_iter().map(u32::from) {
            if self.live.trip(id)? != Trip::default() {
                self.live.forget_trip(id)?;
            }
        }
        self.breakers_known = true;
        self.breakers = seen;
        Ok(())
    }

    fn tell(&self, service: &str, open: bool, rule: &Breaker, trip: &Trip) {
        let rule = rule.to_string();
        if open {
            tracing::error!(
                service,
                rule,
                failures = trip.count,
                "gray failed too often: its breaker is open, and everybody goes to stable"
            );
        } else {
            tracing::info!(service, "the breaker is closed: routes count again");
        }
        let event = BreakerEvent {
            at: time::rfc3339_of(SystemTime::now()),
            service: service.into(),
            breaker: if open { "open" } else { "closed" }.into(),
            rule,
            failures: trip.count,
        };
        // No receiver: nobody misses it.
        let _ = self.events.send(EventLine::Breaker(event));
    }

    /// Of every service that has one.
    fn trips(&self) -> Result<Vec<(String, Breaker, Trip)>, KernelError> {
        let with = self.policy.services.iter().filter_map(|s| Some((s, s.breaker?)));
        with.filter_map(|(s, rule)| Some((s, rule, self.compiled.assigned.services.get(&s.name)?)))
            .map(|(s, rule, id)| Ok((s.name.clone(), rule, self.live.trip(id)?)))
            .collect()
    }

    pub(super) fn breaker_status(&self) -> Result<Vec<BreakerStatus>, KernelError> {
        let mut out = Vec::new();
        for (service, rule, trip) in self.trips()? {
            let id = self.compiled.assigned.services.get(&service).unwrap_or(0);
            out.push(BreakerStatus {
                rule: rule.to_string(),
                state: if trip.opened != 0 { "open" } else { "closed" }.into(),
                failures: trip.count,
                opens: trip.opens,
                kept: self.live.arm(id, ARM_STABLE)?.broken,
                service,
            });
        }
        Ok(out)
    }
}
