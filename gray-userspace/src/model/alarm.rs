//! The alarm of a service on requests that name nobody, as validated.

use std::fmt;

use super::Millis;

/// Raised when a window has more such requests than `over`, cleared when it has no more than `clear`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub over: Over,
    /// In the unit of `over`, and not more.
    pub clear: u32,
    pub window_ms: u32,
    /// Of a percentage: a window with fewer requests raises nothing.
    pub least: u32,
    pub webhook: Option<Webhook>,
    /// A program of the agent's directory: its name, then arguments.
    pub command: Option<Vec<String>>,
}

/// How many are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Basis points of all requests.
    Percent(u32),
    PerSecond(u32),
}

/// `http://host:port/path`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// A name or an address (IPv6 without brackets), and a port.
    pub host: String,
    pub port: u16,
    /// Begins with `/`.
    pub path: String,
}

impl Webhook {
    /// What stands in the Host header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

/// `over 10 % in 30s`, `over 50 a second in 1m`.
impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.over {
            Over::Percent(bp) => write!(f, "over {} %", hundredths(bp))?,
            Over::PerSecond(n) => write!(f, "over {n} a second")?,
        }
        write!(f, " in {}", Millis(self.window_ms))
    }
}

/// Basis points as per cent.
fn hundredths(bp: u32) -> String {
    let text = format!("{}.{:02}", bp / 100, bp % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
