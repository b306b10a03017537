//! Aligned columns without borders, and the few colours. Knows nothing of what it prints.

use std::fmt::Write;

/// Whether to colour.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Plain,
    Bold,
    Good,
    Warn,
    Bad,
    Dim,
}

impl Paint {
    pub fn text(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if !self.0 => return text.to_string(),
            Style::Plain => return text.to_string(),
            Style::Bold => "1",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
            Style::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    style: Style,
    /// Numbers stand on the right.
    right: bool,
}

impl Cell {
    pub fn styled(style: Style, text: impl Into<String>) -> Self {
        Self { style, ..Self::from(text.into()) }
    }
}

/// Names come from documents and other nodes: a control character must not reach the terminal.
impl From<String> for Cell {
    fn from(text: String) -> Self {
        let text = if text.is_empty() { "-".into() } else { text };
        Self { text: text.replace(char::is_control, "?"), style: Style::Plain, right: false }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(|| "-".into(), Into::into)
    }
}

macro_rules! numbers {
    ($($t:ty),*) => { $(impl From<$t> for Cell {
        fn from(n: $t) -> Self { Self { right: true, ..Self::from(n.to_string()) } }
    })* }
}
numbers!(u16, u32, u64);

/// Rows under a head.
#[derive(Debug, Default)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.head.len());
        self.rows.push(cells.into());
    }

    /// The same, of columns that were picked.
    pub fn cells(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.head.len());
        self.rows.push(cells);
    }

    /// The table, or one line that says there is none of `what`.
    pub fn render(&self, paint: Paint, what: &str) -> String {
        if self.rows.is_empty() {
            return format!("no {what}\n");
        }
        let columns: Vec<(usize, bool)> = (0..self.head.len()).map(|i| self.column(i)).collect();
        let mut out = String::new();
        let head = self.head.iter().map(|h| Cell::styled(Style::Bold, *h)).collect::<Vec<_>>();
        for row in std::iter::once(&head).chain(&self.rows) {
            line(&mut out, row, &columns, paint);
        }
        out
    }

    /// Width in characters, and whether all of its cells are numbers.
    fn column(&self, i: usize) -> (usize, bool) {
        let cells = self.rows.iter().filter_map(|r| r.get(i));
        let width = cells.clone().map(|c| c.text.chars().count()).max().unwrap_or(0);
        let right = cells.clone().any(|c| c.right) && cells.clone().all(|c| c.right || c.text == "-");
        (width.max(self.head[i].chars().count()), right)
    }
}

fn line(out: &mut String, row: &[Cell], columns: &[(usize, bool)], paint: Paint) {
    let mut padding = 0;
    for (i, (cell, (width, right))) in row.iter().zip(columns).enumerate() {
        // Padding is written when something follows it: lines have no blanks at their end.
        let gap = padding + if i > 0 { 2 } else { 0 };
        let missing = width - cell.text.chars().count();
        let (before, after) = if *right { (missing, 0) } else { (0, missing) };
        let _ = write!(out, "{:1$}", "", gap + before);
        out.push_str(&paint.text(cell.style, &cell.text));
        padding = after;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut t = Table::new(&["NAME", "SIZE", "NOTE"]);
        t.row(["a".into(), 5u64.into(), Cell::styled(Style::Good, "ok")]);
        t.row(["longer ü".into(), 12_345u64.into(), "".into()]);
        t.row(["x\x1b[2J".into(), Option::<u64>::None.into(), Cell::default()]);
        t
    }

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let want = "NAME       SIZE  NOTE\n\
                    a             5  ok\n\
                    longer ü  12345  -\n\
                    x?[2J         -  \n";
        assert_eq!(sample().render(Paint(false), "things"), want);
    }

    #[test]
    fn colour_changes_no_alignment() {
        let colored = sample().render(Paint(true), "things");
        assert!(colored.contains("\x1b[32mok\x1b[0m") && colored.contains("\x1b[1mNAME\x1b[0m"));
        let mut plain = colored;
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[32m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, sample().render(Paint(false), "things"));
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["A"]).render(Paint(false), "flows"), "no flows\n");
    }
}
