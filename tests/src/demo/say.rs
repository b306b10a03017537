//! What a person or a script sees: progress on stderr, the result on stdout. Colour on a terminal only.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Instant;

use anyhow::Result;

use super::report::{Report, Row};
use super::requests::Act;
use super::table::{Paint, render};

pub(super) struct Say {
    json: bool,
    begun: Instant,
    err: Paint,
    out: Paint,
}

impl Say {
    pub fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self {
            json,
            begun: Instant::now(),
            err: Paint(wanted && stderr().is_terminal()),
            out: Paint(wanted && stdout().is_terminal()),
        }
    }

    pub fn elapsed_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// Nobody may be listening: a closed stderr stops nothing.
    pub fn line(&self, text: &str) {
        let _ = writeln!(stderr(), "{:>5.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    pub fn failure(&self, text: &str) {
        let _ = writeln!(stderr(), "{}", self.err.verdict(false, &format!("error: {text}")));
    }

    /// A step has ended.
    pub fn step(&self, name: &str, rows: &[Row]) {
        let (all, two) =
            (rows.iter().map(|r| r.requests).sum::<u64>(), rows.iter().map(|r| r.reached_2).sum::<u64>());
        let right = rows.iter().all(Row::right);
        let word = self.err.verdict(right, if right { "right" } else { "WRONG" });
        self.line(&format!("{name}: {all} requests, {two} reached 2.0, {word}"));
    }

    /// An act of the request path has ended.
    pub fn act(&self, act: &Act) {
        let word = self.err.verdict(act.right, if act.right { "right" } else { "WRONG" });
        self.line(&format!("{}: {} of {} as expected, {word}", act.name, act.as_expected, act.looked_at));
    }

    /// The table, or the JSON.
    pub fn result(&self, report: &Report) -> Result<()> {
        let text = if self.json {
            serde_json::to_string_pretty(report)? + "\n"
        } else {
            format!("\n{}", render(report, self.out))
        };
        let mut out = stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// For a person only: stdout belongs to the JSON when there is one.
    pub fn text(&self, text: &str) -> Result<()> {
        if self.json {
            stderr().write_all(text.as_bytes())?;
        } else {
            stdout().write_all(text.as_bytes())?;
        }
        Ok(())
    }

    pub fn heading(&self, text: &str) -> String {
        self.out.bold(text)
    }
}
