//! Operations that change something, or reveal a secret. Each hands the caller to the core for the audit record.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header::CONTENT_TYPE},
};

use crate::api::{
    ApiError,
    extract::{Args, Caller, Name, Raw, bad, json, lines},
    routes::App,
    types::*,
};

type Got<T> = Result<Json<T>, ApiError>;

/// Makes the given documents the whole policy, at one instant; or only says what would change.
#[utoipa::path(post, path = "/v1/apply", request_body = ApplyRequest, responses((status = 200, body = ApplyReply)))]
pub async fn apply(State(app): State<App>, Caller(who): Caller, Raw(body): Raw) -> Got<ApplyReply> {
    app.call_with(body, move |c, body| c.apply(&who, json(&body)?)).await
}

/// Makes an earlier revision the policy again.
#[utoipa::path(post, path = "/v1/rollback", request_body = RollbackRequest, responses((status = 200, body = ApplyReply)))]
pub async fn rollback(State(app): State<App>, Caller(who): Caller, Raw(body): Raw) -> Got<ApplyReply> {
    app.call(move |c| c.rollback(&who, json(&body)?)).await
}

/// Edits a list cohort.
#[utoipa::path(post, path = "/v1/cohorts/{name}/edit", params(("name" = String, Path)), request_body = CohortEdit,
    responses((status = 200, body = CohortEdited)))]
pub async fn edit_cohort(
    State(app): State<App>,
    Caller(who): Caller,
    Name(name): Name,
    Raw(body): Raw,
) -> Got<CohortEdited> {
    app.call_with(body, move |c, body| c.edit_cohort(&who, &name, json(&body)?)).await
}

/// Edits a list cohort by a plain list, one id per line. Empty lines and lines that begin with # are skipped.
#[utoipa::path(post, path = "/v1/cohorts/{name}/lines", params(("name" = String, Path), CohortLinesQuery),
    request_body(content = String, content_type = "text/plain"), responses((status = 200, body = CohortEdited)))]
pub async fn cohort_lines(
    State(app): State<App>,
    Caller(who): Caller,
    Name(name): Name,
    Args(query): Args<CohortLinesQuery>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Got<CohortEdited> {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("text/plain") {
        return Err(bad("the list is not sent as text/plain", "set the header `content-type: text/plain`"));
    }
    app.call_with(body, move |c, body| {
        let edit = CohortEdit { op: query.op, ids: lines(&body)?, message: query.message };
        drop(body); // up to 64 MiB that the edit does not need
        c.edit_cohort(&who, &name, edit)
    })
    .await
}

/// Makes tenants that a strategy chose the whole list of a cohort, and keeps what was chosen and why.
#[utoipa::path(post, path = "/v1/cohorts/{name}/choose", params(("name" = String, Path)), request_body = Choice,
    responses((status = 200, body = CohortEdited)))]
pub async fn choose(
    State(app): State<App>,
    Caller(who): Caller,
    Name(name): Name,
    Raw(body): Raw,
) -> Got<CohortEdited> {
    app.call_with(body, move |c, body| c.choose(&who, &name, json(&body)?)).await
}

/// Gives a cgroup a workload's name.
#[utoipa::path(post, path = "/v1/workloads", request_body = WorkloadSet, responses((status = 200, body = Workload)))]
pub async fn set_workload(State(app): State<App>, Caller(who): Caller, Raw(body): Raw) -> Got<Workload> {
    app.call(move |c| c.set_workload(&who, json(&body)?)).await
}

/// Forgets a workload's name.
#[utoipa::path(delete, path = "/v1/workloads/{name}", params(("name" = String, Path)), responses((status = 200, body = Done)))]
pub async fn remove_workload(State(app): State<App>, Caller(who): Caller, Name(name): Name) -> Got<Done> {
    app.call(move |c| c.remove_workload(&who, &name)).await
}

/// No new connections to this instance; established ones stay, until the deadline if one is given.
#[utoipa::path(post, path = "/v1/instances/drain", request_body = InstanceRef, responses((status = 200, body = Done)))]
pub async fn drain(State(app): State<App>, Caller(who): Caller, Raw(body): Raw) -> Got<Done> {
    app.call(move |c| c.drain(&who, instance(&body)?)).await
}

/// New connections to this instance again.
#[utoipa::path(post, path = "/v1/instances/restore", request_body = InstanceRef, responses((status = 200, body = Done)))]
pub async fn restore(State(app): State<App>, Caller(who): Caller, Raw(body): Raw) -> Got<Done> {
    app.call(move |c| c.restore(&who, instance(&body)?)).await
}

fn instance(body: &[u8]) -> Result<InstanceRef, ApiError> {
    let instance: InstanceRef = json(body)?;
    if instance.split().is_none() {
        let what = format!("`{}` is not SERVICE/INSTANCE", instance.id);
        return Err(ApiError::unusable(what, "`gray get instances` lists them"));
    }
    if instance.deadline_ms.is_some_and(|ms| ms > LONGEST_DRAIN_MS) {
        return Err(ApiError::unusable(
            "a deadline of more than a week",
            "drain without one, or by a nearer one",
        ));
    }
    Ok(instance)
}

/// Starts a release, or only checks it.
#[utoipa::path(post, path = "/v1/releases", request_body = ReleaseStart, responses((status = 200, body = ReleaseView)))]
pub async fn start_release(State(app): State<App>, Caller(who): Caller, Raw(body): Raw) -> Got<ReleaseView> {
    app.call(move |c| c.start_release(&who, json(&body)?)).await
}

/// Tells a release something.
#[utoipa::path(post, path = "/v1/releases/{name}/command", params(("name" = String, Path)), request_body = ReleaseCommand,
    responses((status = 200, body = ReleaseView)))]
pub async fn command_release(
    State(app): State<App>,
    Caller(who): Caller,
    Name(name): Name,
    Raw(body): Raw,
) -> Got<ReleaseView> {
    app.call(move |c| c.command_release(&who, &name, json(&body)?)).await
}

/// The fleet's hash key. Admin only.
#[utoipa::path(get, path = "/v1/key", responses((status = 200, body = HashKey)))]
pub async fn export_key(State(app): State<App>, Caller(who): Caller) -> Got<HashKey> {
    app.call(move |c| c.export_key(&who)).await
}

/// Replaces the fleet's hash key: every percentage picks other clients from then on. Admin only.
#[utoipa::path(put, path = "/v1/key", request_body = HashKey, responses((status = 200, body = Done)))]
pub async fn import_key(State(app): State<App>, Caller(who): Caller, Raw(body): Raw) -> Got<Done> {
    app.call(move |c| c.import_key(&who, json(&body)?)).await
}
