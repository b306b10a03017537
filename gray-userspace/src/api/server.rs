//! Runs the API: binds, serves, stops. What is served is in `routes`.

use std::{future::IntoFuture, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    Control, DEFAULT_SOCKET, metrics_port,
    recent::Recent,
    routes::{self, App},
    socket::{self, SocketFile},
    who::Peer,
};

#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub socket: PathBuf,
    /// Where `/metrics` is served over TCP too; loopback only.
    pub metrics: Option<SocketAddr>,
    /// Bytes.
    pub body_limit: usize,
    /// From the first byte of a request to the first of its reply.
    pub request_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            metrics: None,
            body_limit: 64 << 20,
            // Loading a million ids takes seconds on a slow machine.
            request_timeout: Duration::from_secs(120),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("another agent listens on {}", path.display())]
    InUse { path: PathBuf },
    #[error("{} exists and is no socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("cannot listen on {}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("metrics address {addr} is not a loopback address")]
    NotLoopback { addr: SocketAddr },
}

impl ServerError {
    /// One line: what to do.
    pub fn help(&self) -> String {
        match self {
            Self::InUse { .. } => "stop that agent, or give this one another --socket".into(),
            Self::NotASocket { path } => format!("move {} away, or give another --socket", path.display()),
            Self::Socket { .. } => {
                "run as root, or give a --socket in a directory that you may write to".into()
            }
            Self::NotLoopback { .. } => {
                "use 127.0.0.1:PORT or [::1]:PORT; there is no authentication on this port".into()
            }
        }
    }
}

/// A running API. `stop` lets requests finish; dropping it only stops new ones.
pub struct Server {
    metrics_addr: Option<SocketAddr>,
    stopping: watch::Sender<bool>,
    ending: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
    recording: JoinHandle<()>,
    /// Dropped last: the socket file goes when nothing is served any more.
    _file: SocketFile,
}

/// How long `stop` waits for requests that are being served.
const GRACE: Duration = Duration::from_secs(5);

impl Server {
    /// Binds and serves. Callers can connect when this returns.
    pub async fn start(control: Arc<dyn Control>, options: ServerOptions) -> Result<Self, ServerError> {
        let tcp = match options.metrics {
            Some(addr) => Some((addr, metrics_port::bind(addr).await?)),
            None => None,
        };
        let metrics_addr = tcp.as_ref().and_then(|(_, l)| l.as_ref()?.local_addr().ok());
        let (unix, file) = socket::bind(&options.socket)?;

        let (stopping, stopped) = watch::channel(false);
        let (ending, ended) = watch::channel(false);
        let recent = Arc::new(Recent::new());
        let events = control.events();
        let app = App {
            control,
            recent: recent.clone(),
            ending: ended,
            body_limit: options.body_limit,
            request_timeout: options.request_timeout,
        };

        let mut serving = Vec::new();
        if let Some((addr, listener)) = tcp {
            serving.push(spawn(metrics_port::serve(addr, listener, app.clone(), stopped.clone())));
        }
        let service = routes::router(app).into_make_service_with_connect_info::<Peer>();
        serving.push(spawn(axum::serve(unix, service).with_graceful_shutdown(turned(stopped)).into_future()));
        let end_streams = ending.clone();
        let recording = tokio::spawn(async move { recent.record(events, end_streams).await });
        Ok(Self { metrics_addr, stopping, ending, serving, recording, _file: file })
    }

    /// The TCP address of `/metrics`, with the port that was picked.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// Ends streams, lets running requests finish for five seconds, removes the socket.
    pub async fn stop(mut self) {
        let _ = self.ending.send_replace(true);
        let _ = self.stopping.send_replace(true);
        let finished = async {
            for task in &mut self.serving {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(GRACE, finished).await.is_err() {
            tracing::warn!("API requests were still running at the end");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.recording.abort();
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

fn spawn(serve: impl Future<Output = io::Result<()>> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = serve.await {
            tracing::error!(%error, "the API ended");
        }
    })
}

/// Completes when the flag turns true or its owner is gone.
pub(super) async fn turned(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|on| *on).await;
}
