//! A small HTTP/1.1 server: keep-alive, bodies with Content-Length, deterministic bytes. No routing beyond
//! `/bytes?n=N`; every other path is answered with JSON about the server and the request.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::process::Identity;
use crate::pattern;

const MAX_HEAD: u64 = 64 * 1024;

struct Request {
    method: String,
    path: String,
    query: String,
    length: u64,
    close: bool,
    expects_continue: bool,
}

pub(super) async fn serve(mut stream: TcpStream, peer: SocketAddr, who: &Identity) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    while let Some(request) = head(&mut read).await? {
        if request.expects_continue {
            write.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body_sha = body(&mut read, request.length).await?;
        let _ = who.requests.fetch_add(1, Ordering::Relaxed);
        if request.path == "/bytes" {
            send_bytes(&mut write, who, &request).await?;
        } else {
            let answer = describe(who, peer, &request, &body_sha);
            let head = answer_head(who, "application/json", answer.len() as u64, request.close);
            write.write_all((head + &answer).as_bytes()).await?;
        }
        if request.close {
            break;
        }
    }
    write.shutdown().await
}

async fn head(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Request>> {
    let mut text = String::new();
    let mut limited = read.take(MAX_HEAD);
    loop {
        let n = limited.read_line(&mut text).await?;
        if n == 0 {
            return if text.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if text.ends_with("\r\n\r\n") {
            return parse(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
}

fn parse(text: &str) -> Option<Request> {
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target, version) = (first.next()?, first.next()?, first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        length: 0,
        close: version == "HTTP/1.0",
        expects_continue: false,
    };
    for (name, value) in lines.filter_map(|l| l.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => request.length = value.parse().ok()?,
            "connection" => request.close = value.eq_ignore_ascii_case("close"),
            "expect" => request.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            // Bodies of unknown length are not served: better refused than misread.
            "transfer-encoding" => return None,
            _ => {}
        }
    }
    Some(request)
}

fn query<'a>(request: &'a Request, name: &str) -> &'a str {
    let pairs = request.query.split('&').filter_map(|p| p.split_once('='));
    pairs.into_iter().find(|(k, _)| *k == name).map_or("", |(_, v)| v)
}

async fn body(read: &mut (impl AsyncBufRead + Unpin), length: u64) -> io::Result<String> {
    let mut left = length;
    let mut sha = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    while left > 0 {
        let n = read.read(&mut chunk[..left.min(64 * 1024) as usize]).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sha.update(&chunk[..n]);
        left -= n as u64;
    }
    Ok(pattern::hex(&sha.finalize()))
}

fn answer_head(who: &Identity, kind: &str, length: u64, close: bool) -> String {
    let connection = if close { "close" } else { "keep-alive" };
    format!(
        "HTTP/1.1 200 OK\r\nServer: {}/{}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n",
        who.name, who.version
    )
}

fn describe(who: &Identity, peer: SocketAddr, request: &Request, body_sha: &str) -> String {
    serde_json::json!({
        "name": who.name,
        "version": who.version,
        "nonce": who.nonce(query(request, "nonce")),
        "peer": peer.ip().to_string(),
        "peer_port": peer.port(),
        "method": request.method,
        "path": request.path,
        "body_bytes": request.length,
        "body_sha256": body_sha,
    })
    .to_string()
        + "\n"
}

async fn send_bytes(
    write: &mut (impl AsyncWrite + Unpin),
    who: &Identity,
    request: &Request,
) -> io::Result<()> {
    let n: u64 = query(request, "n").parse().unwrap_or(0);
    let head = answer_head(who, "application/octet-stream", n, request.close);
    write.write_all(head.as_bytes()).await?;
    let mut chunk = vec![0; 64 * 1024];
    let mut at = 0;
    while at < n {
        let part = &mut chunk[..(n - at).min(64 * 1024) as usize];
        pattern::fill(at, part);
        write.write_all(part).await?;
        at += part.len() as u64;
    }
    Ok(())
}
