//! The page `docs/benchmarks.md`, from outcomes alone: the same outcomes give the same page.

use std::fmt::Write as _;

use crate::bench::Outcome;
use crate::bench::outcome::{Bar, Table};

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench --write` from the files in [`bench/`](bench); a test compares this page with them, so it is not edited by hand.
`cargo xtask bench` measures everything again (as root, on a machine with nothing else to do), `cargo xtask bench NAME` one of them.

Times move from run to run and from machine to machine. Ratios are of measurements that alternate in one run, and hold: each is the median of
its rounds, with the interval that holds the true median with 95 % confidence in parentheses. A bar on a ratio is met when the worse end of
the interval misses it by no more than 0.05.

";

pub fn page(outcomes: &[Outcome]) -> String {
    let mut out = HEAD.to_owned();
    let _ = writeln!(out, "## Bars\n\n| bench | what | bar | measured | |\n|---|---|---|---|---|");
    for o in outcomes {
        for b in &o.bars {
            let _ = writeln!(out, "| [{}](#{}) | {} |", o.name, anchor(&o.title), bar(b));
        }
    }
    for o in outcomes {
        section(&mut out, o);
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

fn section(out: &mut String, o: &Outcome) {
    let _ = writeln!(
        out,
        "\n## {}\n\n`cargo xtask bench {}`. {}\n",
        o.title,
        o.name,
        o.machine.sentence(o.seconds)
    );
    if !o.how.is_empty() {
        let _ = writeln!(out, "{}\n", o.how.trim());
    }
    for t in &o.tables {
        table(out, t);
    }
    for p in &o.plots {
        let _ = writeln!(out, "![{}](bench/{}.svg)\n", p.title, p.name);
    }
    for n in &o.notes {
        let _ = writeln!(out, "- {}", n.trim());
    }
}

fn bar(b: &Bar) -> String {
    let met = if b.met { "met" } else { "**missed**" };
    [&b.what, &b.bar, &b.measured, met].map(cell).join(" | ")
}

fn table(out: &mut String, t: &Table) {
    if !t.title.is_empty() {
        let _ = writeln!(out, "**{}**\n", t.title);
    }
    let _ = writeln!(out, "| {} |", t.columns.iter().map(cell).collect::<Vec<_>>().join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(t.columns.len().saturating_sub(1)));
    for r in &t.rows {
        let cells: Vec<String> = std::iter::once(&r.label).chain(&r.cells).map(cell).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
}

fn cell(text: impl AsRef<str>) -> String {
    text.as_ref().replace('|', "\\|").replace('\n', " ")
}

/// Of a heading, as GitHub makes it.
fn anchor(title: &str) -> String {
    let kept = title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .collect::<String>();
    kept.replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_linked_as_github_names_them() {
        assert_eq!(anchor("Over the edge, side by side"), "over-the-edge-side-by-side");
    }

    #[test]
    fn cells_stay_in_their_columns() {
        let t = Table { columns: vec!["a".into(), "b|c".into()], ..Table::default() };
        let mut out = String::new();
        table(&mut out, &t);
        assert_eq!(out, "| a | b\\|c |\n|---|---:|\n\n");
    }
}
