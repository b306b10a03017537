//! What one bench found: plain data, JSON both ways. The report is made of it, on this machine or another.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::machine::Machine;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Name on the command line and of the file.
    pub name: String,
    pub title: String,
    /// How it was measured, in a paragraph of Markdown.
    pub how: String,
    pub tables: Vec<Table>,
    pub bars: Vec<Bar>,
    pub plots: Vec<Plot>,
    /// What a reader must know beside the figures, a paragraph each.
    pub notes: Vec<String>,
    /// A short run: its figures mean little.
    pub quick: bool,
    pub seconds: f64,
    #[serde(default)]
    pub machine: Machine,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    /// Heads of the columns; the first is of the rows' labels.
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub label: String,
    /// As they are printed, one for each column but the first.
    pub cells: Vec<String>,
    /// The same in full, with names and units for programs: `ns_median`, `ratio_low` ...
    pub values: BTreeMap<String, f64>,
}

/// A promise, and whether it was kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    pub what: String,
    /// `>= 0.97`.
    pub bar: String,
    /// `0.981 (0.972 .. 0.990)`.
    pub measured: String,
    pub met: bool,
}

/// A drawing: lines of points, or bars with an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// Name of the file, without its ending.
    pub name: String,
    pub title: String,
    pub x: String,
    pub y: String,
    pub series: Vec<Series>,
    /// Empty: the points have numbers for x. Else the label of each x = 0, 1, 2 ..., drawn as bars.
    pub categories: Vec<String>,
    pub log_x: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    pub points: Vec<Point>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// The interval around `y`; both equal to it: none.
    pub low: f64,
    pub high: f64,
}

impl Outcome {
    pub fn new(name: &str, title: &str) -> Self {
        Self { name: name.into(), title: title.into(), ..Self::default() }
    }

    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let path = dir.join(format!("{}.json", self.name));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}
