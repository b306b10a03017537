//! The health check of a service, as validated.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How instances are found healthy or not. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub probe: Probe,
    /// `None`: the instance's own.
    pub port: Option<u16>,
    pub interval_ms: u32,
    pub timeout_ms: u32,
    /// So many successes in a row bring an instance back.
    pub rise: u32,
    /// So many failures in a row take it out.
    pub fall: u32,
    /// Per cent of the interval by which probes are earlier or later.
    pub jitter: u32,
    /// The weight grows for so long after an instance came up; 0: it has its whole weight at once.
    pub slow_start_ms: u32,
    pub damping: Damping,
    pub empty: Empty,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection is accepted.
    Tcp,
    /// A GET is answered with a status in the range, both ends included.
    Http { path: String, status: (u16, u16), host: Option<String> },
    /// A program of the agent's directory of checks ends with 0: its name, then arguments.
    Command(Vec<String>),
}

/// An instance that was taken out more often than `flips` times stays out for `hold_ms`, each time twice as long, at
/// most `max_ms`. One that was up for `max_ms` begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damping {
    pub flips: u32,
    /// 0: no damping.
    pub hold_ms: u32,
    pub max_ms: u32,
}

/// What becomes of the clients of a subset that is not stable and whose instances are all down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Empty {
    /// They go to stable.
    #[default]
    Stable,
    /// They go on as if all were up.
    Keep,
}

/// `http /ready every 2s`: what is checked, in short.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.probe {
            Probe::Tcp => f.write_str("tcp")?,
            Probe::Http { path, .. } => write!(f, "http {path}")?,
            Probe::Command(words) => write!(f, "command {}", words.join(" "))?,
        }
        if let Some(port) = self.port {
            write!(f, " on port {port}")?;
        }
        write!(f, " every {}", Millis(self.interval_ms))
    }
}

/// Milliseconds as the document writes them: `500ms`, `2s`, `5m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub u32);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            n if n % 3_600_000 == 0 => write!(f, "{}h", n / 3_600_000),
            n if n % 60_000 == 0 => write!(f, "{}m", n / 60_000),
            n if n % 1000 == 0 => write!(f, "{}s", n / 1000),
            n => write!(f, "{n}ms"),
        }
    }
}
