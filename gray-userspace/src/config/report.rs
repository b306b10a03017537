//! Collects problems while documents are read: turns byte spans into lines, columns and snippets.
//! Must not judge anything itself.

use std::collections::HashSet;

use super::{
    Source, limits,
    problem::{Place, Problem, Problems, Severity},
};

/// Where something stands: file index, byte range, line (from 1), column (from 1, characters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub file: u32,
    pub line: u32,
    pub column: u32,
    pub start: u32,
    pub end: u32,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Span,
}

/// A problem before its place is looked up.
pub(super) struct Draft {
    at: Span,
    message: String,
    expected: Option<String>,
    help: Option<String>,
    also: Vec<(Span, String)>,
}

impl Draft {
    pub(super) fn new(at: Span, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), expected: None, help: None, also: Vec::new() }
    }

    pub(super) fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    pub(super) fn help_if(self, text: Option<impl Into<String>>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    pub(super) fn also(mut self, at: Span, note: impl Into<String>) -> Self {
        self.also.push((at, note.into()));
        self
    }
}

pub(super) struct Report<'s> {
    sources: &'s [Source],
    errors: Vec<(Span, Problem)>,
    warnings: Vec<(Span, Problem)>,
    omitted: usize,
    /// A file could not be read to its end: names that seem unknown may stand in it.
    pub incomplete: bool,
}

impl<'s> Report<'s> {
    pub(super) fn new(sources: &'s [Source]) -> Self {
        Self { sources, errors: Vec::new(), warnings: Vec::new(), omitted: 0, incomplete: false }
    }

    pub(super) fn error(&mut self, draft: Draft) {
        if self.errors.len() >= limits::PROBLEMS {
            self.omitted += 1;
            return;
        }
        let item = (draft.at, self.problem(Severity::Error, draft));
        self.errors.push(item);
    }

    pub(super) fn warning(&mut self, draft: Draft) {
        if self.warnings.len() < limits::PROBLEMS {
            let item = (draft.at, self.problem(Severity::Warning, draft));
            self.warnings.push(item);
        }
    }

    /// Errors so far: "did this part add any" is how readers know that a part is whole.
    pub(super) fn errors(&self) -> usize {
        self.errors.len() + self.omitted
    }

    /// `Ok(warnings)` when nothing is wrong.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let (errors, warnings) = (in_order(self.errors), in_order(self.warnings));
        if errors.is_empty() {
            return Ok(warnings);
        }
        Err(Problems { errors, warnings, omitted: self.omitted })
    }

    fn problem(&self, severity: Severity, draft: Draft) -> Problem {
        let Draft { at, message, expected, help, also } = draft;
        let (file, snippet, underline) = self.seen(at);
        Problem {
            severity,
            file,
            line: at.line,
            column: at.column,
            message: clean(message),
            expected: expected.map(clean),
            help: help.map(clean),
            snippet,
            underline,
            also: also
                .into_iter()
                .map(|(s, note)| Place {
                    file: self.file(s),
                    line: s.line,
                    column: s.column,
                    note: clean(note),
                })
                .collect(),
        }
    }

    /// File, line of text, and what is underlined in it.
    pub(super) fn seen(&self, at: Span) -> (String, String, (u32, u32)) {
        let (text, underline) = snippet(self.text(at), at);
        (self.file(at), text, underline)
    }

    fn file(&self, at: Span) -> String {
        self.sources.get(at.file as usize).map_or_else(String::new, |s| s.name.clone())
    }

    fn text(&self, at: Span) -> &'s str {
        self.sources.get(at.file as usize).map_or("", |s| s.text.as_str())
    }
}

/// Sorted by place; an alias makes the same problem come twice, it is told once.
fn in_order(mut found: Vec<(Span, Problem)>) -> Vec<Problem> {
    found.sort_by_key(|(span, _)| *span);
    let mut seen = HashSet::new();
    found.retain(|(span, p)| seen.insert((span.file, span.start, p.message.clone())));
    found.into_iter().map(|(_, p)| p).collect()
}

/// Characters shown before and after the place when the line is longer.
const BEFORE: usize = 60;
const AFTER: usize = 80;

/// The line around a span, at most `BEFORE + AFTER` characters: a one-line document of 64 MiB must not be
/// scanned for each problem. Control characters are replaced, so that a document cannot drive the terminal.
fn snippet(text: &str, at: Span) -> (String, (u32, u32)) {
    let start = text.floor_char_boundary(at.start as usize);
    let end = text.floor_char_boundary((at.end as usize).max(start));
    let (head, tail) = text.split_at(start);
    let mut before: Vec<char> = head.chars().rev().take(BEFORE + 1).take_while(|c| *c != '\n').collect();
    before.reverse();
    if before.len() > BEFORE {
        before[0] = '…';
    }
    let mut after: Vec<char> = tail.chars().take(AFTER + 1).take_while(|c| *c != '\n').collect();
    let cut = after.len() > AFTER;
    while !cut && after.last().is_some_and(|c| c.is_whitespace()) {
        let _ = after.pop();
    }
    let mut marked = text[start..end].chars().take(after.len()).count().min(after.len());
    if cut {
        after[AFTER] = '…';
        marked = marked.min(AFTER);
    }
    let underline = (u32::try_from(before.len()).unwrap_or(0), u32::try_from(marked.max(1)).unwrap_or(1));
    (before.into_iter().chain(after).map(visible).collect(), underline)
}

/// What is said of a document may quote it.
pub(super) fn clean(said: String) -> String {
    if said.contains(char::is_control) { said.chars().map(visible).collect() } else { said }
}

fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// User text as messages quote it: short, in backquotes, nothing that drives a terminal.
pub(super) fn quoted(text: &str) -> String {
    let mut out: String = text.chars().take(60).map(visible).collect();
    if out.len() < text.len() && text.chars().nth(60).is_some() {
        out.push('…');
    }
    format!("`{out}`")
}

/// The candidate that was probably meant.
pub(super) fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if text.len() > 2 * limits::NAME_CHARS {
        return None; // the distance costs the product of both lengths
    }
    let text = text.to_lowercase().replace('_', "-");
    let far = (text.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&text, &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= far)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// `did you mean ...?` for the nearest candidate.
pub(super) fn did_you_mean<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(text, candidates).map(|c| format!("did you mean `{c}`?"))
}
