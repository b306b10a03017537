//! What an error looks like on the wire. `api::error` maps it to HTTP status and exit code.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that is wrong in a policy document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The source's name as the request gave it.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// From 1, in characters.
    pub column: Option<u32>,
    /// One line: what is wrong.
    pub message: String,
    /// One line: what was expected, the nearest name.
    pub help: Option<String>,
    /// The offending text with its place marked, ready to print, without colour.
    pub snippet: Option<String>,
}

/// The body of every reply that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReply {
    /// One line: what is wrong.
    pub error: String,
    /// One line: what to do.
    pub help: String,
    /// All problems of a refused document at once; empty for every other error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub problems: Vec<Problem>,
}
