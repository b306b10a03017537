//! What an error looks like on the wire. `api::error` maps it to HTTP status and exit code.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lint_sql::{Finding, Judged, Level, Report};

/// One thing that is wrong in a policy document, or worth a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The source's name as the request gave it; none: it is about no place in a document.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// From 1, in characters.
    pub column: Option<u32>,
    /// One line: what is wrong.
    pub message: String,
    /// One line: what was expected, the nearest name.
    pub help: Option<String>,
    /// The offending line.
    pub snippet: Option<String>,
    /// All of it as a person reads it, several lines, without colour; none: made from the other fields.
    pub rendered: Option<String>,
}

/// What `lint-sql` has to say at this level, each at its line.
pub fn script_problems(report: &Report, file: &str, level: Level) -> Vec<Problem> {
    let one = |s: &Judged, f: &Finding| {
        let about = if f.subject.is_empty() { String::new() } else { format!("{}: ", f.subject) };
        Problem {
            file: Some(file.into()),
            line: Some(s.line),
            help: Some(f.instead.clone()).filter(|h| !h.is_empty()),
            snippet: Some(s.statement.clone()),
            ..Problem::note(format!("{about}{} [{}]", f.reason, f.rule))
        }
    };
    let of = |s: &Judged| -> Vec<Problem> {
        s.findings.iter().filter(|f| f.level == level).map(|f| one(s, f)).collect()
    };
    report.statements.iter().flat_map(of).collect()
}

impl Problem {
    /// A problem that has no place in a document.
    pub fn note(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// The block of text that a terminal shows, ending with a line break.
    pub fn render(&self, severity: &str) -> String {
        if let Some(text) = &self.rendered {
            return format!("{}\n", text.trim_end());
        }
        let mut out = format!("{severity}: {}\n", self.message);
        if let Some(file) = &self.file {
            let number = |n: Option<u32>| n.map(|n| format!(":{n}")).unwrap_or_default();
            out.push_str(&format!("  at {file}{}{}\n", number(self.line), number(self.column)));
        }
        for (what, text) in [("text", &self.snippet), ("help", &self.help)] {
            if let Some(text) = text {
                out.push_str(&format!("  {what}: {text}\n"));
            }
        }
        out
    }
}

/// The answer to `gray validate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReply {
    pub valid: bool,
    /// Empty when valid.
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// The body of every reply that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReply {
    /// One line: what is wrong.
    pub error: String,
    /// One line: what to do.
    pub help: String,
    /// All problems of a refused document at once; empty for every other error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub problems: Vec<Problem>,
}
