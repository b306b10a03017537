//! What `gray get` shows: services, instances, cohorts, routes. Reads only.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    ops::ControlFlow,
};

use gray_common::decide::Precedence;

use super::{
    core::Inner,
    flows::{Row, closes4, closes6, goes_on, row4, row6},
    health,
    names::canonical,
    time,
};
use crate::{
    api::{
        ApiError,
        types::{
            ArmView, CohortShow, CohortView, HistoryEntry, InstanceView, LaneView, Page, RouteView,
            ServiceView, Timings,
        },
    },
    compile::{lane_rule, order::Order, rule_name},
    config::condition_text,
    model::{Affinity, ClaimKind, Cohort, CohortBody, Lane, Nat, Policy, Route},
    store::{Mark, OverlayInfo, Revision, State, Store as _, Workload},
};

/// Revisions that `gray history` shows.
const HISTORY: usize = 1000;

impl Inner {
    pub fn services(&self) -> Vec<ServiceView> {
        let routes = by_precedence(&self.policy);
        let view = |s: &crate::model::Service| ServiceView {
            name: s.name.clone(),
            listen: s.listen.iter().map(ToString::to_string).collect(),
            identify: s.identify.iter().map(|k| k.name().to_string()).collect(),
            on_missing_identity: s.on_missing.name().into(),
            breaker: s.breaker.map(|b| b.to_string()),
            on_agent_lost: s.agent_lease.map_or_else(|| "keep".into(), |l| format!("stable after {l}")),
            nat: s.nat.name().into(),
            encapsulation: (s.nat == Nat::Dsr).then(|| s.encapsulation.name().into()),
            balance: s.balance.name().into(),
            affinity: match s.affinity {
                Affinity::Connection => "connection",
                Affinity::Client => "client",
            }
            .into(),
            zone_affinity: s.zone_affinity.name().into(),
            health: s.health.as_ref().map(ToString::to_string),
            shadow: s.shadow,
            stable: s.stable.to_string(),
            instances: s.instances.len() as u64,
            routes: routes
                .iter()
                .filter(|r| self.policy.applies(r, &s.name))
                .map(|r| r.name.clone())
                .collect(),
        };
        self.policy.services.iter().map(view).collect()
    }

    /// Reads the flow tables once.
    pub fn instances(&mut self) -> Result<Vec<InstanceView>, ApiError> {
        let flows = self.flows_by_instance()?;
        let board = health::lock(&self.board);
        let mut out = Vec::new();
        for s in &self.policy.services {
            let number = self.compiled.assigned.services.get(&s.name);
            for i in &s.instances {
                let drained = self.drained.contains(&format!("{}/{}", s.name, i.id));
                let count = number.and_then(|n| flows.get(&(n, canonical(i.address)))).copied();
                out.push(InstanceView {
                    service: s.name.clone(),
                    id: i.id.clone(),
                    address: i.address.to_string(),
                    meta: i.meta.iter().map(|(k, v)| (k.name().to_string(), v.clone())).collect(),
                    weight: i.weight,
                    state: match drained {
                        true => "draining",
                        false if self.policy.is_blacklisted(&s.name, i) => "blacklisted",
                        false => "active",
                    }
                    .into(),
                    deadline: self
                        .deadlines
                        .of(&format!("{}/{}", s.name, i.id))
                        .filter(|_| drained)
                        .map(|at| time::rfc3339(self.clock.shown(at))),
                    stable: s.stable.matches(i),
                    flows: Some(count.unwrap_or(0)),
                    health: board.target(&s.name, &i.id).map(|t| t.view(health::now())),
                });
            }
        }
        Ok(out)
    }

    /// Connections that go on, by service number and the server's address.
    fn flows_by_instance(&mut self) -> Result<HashMap<(u32, SocketAddr), u64>, ApiError> {
        let internal = |e: crate::kernel::KernelError| ApiError::internal(&e);
        let (now, hz) = (self.live.clock().map_err(internal)?.jiffies as u32, self.live.control().hz.max(1));
        let (mut rows, mut closing) = (Vec::new(), HashSet::new());
        let mut see = |row: Option<Row>, closes: Option<_>| {
            rows.extend(row);
            closing.extend(closes);
        };
        self.live
            .flows4(|k, f| see(row4(&k, &f), closes4(&k, &f)))
            .and_then(|()| self.live.flows6(|k, f| see(row6(&k, &f), closes6(&k, &f))))
            .map_err(internal)?;
        let mut out = HashMap::new();
        for r in rows {
            let answered = closing.contains(&(r.instance, r.seen_as));
            if goes_on((r.proto, &r.state), answered, now, hz) {
                *out.entry((r.service_number(), r.instance)).or_default() += 1;
            }
        }
        // What a splice listener relays is its own flow's, and no instance's.
        let sent = if self.splice { self.sent().map_err(|e| ApiError::internal(&e))? } else { Vec::new() };
        for (dialled, instance) in sent {
            let of = |s: &&crate::model::Service| s.listen.iter().any(|l| canonical(l.addr) == dialled);
            let service = self.policy.services.iter().find(of);
            if let Some(number) = service.and_then(|s| self.compiled.assigned.services.get(&s.name)) {
                *out.entry((number, instance)).or_default() += 1;
            }
        }
        Ok(out)
    }

