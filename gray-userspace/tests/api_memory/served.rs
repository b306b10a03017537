//! A running server over the in-memory core, in a directory of its own.

use std::{path::PathBuf, sync::Arc};

use gray_userspace::api::{Server, ServerOptions};

use super::Memory;

/// A served core in a directory of its own.
pub struct Served {
    pub core: Arc<Memory>,
    pub socket: PathBuf,
    pub server: Server,
    pub dir: tempfile::TempDir,
}

pub async fn serve() -> Served {
    serve_with(|_| {}).await
}

pub async fn serve_with(change: impl FnOnce(&mut ServerOptions)) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("run/gray.sock");
    let mut options = ServerOptions { socket: socket.clone(), ..Default::default() };
    change(&mut options);
    let core = Memory::new();
    let server = Server::start(core.clone(), options).await.unwrap();
    Served { core, socket, server, dir }
}
