//! How a command fails: exit code, one line of what is wrong, one of what to do. Words of the verbs stay in the verbs.

use std::io::{self, Write};

use crate::api::{ApiError, ClientError, ErrorKind, ServerError, types::Problem};

use super::Io;

pub const OK: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const REFUSED: u8 = 3;
pub const UNREACHABLE: u8 = 4;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    pub code: u8,
    pub error: String,
    pub help: String,
    pub problems: Vec<Problem>,
}

impl Failure {
    pub fn new(code: u8, error: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, error: error.into(), help: help.into(), problems: Vec::new() }
    }

    pub fn failed(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(FAILED, error, help)
    }

    pub fn usage(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(USAGE, error, help)
    }

    pub fn file(doing: &str, path: &std::path::Path, e: &io::Error) -> Self {
        Self::failed(format!("cannot {doing} {}: {e}", path.display()), "check the path and its permissions")
    }

    /// clap's several lines in our two.
    pub(super) fn from_clap(e: &clap::Error) -> Self {
        let text = e.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let what = text.split("\n\n").next().unwrap_or_default();
        let tip = text.lines().find_map(|l| l.trim_start().strip_prefix("tip: "));
        let usage = text.lines().find_map(|l| l.strip_prefix("Usage: ")).unwrap_or("gray --help");
        if e.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::usage(
                "a verb is missing",
                "`gray --help` lists the verbs, `gray VERB --help` explains one",
            );
        }
        Self::usage(flat(what), flat(&tip.map_or_else(|| format!("usage: {usage}"), String::from)))
    }

    /// What `agent` and `uninstall` return: an error of ours in the chain keeps its advice.
    pub(super) fn from_anyhow(e: anyhow::Error) -> Self {
        if let Some(f) = e.downcast_ref::<Self>() {
            return f.clone();
        }
        let error = flat(&format!("{e:#}"));
        if let Some(api) = e.downcast_ref::<ApiError>() {
            let code = if api.kind == ErrorKind::Refused { REFUSED } else { FAILED };
            return Self { problems: api.problems.clone(), ..Self::new(code, error, &api.help) };
        }
        if let Some(server) = e.downcast_ref::<ServerError>() {
            return Self::failed(error, server.help());
        }
        Self::failed(error, "the log above and `gray doctor` tell more")
    }

    /// Prints it and gives the exit code.
    pub(super) fn report(&self, io: &mut Io) -> u8 {
        let _ = io.out.flush();
        let (red, bold, off) = if io.err_color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        // Nothing can be done about a closed standard error.
        for p in &self.problems {
            let _ = writeln!(io.err, "{}", p.render("error"));
        }
        if !self.error.is_empty() {
            // Both may quote arguments, files and the agent, and none of them shall move the cursor.
            let [error, help] = [&self.error, &self.help].map(|t| t.replace(char::is_control, "?"));
            let _ = writeln!(io.err, "{red}error:{off} {error}\n{bold}help:{off} {help}");
        }
        let _ = io.err.flush();
        self.code
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        match &e {
            ClientError::Unreachable { socket, source } => Self::new(
                UNREACHABLE,
                format!("{e}: {source}"),
                match socket.exists() {
                    true => "start it with `gray agent` (as root)".to_string(),
                    false => "start it with `gray agent` (as root), or say where it is with --socket or GRAY_SOCKET".into(),
                },
            ),
            ClientError::Denied { .. } => {
                Self::new(UNREACHABLE, e.to_string(), "run as root, or as a member of the socket's group")
            }
            ClientError::Silent { .. } => Self::new(
                UNREACHABLE,
                e.to_string(),
                "see its log, and restart it if it hangs (traffic goes on meanwhile); `gray history` says then whether it was done",
            ),
            ClientError::Lost { source, .. } => Self::new(
                UNREACHABLE,
                format!("{e}: {source}"),
                "see the agent's log, then `gray history` for what it has done",
            ),
            ClientError::Reply { status, reply } => {
                let code = if status.as_u16() == 403 { REFUSED } else { FAILED };
                Self { problems: reply.problems.clone(), ..Self::new(code, &reply.error, &reply.help) }
            }
            ClientError::Decode(source) => {
                Self::failed(format!("{e}: {source}"), "`gray status` shows the agent's version; use the same for both")
            }
            ClientError::Encode(_) | ClientError::Request(_) => {
                Self::failed(e.to_string(), "this is a defect of gray; please report it")
            }
        }
    }
}

/// A write that failed. A reader that has seen enough (`gray flows | head`) is no failure.
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::new(OK, "", ""),
            _ => Self::failed(format!("cannot write the output: {e}"), "check where the output goes"),
        }
    }
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
