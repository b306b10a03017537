//! The server process: binds everything it was told, then serves until its stdin closes.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use super::{ServerSpec, ServerStats, echo, http};

/// Who answers, and how often it did.
pub(super) struct Identity {
    pub name: String,
    pub version: String,
    wrong_nonce_every: u64,
    answers: AtomicU64,
    pub connections: AtomicU64,
    pub requests: AtomicU64,
    pub lines: AtomicU64,
    pub datagrams: AtomicU64,
}

impl Identity {
    /// The nonce to answer with: the client's, or a wrong one when it is time to lie.
    pub fn nonce(&self, asked: &str) -> String {
        let n = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let lie = self.wrong_nonce_every != 0 && n.is_multiple_of(self.wrong_nonce_every);
        if lie { format!("not-{asked}") } else { asked.to_owned() }
    }

    fn stats(&self) -> ServerStats {
        ServerStats {
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            lines: self.lines.load(Ordering::Relaxed),
            datagrams: self.datagrams.load(Ordering::Relaxed),
        }
    }
}

pub fn main() -> Result<()> {
    let mut input = std::io::stdin().lines();
    let spec = input.next().context("no spec on stdin")??;
    let spec: ServerSpec = serde_json::from_str(&spec).context("read the spec")?;
    let identity = Arc::new(Identity {
        name: spec.name.clone(),
        version: spec.version.clone(),
        wrong_nonce_every: spec.wrong_nonce_every,
        answers: AtomicU64::new(0),
        connections: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        lines: AtomicU64::new(0),
        datagrams: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(listen(&spec, &identity))?;
    say("\"ready\"")?;
    for line in input {
        if line? == "stats" {
            say(&serde_json::to_string(&identity.stats())?)?;
        }
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

async fn listen(spec: &ServerSpec, identity: &Arc<Identity>) -> Result<()> {
    for &ip in &spec.listen {
        for (port, is_http) in [(spec.http, true), (spec.tcp, false)] {
            let Some(port) = port else { continue };
            let at = SocketAddr::new(ip, port);
            let listener = bind(at).with_context(|| format!("listen on {at}/tcp"))?;
            drop(tokio::spawn(accept(listener, is_http, Arc::clone(identity))));
        }
        if let Some(port) = spec.udp {
            let at = SocketAddr::new(ip, port);
            let socket = UdpSocket::bind(at).await.with_context(|| format!("listen on {at}/udp"))?;
            drop(tokio::spawn(echo::datagrams(socket, Arc::clone(identity))));
        }
    }
    Ok(())
}

/// With the backlog that servers have by default, as far as `net.core.somaxconn` lets them.
fn bind(at: SocketAddr) -> Result<TcpListener> {
    const BACKLOG: u32 = 4096;
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    Ok(socket.listen(BACKLOG)?)
}

async fn accept(listener: TcpListener, is_http: bool, identity: Arc<Identity>) {
    loop {
        // An accept fails for what one client did, or for want of descriptors: both pass.
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let _ = identity.connections.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_nodelay(true);
        let identity = Arc::clone(&identity);
        drop(tokio::spawn(async move {
            // A client that leaves in the middle is the client's business; it counts what it saw.
            if is_http {
                let _ = http::serve(stream, peer, &identity).await;
            } else {
                let _ = echo::lines(stream, peer, &identity).await;
            }
        }));
    }
}
