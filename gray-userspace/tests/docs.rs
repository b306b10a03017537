//! The hand-written pages against the lists in the code: every reason, metric, verb and configuration key is there.

use gray_common::Reason;

const REASONS: &str = include_str!("../../docs/reasons.md");
const METRICS: &str = include_str!("../../docs/metrics.md");
const CLI: &str = include_str!("../../docs/cli.md");
/// The families are private; their names stand in calls of `counter`, `gauge` and `histogram`.
const METRICS_CODE: &str =
    concat!(include_str!("../src/agent/metrics/times.rs"), include_str!("../src/agent/metrics.rs"));

fn rows(page: &str) -> Vec<&str> {
    page.lines()
        .filter(|l| l.starts_with("| ") && !l.starts_with("| code") && !l.starts_with("| metric"))
        .collect()
}

#[test]
fn h4_the_page_of_reasons_is_the_list_of_reasons() {
    let want: Vec<String> =
        Reason::ALL.iter().map(|r| format!("| {} | `{}` | {} |", *r as u8, r.label(), r.doc())).collect();
    assert_eq!(rows(REASONS), want);
}

fn names(call: &str, suffix: &str) -> Vec<String> {
    let code = METRICS_CODE.split("#[cfg(test)]").next().unwrap_or_default();
    let calls = code.split(call).skip(1);
    // The name is the first argument, perhaps on the next line.
    let name = |rest: &str| Some(rest.trim_start().strip_prefix('"')?.split('"').next()?.to_string());
    calls.filter_map(name).map(|n| format!("gray_{n}{suffix}")).collect()
}

#[test]
fn h4_the_page_of_metrics_names_every_family_and_no_other() {
    let mut want = [
        names("counter(", "_total"),
        names("gauge(", ""),
        names("histogram(", ""),
        vec!["gray_build_info".into()],
    ]
    .concat();
    assert!(want.len() > 10, "the names are not found any more: {want:?}");
    let mut told: Vec<String> =
        rows(METRICS).iter().filter_map(|l| Some(l.split('`').nth(1)?.to_string())).collect();
    want.sort();
    told.sort();
    assert_eq!(told, want);
}

#[test]
fn the_page_of_the_command_line_names_every_verb() {
    for verb in gray_userspace::cli::command().get_subcommands().filter(|v| !v.is_hide_set()) {
        let name = verb.get_name();
        let told = [' ', '`'].iter().any(|end| CLI.contains(&format!("`{name}{end}")));
        assert!(told, "docs/cli.md does not name `{name}`");
    }
}

/// Every `fn` of the workspace's tests and sources.
fn functions(dir: &std::path::Path, out: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("corpus") {
            functions(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names =
                text.lines().filter_map(|l| l.trim_start().strip_prefix("fn ")?.split(['(', '<']).next());
            out.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn the_tests_of_the_traps_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let section = page.split("## Traps\n").nth(1).and_then(|s| s.split("\n## ").next()).unwrap();
    let mut there = std::collections::BTreeSet::new();
    for dir in ["gray-common/src", "gray-userspace", "tests/src", "tests/tests"] {
        functions(&root.join(dir), &mut there);
    }
    let rows: Vec<&str> =
        section.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| trap")).collect();
    assert_eq!(rows.len(), 15, "{section}");
    for row in rows {
        let tests = row.rsplit(" | ").next().unwrap();
        // Of what stands in backquotes, what is named as tests are.
        let names = tests.split('`').skip(1).step_by(2).filter(|n| n.matches('_').count() > 2);
        let missing: Vec<&str> = names.filter(|n| !there.contains(*n)).collect();
        assert!(missing.is_empty(), "{row}: no test {missing:?}");
    }
}
