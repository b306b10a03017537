//! A core without a kernel: enough state to see that requests arrive and replies come back. Shared by the api and cli tests.
#![allow(dead_code, reason = "each test crate uses its part")]

mod served;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use gray_userspace::api::{ApiError, Control, Who, control::Reply, types::*};
pub use served::*;
use tokio::sync::broadcast;

#[derive(Default)]
pub struct State {
    pub revision: u64,
    pub cohorts: BTreeMap<String, BTreeSet<String>>,
    pub workloads: BTreeMap<String, Workload>,
    pub history: Vec<HistoryEntry>,
    pub drained: BTreeSet<String>,
    pub key: String,
    pub choice: Option<(Option<u64>, Choice)>,
}

pub struct Memory {
    pub state: Mutex<State>,
    pub events: broadcast::Sender<EventLine>,
}

impl Memory {
    pub fn new() -> Arc<Self> {
        let mut state = State { key: "00".repeat(16), ..State::default() };
        let _ = state.cohorts.insert("early-apps".into(), ["app7", "app9"].map(String::from).into());
        Arc::new(Self { state: Mutex::new(state), events: broadcast::Sender::new(64) })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn commit(&self, who: &Who, kind: &str, why: Option<String>, summary: String) -> u64 {
        let mut s = self.state();
        s.revision += 1;
        let revision = s.revision;
        if let Some(last) = s.history.first_mut() {
            last.state = "superseded".into();
        }
        let at = format!("2026-01-02T03:04:{revision:02}Z");
        let state = "active".into();
        s.history.insert(
            0,
            HistoryEntry {
                revision,
                at,
                who: who.to_string(),
                why,
                kind: kind.into(),
                state,
                summary,
                timings: None,
            },
        );
        revision
    }
}

pub fn event(service: &str, client: &str) -> EventLine {
    EventLine::Event(Event {
        at: "2026-01-02T03:04:05.000001Z".into(),
        proto: "tcp".into(),
        service: service.into(),
        client: client.into(),
        arm: ArmName::Gray,
        rule: Some("shop-early".into()),
        reason: "explicit".into(),
        instance: Some("shop-2a".into()),
        path: DecisionPath::Packet,
    })
}

fn done(text: String) -> Done {
    Done { revision: None, epoch: None, text }
}

impl Control for Memory {
    fn status(&self) -> Reply<Status> {
        Ok(views::status(&self.state()))
    }

    fn apply(&self, who: &Who, request: ApplyRequest) -> Reply<ApplyReply> {
        let text: String = request.sources.iter().map(|s| s.text.as_str()).collect();
        if text.contains("panic") {
            panic!("a defect in the core");
        }
        if text.contains("slow") {
            std::thread::sleep(Duration::from_millis(1500));
        }
        if text.contains("verison") {
            return Err(ApiError::invalid(vec![Problem {
                file: Some(request.sources[0].name.clone()),
                line: Some(3),
                column: Some(5),
                message: "unknown key `verison`".into(),
                help: Some("did you mean `version`?".into()),
                snippet: Some("    verison: \"2.0\"".into()),
                rendered: None,
            }]));
        }
        let changes = vec![
            Change {
                op: ChangeOp::Add,
                kind: "route".into(),
                name: "shop-early".into(),
                detail: "version=2.0".into(),
            },
            Change { op: ChangeOp::Remove, kind: "cohort".into(), name: "old".into(), detail: String::new() },
            Change {
                op: ChangeOp::Change,
                kind: "service".into(),
                name: "shop".into(),
                detail: "stable 1.0 -> 1.1".into(),
            },
        ];
        let writes = WriteSummary { rules: 2, identities: 1000, ..Default::default() };
        let warnings = vec![Problem::note("cohort `tenth` is used by no route")];
        let mut reply = ApplyReply { changes, writes, warnings, ..Default::default() };
        if !request.dry_run {
            let revision = self.commit(who, "apply", request.message, "3 changes".into());
            (reply.revision, reply.epoch) = (Some(revision), Some(revision));
        }
        Ok(reply)
    }

