//! Reads requests: body, query, path, caller. Every refusal is an `ErrorReply`, never axum's plain text.

use axum::{
    body::{Bytes, to_bytes},
    extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use super::{ApiError, ErrorKind, Who, routes::App, who::Peer};
use crate::ids::Ids;

/// The body as it came, at most the configured size.
pub(super) struct Raw(pub Bytes);

impl FromRequest<App> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let limit = app.body_limit;
        let declared =
            request.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|n| n > limit as u64) {
            return Err(too_large(limit));
        }
        match to_bytes(request.into_body(), limit).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(e) if is_length_limit(&e) => Err(too_large(limit)),
            Err(_) => Err(bad("the request's body ended early", "send the request again")),
        }
    }
}

fn is_length_limit(e: &axum::Error) -> bool {
    std::error::Error::source(e).is_some_and(|s| s.is::<http_body_util::LengthLimitError>())
}

fn too_large(limit: usize) -> ApiError {
    let what = format!("the request's body is larger than {limit} bytes");
    ApiError::new(
        ErrorKind::TooLarge,
        what,
        "split it: load a large cohort in parts with `gray cohort add --file`",
    )
}

pub(super) fn bad(error: impl Into<String>, help: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::BadRequest, error, help)
}

/// Broken JSON is 400; JSON of another shape is 422.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let kind = if e.is_data() { ErrorKind::Invalid } else { ErrorKind::BadRequest };
        ApiError::new(kind, format!("the request's body is not what it should be: {e}"), SHAPES)
    })
}

const SHAPES: &str = "/openapi.json describes every request";

/// One id per line; empty lines and lines that begin with `#` are skipped.
pub(super) fn lines(bytes: &[u8]) -> Result<Ids, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line =
            bytes.get(..e.valid_up_to()).unwrap_or_default().iter().filter(|b| **b == b'\n').count() + 1;
        bad(format!("line {line} of the list is not UTF-8"), "save the list as UTF-8 text, one id per line")
    })?;
    let count = text.bytes().filter(|b| *b == b'\n').count() + 1;
    let mut ids = Ids::with_capacity(count, text.len());
    text.strip_prefix('\u{feff}')
        .unwrap_or(text)
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .for_each(|l| ids.push(l));
    Ok(ids)
}

/// The query string.
pub(super) struct Args<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Args<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let Query(args) = Query::try_from_uri(&parts.uri)
            .map_err(|e| bad(format!("the query is not usable: {}", e.body_text()), SHAPES))?;
        Ok(Self(args))
    }
}

/// The one `{name}` of the path.
pub(super) struct Name(pub String);

impl FromRequestParts<App> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Path(name) = Path::from_request_parts(parts, app)
            .await
            .map_err(|e| bad(format!("the name in the path is not usable: {}", e.body_text()), SHAPES))?;
        Ok(Self(name))
    }
}

/// Who calls. Refused when the kernel did not say.
pub(super) struct Caller(pub Who);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.extensions.get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(Peer(Some(who)))) => Ok(Self(who.clone())),
            _ => {
                Err(ApiError::refused("the caller is unknown", "connect to the agent's unix socket directly"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_id_per_line() {
        let got = lines(b"\xef\xbb\xbf a \r\n\n# note\nb\nc").unwrap();
        assert_eq!(got.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(lines(b"a\nb\n\xff\n").unwrap_err().error, "line 3 of the list is not UTF-8");
    }

    #[test]
    fn broken_json_and_wrong_json_differ() {
        assert_eq!(json::<Vec<u8>>(b"[").unwrap_err().kind, ErrorKind::BadRequest);
        assert_eq!(json::<u8>(b"\"x\"").unwrap_err().kind, ErrorKind::Invalid);
    }
}
