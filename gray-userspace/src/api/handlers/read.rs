//! Operations that change nothing.

use axum::{Json, extract::State, http::header::CONTENT_TYPE, response::IntoResponse};

use crate::api::{
    ApiError,
    extract::{Args, Caller, Name, Raw, json},
    openapi,
    routes::App,
    types::*,
};

type Got<T> = Result<Json<T>, ApiError>;

/// The agent at a glance.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub async fn status(State(app): State<App>) -> Got<Status> {
    app.call(|c| c.status()).await
}

/// Kept revisions, newest first.
#[utoipa::path(get, path = "/v1/history", responses((status = 200, body = Vec<HistoryEntry>)))]
pub async fn history(State(app): State<App>) -> Got<Vec<HistoryEntry>> {
    app.call(|c| c.history()).await
}

/// The audit log, newest first.
#[utoipa::path(get, path = "/v1/audit", params(AuditQuery), responses((status = 200, body = Vec<AuditEntry>)))]
pub async fn audit(State(app): State<App>, Args(query): Args<AuditQuery>) -> Got<Vec<AuditEntry>> {
    app.call(move |c| c.audit(query)).await
}

/// Computes the audit log's chain again and compares it with the revisions; 409 when somebody changed one of them.
#[utoipa::path(get, path = "/v1/audit/verify", responses((status = 200, body = AuditVerified)))]
pub async fn verify_audit(State(app): State<App>) -> Got<AuditVerified> {
    app.call(|c| c.verify_audit()).await
}

/// Services of the policy in force.
#[utoipa::path(get, path = "/v1/services", responses((status = 200, body = Vec<ServiceView>)))]
pub async fn services(State(app): State<App>) -> Got<Vec<ServiceView>> {
    app.call(|c| c.services()).await
}

/// Instances of all services.
#[utoipa::path(get, path = "/v1/instances", responses((status = 200, body = Vec<InstanceView>)))]
pub async fn instances(State(app): State<App>) -> Got<Vec<InstanceView>> {
    app.call(|c| c.instances()).await
}

/// Routes in the order of precedence.
#[utoipa::path(get, path = "/v1/routes", responses((status = 200, body = Vec<RouteView>)))]
pub async fn routes(State(app): State<App>) -> Got<Vec<RouteView>> {
    app.call(|c| c.routes()).await
}

/// Lanes: of each, which instances serve it.
#[utoipa::path(get, path = "/v1/lanes", responses((status = 200, body = Vec<LaneView>)))]
pub async fn lanes(State(app): State<App>) -> Got<Vec<LaneView>> {
    app.call(|c| c.lanes()).await
}

/// Cohorts without their lists.
#[utoipa::path(get, path = "/v1/cohorts", responses((status = 200, body = Vec<CohortView>)))]
pub async fn cohorts(State(app): State<App>) -> Got<Vec<CohortView>> {
    app.call(|c| c.cohorts()).await
}

/// Releases, those that are over too.
#[utoipa::path(get, path = "/v1/releases", responses((status = 200, body = Vec<ReleaseView>)))]
pub async fn releases(State(app): State<App>) -> Got<Vec<ReleaseView>> {
    app.call(|c| c.releases()).await
}

/// One release at a glance.
#[utoipa::path(get, path = "/v1/releases/{name}", params(("name" = String, Path)), responses((status = 200, body = ReleaseView)))]
pub async fn release(State(app): State<App>, Name(name): Name) -> Got<ReleaseView> {
    app.call(move |c| c.release(&name)).await
}

/// What happened to a release and on what evidence, newest first.
#[utoipa::path(get, path = "/v1/releases/{name}/history", params(("name" = String, Path), ReleaseHistoryQuery),
    responses((status = 200, body = Vec<ReleaseEvent>)))]
pub async fn release_history(
    State(app): State<App>,
    Name(name): Name,
    Args(query): Args<ReleaseHistoryQuery>,
) -> Got<Vec<ReleaseEvent>> {
    app.call(move |c| c.release_history(&name, query)).await
}

/// One cohort and a part of its list.
#[utoipa::path(get, path = "/v1/cohorts/{name}", params(("name" = String, Path), Page), responses((status = 200, body = CohortShow)))]
pub async fn cohort(State(app): State<App>, Name(name): Name, Args(page): Args<Page>) -> Got<CohortShow> {
    app.call(move |c| c.cohort(&name, page)).await
}

/// The choice of tenants that a cohort's list was last loaded from.
#[utoipa::path(get, path = "/v1/cohorts/{name}/choice", params(("name" = String, Path)), responses((status = 200, body = ChoiceShow)))]
pub async fn choice(State(app): State<App>, Name(name): Name) -> Got<ChoiceShow> {
    app.call(move |c| c.choice(&name)).await
}

/// Where a connection goes, and why.
#[utoipa::path(post, path = "/v1/explain", request_body = ExplainRequest, responses((status = 200, body = ExplainReply)))]
pub async fn explain(State(app): State<App>, Raw(body): Raw) -> Got<ExplainReply> {
    app.call(move |c| c.explain(json(&body)?)).await
}

/// Steered connections.
#[utoipa::path(get, path = "/v1/flows", params(FlowQuery), responses((status = 200, body = Flows)))]
pub async fn flows(State(app): State<App>, Args(query): Args<FlowQuery>) -> Got<Flows> {
    app.call(move |c| c.flows(query)).await
}

/// What a process marks its messages with: the lane that its calls are in, or `stable`.
#[utoipa::path(get, path = "/v1/tag", params(TagQuery), responses((status = 200, body = Tag)))]
pub async fn tag(State(app): State<App>, Caller(who): Caller, Args(query): Args<TagQuery>) -> Got<Tag> {
    app.call(move |c| c.tag(&who, query)).await
}

/// Named workloads.
#[utoipa::path(get, path = "/v1/workloads", responses((status = 200, body = Vec<Workload>)))]
pub async fn workloads(State(app): State<App>) -> Got<Vec<Workload>> {
    app.call(|c| c.workloads()).await
}

/// What of this host may stand in the way.
#[utoipa::path(get, path = "/v1/doctor", responses((status = 200, body = DoctorReport)))]
pub async fn doctor(State(app): State<App>) -> Got<DoctorReport> {
    app.call(|c| c.doctor()).await
}

/// Metrics in Prometheus text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<App>) -> Result<impl IntoResponse + use<>, ApiError> {
    let Json(text) = app.call(|c| Ok(c.metrics())).await?;
    // The OpenMetrics encoder ends its text with this line; the two formats differ in their type.
    let kind = if text.ends_with(b"# EOF\n") {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    Ok(([(CONTENT_TYPE, kind)], text))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = serde_json::Value)))]
pub async fn openapi_json() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi::json())
}
