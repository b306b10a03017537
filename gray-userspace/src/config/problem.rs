//! One thing that is wrong with a document, and all of them together: what it holds and how it prints.
//! Must not know how problems are found.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use unicode_width::UnicodeWidthStr as _;

/// Errors refuse the document, warnings do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// A second place that a problem speaks about: where the name was given first, and the like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    pub column: u32,
    pub note: String,
}

/// One problem at its place. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub severity: Severity,
    pub file: String,
    pub line: u32,
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What was expected instead, without that word; stands beside the underline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected: Option<String>,
    /// What to do, with the nearest name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
    /// The offending line, cut to a window around the place when it is long.
    pub snippet: String,
    /// What is underlined in `snippet`: first character (from 0) and number of characters (at least 1).
    pub underline: (u32, u32),
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also: Vec<Place>,
}

/// Everything that is wrong with the documents, in the order of files and lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Errors beyond the limit of kept ones.
    #[serde(default)]
    pub omitted: usize,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Problems {
    /// All problems as a person reads them, warnings last, a count at the end. `color`: ANSI colours.
    pub fn render(&self, color: bool) -> String {
        let mut out = String::new();
        for p in self.errors.iter().chain(&self.warnings) {
            out.push_str(&p.render(color));
            out.push('\n');
        }
        let total = self.errors.len() + self.omitted;
        out.push_str(&count(total, "error"));
        if self.omitted > 0 {
            let _ = write!(out, " ({} not shown)", self.omitted);
        }
        if !self.warnings.is_empty() {
            let _ = write!(out, ", {}", count(self.warnings.len(), "warning"));
        }
        out.push('\n');
        out
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// ANSI codes, all empty without colour.
struct Paint {
    head: &'static str,
    frame: &'static str,
    help: &'static str,
    bold: &'static str,
    off: &'static str,
}

impl Paint {
    fn new(color: bool, severity: Severity) -> Self {
        if !color {
            return Self { head: "", frame: "", help: "", bold: "", off: "" };
        }
        let head = if severity == Severity::Error { "\x1b[1;31m" } else { "\x1b[1;33m" };
        Self { head, frame: "\x1b[34m", help: "\x1b[36m", bold: "\x1b[1m", off: "\x1b[0m" }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Problem {
    /// The problem with its line of text, an underline, and what to do. Ends with a line break.
    pub fn render(&self, color: bool) -> String {
        let Paint { head, frame, help, bold, off } = Paint::new(color, self.severity);
        let word = if self.severity == Severity::Error { "error" } else { "warning" };
        let number = self.line.to_string();
        let pad = " ".repeat(number.len());
        let (before, marked) = self.columns();
        let mut foot: Vec<String> = Vec::new();
        for p in &self.also {
            foot.push(format!("{} ({}:{}:{})", p.note, p.file, p.line, p.column));
        }
        if let Some(text) = &self.help {
            foot.push(format!("{help}help:{off} {text}"));
        }

        let mut out = format!("{head}{word}:{off} {bold}{}{off}\n", self.message);
        let _ =
            writeln!(out, " {pad} {frame}╭─[{off}{}:{}:{}{frame}]{off}", self.file, self.line, self.column);
        let _ = writeln!(out, " {frame}{number} │{off} {}", self.snippet);
        let label = self.expected.as_deref().map_or(String::new(), |e| format!(" expected {e}"));
        let carets = "^".repeat(marked);
        let _ = writeln!(out, " {pad} {frame}│{off} {}{head}{carets}{label}{off}", " ".repeat(before));
        match foot.split_last() {
            None => {
                let _ = writeln!(out, " {pad} {frame}╰─{off}");
            }
            Some((last, rest)) => {
                for line in rest {
                    let _ = writeln!(out, " {pad} {frame}├─{off} {line}");
                }
                let _ = writeln!(out, " {pad} {frame}╰─{off} {last}");
            }
        }
        out
    }

    /// Terminal columns before the underline and under it.
    fn columns(&self) -> (usize, usize) {
        let (start, length) = (self.underline.0 as usize, self.underline.1 as usize);
        let before: String = self.snippet.chars().take(start).collect();
        let marked: String = self.snippet.chars().skip(start).take(length).collect();
        (before.width(), marked.width().max(1))
    }
}
