//! `gray lint-sql`: a database script in statements, each one judged by what it does to the version that is still running (G1), and by whether it
//! can be undone (G2). The rules are a list (`rules.rs`); what cannot be judged is refused.
//!
//! Only the script is known: not the tables, not what the old version does. So a rule asks "can this break *some* old version that works
//! today?". Tables that the script itself creates are nobody's yet, and free.
//!
//! Pure but for one thread, whose stack is large enough for the deepest tree that is let in.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod judge;
mod levels;
mod parse;
mod rules;
mod split;

#[cfg(test)]
mod props;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use levels::{Levels, Wrong};
pub use rules::{Level, Rule};
use split::{Odd, Piece};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    Mysql,
    Postgres,
}

/// What becomes of a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub dialect: Dialect,
    /// The worst of all statements; `refuse`: the script must not run while the old version does.
    pub level: Level,
    /// Whether everything in it can be undone, changed rows included.
    pub reversible: bool,
    /// The same of definitions, and of what could not be read. False forbids an automatic rollback (G2).
    pub ddl_reversible: bool,
    pub ddl: usize,
    pub dml: usize,
    pub refused: usize,
    pub warned: usize,
    pub statements: Vec<Judged>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Where it begins, from 1.
    pub line: u32,
    pub kind: Kind,
    /// Its text in one line, cut when it is long.
    pub statement: String,
    pub level: Level,
    pub reversible: bool,
    /// What it does, one entry for each action of an ALTER TABLE.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Changes definitions.
    Ddl,
    /// Reads or changes rows.
    Dml,
    /// Neither: transactions, settings.
    Control,
    /// Could not be read.
    Unknown,
}

/// One rule that applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A rule's name, or `unjudged`, which no file of levels can change.
    pub rule: String,
    pub level: Level,
    /// What it is about: a table, a column; empty when the statement says it.
    pub subject: String,
    pub reason: String,
    /// The compatible way; empty where nothing is to be done.
    pub instead: String,
}

pub const UNJUDGED: &str = "unjudged";

/// Judges a script. Never fails: what cannot be read is in the report as refused.
pub fn lint(script: &str, dialect: Dialect, levels: &Levels) -> Report {
    let script = &lines(script, dialect);
    let judged = std::thread::scope(|scope| {
        let work = || judged(script, dialect, levels);
        let thread = std::thread::Builder::new().stack_size(parse::STACK).spawn_scoped(scope, work);
        thread.ok().and_then(|t| t.join().ok())
    });
    let none = || {
        vec![unjudged(
            1,
            script,
            "the script could not be looked at",
            "check the limits of this process, report the script",
        )]
    };
    Report::of(dialect, judged.unwrap_or_else(none))
}

/// PostgreSQL ends a line, and so a comment, at a carriage return too.
fn lines(script: &str, dialect: Dialect) -> Cow<'_, str> {
    match dialect {
        Dialect::Postgres if script.contains('\r') => script.replace("\r\n", "\n").replace('\r', "\n").into(),
        _ => script.into(),
    }
}

fn judged(script: &str, dialect: Dialect, levels: &Levels) -> Vec<Judged> {
    let mut judge = judge::Judge::new(dialect);
    let one = |piece: Piece<'_>| match piece.odd {
        Some(odd) => {
            let (reason, instead) = said(odd);
            unjudged(piece.line, piece.text, &reason, instead)
        }
        None => statement(&mut judge, piece, dialect, levels),
    };
    split::split(script, dialect).into_iter().map(one).collect()
}

fn statement(judge: &mut judge::Judge, piece: Piece<'_>, dialect: Dialect, levels: &Levels) -> Judged {
    match parse::parse(piece.text, dialect) {
        Ok(parsed) => {
            let (kind, found) = judge.statement(&parsed);
            let findings: Vec<Finding> = found.into_iter().map(|f| f.finding(levels)).collect();
            let reversible = findings.iter().all(|f| Rule::named(&f.rule).is_some_and(Rule::reversible));
            let level = findings.iter().map(|f| f.level).max().unwrap_or(Level::Refuse);
            Judged {
                line: piece.line,
                kind,
                statement: parse::one_line(piece.text),
                level,
                reversible,
                findings,
            }
        }
        Err(fault) => {
            let line = piece.line.saturating_add(fault.line.saturating_sub(1));
            let (what, instead) = judge::guess(&fault.tokens);
            let reason = format!("{what}: {} (line {line})", fault.what);
            unjudged(piece.line, piece.text, &reason, instead)
        }
    }
}

fn said(odd: Odd) -> (String, &'static str) {
    match odd {
        Odd::Client => (
            "a command of the database's client, or a backslash outside of quotes".into(),
            "put what it brings in into the script itself",
        ),
        Odd::Versioned => {
            ("a comment that some servers run (`/*! */`)".into(), "write it as a statement, or leave it out")
        }
        Odd::Unterminated(what) => (format!("a {what} that does not end"), "close it"),
        Odd::Continued => {
            ("a string with escapes (E'') that goes on in another line".into(), "write it as one string")
        }
        Odd::Delimiter => ("DELIMITER without a delimiter".into(), "DELIMITER //"),
    }
}

fn unjudged(line: u32, text: &str, reason: &str, instead: &str) -> Judged {
    let finding = Finding {
        rule: UNJUDGED.into(),
        level: Level::Refuse,
        subject: String::new(),
        reason: reason.into(),
        instead: instead.into(),
    };
    Judged {
        line,
        kind: Kind::Unknown,
        statement: parse::one_line(text),
        level: Level::Refuse,
        reversible: false,
        findings: vec![finding],
    }
}

impl Report {
    fn of(dialect: Dialect, statements: Vec<Judged>) -> Self {
        let count = |f: &dyn Fn(&Judged) -> bool| statements.iter().filter(|s| f(s)).count();
        Self {
            dialect,
            level: statements.iter().map(|s| s.level).max().unwrap_or(Level::Ok),
            reversible: statements.iter().all(|s| s.reversible),
            ddl_reversible: statements
                .iter()
                .all(|s| s.reversible || !matches!(s.kind, Kind::Ddl | Kind::Unknown)),
            ddl: count(&|s| s.kind == Kind::Ddl),
            dml: count(&|s| s.kind == Kind::Dml),
            refused: count(&|s| s.level == Level::Refuse),
            warned: count(&|s| s.level == Level::Warn),
            statements,
        }
    }
}

impl Rule {
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.name() == name)
    }
}
