//! What became of one act of the request path. Plain data: the table and the JSON are made of it.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(in super::super) struct Act {
    pub name: String,
    /// What a person would have typed, or written into the policy.
    pub command: String,
    pub right: bool,
    /// What was looked at, and how much of it was as it should be.
    pub looked_at: u64,
    pub as_expected: u64,
    /// What came, a line each.
    pub shown: Vec<String>,
    /// What is wrong, in words; the first few.
    pub details: Vec<String>,
}

const DETAILS: usize = 5;

impl Act {
    pub fn new(name: &str, command: &str) -> Self {
        Self {
            name: name.into(),
            command: command.into(),
            right: false,
            looked_at: 0,
            as_expected: 0,
            shown: Vec::new(),
            details: Vec::new(),
        }
    }

    pub fn shows(&mut self, line: String) {
        self.shown.push(line);
    }

    pub fn expect(&mut self, right: bool, wrong: impl FnOnce() -> String) {
        self.expect_all(u64::from(right), 1, wrong);
    }

    /// So many of so many are as they should be.
    pub fn expect_all(&mut self, right: u64, all: u64, wrong: impl FnOnce() -> String) {
        self.looked_at += all;
        self.as_expected += right;
        self.right = self.looked_at > 0 && self.looked_at == self.as_expected;
        if right != all && self.details.len() < DETAILS {
            self.details.push(wrong());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_wrong_is_wrong() {
        let mut act = Act::new("a", "");
        assert!(!act.right, "nothing was looked at");
        act.expect_all(7, 7, String::new);
        assert!(act.right);
        act.expect(false, || "no".into());
        act.expect(true, String::new);
        assert_eq!((act.right, act.looked_at, act.as_expected, act.details.len()), (false, 9, 8, 1));
    }
}