    pub fn cohorts(&self) -> Result<Vec<CohortView>, ApiError> {
        self.policy.cohorts.iter().map(|c| self.cohort_view(c)).collect()
    }

    fn cohort_view(&self, c: &Cohort) -> Result<CohortView, ApiError> {
        let (kind, of, basis_points, _) = body(c);
        let joined = c.joined().map(condition_text);
        let mut view =
            CohortView { name: c.name.clone(), kind, of, basis_points, joined, ..CohortView::default() };
        if let CohortBody::List { ids, .. } = &c.body {
            let info = self.overlay_info(&c.name)?;
            view.edited = info != OverlayInfo::default();
            view.size = match info {
                OverlayInfo { replaces_document: true, added, .. } => added,
                OverlayInfo { added: 0, removed: 0, .. } => ids.len() as u64,
                OverlayInfo { added, .. } if ids.is_empty() => added,
                _ => self.list(&c.name, ids, Page { offset: 0, limit: 0 })?.0,
            };
        }
        Ok(view)
    }

    /// A cohort and the asked part of its list, in byte order.
    pub fn cohort(&self, name: &str, page: Page) -> Result<CohortShow, ApiError> {
        let c = self.policy.cohort(name).ok_or_else(|| {
            ApiError::not_found(format!("there is no cohort `{name}`"), "`gray get cohorts` shows them")
        })?;
        let (kind, of, basis_points, salt) = body(c);
        let routes =
            self.policy.routes.iter().filter(|r| r.when.as_ref().is_some_and(|w| self.policy.asks(w, name)));
        let mut show = CohortShow {
            name: c.name.clone(),
            kind,
            of,
            basis_points,
            salt,
            joined: c.joined().map(condition_text),
            offset: page.offset,
            routes: routes.map(|r| r.name.clone()).collect(),
            ..CohortShow::default()
        };
        if let CohortBody::List { ids, .. } = &c.body {
            (show.size, show.ids) = self.list(name, ids, page)?;
        }
        if let CohortBody::Tail { digits, .. } = &c.body {
            show.digits = Some(digits.iter().cloned().collect());
        }
        Ok(show)
    }

    fn overlay_info(&self, cohort: &str) -> Result<OverlayInfo, ApiError> {
        if self.revision == 0 {
            return Ok(OverlayInfo::default());
        }
        self.store.overlay_info(self.revision, cohort).map_err(|e| ApiError::internal(&e))
    }

    /// Size and one page of a list as it is in effect: the document's ids with the live edits over them.
    fn list(&self, cohort: &str, ids: &BTreeSet<String>, page: Page) -> Result<(u64, Vec<String>), ApiError> {
        let masked = self.overlay_info(cohort)?.replaces_document;
        let mut merge = Merge::new((!masked).then_some(ids), page);
        if self.revision != 0 {
            let visit = &mut |mark, id: &str| {
                merge.edit(mark, id);
                ControlFlow::Continue(())
            };
            self.store.overlay(self.revision, cohort, visit).map_err(|e| ApiError::internal(&e))?;
        }
        Ok(merge.finish())
    }

    /// In the order of precedence.
    pub fn routes(&self) -> Result<Vec<RouteView>, ApiError> {
        by_precedence(&self.policy).into_iter().map(|r| self.route_view(r)).collect()
    }

    fn route_view(&self, r: &Route) -> Result<RouteView, ApiError> {
        let mut decisions = 0;
        for s in self.policy.services.iter().filter(|s| self.policy.applies(r, &s.name)) {
            if let Some(n) = self.compiled.assigned.rules.get(&rule_name(r, &s.name)) {
                decisions += self.live.rule_hits(n).map_err(|e| ApiError::internal(&e))?;
            }
        }
        Ok(RouteView {
            name: r.name.clone(),
            service: r.service.clone(),
            when: r.when.as_ref().map(condition_text),
            precedence: Precedence::name(Order::of(&self.policy, r).step as u8).into(),
            lane: r.to.lane().map(str::to_owned),
            to: r
                .to
                .arms()
                .iter()
                .map(|a| ArmView { subset: a.subset.to_string(), basis_points: a.basis_points })
                .collect(),
            decisions,
        })
    }

    pub fn lanes(&self) -> Result<Vec<LaneView>, ApiError> {
        let kept = self.store.workloads().map_err(|e| ApiError::internal(&e))?;
        self.policy.lanes.iter().map(|l| self.lane_view(l, &kept)).collect()
    }

