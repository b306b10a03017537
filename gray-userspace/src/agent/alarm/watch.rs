//! Looks at the counters once a second, steps the machines, and tells: events, log, deliveries. Waits for no delivery.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tokio::{sync::Semaphore, time::MissedTickBehavior};

use super::{
    State, deliver, lock,
    machine::{Effect, Seen},
};
use crate::{
    agent::{core::Core, health, time},
    api::types::{AlarmEvent, EventLine},
    kernel::KernelError,
    model::Alarm,
};

const EVERY: Duration = Duration::from_secs(1);
/// Notices on their way at one time.
const AT_ONCE: usize = 16;

/// Runs as long as the agent.
pub async fn watch(core: Arc<Core>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let _ = tick.tick().await;
        let all = core.clone();
        // The state may be locked for seconds by a large change.
        match tokio::task::spawn_blocking(move || step(&all)).await {
            Ok(Ok(notices)) => notices.into_iter().for_each(|n| tell(&core, n, &room)),
            Ok(Err(error)) => tracing::warn!(%error, "alarms: the kernel's counters cannot be read"),
            // The next step looks at the same counters.
            Err(error) => tracing::error!(%error, "alarms"),
        }
    }
}

/// What an alarm has to say.
struct Notice {
    event: AlarmEvent,
    number: u64,
    rule: Arc<Alarm>,
    deliveries: Arc<super::Deliveries>,
}

fn step(core: &Core) -> Result<Vec<Notice>, KernelError> {
    let inner = core.lock();
    let mut alarms = lock(&inner.alarms);
    alarms.retain(|service, _| inner.policy.service(service).is_some_and(|s| s.alarm.is_some()));
    let mut out = Vec::new();
    for s in &inner.policy.services {
        let Some(rule) = &s.alarm else { continue };
        let Some(id) = inner.compiled.assigned.services.get(&s.name) else { continue };
        let count = inner.live.requests(id)?;
        let state = alarms.entry(s.name.clone()).or_insert_with(|| State::new(rule.clone()));
        if state.rule != *rule {
            // Other numbers: what was known says nothing of them.
            *state = State::new(rule.clone());
        }
        let (word, seen) = match state.machine.on(rule, count, health::now()) {
            None => continue,
            Some(Effect::Raised(seen)) => ("raised", seen),
            Some(Effect::Cleared(seen)) => ("cleared", seen),
        };
        state.since = SystemTime::now();
        state.raised += u64::from(word == "raised");
        let number = state.deliveries.latest.fetch_add(1, Ordering::Relaxed) + 1;
        let event = event(&s.name, word, rule, seen);
        out.push(Notice { event, number, rule: rule.clone(), deliveries: state.deliveries.clone() });
    }
    Ok(out)
}

fn event(service: &str, word: &str, rule: &Alarm, seen: Seen) -> AlarmEvent {
    AlarmEvent {
        at: time::rfc3339_of(SystemTime::now()),
        service: service.into(),
        alarm: word.into(),
        rule: rule.to_string(),
        requests: seen.read,
        missing: seen.missing,
    }
}

fn tell(core: &Core, n: Notice, room: &Arc<Semaphore>) {
    let e = &n.event;
    tracing::warn!(
        service = e.service,
        alarm = e.alarm,
        rule = e.rule,
        requests = e.requests,
        missing = e.missing,
        "requests without any of the claims of their service"
    );
    // No receiver left: nobody misses it.
    let _ = core.events.send(EventLine::Alarm(n.event.clone()));
    let dir = core.lock().health_commands.clone();
    for by in [deliver::By::Webhook, deliver::By::Command] {
        let (rule, event, deliveries, room) =
            (n.rule.clone(), n.event.clone(), n.deliveries.clone(), room.clone());
        let (number, dir) = (n.number, dir.clone());
        drop(tokio::spawn(async move {
            let latest = || deliveries.latest.load(Ordering::Relaxed) == number;
            if let Some(how) = deliver::deliver(by, &rule, &event, dir.as_deref(), &room, latest).await {
                if let Err(error) = &how {
                    tracing::warn!(
                        service = event.service,
                        alarm = event.alarm,
                        error,
                        "an alarm was not delivered"
                    );
                }
                deliveries.ended(how);
            }
        }));
    }
}
