//! Releases as the API shows them.

use super::Running;
use crate::{
    agent::{core::Inner, time},
    api::{
        ApiError,
        types::{ReleaseEvent, ReleaseEvidence, ReleaseHistoryQuery, ReleaseView, ReleasedView},
    },
    release::{self, Counts, Entry, Hold, Judged, Phase, Traffic},
};

impl Inner {
    pub fn release_views(&self) -> Result<Vec<ReleaseView>, ApiError> {
        self.releases.all.values().map(|r| self.view_of(r)).collect()
    }

    pub fn release_view(&self, name: &str) -> Result<ReleaseView, ApiError> {
        match self.releases.all.get(name) {
            Some(r) => self.view_of(r),
            None => Err(self.no_release(name)),
        }
    }

    /// For metrics: a release that goes from state to state goes from label to label.
    pub fn release_samples(&self) -> Vec<(Vec<(&'static str, String)>, u64)> {
        let one = |r: &Running| {
            let held = match r.state.hold {
                Hold::None => "",
                Hold::Paused => "paused",
                Hold::Frozen => "frozen",
            };
            let labels = [
                ("release", r.spec.name.clone()),
                ("version", r.spec.version.clone()),
                ("phase", shown_phase(r).to_owned()),
                ("held", held.to_owned()),
            ];
            (labels.to_vec(), 1)
        };
        self.releases.all.values().map(one).collect()
    }

    pub(super) fn view_of(&self, r: &Running) -> Result<ReleaseView, ApiError> {
        let (spec, s, clock) = (&r.spec, &r.state, &self.releases.clock);
        let unread = r.unread.as_ref().filter(|_| !s.phase.is_over());
        let counts = self.release_counts(spec).map_err(|e| ApiError::internal(&e))?;
        let ramp = s.phase == Phase::Ramp;
        let verdict = ramp.then(|| release::verdict(spec, s, &counts));
        let measured = if s.in_force() == Traffic::None && !s.phase.moves() {
            Vec::new()
        } else {
            release::since(&counts, &s.base)
        };
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(ReleaseView {
            name: spec.name.clone(),
            version: spec.version.clone(),
            formal: spec.formal.clone(),
            state: unread.map_or_else(|| s.name(), |_| "unreadable".into()),
            phase: shown_phase(r).into(),
            held: match s.hold {
                Hold::None => None,
                Hold::Paused => Some("paused".into()),
                Hold::Frozen => Some("frozen".into()),
            },
            stage: ramp.then(|| number(s.stage + 1)),
            stages: number(spec.stages.len()),
            ramp: (0..spec.stages.len()).map(|n| release::clients(spec, n)).collect(),
            reason: s.reason.clone(),
            since: time::rfc3339(clock.shown(s.since)),
            traffic: unread.map_or_else(|| release::share(spec, s.in_force()), |_| "not known".into()),
            services: spec
                .services
                .iter()
                .map(|s| ReleasedView { service: s.name.clone(), gray: s.gray.to_string() })
                .collect(),
            judged: verdict.as_ref().map(Judged::from),
            compared: verdict.map(|v| v.compared).unwrap_or_default(),
            measured,
            waits_for: match unread {
                Some(_) => vec![format!("a person: gray release abort {}", spec.name)],
                None => self.waits_of(r, &counts),
            },
            started: time::rfc3339(r.run),
            who: r.who.clone(),
            over: s.is_over(),
        })
    }

    /// First what keeps everybody away from gray: nothing else says why nothing is measured.
    fn waits_of(&self, r: &Running, counts: &[Counts]) -> Vec<String> {
        let (spec, s) = (&r.spec, &r.state);
        let mut out = Vec::new();
        if s.phase <= Phase::Done {
            let checked = s.phase >= Phase::GrayVerify;
            out.extend(self.unserved(spec, checked).into_iter().map(|u| u.why));
        }
        out.extend(release::waits(spec, s, self.releases.clock.now(), counts));
        out
    }

    pub fn release_history(
        &self,
        name: &str,
        query: ReleaseHistoryQuery,
    ) -> Result<Vec<ReleaseEvent>, ApiError> {
        if !self.releases.all.contains_key(name) {
            return Err(self.no_release(name));
        }
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let kept = self.store.release_log(name, limit).map_err(super::internal)?;
        let one = |k: crate::store::LogEntry| {
            let e: Entry = serde_json::from_str(&k.entry).map_err(|e| ApiError::internal(&e))?;
            Ok(ReleaseEvent {
                at: time::rfc3339(k.at),
                run: time::rfc3339(k.run),
                what: e.what,
                from: e.from,
                to: e.to,
                text: e.text,
                evidence: e.evidence.map(|e| ReleaseEvidence {
                    time_ms: e.time_ms,
                    judged: e.judged,
                    counts: e.counts,
                    compared: e.compared,
                }),
            })
        };
        kept.into_iter().map(one).collect()
    }
}

fn shown_phase(r: &Running) -> &'static str {
    match &r.unread {
        Some(_) if !r.state.phase.is_over() => "unreadable",
        _ => r.state.phase.name(),
    }
}
