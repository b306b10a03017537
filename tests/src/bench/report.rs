//! Outcomes for people: text for a terminal; Markdown and SVG for the documents.

mod canvas;
mod markdown;
mod scale;
mod svg;
mod write;

use std::fmt::Write as _;

use super::Outcome;

pub use write::{render, write};

/// For a terminal.
pub fn text(o: &Outcome) -> String {
    let mut out = format!("\n{}\n", o.title);
    for t in &o.tables {
        let _ = writeln!(out, "\n{}", t.title);
        let width = |c: usize| {
            let of =
                |r: &super::outcome::Row| r.cells.get(c.wrapping_sub(1)).unwrap_or(&r.label).chars().count();
            t.rows.iter().map(of).chain([t.columns[c].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..t.columns.len()).map(width).collect();
        let mut line = |cells: Vec<&str>| {
            for (c, cell) in cells.iter().enumerate() {
                let w = widths.get(c).copied().unwrap_or(0);
                let _ = if c == 0 { write!(out, "  {cell:w$}") } else { write!(out, "  {cell:>w$}") };
            }
            out.push('\n');
        };
        line(t.columns.iter().map(String::as_str).collect());
        for r in &t.rows {
            line(std::iter::once(&r.label).chain(&r.cells).map(String::as_str).collect());
        }
    }
    out.push('\n');
    for b in &o.bars {
        let _ = writeln!(
            out,
            "  {:6} {}: {} (bar: {})",
            if b.met { "ok" } else { "MISSED" },
            b.what,
            b.measured,
            b.bar
        );
    }
    for n in &o.notes {
        let _ = writeln!(out, "  note: {n}");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The page and the plots are those of the outcomes beside them, and nothing else lies there.
    #[test]
    fn the_documents_are_what_the_figures_make() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let Ok(kept) = fs::read_dir(docs.join("bench")) else {
            assert!(!docs.join("benchmarks.md").exists(), "a page without figures");
            return;
        };
        let made = render(&docs).unwrap();
        for (path, text) in &made {
            let kept = fs::read_to_string(docs.join(path)).unwrap_or_default();
            assert!(
                kept == *text,
                "docs/{path} is not what docs/bench/*.json make: run `cargo xtask bench --write`"
            );
        }
        for entry in kept {
            let name = format!("bench/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(name.ends_with(".json") || made.contains_key(&name), "docs/{name} is of no bench");
        }
    }
}
