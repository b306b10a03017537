//! `/metrics` on a loopback TCP port, for scrapers that cannot open a unix socket. Serves nothing else, and nobody asks who calls: so few
//! connections are served at once, each for a short while, and the port may be somebody else's without hurting the agent.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use super::{ServerError, handlers::read, routes::App, server::turned};

/// Connections at once; those beyond wait in the kernel.
const MOST: usize = 16;
/// For a request to come, and for a connection altogether.
const HEAD: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(30);
/// Before a port that somebody else has is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Of a port that cannot be had now it is `None`, for [`serve`] to try again. 0 picks a free one. Refuses every address that others could
/// reach: there is no authentication here.
pub(super) async fn bind(addr: SocketAddr) -> Result<Option<TcpListener>, ServerError> {
    if !addr.ip().to_canonical().is_loopback() {
        return Err(ServerError::NotLoopback { addr });
    }
    Ok(TcpListener::bind(addr).await.inspect_err(|e| cannot(addr, e)).ok())
}

fn cannot(addr: SocketAddr, error: &io::Error) {
    tracing::error!(%addr, %error, "metrics are not served: the port is tried again; give another --metrics address, or none");
}

pub(super) async fn serve(
    addr: SocketAddr,
    mut listener: Option<TcpListener>,
    app: App,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = Router::new().route("/metrics", get(read::metrics)).with_state(app);
    let room = Arc::new(Semaphore::new(MOST));
    let serving = async {
        loop {
            let Some(l) = &listener else {
                sleep(AGAIN).await;
                listener = TcpListener::bind(addr).await.ok();
                if listener.is_some() {
                    tracing::info!(%addr, "metrics are served");
                }
                continue;
            };
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = l.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let router = router.clone();
            drop(tokio::spawn(async move {
                // Who is late is not told.
                let _ = timeout(ALL, one(stream, router)).await;
                drop(place);
            }));
        }
    };
    tokio::select! {
        () = serving => {}
        () = turned(stopped) => {}
    }
    Ok(())
}

async fn one(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    let _ = http.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a reader of metrics");
    }
}
