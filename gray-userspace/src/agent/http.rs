//! One HTTP request of the agent's own: plain, bounded in size; the caller bounds its time.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::model::Webhook;

/// Bytes of an answer's head.
const HEAD: usize = 16 * 1024;

/// What is asked.
pub struct Ask<'a> {
    pub method: Method,
    pub url: &'a Webhook,
    /// Behind the URL's path.
    pub query: &'a str,
    /// `gray-alarm`.
    pub agent: &'a str,
    pub headers: &'a [(&'a str, String)],
    pub body: Bytes,
    /// Bytes of the answer's body that are wanted; 0: none of it is read.
    pub most: usize,
}

/// The status and the body.
pub async fn ask(a: Ask<'_>) -> Result<(u16, Bytes), String> {
    let stream =
        TcpStream::connect((a.url.host.as_str(), a.url.port)).await.map_err(|e| format!("connect: {e}"))?;
    let (mut send, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| format!("http: {e}"))?;
    let mut request = Request::builder()
        .method(a.method)
        .uri(format!("{}{}", a.url.path, a.query))
        .header(header::HOST, a.url.authority())
        .header(header::USER_AGENT, format!("{}/{}", a.agent, env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    for (name, value) in a.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(a.body)).map_err(|e| format!("http: {e}"))?;
    let answer = async {
        let answer = send.send_request(request).await.map_err(|e| format!("http: {e}"))?;
        let status = answer.status().as_u16();
        if a.most == 0 {
            return Ok((status, Bytes::new()));
        }
        let body = Limited::new(answer.into_body(), a.most).collect().await;
        let body = body.map_err(|e| format!("the answer's body: {e}"))?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(answer);
    // The connection's own future does the reading. When it is done, the answer is there or will never be.
    tokio::select! {
        done = &mut answer => done,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(e) => Err(format!("http: {e}")),
        },
    }
}
