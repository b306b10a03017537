//! The OpenAPI description, made from the handlers and types. docs/openapi.json is a copy of it that a test keeps current.

use std::sync::OnceLock;

use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{handlers::*, routes, types::*};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "gray agent",
        description = "Served on the agent's unix socket. `x-gray-role` of an operation is the least role that may call it."
    ),
    paths(
        read::status,
        read::history,
        read::audit,
        read::verify_audit,
        read::services,
        read::instances,
        read::routes,
        read::lanes,
        read::cohorts,
        read::cohort,
        read::choice,
        read::explain,
        read::flows,
        read::workloads,
        read::tag,
        read::releases,
        read::release,
        read::release_history,
        read::doctor,
        read::metrics,
        read::openapi_json,
        change::apply,
        change::rollback,
        change::edit_cohort,
        change::cohort_lines,
        change::choose,
        change::set_workload,
        change::remove_workload,
        change::drain,
        change::restore,
        change::start_release,
        change::command_release,
        change::export_key,
        change::import_key,
        stream::events,
    ),
    components(schemas(ErrorReply, Problem))
)]
struct Doc;

/// The description as pretty JSON with a final newline.
pub fn json() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{:#}\n", described()))
}

fn described() -> Value {
    // Unwrap: maps with string keys, strings and numbers; a failure would show in the test that compares the file.
    let mut doc = serde_json::to_value(Doc::openapi()).unwrap_or_default();
    for verb in routes::verbs() {
        let operation = &mut doc["paths"][verb.path][verb.method.to_lowercase()];
        // A path that is missing in `Doc` must not appear by indexing: the test for completeness counts on it.
        if operation.get("responses").is_none() {
            continue;
        }
        operation["x-gray-role"] = json!(verb.role);
        operation["responses"]["default"] = json!({
            "description": "What is wrong and what to do",
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ErrorReply" } } }
        });
    }
    doc
}

/// Method, path and least role of every operation that is served.
pub fn operations() -> Vec<(&'static str, &'static str, super::Role)> {
    routes::verbs().into_iter().map(|v| (v.method, v.path, v.role)).collect()
}
