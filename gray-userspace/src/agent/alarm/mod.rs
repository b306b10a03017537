//! Alarms on requests that name nobody: `machine` says when, `watch` counts and tells, `deliver` brings it to people.

mod deliver;
mod machine;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::SystemTime,
};

pub use watch::watch;

use self::machine::Machine;
use crate::{agent::time, api::types::AlarmStatus, model::Alarm};

/// By service.
pub type Shared = Arc<Mutex<BTreeMap<String, State>>>;

/// One service's alarm, up or not.
#[derive(Debug)]
pub struct State {
    rule: Arc<Alarm>,
    machine: Machine,
    since: SystemTime,
    /// Times that it was raised.
    pub raised: u64,
    deliveries: Arc<Deliveries>,
}

/// What became of the notices of one service.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Number of the latest: an earlier one is not tried again.
    latest: AtomicU64,
    pub delivered: AtomicU64,
    pub failed: AtomicU64,
    /// Of the last one; none: it arrived.
    error: Mutex<Option<String>>,
}

/// A panic elsewhere must not stop alarms: what is half done is done again.
pub fn lock(alarms: &Shared) -> MutexGuard<'_, BTreeMap<String, State>> {
    alarms.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn new(rule: Arc<Alarm>) -> Self {
        let (machine, since) = (Machine::default(), SystemTime::now());
        Self { rule, machine, since, raised: 0, deliveries: Arc::default() }
    }

    pub fn is_up(&self) -> bool {
        self.machine.is_up()
    }

    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    pub fn status(&self, service: &str) -> AlarmStatus {
        let seen = self.machine.seen();
        AlarmStatus {
            service: service.into(),
            rule: self.rule.to_string(),
            since: time::rfc3339_of(self.since),
            requests: seen.read,
            missing: seen.missing,
            error: self.deliveries.error(),
        }
    }
}

impl Deliveries {
    fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&self, how: Result<(), String>) {
        use std::sync::atomic::Ordering::Relaxed;
        let count = if how.is_ok() { &self.delivered } else { &self.failed };
        let _ = count.fetch_add(1, Relaxed);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = how.err();
    }
}
