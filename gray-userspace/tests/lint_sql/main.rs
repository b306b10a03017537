//! What `gray lint-sql` says to statements of both dialects: one row each. The rule of the last statement is expected, or several with `+`.

#[path = "../cli_run/mod.rs"]
mod cli_run;
mod others;
mod tables;

use std::fs;

use cli_run::run;
use gray_userspace::lint_sql::{Dialect, Kind, Level, Levels, Report, Rule, lint};
use others::{OTHERS, ROWS, TRAPS, UNREAD};
use tables::{COLUMNS, KEYS, TABLES};

const M: &[Dialect] = &[Dialect::Mysql];
const P: &[Dialect] = &[Dialect::Postgres];
const B: &[Dialect] = &[Dialect::Mysql, Dialect::Postgres];

type Case = (&'static [Dialect], &'static str, &'static str);

fn rules(report: &Report) -> String {
    let last = report.statements.last();
    let names = last.iter().flat_map(|s| &s.findings).map(|f| f.rule.as_str());
    names.collect::<Vec<_>>().join("+")
}

#[test]
fn g1_statements_of_both_dialects() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (dialects, script, want) in [TABLES, COLUMNS, KEYS, OTHERS, ROWS, TRAPS, UNREAD].concat() {
        for dialect in dialects {
            count += 1;
            let report = lint(script, *dialect, &Levels::default());
            if rules(&report) != want {
                let why = report.statements.last().map(|s| format!("{:?}", s.findings));
                wrong.push(format!(
                    "{dialect:?} {script}\n   wanted {want}, got {} {}",
                    rules(&report),
                    why.unwrap_or_default()
                ));
            }
            // The level is that of the gravest rule; what is not judged never passes.
            let level = want.split('+').map(|n| Rule::named(n).map_or(Level::Refuse, Rule::level)).max();
            let last = report.statements.last().map(|s| s.level);
            if rules(&report) == want && last != level {
                wrong.push(format!("{dialect:?} {script}: {last:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 400, "{count}");
}

const SCRIPT: &str = "\
-- 2.1: two tables and a column
CREATE TABLE carts (id BIGINT PRIMARY KEY, note TEXT);
ALTER TABLE orders ADD COLUMN cart_id BIGINT;

/* moved later;
   DROP TABLE nothing; */
INSERT INTO carts (id, note)
  VALUES (1, 'a;b'), (2, 'c''d');
ALTER TABLE orders
  ADD COLUMN state INT,
  DROP COLUMN old_state;
UPDATE orders SET cart_id = 1 WHERE id = 5;
";

#[test]
fn g1_a_script_is_split_and_each_statement_has_its_line() {
    for dialect in B {
        let report = lint(SCRIPT, *dialect, &Levels::default());
        let lines: Vec<_> = report.statements.iter().map(|s| (s.line, s.kind, s.level)).collect();
        assert_eq!(
            lines,
            [
                (2, Kind::Ddl, Level::Ok),
                (3, Kind::Ddl, Level::Ok),
                (7, Kind::Dml, Level::Ok),
                (9, Kind::Ddl, Level::Refuse),
                (12, Kind::Dml, Level::Ok),
            ]
        );
        assert_eq!((report.ddl, report.dml, report.refused, report.level), (3, 2, 1, Level::Refuse));
        let refused = &report.statements[3].findings[1];
        assert_eq!((refused.rule.as_str(), refused.subject.as_str()), ("drop-column", "orders.old_state"));
        assert!(refused.instead.contains("later script"));
    }
}

#[test]
fn g1_what_does_not_parse_says_its_line() {
    let report = lint("SELECT 1;\n\nALTER TABLE t\n  FROBNICATE;\n", Dialect::Postgres, &Levels::default());
    let last = &report.statements[1];
    assert_eq!((last.line, last.level, last.kind), (3, Level::Refuse, Kind::Unknown));
    assert!(last.findings[0].reason.contains("line 4"), "{}", last.findings[0].reason);
}

#[test]
fn g2_what_cannot_be_undone_is_marked() {
    for (script, reversible) in [
        ("ALTER TABLE t ADD COLUMN a INT", true),
        ("CREATE TABLE t (a INT)", true),
        ("INSERT INTO t (a) VALUES (1)", true),
        ("ALTER TABLE t RENAME TO u", true),
        ("DROP TABLE t", false),
        ("ALTER TABLE t ADD COLUMN b INT, DROP COLUMN a", false),
        ("TRUNCATE TABLE t", false),
        ("UPDATE t SET a = 1 WHERE b = 2", false),
        ("nobody knows", false),
        ("SELECT 1; DELETE FROM t WHERE a = 1; SELECT 1", false),
        ("", true),
    ] {
        for dialect in B {
            assert_eq!(lint(script, *dialect, &Levels::default()).reversible, reversible, "{script}");
        }
    }
    // Rows are one thing, definitions another.
    for (script, ddl) in
        [("UPDATE t SET a = 1 WHERE b = 2", true), ("DROP TABLE t", false), ("nobody knows", false)]
    {
        let report = lint(script, Dialect::Mysql, &Levels::default());
        assert_eq!((report.ddl_reversible, report.reversible), (ddl, false), "{script}");
    }
    assert!(!lint("ALTER TYPE a ADD VALUE 'b'", Dialect::Postgres, &Levels::default()).reversible);
    assert!(!lint("ALTER TABLE t MODIFY a INT", Dialect::Mysql, &Levels::default()).reversible);
}

#[test]
fn g1_levels_are_configurable_and_what_is_not_judged_is_not() {
    let levels = Levels::parse("rules: { drop-index: warn, add-column: refuse }").unwrap();
    let level = |script| lint(script, Dialect::Mysql, &levels).level;
    assert_eq!(level("DROP INDEX i ON t"), Level::Warn);
    assert_eq!(level("ALTER TABLE t ADD COLUMN a INT"), Level::Refuse);
    assert_eq!(level("DROP TABLE t"), Level::Refuse);
    assert!(Levels::parse("rules: { unjudged: ok }").is_err());
}

#[test]
fn g1_the_page_of_rules_is_the_list_of_rules() {
    let page = include_str!("../../../docs/lint-sql.md");
    let told: Vec<&str> = page.lines().filter(|l| l.starts_with("| `")).collect();
    let undo = |r: &Rule| if r.reversible() { "yes" } else { "no" };
    let row = |r: &Rule| {
        format!("| `{}` | {} | {} | {} | {} |", r.name(), r.level().name(), undo(r), r.reason(), r.instead())
    };
    let want: Vec<String> = Rule::ALL.iter().map(row).collect();
    assert_eq!(told, want);
}

#[test]
fn g1_the_examples_are_what_they_say() {
    let expand = include_str!("../../../examples/sql/expand.postgres.sql");
    let report = lint(expand, Dialect::Postgres, &Levels::default());
    assert_eq!(report.level, Level::Ok, "{report:?}");
    let contract = include_str!("../../../examples/sql/contract.mysql.sql");
    let report = lint(contract, Dialect::Mysql, &Levels::default());
    assert_eq!((report.refused, report.statements.len(), report.reversible), (4, 4, false));
}

#[test]
fn g1_exit_codes_and_output_of_the_command() {
    let fine = run("gray lint-sql - --dialect mysql", "ALTER TABLE t ADD COLUMN a INT;");
    assert!(fine.code == 0 && fine.err.is_empty(), "{}", fine.err);
    assert!(fine.out.contains("add-column"), "{}", fine.out);

    let warned = run("gray lint-sql - --dialect mysql", "SELECT 1;\nDELETE FROM t WHERE a = 1;");
    assert_eq!(warned.code, 0);
    assert!(warned.err.starts_with("warning: ") && warned.err.contains("at -:2"), "{}", warned.err);

    let refused = run("gray lint-sql - --dialect postgres", "SELECT 1;\n\nALTER TABLE t DROP COLUMN a;");
    assert_eq!(refused.code, 3);
    for part in [
        "t.a: the running version still reads and writes it [drop-column]",
        "at -:3",
        "help: drop it in",
        "1 statement refused",
    ] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let json = run("gray lint-sql - --dialect postgres -o json", "DROP TABLE t");
    let report: Report = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, report.reversible, report.refused), (3, false, 1));

    for usage in ["gray lint-sql -", "gray lint-sql - --dialect oracle", "gray lint-sql --dialect mysql"] {
        assert_eq!(run(usage, "").code, 2, "{usage}");
    }
    assert_eq!(run("gray lint-sql /nowhere/x.sql --dialect mysql", "").code, 1);
    let dir = tempfile::tempdir().unwrap();
    let (rules, script) = (dir.path().join("rules.yaml"), dir.path().join("latin1.sql"));
    fs::write(&rules, "rules:\n  drop-tabel: ok\n  drop-index: no\n").unwrap();
    let wrong = run(&format!("gray lint-sql - --dialect mysql --rules {}", rules.display()), "");
    assert_eq!(wrong.code, 2);
    for part in
        ["rules.yaml:2:", "did you mean `drop-table`?", "rules.yaml:3:", "expected ok, warn or refuse"]
    {
        assert!(wrong.err.contains(part), "{part}: {}", wrong.err);
    }
    fs::write(&rules, "rules: { drop-table: warn }\n").unwrap();
    let allowed =
        run(&format!("gray lint-sql - --dialect mysql --rules {}", rules.display()), "DROP TABLE t");
    assert_eq!(allowed.code, 0);
    fs::write(&script, b"SELECT 1;\nSELECT '\xe9';\n").unwrap();
    let latin = run(&format!("gray lint-sql {} --dialect mysql", script.display()), "");
    assert!(latin.code == 3 && latin.err.contains("latin1.sql:2: not UTF-8"), "{}", latin.err);
}
