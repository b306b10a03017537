//! Where what has a name stands in the documents, for who finds something wrong with it later than here. Must not judge anything.

use std::collections::HashMap;

use super::{
    check::Drafts,
    problem::{Problem, Severity},
    report::{Report, Span, clean},
};
use crate::model::Route;

/// The places of a policy's services, routes, lanes and entries of `accept`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    services: HashMap<String, Spot>,
    /// By the names that rules are counted under, without their service.
    rules: HashMap<String, Spot>,
}

/// A place, and the text there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    file: String,
    line: u32,
    column: u32,
    snippet: String,
    underline: (u32, u32),
}

impl Spot {
    pub(super) fn new(report: &Report<'_>, at: Span) -> Self {
        let (file, snippet, underline) = report.seen(at);
        Self { file, line: at.line, column: at.column, snippet, underline }
    }

    /// An error here.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            message: clean(message.into()),
            expected: None,
            help: Some(clean(help.into())),
            snippet: self.snippet.clone(),
            underline: self.underline,
            also: Vec::new(),
        }
    }
}

impl Places {
    pub(super) fn of(drafts: &Drafts, routes: &[(Route, Span)], report: &Report<'_>) -> Self {
        let mut out = Self::default();
        for s in &drafts.services {
            let name = &s.name.value;
            for (n, accept) in s.accept.iter().enumerate() {
                let spot = Spot::new(report, accept.from.span);
                let _ = out.rules.insert(format!("{name}/accept-{}", n + 1), spot);
            }
            let _ = out.services.insert(name.clone(), Spot::new(report, s.name.span));
        }
        for l in &drafts.lanes {
            let _ = out.rules.insert(format!("lane/{}", l.name.value), Spot::new(report, l.name.span));
        }
        for (route, span) in routes {
            let _ = out.rules.insert(route.name.clone(), Spot::new(report, *span));
        }
        out
    }

    /// An entry of `accept` is a service, too.
    pub fn service(&self, name: &str) -> Option<&Spot> {
        self.services.get(name).or_else(|| self.rules.get(name))
    }

    /// By the name of a route, `lane/NAME`, `shop/accept-1`; what else is named after a service (`n-d/used@shop`) stands there.
    pub fn rule(&self, name: &str) -> Option<&Spot> {
        self.rules.get(name).or_else(|| self.services.get(name.rsplit_once('@')?.1))
    }
}
