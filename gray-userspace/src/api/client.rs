//! The client side over the unix socket: one request per connection, JSON in and out. Knows no verb of the command line.

mod lines;
mod url;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::types::ErrorReply;
pub use lines::Lines;
pub use url::{path_segment, query};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent answers on {}", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("no permission to use {}", socket.display())]
    Denied { socket: PathBuf },
    /// It takes connections, and does not answer.
    #[error("the agent on {} took the request and has not answered for {} s", socket.display(), after.as_secs())]
    Silent { socket: PathBuf, after: Duration },
    /// The agent went away in the middle.
    #[error("the connection to the agent on {} broke", socket.display())]
    Lost { socket: PathBuf, source: hyper::Error },
    /// The agent answered with an error.
    #[error("{}", reply.error)]
    Reply { status: StatusCode, reply: ErrorReply },
    /// The answer is not what this client knows.
    #[error("the agent's answer cannot be read")]
    Decode(#[source] serde_json::Error),
    #[error("the request cannot be made")]
    Encode(#[source] serde_json::Error),
    #[error("the request cannot be made")]
    Request(#[from] hyper::http::Error),
}

/// A connection is made per request: it costs some 50 us and leaves no state behind.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
}

/// Longer than the agent lets a request take (`ServerOptions::request_timeout`): it can say so itself.
const PATIENCE: Duration = Duration::from_secs(130);

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self::patient(socket, PATIENCE)
    }

    /// ... that waits so long for an answer.
    pub fn patient(socket: impl Into<PathBuf>, patience: Duration) -> Self {
        Self { socket: socket.into(), patience }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `path` with its query, encoded: see `path_segment` and `query`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::GET, path, "", Bytes::new()).await
    }

    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.json(Method::POST, path, "application/json", encode(body)?).await
    }

    pub async fn put<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.json(Method::PUT, path, "application/json", encode(body)?).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::DELETE, path, "", Bytes::new()).await
    }

    /// Posts plain text.
    pub async fn post_text<T: DeserializeOwned>(&self, path: &str, text: Bytes) -> Result<T, ClientError> {
        self.json(Method::POST, path, "text/plain", text).await
    }

    /// A reply that is text, such as `/metrics`.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let answer = async { self.collect(self.send(Method::GET, path, "", Bytes::new()).await?).await };
        Ok(String::from_utf8_lossy(&self.within(answer).await?).into_owned())
    }

    /// A reply that is a stream of lines.
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let begun = self.within(self.send(Method::GET, path, "", Bytes::new())).await?;
        Ok(Lines::new(self.socket.clone(), begun.into_body()))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answer = async { self.collect(self.send(method, path, kind, body).await?).await };
        serde_json::from_slice(&self.within(answer).await?).map_err(ClientError::Decode)
    }

    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let after = self.patience;
        let silent = |_| ClientError::Silent { socket: self.socket.clone(), after };
        timeout(after, answer).await.map_err(silent)?
    }

    /// Any reply that is 2xx.
    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.lost(e))?;
        drop(tokio::spawn(connection)); // runs on; errors reach the sender
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "gray");
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let reply = sender.send_request(request.body(Full::new(body))?).await.map_err(|e| self.lost(e))?;
        let status = reply.status();
        if status.is_success() {
            return Ok(reply);
        }
        let body = self.collect(reply).await?;
        let reply = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorReply {
            error: format!("the agent answered {status}"),
            help: format!("is it gray's agent that listens on {}?", self.socket.display()),
            problems: Vec::new(),
        });
        Err(ClientError::Reply { status, reply })
    }

    async fn collect(&self, reply: Response<Incoming>) -> Result<Bytes, ClientError> {
        Ok(reply.into_body().collect().await.map_err(|e| self.lost(e))?.to_bytes())
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket },
            _ => ClientError::Unreachable { socket, source },
        }
    }

    fn lost(&self, source: hyper::Error) -> ClientError {
        ClientError::Lost { socket: self.socket.clone(), source }
    }
}

fn encode<B: Serialize>(body: &B) -> Result<Bytes, ClientError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(ClientError::Encode)
}
