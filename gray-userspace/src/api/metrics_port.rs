//! `/metrics` on a loopback TCP port, for scrapers that cannot open a unix socket. Serves nothing else.

use std::net::SocketAddr;

use axum::{Router, routing::get};
use tokio::net::TcpListener;

use super::{ServerError, handlers::read, routes::App};

/// Port 0 picks a free one. Refuses every address that others could reach: there is no authentication here.
pub(super) async fn bind(addr: SocketAddr) -> Result<TcpListener, ServerError> {
    if !addr.ip().to_canonical().is_loopback() {
        return Err(ServerError::NotLoopback { addr });
    }
    TcpListener::bind(addr).await.map_err(|source| ServerError::Metrics { addr, source })
}

pub(super) fn router(app: App) -> Router {
    Router::new().route("/metrics", get(read::metrics)).with_state(app)
}