    fn lane_view(&self, l: &Lane, workloads: &[Workload]) -> Result<LaneView, ApiError> {
        let mut decisions = 0;
        for service in l.subsets.keys() {
            if let Some(n) = self.compiled.assigned.rules.get(&lane_rule(&l.name, service)) {
                decisions += self.live.rule_hits(n).map_err(|e| ApiError::internal(&e))?;
            }
        }
        let routes = self.policy.routes.iter().filter(|r| r.to.lane() == Some(&l.name));
        Ok(LaneView {
            name: l.name.clone(),
            number: self.compiled.assigned.lanes.get(&l.name).unwrap_or(0),
            services: l.subsets.iter().map(|(s, subset)| (s.clone(), subset.to_string())).collect(),
            routes: routes.map(|r| r.name.clone()).collect(),
            workloads: workloads
                .iter()
                .filter(|w| w.lane.as_ref() == Some(&l.name))
                .map(|w| w.name.clone())
                .collect(),
            decisions,
        })
    }

    /// The latest thousand, newest first.
    pub fn history(&self) -> Result<Vec<HistoryEntry>, ApiError> {
        let revisions = self.store.history(HISTORY, None).map_err(|e| ApiError::internal(&e))?;
        Ok(revisions.into_iter().map(|r| entry(r, &self.timings)).collect())
    }
}

fn entry(r: Revision, timings: &BTreeMap<u64, Timings>) -> HistoryEntry {
    let state = match r.dropped && r.state.took_effect() {
        true => "dropped".to_string(),
        false => r.state.name().to_string(),
    };
    let summary = match r.state {
        State::Failed { reason } | State::Interrupted { reason } if !reason.is_empty() => {
            format!("{}: {reason}", r.summary)
        }
        _ => r.summary,
    };
    HistoryEntry {
        revision: r.id,
        timings: timings.get(&r.id).copied(),
        at: time::rfc3339(r.at),
        who: r.who,
        why: Some(r.why).filter(|w| !w.is_empty()),
        kind: r.kind.name().into(),
        state,
        summary,
    }
}

/// The decision's order, as the compiler sorts: stable, so the document's order decides ties.
fn by_precedence(policy: &Policy) -> Vec<&Route> {
    let mut routes: Vec<&Route> = policy.routes.iter().collect();
    routes.sort_by_key(|r| Order::of(policy, r));
    routes
}

/// Kind, claim, and of a percentage its basis points and salt.
fn body(c: &Cohort) -> (String, Option<String>, Option<u16>, Option<String>) {
    let claim = |k: ClaimKind| k.name().to_string();
    match &c.body {
        CohortBody::List { of, .. } => ("list".into(), Some(claim(*of)), None, None),
        CohortBody::Percent { of, basis_points, salt } => {
            ("percent".into(), of.map(claim), Some(*basis_points), Some(salt.clone()))
        }
        CohortBody::Tail { of, .. } => ("tail".into(), Some(claim(*of)), None, None),
        CohortBody::Joined(_) => ("joined".into(), None, None, None),
    }
}

/// Merges the document's ids with live edits, both in byte order, keeping one page and the count.
struct Merge<'a> {
    document: std::iter::Peekable<std::iter::Flatten<std::option::IntoIter<&'a BTreeSet<String>>>>,
    page: Page,
    size: u64,
    ids: Vec<String>,
}

impl<'a> Merge<'a> {
    fn new(document: Option<&'a BTreeSet<String>>, page: Page) -> Self {
        Self { document: document.into_iter().flatten().peekable(), page, size: 0, ids: Vec::new() }
    }

    fn take(&mut self, id: &str) {
        if self.size >= self.page.offset && (self.ids.len() as u64) < self.page.limit {
            self.ids.push(id.to_string());
        }
        self.size += 1;
    }

    fn edit(&mut self, mark: Mark, id: &str) {
        while let Some(own) = self.document.next_if(|d| d.as_str() < id) {
            self.take(own);
        }
        let _ = self.document.next_if(|d| d.as_str() == id);
        if mark == Mark::Added {
            self.take(id);
        }
    }

    fn finish(mut self) -> (u64, Vec<String>) {
        while let Some(own) = self.document.next() {
            self.take(own);
        }
        (self.size, self.ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(
        document: Option<&[&str]>,
        edits: &[(Mark, &str)],
        offset: u64,
        limit: u64,
    ) -> (u64, Vec<String>) {
        let ids: Option<BTreeSet<String>> = document.map(|d| d.iter().map(ToString::to_string).collect());
        let mut m = Merge::new(ids.as_ref(), Page { offset, limit });
        for (mark, id) in edits {
            m.edit(*mark, id);
        }
        m.finish()
    }

    /// What is shown is what is in effect, page by page, each id once.
    #[test]
    fn live_edits_lie_over_the_document() {
        use Mark::{Added, Removed};
        let edits = [(Added, "a"), (Removed, "c"), (Added, "d"), (Removed, "x"), (Added, "z")];
        let document: &[&str] = &["b", "c", "d", "e"];
        assert_eq!(
            merged(Some(document), &edits, 0, 9),
            (5, ["a", "b", "d", "e", "z"].map(String::from).into())
        );
        assert_eq!(merged(Some(document), &edits, 2, 2), (5, ["d", "e"].map(String::from).into()));
        assert_eq!(merged(Some(document), &edits, 7, 2), (5, vec![]));
        assert_eq!(merged(Some(document), &[], 0, 0), (4, vec![]));
        assert_eq!(merged(None, &edits, 0, 9), (3, ["a", "d", "z"].map(String::from).into()));
    }
}
