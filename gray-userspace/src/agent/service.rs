//! The API's operations: each takes the lock and hands over.

use bytes::Bytes;
use tokio::sync::broadcast;

use super::{audit, core::Core, explain, flows, metrics, status, workloads};
use crate::{
    api::{ApiError, Control, Who, control::Reply, types::*},
    store::{Note, Store as _},
};

impl Control for Core {
    fn status(&self) -> Reply<Status> {
        status::status(self)
    }

    fn apply(&self, who: &Who, request: ApplyRequest) -> Reply<ApplyReply> {
        self.lock().apply(who, request)
    }

    fn history(&self) -> Reply<Vec<HistoryEntry>> {
        self.lock().history()
    }

    fn audit(&self, query: AuditQuery) -> Reply<Vec<AuditEntry>> {
        audit::page(&self.lock().store, query)
    }

    fn verify_audit(&self) -> Reply<AuditVerified> {
        // Of a large store it takes long, and a recall must not wait for it.
        let auditor = self.lock().store.auditor();
        audit::verify(&auditor)
    }

    fn rollback(&self, who: &Who, request: RollbackRequest) -> Reply<ApplyReply> {
        self.lock().rollback(who, request)
    }

    fn services(&self) -> Reply<Vec<ServiceView>> {
        Ok(self.lock().services())
    }

    fn instances(&self) -> Reply<Vec<InstanceView>> {
        self.lock().instances()
    }

    fn cohorts(&self) -> Reply<Vec<CohortView>> {
        self.lock().cohorts()
    }

    fn routes(&self) -> Reply<Vec<RouteView>> {
        self.lock().routes()
    }

    fn lanes(&self) -> Reply<Vec<LaneView>> {
        self.lock().lanes()
    }

    fn cohort(&self, name: &str, page: Page) -> Reply<CohortShow> {
        self.lock().cohort(name, page)
    }

    fn edit_cohort(&self, who: &Who, name: &str, edit: CohortEdit) -> Reply<CohortEdited> {
        self.lock().edit_cohort(who, name, edit)
    }

    fn explain(&self, request: ExplainRequest) -> Reply<ExplainReply> {
        explain::explain(&mut self.lock(), request)
    }

    fn choose(&self, who: &Who, name: &str, choice: Choice) -> Reply<CohortEdited> {
        self.lock().choose(who, name, choice)
    }

    fn choice(&self, name: &str) -> Reply<ChoiceShow> {
        self.lock().choice(name)
    }

    fn flows(&self, query: FlowQuery) -> Reply<Flows> {
        flows::flows(&mut self.lock(), &query)
    }

    fn workloads(&self) -> Reply<Vec<Workload>> {
        workloads::list(self)
    }

    fn tag(&self, who: &Who, query: TagQuery) -> Reply<Tag> {
        self.lock().tag(who, query)
    }

    fn set_workload(&self, who: &Who, set: WorkloadSet) -> Reply<Workload> {
        workloads::set(self, who, set)
    }

    fn remove_workload(&self, who: &Who, name: &str) -> Reply<Done> {
        self.lock().remove_workload(who, name)
    }

    fn drain(&self, who: &Who, instance: InstanceRef) -> Reply<Done> {
        self.lock().set_drained(who, &instance, true)
    }

    fn restore(&self, who: &Who, instance: InstanceRef) -> Reply<Done> {
        self.lock().set_drained(who, &instance, false)
    }

    fn releases(&self) -> Reply<Vec<ReleaseView>> {
        self.lock().release_views()
    }

    fn release(&self, name: &str) -> Reply<ReleaseView> {
        self.lock().release_view(name)
    }

    fn start_release(&self, who: &Who, start: ReleaseStart) -> Reply<ReleaseView> {
        self.lock().start_release(who, start)
    }

    fn command_release(&self, who: &Who, name: &str, command: ReleaseCommand) -> Reply<ReleaseView> {
        self.lock().command_release(who, name, &command)
    }

    fn release_history(&self, name: &str, query: ReleaseHistoryQuery) -> Reply<Vec<ReleaseEvent>> {
        self.lock().release_history(name, query)
    }

    fn doctor(&self) -> Reply<DoctorReport> {
        Ok(super::doctor::report(self))
    }

    fn export_key(&self, who: &Who) -> Reply<HashKey> {
        let mut inner = self.lock();
        let note =
            Note { at: super::time::now_ms(), who: &who.to_string(), action: "key export", detail: "" };
        let _ = inner.store.record(&note).map_err(|e| ApiError::internal(&e))?;
        Ok(HashKey { key: inner.key.to_hex() })
    }

    fn import_key(&self, who: &Who, key: HashKey) -> Reply<Done> {
        self.lock().import_key(who, &key)
    }

    fn metrics(&self) -> Bytes {
        metrics::metrics(self)
    }

    fn events(&self) -> broadcast::Receiver<EventLine> {
        self.events.subscribe()
    }
}
