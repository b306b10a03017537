//! Any bytes get a report; nothing panics, overflows the stack, or passes unread.

use std::time::{Duration, Instant};

use proptest::{collection, prelude::*};

use super::*;

const BOTH: [Dialect; 2] = [Dialect::Mysql, Dialect::Postgres];

fn sound(script: &str) {
    for dialect in BOTH {
        fuzz::sound(script, dialect);
    }
}

/// Words that scripts are made of, in any order.
const WORDS: &[&str] = &[
    "CREATE",
    "ALTER",
    "DROP",
    "TABLE",
    "ADD",
    "COLUMN",
    "t",
    "a",
    "INT",
    "NOT",
    "NULL",
    "DEFAULT",
    "1",
    "(",
    ")",
    ",",
    ";",
    "'",
    "\"",
    "`",
    "$$",
    "$a$",
    "/*",
    "*/",
    "--",
    "\n",
    "#",
    "DELIMITER //",
    "//",
    "\\",
    "INDEX",
    "UNIQUE",
    "CONCURRENTLY",
    "ON",
    "SELECT",
    "FROM",
    "WHERE",
    "WITH",
    "AS",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "CHECK",
    "REFERENCES",
    "VIEW",
    "OR",
    "REPLACE",
    "TRIGGER",
    "BEGIN",
    "END",
    "CASE",
    "WHEN",
    "THEN",
    "::",
    ":",
    "=",
    "[",
    "]",
    "e'",
    "/*!50000",
    "TYPE",
    "ENUM",
    "MODIFY",
    "CHANGE",
    "RENAME",
    "TO",
    "\u{feff}",
    "é",
];

proptest! {
    #[test]
    fn g1_any_bytes_get_a_report(bytes in collection::vec(any::<u8>(), 0..400)) {
        sound(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn g1_any_words_get_a_report(words in collection::vec(proptest::sample::select(WORDS), 0..60)) {
        sound(&words.join(" "));
        sound(&words.concat());
    }

    /// Statements that are cut apart are all there: nothing between them is lost but blanks, comments and delimiters.
    #[test]
    fn g1_no_statement_is_lost(words in collection::vec(proptest::sample::select(WORDS), 0..40)) {
        let script = words.join(" ");
        let whole = format!("{script}\nDROP TABLE last_one");
        for dialect in BOTH {
            let report = lint(&whole, dialect, &Levels::default());
            let open = report.statements.iter().any(|s| s.findings.iter().any(|f| f.rule == UNJUDGED));
            let dropped = report.statements.iter().any(|s| s.findings.iter().any(|f| f.rule == "drop-table"));
            // In the worst case it is a part of something that does not parse; never of something that passes.
            prop_assert!(open || dropped || report.level == Level::Refuse, "{whole}");
        }
    }
}

#[test]
fn g1_deep_and_long_statements_end_soon() {
    let deep = |open: &str, close: &str, n: usize| format!("SELECT {}1{}", open.repeat(n), close.repeat(n));
    let mut scripts = Vec::new();
    for n in [10, 24, 47, 100, 5000] {
        for (open, close) in [
            ("(", ")"),
            ("f(", ")"),
            ("-", ""),
            ("NOT ", ""),
            ("(SELECT ", ")"),
            ("CASE WHEN 1 THEN ", " END"),
            ("ARRAY[", "]"),
            ("((1),", ")"),
        ] {
            scripts.push(deep(open, close, n));
        }
        scripts.push(format!("SELECT {}", "a AND ".repeat(n) + "a"));
        scripts.push("SELECT 1 UNION ".repeat(n) + "SELECT 1");
        scripts.push(format!("CREATE TABLE t (a INT{})", "[]".repeat(n)));
        scripts.push(format!("SELECT 1{}", "::int".repeat(n)));
        scripts.push("EXPLAIN ".repeat(n) + "SELECT 1");
        scripts.push("BEGIN ".repeat(n));
        scripts.push(format!("{}{}", "/*".repeat(n), "*/".repeat(n)));
        scripts.push("(".repeat(n));
        scripts.push("SELECT * FROM ".to_string() + &"(".repeat(n) + "a" + &")".repeat(n));
        scripts.push("IF 1 THEN ".repeat(n));
    }
    // The deepest trees that are let in, and more than that.
    scripts.push(format!("SELECT {}1", "1+".repeat(99_000)));
    scripts.push(format!("SELECT 1 {}", "UNION SELECT 1 ".repeat(60_000)));
    scripts.push(format!("SELECT {}1", "1+".repeat(400_000)));
    let long = scripts.last().map_or("", String::as_str);
    let report = lint(long, Dialect::Mysql, &Levels::default());
    assert!(report.statements[0].findings[0].reason.contains("800002 words and signs"), "{report:?}");
    for script in &scripts {
        let one = Instant::now();
        sound(script);
        let start: String = script.chars().take(40).collect();
        assert!(
            one.elapsed() < Duration::from_secs(20),
            "{start} of {} took {:?}",
            script.len(),
            one.elapsed()
        );
    }
}
