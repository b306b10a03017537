//! Errors of an operation, their HTTP status, and what status means to the command line. Wording is the caller's.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    from,
    types::{ErrorReply, Problem},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be read: 400.
    BadRequest,
    /// Role or policy does not allow it: 403.
    Refused,
    /// 404.
    NotFound,
    /// The path is there, the method is not: 405.
    BadMethod,
    /// It does not fit the present state: 409.
    Conflict,
    /// 413.
    TooLarge,
    /// The request is read and its content is wrong: 422.
    Invalid,
    /// 500.
    Internal,
    /// The work goes on, the waiting ended: 504.
    Timeout,
}

impl ErrorKind {
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Refused => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::BadMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// What was wrong and what to do, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    pub kind: ErrorKind,
    pub error: String,
    pub help: String,
    pub problems: Vec<Problem>,
}

impl ApiError {
    pub fn new(kind: ErrorKind, error: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind, error: one_line(error.into()), help: one_line(help.into()), problems: Vec::new() }
    }

    /// A document with problems. The first line counts them.
    pub fn invalid(problems: Vec<Problem>) -> Self {
        let error = match problems.len() {
            1 => "the policy has 1 problem".to_string(),
            n => format!("the policy has {n} problems"),
        };
        let help = "nothing was changed; correct the document and apply it again";
        Self { problems, ..Self::new(ErrorKind::Invalid, error, help) }
    }

    pub fn not_found(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, error, help)
    }

    pub fn conflict(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, error, help)
    }

    pub fn refused(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, error, help)
    }

    /// A request whose fields contradict each other or hold values out of range.
    pub fn unusable(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, error, help)
    }

    /// A fault of ours or of the kernel: the whole chain of causes in one line.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(ErrorKind::Internal, from::chain(error), "see the agent's log and `gray doctor`")
    }

    pub fn reply(&self) -> ErrorReply {
        ErrorReply { error: self.error.clone(), help: self.help.clone(), problems: self.problems.clone() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.kind == ErrorKind::Internal {
            tracing::error!(error = %self.error, "an API request failed");
        }
        (self.kind.status(), Json(self.reply())).into_response()
    }
}

/// The contract says one line: scripts and logs count on it.
fn one_line(text: String) -> String {
    if text.contains(['\n', '\r']) { text.split_whitespace().collect::<Vec<_>>().join(" ") } else { text }
}
