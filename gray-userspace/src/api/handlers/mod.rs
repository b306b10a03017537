//! The operations behind the paths: unwrap the request, call the core, wrap the reply. No rules in here.

pub mod change;
pub mod read;
pub mod stream;
