//! Health as people see it. Reads only.

use std::collections::BTreeMap;

use super::{board::Board, machine::State, targets::Target};
use crate::{
    agent::time,
    api::types::{InstanceHealth, ServiceHealth},
};

/// Instances that are named in one line.
const NAMED: usize = 3;

impl Target {
    /// `up`, `starting`, `down`, `held`, `new`.
    pub fn state(&self, now: u64) -> &'static str {
        match self.machine.state() {
            State::New => "new",
            State::Up { .. } if self.machine.share(&self.check, now) < 100 => "starting",
            State::Up { .. } => "up",
            State::Down { until } if until > now => "held",
            State::Down { .. } => "down",
        }
    }

    pub fn view(&self, now: u64) -> InstanceHealth {
        let held = match self.machine.state() {
            State::Down { until } => until.checked_sub(now).filter(|ms| *ms > 0),
            _ => None,
        };
        InstanceHealth {
            state: self.state(now).into(),
            share: self.machine.share(&self.check, now),
            since: time::rfc3339(self.since),
            last: self.last.as_ref().map(|p| p.text.clone()),
            took_us: self.last.as_ref().map(|p| p.took_us),
            passed: self.passed,
            failed: self.failed,
            changes: self.changes,
            held_s: held.map(|ms| ms.div_ceil(1000)),
        }
    }
}

impl Board {
    /// Who of a service gets nothing because of health: `shop-2a (down)`. Nobody of a subset that is kept.
    pub fn out(&self, service: &str, now: u64) -> Vec<String> {
        if self.kept().contains(service) {
            return Vec::new();
        }
        let of = self.targets().filter(|(_, t)| t.service == service && !t.machine.is_up());
        of.map(|(_, t)| format!("{} ({})", t.instance, t.state(now))).collect()
    }

    /// By service, in the order of their names.
    pub fn services(&self, now: u64) -> Vec<ServiceHealth> {
        let kept = self.kept();
        let mut out: BTreeMap<&str, (ServiceHealth, Vec<String>)> = BTreeMap::new();
        for (_, t) in self.targets() {
            let (s, wrong) = out.entry(&t.service).or_default();
            s.check = t.check.to_string();
            match t.state(now) {
                "up" => s.up += 1,
                "starting" => s.starting += 1,
                "new" => s.new += 1,
                state => {
                    s.down += 1;
                    let why = t.last.as_ref().map_or("as before the agent started", |p| p.text.as_str());
                    wrong.push(format!("{} is {state}: {why}", t.instance));
                }
            }
        }
        let one = |(name, (s, wrong)): (&str, (ServiceHealth, Vec<String>))| {
            let kept = kept.contains(name);
            ServiceHealth { service: name.to_string(), kept, text: line(kept, &wrong), ..s }
        };
        out.into_iter().map(one).collect()
    }
}

fn line(kept: bool, wrong: &[String]) -> Option<String> {
    let mut parts: Vec<String> = wrong.iter().take(NAMED).cloned().collect();
    if wrong.len() > NAMED {
        parts.push(format!("{} more", wrong.len() - NAMED));
    }
    if kept {
        parts.insert(0, "EVERY INSTANCE OF A SUBSET IS DOWN; it is sent to as if all were up".into());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
