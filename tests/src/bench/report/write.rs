//! The documents: outcomes are kept beside the plots in `docs/bench`, and the page is rendered from what is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{markdown, svg};
use crate::bench::{BENCHES, Outcome};

/// Takes the outcomes in `from` over into `docs/bench` and renders everything that is kept there. Returns the names of what
/// was taken. Nothing is written when one of them is of a short run.
pub fn write(from: &Path, docs: &Path) -> Result<Vec<String>> {
    let fresh = load(from)?;
    ensure!(!fresh.is_empty(), "{} holds no outcomes: run `cargo xtask bench` first", from.display());
    if let Some(o) = fresh.iter().find(|o| o.quick) {
        bail!("{} is of a quick run, whose figures mean little: run `cargo xtask bench {}`", o.name, o.name);
    }
    let kept = docs.join("bench");
    for o in &fresh {
        o.save(&kept)?;
    }
    for (path, text) in render(docs)? {
        fs::write(docs.join(&path), text).with_context(|| path.clone())?;
    }
    Ok(fresh.into_iter().map(|o| o.name).collect())
}

/// The files below `docs` that the outcomes kept there make, with their text.
pub fn render(docs: &Path) -> Result<BTreeMap<String, String>> {
    let outcomes = load(&docs.join("bench"))?;
    let mut files = BTreeMap::new();
    for plot in outcomes.iter().flat_map(|o| &o.plots) {
        let twice = files.insert(format!("bench/{}.svg", plot.name), svg::render(plot));
        ensure!(twice.is_none(), "two plots are named {}", plot.name);
    }
    let _ = files.insert("benchmarks.md".into(), markdown::page(&outcomes));
    Ok(files)
}

/// In the order in which benches run; what is no bench any more comes last.
fn load(dir: &Path) -> Result<Vec<Outcome>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            found.push(Outcome::load(&path)?);
        }
    }
    let place = |o: &Outcome| BENCHES.iter().position(|b| b.name == o.name).unwrap_or(usize::MAX);
    found.sort_by_key(|o| (place(o), o.name.clone()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_figures_are_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (from, docs) = (dir.path().join("from"), dir.path().join("docs"));
        assert!(write(&from, &docs).unwrap_err().to_string().contains("no outcomes"));
        Outcome { quick: true, ..Outcome::new("http", "x") }.save(&from).unwrap();
        Outcome::new("connect", "y").save(&from).unwrap();
        let e = write(&from, &docs).unwrap_err().to_string();
        assert!(e.contains("http is of a quick run") && !docs.exists(), "{e}");
    }

    #[test]
    fn outcomes_that_were_kept_stay_on_the_page() {
        let dir = tempfile::tempdir().unwrap();
        let (from, docs) = (dir.path().join("from"), dir.path().join("docs"));
        Outcome::new("connect", "Kept before").save(&docs.join("bench")).unwrap();
        Outcome::new("http", "Fresh").save(&from).unwrap();
        assert_eq!(write(&from, &docs).unwrap(), ["http"]);
        let page = fs::read_to_string(docs.join("benchmarks.md")).unwrap();
        assert!(page.find("## Fresh") < page.find("## Kept before"), "{page}");
    }
}
