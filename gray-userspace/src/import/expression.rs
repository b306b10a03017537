//! Conditions of rules, a small part of Spring's expression language, -> ours: `#H['user'] == '7' && #H['os'] != 'ios'`.
//! What is beyond that is refused with a reason, never guessed.

use crate::{config::limits::CONDITION_DEPTH, model::Condition};

/// Makes a condition of a name and what its value must be; `Err`: why it cannot.
pub(super) type Asks<'a> = dyn FnMut(&str, &str) -> Result<Condition, String> + 'a;

pub(super) fn read(text: &str, asks: &mut Asks<'_>) -> Result<Condition, String> {
    let mut p = Parser { rest: text, asks, depth: 0 };
    let found = p.any()?;
    match p.rest.trim_start() {
        "" => Ok(found),
        rest => Err(format!("cannot read `{}` of it", super::shown(rest))),
    }
}

struct Parser<'a, 'f> {
    rest: &'a str,
    asks: &'a mut Asks<'f>,
    depth: usize,
}

impl<'a> Parser<'a, '_> {
    fn any(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.all()?];
        while self.take("||") || self.word("or") {
            parts.push(self.all()?);
        }
        Ok(joined(parts, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.one()?];
        while self.take("&&") || self.word("and") {
            parts.push(self.one()?);
        }
        Ok(joined(parts, Condition::All))
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        let found = self.inner();
        self.depth -= 1;
        found
    }

    fn inner(&mut self) -> Result<Condition, String> {
        if self.depth > CONDITION_DEPTH {
            return Err(format!("it is nested more than {CONDITION_DEPTH} deep"));
        }
        if self.begins("!=") {
            return Err("an operator without its left side".to_owned());
        }
        if self.take("!") || self.word("not") {
            return Ok(Condition::Not(Box::new(self.one()?)));
        }
        if self.take("(") {
            let found = self.any()?;
            return if self.take(")") { Ok(found) } else { Err("a bracket is not closed".to_owned()) };
        }
        self.comparison()
    }

    /// `#H['a'] == '1'`, `!=`, `.equals('1')`, `.startsWith('1')`.
    fn comparison(&mut self) -> Result<Condition, String> {
        let name = self.variable()?;
        for (call, end) in [(".equals(", ""), (".equalsIgnoreCase(", "?"), (".startsWith(", "*"), (".", "?")]
        {
            if self.take(call) {
                if end == "?" {
                    return Err("of methods only equals and startsWith have a counterpart".to_owned());
                }
                let value = self.value()?;
                if !self.take(")") {
                    return Err("a bracket is not closed".to_owned());
                }
                return (self.asks)(name, &format!("{value}{end}"));
            }
        }
        if self.take("==") || self.word("eq") {
            let value = self.value()?;
            return (self.asks)(name, value);
        }
        if self.take("!=") || self.word("ne") {
            let value = self.value()?;
            return Ok(Condition::Not(Box::new((self.asks)(name, value)?)));
        }
        if ["<", ">", "matches", "lt", "gt", "le", "ge", "between"].iter().any(|o| self.begins(o)) {
            return Err("values are equal or not: there is no larger, smaller or matching".to_owned());
        }
        Err(format!("no comparison with `{}`", super::shown(name)))
    }

    fn variable(&mut self) -> Result<&'a str, String> {
        let known = ["#H", "#P", "#C"].iter().any(|v| self.take(v));
        if !known || !self.take("[") {
            return Err(format!("no variable like #H['name'] at `{}`", super::shown(self.rest.trim_start())));
        }
        let name = self.value()?;
        if self.take("]") { Ok(name) } else { Err("a bracket is not closed".to_owned()) }
    }

    /// In quotes, or a number.
    fn value(&mut self) -> Result<&'a str, String> {
        let rest = self.rest.trim_start();
        if let Some(quote @ ('\'' | '"')) = rest.chars().next() {
            let (value, more) =
                rest[1..].split_once(quote).ok_or_else(|| "a quote is not closed".to_owned())?;
            self.rest = more;
            return Ok(value);
        }
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (value, more) = rest.split_at(end);
        if value.is_empty() {
            return Err(format!("no value in quotes at `{}`", super::shown(rest)));
        }
        self.rest = more;
        Ok(value)
    }

    fn begins(&self, what: &str) -> bool {
        self.rest.trim_start().starts_with(what)
    }

    fn take(&mut self, what: &str) -> bool {
        let found = self.rest.trim_start().strip_prefix(what);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    /// Not the beginning of a longer word; in any case, as the language has it.
    fn word(&mut self, what: &str) -> bool {
        let rest = self.rest.trim_start();
        let Some(head) = rest.get(..what.len()).filter(|h| h.eq_ignore_ascii_case(what)) else {
            return false;
        };
        let more = &rest[head.len()..];
        let whole = !more.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if whole {
            self.rest = more;
        }
        whole
    }
}

fn joined(mut parts: Vec<Condition>, many: impl Fn(Vec<Condition>) -> Condition) -> Condition {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}
