//! What became of each test in a guest, compared with what `tests/vm/expected.txt` says of that kernel. A skip that nobody
//! expects, an expected one that does not happen and an expected failure that passes are faults, too.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// With its reason.
    Skipped(String),
}

/// By `binary::path::of::test`.
pub type Outcomes = BTreeMap<String, Outcome>;

/// Reads gray-lab-guest's lines `@test NAME passed|failed|skipped SECONDS [REASON]`; `None` for others.
pub fn parse(line: &str) -> Option<(String, Outcome)> {
    let mut words = line.strip_prefix("@test ")?.splitn(4, ' ');
    let (name, what, _seconds) = (words.next()?, words.next()?, words.next()?);
    let outcome = match what {
        "passed" => Outcome::Passed,
        "skipped" => Outcome::Skipped(words.next().unwrap_or("").to_string()),
        _ => Outcome::Failed,
    };
    Some((name.to_string(), outcome))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Skip,
    Fail,
}

/// The expectations of one kernel.
#[derive(Debug, Default)]
pub struct Expected(BTreeMap<String, Verb>);

impl Expected {
    pub fn read(file: &Path, kernel: &str) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Self::parse(&text, kernel).with_context(|| file.display().to_string())
    }

    /// Lines `KERNEL skip|fail TEST REASON`, `*` for every kernel; `#` begins a comment.
    fn parse(text: &str, kernel: &str) -> Result<Self> {
        let mut out = BTreeMap::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("");
            let words: Vec<&str> = line.split_whitespace().collect();
            let (of, verb, test) = match words[..] {
                [] => continue,
                [of, "skip", test, _, ..] => (of, Verb::Skip, test),
                [of, "fail", test, _, ..] => (of, Verb::Fail, test),
                _ => bail!("line {}: not `KERNEL skip|fail TEST REASON`", n + 1),
            };
            if of == kernel || of == "*" {
                let _ = out.insert(test.to_string(), verb);
            }
        }
        Ok(Self(out))
    }

    /// What is not as it should be, a line each. `all`: no filter kept tests from running.
    pub fn faults(&self, got: &Outcomes, all: bool) -> Vec<String> {
        let mut faults = Vec::new();
        for (test, outcome) in got {
            match (outcome, self.0.get(test)) {
                (Outcome::Passed, None)
                | (Outcome::Skipped(_), Some(Verb::Skip))
                | (Outcome::Failed, Some(Verb::Fail)) => {}
                (Outcome::Failed, _) => faults.push(format!("{test}: failed")),
                (Outcome::Skipped(why), _) => {
                    faults.push(format!("{test}: skipped, which nobody expects: {why}"))
                }
                (Outcome::Passed, Some(Verb::Skip)) => {
                    faults.push(format!("{test}: passed, expected to be skipped"))
                }
                (Outcome::Passed, Some(Verb::Fail)) => {
                    faults.push(format!("{test}: passed, expected to fail"))
                }
            }
        }
        for test in self.0.keys().filter(|t| all && !got.contains_key(*t)) {
            faults.push(format!("{test}: expected, but there is no such test"));
        }
        faults
    }
}

/// `12 passed, 3 skipped, 0 failed`.
pub fn summary(got: &Outcomes) -> String {
    let count = |f: fn(&Outcome) -> bool| got.values().filter(|o| f(o)).count();
    let passed = count(|o| *o == Outcome::Passed);
    let failed = count(|o| *o == Outcome::Failed);
    format!("{passed} passed, {} skipped, {failed} failed", got.len() - passed - failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str =
        "# comment\n6.1 skip a::x no tcx\n* fail a::y  why it does # more\n6.12 skip a::z reason\n";

    fn faults(lines: &[&str], all: bool) -> Vec<String> {
        let got = lines.iter().filter_map(|l| parse(l)).collect();
        Expected::parse(LINES, "6.1").unwrap().faults(&got, all)
    }

    #[test]
    fn as_expected_is_no_fault() {
        let lines =
            ["noise", "@test a::x skipped 0.1 no tcx", "@test a::y failed 2.0", "@test a::z passed 1.0"];
        assert_eq!(faults(&lines, true), Vec::<String>::new());
        assert_eq!(faults(&lines[3..], false), Vec::<String>::new());
    }

    #[test]
    fn every_surprise_is_a_fault() {
        let lines = [
            "@test a::x passed 0.1",
            "@test a::y passed 2.0",
            "@test a::z skipped 1.0 so",
            "@test a::w failed 1.0",
        ];
        let f = faults(&lines, true).join("\n");
        for part in [
            "a::x: passed, ex",
            "a::y: passed, ex",
            "a::z: skipped, which nobody expects: so",
            "a::w: failed",
        ] {
            assert!(f.contains(part), "{f}");
        }
        assert!(faults(&lines[1..], true).iter().any(|l| l.starts_with("a::x: expected, but")));
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert!(Expected::parse("6.1 skip a::x\n", "6.1").is_err());
        assert!(Expected::parse("6.1 ignore a::x why\n", "6.1").is_err());
    }
}