    fn history(&self) -> Reply<Vec<HistoryEntry>> {
        Ok(self.state().history.clone())
    }

    fn audit(&self, query: AuditQuery) -> Reply<Vec<AuditEntry>> {
        let before = query.before.unwrap_or(u64::MAX);
        Ok(views::audit().into_iter().filter(|e| e.seq < before).take(query.limit as usize).collect())
    }

    fn verify_audit(&self) -> Reply<AuditVerified> {
        let head = views::audit().remove(0).hash;
        Ok(AuditVerified { records: 4, revisions: 1, head })
    }

    fn rollback(&self, who: &Who, request: RollbackRequest) -> Reply<ApplyReply> {
        if !self.state().history.iter().any(|h| h.revision == request.revision) {
            return Err(ApiError::not_found(
                format!("there is no revision {}", request.revision),
                "`gray history` lists them",
            ));
        }
        let revision =
            self.commit(who, "rollback", request.message, format!("as revision {}", request.revision));
        Ok(ApplyReply { revision: Some(revision), epoch: Some(revision), ..Default::default() })
    }

    fn services(&self) -> Reply<Vec<ServiceView>> {
        Ok(views::services())
    }

    fn instances(&self) -> Reply<Vec<InstanceView>> {
        Ok(views::instances(&self.state()))
    }

    fn cohorts(&self) -> Reply<Vec<CohortView>> {
        Ok(views::cohorts(&self.state()))
    }

    fn routes(&self) -> Reply<Vec<RouteView>> {
        Ok(views::routes())
    }

    fn lanes(&self) -> Reply<Vec<LaneView>> {
        Ok(views::lanes())
    }

    fn cohort(&self, name: &str, page: Page) -> Reply<CohortShow> {
        let s = self.state();
        let Some(ids) = s.cohorts.get(name) else {
            return Err(ApiError::not_found(
                format!("there is no cohort `{name}`"),
                "`gray get cohorts` lists them",
            ));
        };
        Ok(CohortShow {
            digits: None,
            name: name.into(),
            kind: "list".into(),
            of: Some("source".into()),
            size: ids.len() as u64,
            ids: ids.iter().skip(page.offset as usize).take(page.limit as usize).cloned().collect(),
            offset: page.offset,
            routes: vec!["shop-early".into()],
            ..Default::default()
        })
    }

    fn edit_cohort(&self, who: &Who, name: &str, edit: CohortEdit) -> Reply<CohortEdited> {
        let (before, given) = (self.cohort(name, Page { offset: 0, limit: 0 })?.size, edit.ids.len() as u64);
        let ids: BTreeSet<String> = edit.ids.iter().map(String::from).collect();
        let mut s = self.state();
        let old = s.cohorts.get(name).cloned().unwrap_or_default();
        let new: BTreeSet<String> = match edit.op {
            CohortOp::Add => old.union(&ids).cloned().collect(),
            CohortOp::Remove => old.difference(&ids).cloned().collect(),
            CohortOp::Replace | CohortOp::Reset => ids,
        };
        let (added, removed) = (new.difference(&old).count() as u64, old.difference(&new).count() as u64);
        let size = new.len() as u64;
        let _ = s.cohorts.insert(name.into(), new);
        drop(s);
        assert_eq!(before + added - removed, size);
        let revision = self.commit(who, "cohort", edit.message, format!("{name}: +{added} -{removed}"));
        let unchanged = given.saturating_sub(added + removed);
        Ok(CohortEdited {
            revision: Some(revision),
            epoch: Some(revision),
            added,
            removed,
            unchanged,
            size,
            timings: None,
        })
    }

    fn choose(&self, who: &Who, name: &str, choice: Choice) -> Reply<CohortEdited> {
        let ids = choice.chosen.iter().map(|c| &c.id).collect();
        let edit = CohortEdit { op: CohortOp::Replace, ids, message: choice.message.clone() };
        let done = self.edit_cohort(who, name, edit)?;
        self.state().choice = Some((done.revision, choice));
        Ok(done)
    }

