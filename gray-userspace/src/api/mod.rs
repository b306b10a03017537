//! The agent's API: types, the trait it is served from, the server on a unix socket and its client. Decides nothing itself.

pub mod client;
pub mod control;
pub mod error;
mod extract;
mod from;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod handlers;
mod metrics_port;
pub mod openapi;
mod recent;
mod routes;
pub mod server;
mod socket;
pub mod types;
pub mod who;

pub use client::{Client, ClientError};
pub use control::Control;
pub use error::{ApiError, ErrorKind};
pub use from::refused;
pub use server::{Server, ServerError, ServerOptions};
pub use who::{Role, Who};

/// Where the agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/gray/gray.sock";
