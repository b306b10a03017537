//! What other modules find, in the words of the contract. Conversions only.

use std::error::Error;

use super::{
    ApiError,
    types::{Change, ChangeOp, CheckReply, CheckStatus, DoctorCheck, DoctorReport, Problem, SourceText},
};
use crate::{
    compile::{About, CompileError},
    config, doctor,
};

impl From<SourceText> for config::Source {
    fn from(s: SourceText) -> Self {
        Self::new(s.name, s.text)
    }
}

impl From<&config::Problem> for Problem {
    fn from(p: &config::Problem) -> Self {
        let help = match (&p.expected, &p.help) {
            (Some(e), Some(h)) => Some(format!("{e}; {h}")),
            (one, other) => one.clone().or_else(|| other.clone()),
        };
        Self {
            file: Some(p.file.clone()),
            line: Some(p.line),
            column: Some(p.column),
            message: p.message.clone(),
            help,
            snippet: Some(p.snippet.clone()),
            rendered: Some(p.render(false)),
        }
    }
}

/// Every error of a document, as the reply that refuses it.
impl From<&config::Problems> for ApiError {
    fn from(p: &config::Problems) -> Self {
        Self::invalid(problems(p))
    }
}

/// What the compiler refuses, where it stands in the documents.
pub fn refused(errors: &[CompileError], places: &config::Places) -> Vec<Problem> {
    let one = |e: &CompileError| {
        let spot = match e.about() {
            Some(About::Service(name)) => places.service(name),
            Some(About::Rule(name)) => places.rule(name),
            None => None,
        };
        match spot {
            Some(spot) => Problem::from(&spot.error(e.to_string(), e.help())),
            None => Problem { help: Some(e.help().into()), ..Problem::note(e.to_string()) },
        }
    };
    let shown = errors.len().min(config::limits::PROBLEMS);
    with_omitted(errors[..shown].iter().map(one).collect(), errors.len() - shown)
}

/// The answer to `gray validate`, of a document that is not compiled.
impl From<Result<config::Loaded, config::Problems>> for CheckReply {
    fn from(loaded: Result<config::Loaded, config::Problems>) -> Self {
        let all = |from: &[config::Problem]| from.iter().map(Problem::from).collect();
        match loaded {
            Ok(good) => Self { valid: true, problems: Vec::new(), warnings: all(&good.warnings) },
            Err(bad) => Self { valid: false, problems: problems(&bad), warnings: all(&bad.warnings) },
        }
    }
}

fn problems(p: &config::Problems) -> Vec<Problem> {
    with_omitted(p.errors.iter().map(Problem::from).collect(), p.omitted)
}

fn with_omitted(mut shown: Vec<Problem>, omitted: usize) -> Vec<Problem> {
    if omitted > 0 {
        shown.push(Problem::note(format!("{omitted} more problems are not shown")));
    }
    shown
}

impl From<config::Change> for Change {
    fn from(c: config::Change) -> Self {
        let op = match c.change {
            config::ChangeKind::Added => ChangeOp::Add,
            config::ChangeKind::Removed => ChangeOp::Remove,
            config::ChangeKind::Changed => ChangeOp::Change,
        };
        let name = match c.service {
            Some(service) => format!("{} of {service}", c.name),
            None => c.name,
        };
        Self { op, kind: c.what.to_string(), name, detail: c.detail }
    }
}

impl From<Vec<doctor::Check>> for DoctorReport {
    fn from(checks: Vec<doctor::Check>) -> Self {
        let one = |c: doctor::Check| DoctorCheck {
            name: c.name,
            status: match c.status {
                doctor::Status::Ok => CheckStatus::Ok,
                doctor::Status::Warn => CheckStatus::Warn,
                doctor::Status::Fail => CheckStatus::Fail,
            },
            detail: c.detail,
            fix: c.fix,
        };
        Self { checks: checks.into_iter().map(one).collect() }
    }
}

/// An error and its causes in one line, each cause once.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors print their source themselves.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_keep_their_place_and_their_picture_d4() {
        let text = "services:\n  shop:\n    lisen: []\n";
        let bad = config::load(&[config::Source::new("p.yaml", text)]);
        let reply = CheckReply::from(bad);
        let unknown = reply.problems.iter().find(|p| p.message.contains("lisen")).unwrap();
        assert!(!reply.valid);
        assert_eq!(
            (unknown.file.as_deref(), unknown.line, unknown.column),
            (Some("p.yaml"), Some(3), Some(5))
        );
        assert!(unknown.rendered.as_deref().unwrap().contains("lisen: []"), "{unknown:?}");
    }
}