    fn choice(&self, name: &str) -> Reply<ChoiceShow> {
        let s = self.state();
        let (revision, choice) = s.choice.clone().ok_or_else(|| {
            ApiError::not_found(format!("the list of cohort {name} was not made by a strategy"), "make one")
        })?;
        let chosen: BTreeSet<String> = choice.chosen.iter().map(|c| c.id.clone()).collect();
        let listed = s.cohorts.get(name).cloned().unwrap_or_default();
        Ok(ChoiceShow {
            cohort: name.into(),
            at: "2026-01-02T03:04:05Z".into(),
            who: "uid:root".into(),
            revision,
            choice,
            added: listed.difference(&chosen).cloned().collect(),
            removed: chosen.difference(&listed).cloned().collect(),
        })
    }

    fn explain(&self, request: ExplainRequest) -> Reply<ExplainReply> {
        let step = |rule: &str, precedence: &str, matched, why: &str| TrailStep {
            rule: rule.into(),
            precedence: precedence.into(),
            matched,
            why: why.into(),
        };
        let value = match request.live {
            Some(t) => t.src.to_string(),
            None => request.src.map(|s| s.to_string()).unwrap_or_default(),
        };
        Ok(ExplainReply {
            service: request.service.unwrap_or_else(|| "shop".into()),
            listener: "198.18.1.100:80".into(),
            identity: Some(format!("source {value}")),
            claims: vec![ClaimShown { kind: "source".into(), value, hash: "00000000deadbeef".into() }],
            trail: vec![
                step("shop-early", "explicit", false, "not on the list early-apps"),
                step("shop-tenth", "condition", true, "bucket 512 lies below 1000"),
            ],
            bucket: Some(512),
            threshold: Some(1000),
            route: Some("shop-tenth".into()),
            arm: ArmName::Gray,
            subset: "version=2.0".into(),
            instance: Some("shop-2a (198.18.2.3:8080)".into()),
            reason: "in_percentage".into(),
            text: "gray: route shop-tenth sends it to shop-2a".into(),
            epoch: 7,
            held: None,
            held_trail: Vec::new(),
            out: Vec::new(),
        })
    }

    fn flows(&self, query: FlowQuery) -> Reply<Flows> {
        let flow = Flow {
            proto: "tcp".into(),
            service: query.service.unwrap_or_else(|| "shop".into()),
            client: "198.18.1.3:40000".into(),
            seen_as: None,
            service_addr: "198.18.1.100:80".into(),
            instance: "shop-2a".into(),
            instance_addr: "198.18.2.3:8080".into(),
            encapsulation: None,
            arm: query.arm.unwrap_or(ArmName::Gray),
            rule: None,
            state: "established".into(),
            idle_s: 1,
            next_hop: Some("eth1 02:00:00:00:00:01".into()),
        };
        Ok(Flows { flows: vec![flow], matched: 5 })
    }

    fn tag(&self, who: &Who, query: TagQuery) -> Reply<Tag> {
        let state = self.state();
        let workload =
            query.workload.or_else(|| (query.pid.is_none() && who.pid.is_some()).then(|| "own".into()));
        let lane = workload.as_ref().and_then(|w| state.workloads.get(w)?.lane.clone());
        let tag = lane.clone().unwrap_or_else(|| "stable".into());
        Ok(Tag { tag, workload, lane_known: lane.as_ref().map(|_| true), lane })
    }

    fn workloads(&self) -> Reply<Vec<Workload>> {
        Ok(self.state().workloads.values().cloned().collect())
    }

