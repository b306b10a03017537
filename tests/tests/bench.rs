//! That the benches still run: the widest of them, short, have figures of every path.

use std::process::Command;

use gray_tests::bench::Outcome;
use gray_tests::bench::outcome::Table;
use gray_tests::server::NginxLua;
use gray_tests::skip;
use gray_userspace::sys::kernel::MESSAGES;

/// What a short run finds.
fn found(name: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_gray-bench"));
    let _ = bench.args([name, "--quick", "--out"]).arg(dir.path());
    let out = bench.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let found = Outcome::load(&dir.path().join(format!("{name}.json"))).unwrap();
    assert!(found.quick, "figures of a short run must say so");
    found
}

fn titles(tables: &[Table]) -> Vec<&str> {
    tables.iter().map(|t| t.title.as_str()).collect()
}

fn compares(table: &Table, paths: &[&str]) {
    let rows: Vec<&str> = table.rows.iter().map(|r| r.label.as_str()).collect();
    assert_eq!(rows, paths, "{}", table.title);
    for row in &table.rows {
        for key in ["rate_ratio_median", "cpu_ratio_median"] {
            assert!(row.values[key] > 0.0, "{}: {}: {key} of {:?}", table.title, row.label, row.values);
        }
    }
}

#[test]
fn the_bench_over_the_edge_measures_every_path() {
    if skip::measures() {
        return;
    }
    let found = found("http");
    assert_eq!(found.bars.len(), 3);
    assert_eq!(titles(&found.tables), ["Keep-alive", "A connection per request", "Bulk"]);
    let paths =
        ["routed, not steered", "gray, packet path", "nftables DNAT", "HAProxy, tcp", "nginx, stream"];
    found.tables.iter().for_each(|t| compares(t, &paths));
}

#[test]
fn the_bench_of_the_request_path_measures_every_path() {
    if skip::measures() {
        return;
    }
    if !NginxLua::is_here() {
        skip::because("nginx has no Lua here: `cargo xtask bench` installs it");
        return;
    }
    let found = found("request");
    assert_eq!(found.bars.len(), 9);
    let (answers, compared) = found.tables.split_last().unwrap();
    let loads = ["Keep-alive", "Keep-alive, edge apart", "A connection per request", "One at a time", "Bulk"];
    assert_eq!(titles(compared), loads);
    let paths =
        ["routed, not steered", "gray, per connection", "gray, per request", "HAProxy, http", "nginx, Lua"];
    compared.iter().for_each(|t| compares(t, &paths));
    for row in &answers.rows {
        let of = |key: &str| row.values[key];
        assert!(of("answered") > 0.0, "{}", row.label);
        assert_eq!(
            (of("misrouted"), of("corrupted"), of("lost")),
            (0.0, 0.0, 0.0),
            "{}: {:?}",
            row.label,
            found.notes
        );
    }
}

#[test]
fn the_bench_of_a_flood_measures_both_paths() {
    if skip::measures() {
        return;
    }
    let found = found("flood");
    assert_eq!(found.bars.len(), 2);
    compares(&found.tables[0], &["kernel's SYN cookies", "gray, by a header"]);
    assert!(found.bars[1].met, "established connections: {:?} {:?}", found.bars, found.notes);
}

#[test]
fn the_bench_of_links_measures_messages_and_both_callers() {
    if skip::measures() || skip::lacks(MESSAGES, "a link") {
        return;
    }
    let found = found("links");
    assert_eq!((found.bars.len(), found.tables.len()), (3, 3));
    for table in &found.tables {
        let [without, with] = table.rows.as_slice() else { panic!("two rows: {table:?}") };
        assert!(without.values["ns_median"] > 0.0 && with.values["ratio_median"] > 0.0, "{table:?}");
    }
}
