//! What the API is served from: one synchronous method per operation. The server does transport, roles and limits; the agent does the work.
//!
//! Methods may block: the server calls each in `spawn_blocking`, so several may run at once. A caller that went away or timed out
//! does not stop a method that has begun. The role has been checked; `who` is for the audit record, written before the effect.

use bytes::Bytes;
use tokio::sync::broadcast;

use super::{ApiError, Who, types::*};

pub type Reply<T> = Result<T, ApiError>;

pub trait Control: Send + Sync + 'static {
    fn status(&self) -> Reply<Status>;

    /// Invalid documents: `ApiError::invalid` with every problem at once.
    fn apply(&self, who: &Who, request: ApplyRequest) -> Reply<ApplyReply>;
    /// Newest first.
    fn history(&self) -> Reply<Vec<HistoryEntry>>;
    /// Newest first.
    fn audit(&self, query: AuditQuery) -> Reply<Vec<AuditEntry>>;
    /// A log that was changed: a conflict that names the record.
    fn verify_audit(&self) -> Reply<AuditVerified>;
    fn rollback(&self, who: &Who, request: RollbackRequest) -> Reply<ApplyReply>;

    fn services(&self) -> Reply<Vec<ServiceView>>;
    fn instances(&self) -> Reply<Vec<InstanceView>>;
    fn cohorts(&self) -> Reply<Vec<CohortView>>;
    /// In the order of precedence.
    fn routes(&self) -> Reply<Vec<RouteView>>;
    fn lanes(&self) -> Reply<Vec<LaneView>>;

    fn cohort(&self, name: &str, page: Page) -> Reply<CohortShow>;
    fn edit_cohort(&self, who: &Who, name: &str, edit: CohortEdit) -> Reply<CohortEdited>;

    /// The chosen become the whole list of a cohort of tenants; the choice is kept.
    fn choose(&self, who: &Who, name: &str, choice: Choice) -> Reply<CohortEdited>;
    /// The latest choice of a cohort.
    fn choice(&self, name: &str) -> Reply<ChoiceShow>;

    fn explain(&self, request: ExplainRequest) -> Reply<ExplainReply>;
    fn flows(&self, query: FlowQuery) -> Reply<Flows>;

    fn workloads(&self) -> Reply<Vec<Workload>>;
    /// The caller's own, when the query names nobody.
    fn tag(&self, who: &Who, query: TagQuery) -> Reply<Tag>;
    fn set_workload(&self, who: &Who, set: WorkloadSet) -> Reply<Workload>;
    fn remove_workload(&self, who: &Who, name: &str) -> Reply<Done>;

    fn drain(&self, who: &Who, instance: InstanceRef) -> Reply<Done>;
    fn restore(&self, who: &Who, instance: InstanceRef) -> Reply<Done>;

    /// By name, those that are over too.
    fn releases(&self) -> Reply<Vec<ReleaseView>>;
    fn release(&self, name: &str) -> Reply<ReleaseView>;
    fn start_release(&self, who: &Who, start: ReleaseStart) -> Reply<ReleaseView>;
    fn command_release(&self, who: &Who, name: &str, command: ReleaseCommand) -> Reply<ReleaseView>;
    /// Newest first.
    fn release_history(&self, name: &str, query: ReleaseHistoryQuery) -> Reply<Vec<ReleaseEvent>>;

    fn doctor(&self) -> Reply<DoctorReport>;

    fn export_key(&self, who: &Who) -> Reply<HashKey>;
    fn import_key(&self, who: &Who, key: HashKey) -> Reply<Done>;

    /// The whole text of `/metrics`, in Prometheus or OpenMetrics text format.
    fn metrics(&self) -> Bytes;

    /// Decisions and verdicts of health from now on. The server subscribes once and keeps the latest for `gray events`; it ends its streams when this closes.
    fn events(&self) -> broadcast::Receiver<EventLine>;
}
