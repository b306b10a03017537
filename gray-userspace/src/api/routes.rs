//! The list of all paths with the role each needs, and the router made from it. The operations are in `handlers`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    handler::Handler,
    http::Uri,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use tokio::sync::watch;

use super::{
    ApiError, Control, ErrorKind, Role,
    control::Reply,
    extract::Caller,
    handlers::{change, read, stream},
    recent::Recent,
};
use crate::sys::background;

/// Bytes of a body that some milliseconds of work come from.
const LARGE: usize = 256 * 1024;

/// What every handler needs.
#[derive(Clone)]
pub struct App {
    pub(super) control: Arc<dyn Control>,
    pub(super) recent: Arc<Recent>,
    /// Turns true when streams must end.
    pub(super) ending: watch::Receiver<bool>,
    pub(super) body_limit: usize,
    pub(super) request_timeout: Duration,
}

impl App {
    /// Runs an operation where it may block.
    pub(super) async fn call<T, F>(&self, operation: F) -> Result<Json<T>, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Control) -> Reply<T> + Send + 'static,
    {
        let control = self.control.clone();
        let done = tokio::task::spawn_blocking(move || operation(&*control)).await;
        done.unwrap_or_else(|e| Err(ApiError::internal(&e))).map(Json)
    }

    /// The same for an operation with this body: a large one gives way to traffic.
    pub(super) async fn call_with<T, F>(&self, body: Bytes, operation: F) -> Result<Json<T>, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Control, Bytes) -> Reply<T> + Send + 'static,
    {
        self.call(move |c| match body.len() {
            0..LARGE => operation(c, body),
            _ => background::run(|| operation(c, body)),
        })
        .await
    }
}

/// One operation of the API.
pub struct Verb {
    pub method: &'static str,
    pub path: &'static str,
    /// The least role that may call it.
    pub role: Role,
    handler: MethodRouter<App>,
}

fn verb<H: Handler<T, App>, T: 'static>(
    method: &'static str,
    path: &'static str,
    role: Role,
    handler: H,
) -> Verb {
    let filter = match method {
        "POST" => MethodFilter::POST,
        "PUT" => MethodFilter::PUT,
        "DELETE" => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    };
    Verb { method, path, role, handler: on(filter, handler) }
}

/// Everything that can be asked of the agent.
pub fn verbs() -> Vec<Verb> {
    use Role::*;
    vec![
        verb("GET", "/v1/status", Viewer, read::status),
        verb("POST", "/v1/apply", Operator, change::apply),
        verb("GET", "/v1/history", Viewer, read::history),
        verb("GET", "/v1/audit", Viewer, read::audit),
        verb("GET", "/v1/audit/verify", Viewer, read::verify_audit),
        verb("POST", "/v1/rollback", Operator, change::rollback),
        verb("GET", "/v1/services", Viewer, read::services),
        verb("GET", "/v1/instances", Viewer, read::instances),
        verb("POST", "/v1/instances/drain", Operator, change::drain),
        verb("POST", "/v1/instances/restore", Operator, change::restore),
        verb("GET", "/v1/routes", Viewer, read::routes),
        verb("GET", "/v1/lanes", Viewer, read::lanes),
        verb("GET", "/v1/cohorts", Viewer, read::cohorts),
        verb("GET", "/v1/cohorts/{name}", Viewer, read::cohort),
        verb("POST", "/v1/cohorts/{name}/edit", Operator, change::edit_cohort),
        verb("POST", "/v1/cohorts/{name}/lines", Operator, change::cohort_lines),
        verb("POST", "/v1/cohorts/{name}/choose", Operator, change::choose),
        verb("GET", "/v1/cohorts/{name}/choice", Viewer, read::choice),
        verb("POST", "/v1/explain", Viewer, read::explain),
        verb("GET", "/v1/flows", Viewer, read::flows),
        verb("GET", "/v1/workloads", Viewer, read::workloads),
        verb("GET", "/v1/tag", Viewer, read::tag),
        verb("POST", "/v1/workloads", Operator, change::set_workload),
        verb("DELETE", "/v1/workloads/{name}", Operator, change::remove_workload),
        verb("GET", "/v1/releases", Viewer, read::releases),
        verb("POST", "/v1/releases", Operator, change::start_release),
        verb("GET", "/v1/releases/{name}", Viewer, read::release),
        verb("POST", "/v1/releases/{name}/command", Operator, change::command_release),
        verb("GET", "/v1/releases/{name}/history", Viewer, read::release_history),
        verb("GET", "/v1/doctor", Viewer, read::doctor),
        verb("GET", "/v1/key", Admin, change::export_key),
        verb("PUT", "/v1/key", Admin, change::import_key),
        verb("GET", "/v1/events", Viewer, stream::events),
        verb("GET", "/metrics", Viewer, read::metrics),
        verb("GET", "/openapi.json", Viewer, read::openapi_json),
    ]
}

pub(super) fn router(app: App) -> Router {
    let routes = verbs().into_iter().fold(Router::new(), |router, v| {
        router.route(v.path, v.handler.route_layer(middleware::from_fn_with_state(v.role, gate)))
    });
    routes
        .fallback(async |uri: Uri| {
            ApiError::not_found(format!("there is no {}", uri.path()), "/openapi.json lists every path")
        })
        .method_not_allowed_fallback(async |request: Request| {
            let what = format!("{} is not possible on {}", request.method(), request.uri().path());
            ApiError::new(ErrorKind::BadMethod, what, "/openapi.json lists every path with its methods")
        })
        .layer(middleware::from_fn_with_state(app.request_timeout, in_time))
        .with_state(app)
}

/// Lets pass who may. Runs before the body is read.
async fn gate(State(needs): State<Role>, Caller(who): Caller, request: Request, next: Next) -> Response {
    if who.role >= needs {
        return next.run(request).await;
    }
    let what = format!("{who} has the role {}; this needs {}", who.role.name(), needs.name());
    ApiError::refused(what, "ask somebody with that role").into_response()
}

/// A reply in time; a stream only has to begin in time.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let what = format!("no answer within {} s; the operation may still finish", limit.as_secs());
        ApiError::new(ErrorKind::Timeout, what, "look at `gray history` before you try again").into_response()
    })
}
