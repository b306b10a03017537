//! Fuzz target of scripts and of files of levels. Nothing is run.

use super::*;
use crate::fuzz::{choice, one_line, text};

/// The first byte chooses the dialect, or a file of levels.
pub fn sql(data: &[u8]) {
    match choice(data, 3) {
        Some((0, script)) => sound(&text(script), Dialect::Mysql),
        Some((1, script)) => sound(&text(script), Dialect::Postgres),
        Some((_, file)) => {
            for wrong in Levels::parse(&text(file)).err().unwrap_or_default() {
                one_line(&wrong.what);
                one_line(&wrong.help);
            }
        }
        None => {}
    }
}

/// What holds for the report on any script.
pub fn sound(script: &str, dialect: Dialect) {
    let report = lint(script, dialect, &Levels::default());
    assert_eq!(report.refused > 0, report.level == Level::Refuse);
    for s in &report.statements {
        assert!(s.line >= 1 && !s.findings.is_empty(), "{s:?}");
        one_line(&s.statement);
        for f in &s.findings {
            one_line(&f.reason);
            assert!(!f.subject.contains(char::is_control), "{f:?}");
            assert!(f.rule != UNJUDGED || s.level == Level::Refuse, "{s:?}");
        }
    }
}
