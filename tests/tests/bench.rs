//! That the benches still run: the widest of them, short, has figures of every path.

use std::process::Command;

use gray_tests::bench::Outcome;
use gray_tests::skip;

#[test]
fn the_bench_over_the_edge_measures_every_path() {
    if skip::measures() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_gray-bench"));
    let _ = bench.args(["http", "--quick", "--out"]).arg(dir.path());
    let out = bench.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let found = Outcome::load(&dir.path().join("http.json")).unwrap();
    assert!(found.quick, "figures of a short run must say so");
    assert_eq!(found.bars.len(), 3);
    let titles: Vec<&str> = found.tables.iter().map(|t| t.title.as_str()).collect();
    assert_eq!(titles, ["Keep-alive", "A connection per request", "Bulk"]);
    for table in &found.tables {
        let paths: Vec<&str> = table.rows.iter().map(|r| r.label.as_str()).collect();
        assert_eq!(
            paths,
            ["routed, not steered", "gray, packet path", "nftables DNAT", "HAProxy, tcp", "nginx, stream"]
        );
        for row in &table.rows {
            for key in ["rate_ratio_median", "cpu_ratio_median"] {
                assert!(row.values[key] > 0.0, "{}: {}: {key} of {:?}", table.title, row.label, row.values);
            }
        }
    }
}