    fn set_workload(&self, _: &Who, set: WorkloadSet) -> Reply<Workload> {
        let _ = set.which()?;
        let cgroup = set.cgroup.unwrap_or_else(|| PathBuf::from("/system.slice/cart.service"));
        let lane_known = set.lane.as_ref().map(|l| l == "gray-2.0");
        let state = "active".into();
        let meta = BTreeMap::new();
        let w = Workload {
            name: set.name,
            cgroup,
            cgroup_id: 99,
            state,
            lane: set.lane,
            lane_known,
            link: None,
            meta,
        };
        let _ = self.state().workloads.insert(w.name.clone(), w.clone());
        Ok(w)
    }

    fn remove_workload(&self, _: &Who, name: &str) -> Reply<Done> {
        match self.state().workloads.remove(name) {
            Some(_) => Ok(done(format!("workload {name} removed"))),
            None => Err(ApiError::not_found(
                format!("there is no workload `{name}`"),
                "`gray workload list` shows them",
            )),
        }
    }

    fn drain(&self, _: &Who, instance: InstanceRef) -> Reply<Done> {
        let text = format!("{} takes no new connections", instance.id);
        if !self.state().drained.insert(instance.id.clone()) {
            return Err(ApiError::conflict(
                format!("{} drains already", instance.id),
                "`gray get instances` shows it",
            ));
        }
        Ok(done(text))
    }

    fn restore(&self, _: &Who, instance: InstanceRef) -> Reply<Done> {
        let _ = self.state().drained.remove(&instance.id);
        Ok(done(format!("{} takes new connections", instance.id)))
    }

    fn releases(&self) -> Reply<Vec<ReleaseView>> {
        Ok(views::releases())
    }

    fn release(&self, name: &str) -> Reply<ReleaseView> {
        views::releases().into_iter().find(|v| v.name == name).ok_or_else(|| {
            ApiError::not_found(
                format!("there is no release {name}"),
                "`gray release status` lists those there are",
            )
        })
    }

    fn start_release(&self, _: &Who, start: ReleaseStart) -> Reply<ReleaseView> {
        let name = start.source.text.lines().find_map(|l| l.strip_prefix("release: ")).unwrap_or("none");
        Ok(views::release(name))
    }

    fn command_release(&self, _: &Who, name: &str, command: ReleaseCommand) -> Reply<ReleaseView> {
        let c = command;
        let reason = format!("{} {:?} {:?} {:?}", c.verb.name(), c.stage, c.grace_ms, c.mode);
        match self.release(name)? {
            v if v.phase == "done" => Err(ApiError::conflict(
                "nobody would go back",
                "roll the policy back first: gray rollback REVISION",
            )),
            v => Ok(ReleaseView { reason, ..v }),
        }
    }

    fn release_history(&self, name: &str, query: ReleaseHistoryQuery) -> Reply<Vec<ReleaseEvent>> {
        let _ = self.release(name)?;
        Ok(views::release_history().into_iter().take(query.limit as usize).collect())
    }

    fn doctor(&self) -> Reply<DoctorReport> {
        let check = |name: &str, status, detail: &str, fix: Option<&str>| DoctorCheck {
            name: name.into(),
            status,
            detail: detail.into(),
            fix: fix.map(String::from),
        };
        Ok(DoctorReport {
            checks: vec![
                check("kernel", CheckStatus::Ok, "6.18.0", None),
                check(
                    "rp_filter",
                    CheckStatus::Fail,
                    "strict on eth1",
                    Some("sysctl -w net.ipv4.conf.eth1.rp_filter=2"),
                ),
            ],
        })
    }

    fn export_key(&self, _: &Who) -> Reply<HashKey> {
        Ok(HashKey { key: self.state().key.clone() })
    }

    fn import_key(&self, _: &Who, key: HashKey) -> Reply<Done> {
        self.state().key = key.key;
        Ok(done("key imported".into()))
    }

    fn metrics(&self) -> bytes::Bytes {
        "# TYPE gray_up gauge\ngray_up 1\n# EOF\n".into()
    }

    fn events(&self) -> broadcast::Receiver<EventLine> {
        self.events.subscribe()
    }
}
