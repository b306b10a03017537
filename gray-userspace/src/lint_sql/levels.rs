//! A file that sets rules to other levels:
//!
//! ```yaml
//! rules:
//!   drop-index: warn
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::rules::{Level, Rule};

/// The level of each rule: its own, or the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels(BTreeMap<Rule, Level>);

/// Something wrong in the file, at a line (from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub line: u32,
    pub column: u32,
    pub what: String,
    pub help: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rules: BTreeMap<String, Spanned<String>>,
}

impl Levels {
    pub fn of(&self, rule: Rule) -> Level {
        self.0.get(&rule).copied().unwrap_or_else(|| rule.level())
    }

    /// # Errors
    /// Every unknown rule and level; or the one place where it is no YAML, or has other keys.
    pub fn parse(text: &str) -> Result<Self, Vec<Wrong>> {
        let bare = text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'));
        let file = if bare {
            File::default()
        } else {
            serde_saphyr::from_str(text).map_err(|e| vec![unreadable(e)])?
        };
        let (mut levels, mut wrong) = (BTreeMap::new(), Vec::new());
        for (name, level) in &file.rules {
            match (rule(name), level_of(&level.value)) {
                (Ok(rule), Ok(level)) => {
                    let _ = levels.insert(rule, level);
                }
                (rule, value) => {
                    let at = |(what, help)| Wrong {
                        line: level.referenced.line() as u32,
                        column: level.referenced.column() as u32,
                        what,
                        help,
                    };
                    wrong.extend(rule.err().map(at));
                    wrong.extend(value.err().map(at));
                }
            }
        }
        wrong.sort_by_key(|w| (w.line, w.column));
        if wrong.is_empty() { Ok(Self(levels)) } else { Err(wrong) }
    }
}

fn rule(name: &str) -> Result<Rule, (String, String)> {
    if let Some(rule) = Rule::ALL.iter().find(|r| r.name() == name) {
        return Ok(*rule);
    }
    let shown: String = name.chars().take(60).filter(|c| !c.is_control()).collect();
    let near = Rule::ALL.iter().map(|r| (strsim::jaro(r.name(), &shown), r.name()));
    let near = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(d, _)| *d > 0.75);
    let help = match near {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => "docs/lint-sql.md lists the rules".into(),
    };
    Err((format!("`{shown}` is no rule"), help))
}

fn level_of(text: &str) -> Result<Level, (String, String)> {
    let found = Level::ALL.into_iter().find(|l| l.name() == text);
    let shown: String = text.chars().take(60).filter(|c| !c.is_control()).collect();
    found.ok_or_else(|| (format!("`{shown}` is no level"), "expected ok, warn or refuse".into()))
}

fn unreadable(e: serde_saphyr::Error) -> Wrong {
    let e = e.without_snippet();
    let (line, column) = e.location().map_or((1, 1), |l| (l.line() as u32, l.column() as u32));
    let text = e.to_string();
    let what = text.lines().next().unwrap_or_default();
    let what = what.split(" at line ").next().unwrap_or(what).replace(char::is_control, " ");
    Wrong { line, column, what, help: "expected `rules:` and under it `NAME: ok`, `warn` or `refuse`".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_a_file_replace_those_of_the_rules() {
        let levels = Levels::parse("# ours\nrules:\n  drop-index: warn\n  create-view: refuse\n").unwrap();
        assert_eq!(levels.of(Rule::DropIndex), Level::Warn);
        assert_eq!(levels.of(Rule::CreateView), Level::Refuse);
        assert_eq!(levels.of(Rule::DropTable), Level::Refuse);
        assert_eq!(Levels::parse("# nothing\n"), Ok(Levels::default()));
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_place() {
        let said = |text: &str| -> Vec<String> {
            let wrong = Levels::parse(text).unwrap_err();
            wrong.iter().map(|w| format!("{}: {}; {}", w.line, w.what, w.help)).collect()
        };
        let two = said("rules:\n  drop-idnex: warn\n  drop-table: allow\n");
        assert_eq!(
            two,
            [
                "2: `drop-idnex` is no rule; did you mean `drop-index`?",
                "3: `allow` is no level; expected ok, warn or refuse"
            ]
        );
        for broken in ["rule:\n  a: b\n", "[1]\n", "rules: [", "rules:\n  a: [1]\n"] {
            assert_eq!(said(broken).len(), 1, "{broken}");
        }
    }
}
