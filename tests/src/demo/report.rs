//! What the demo found, as plain data: the table and the JSON are made of it. JSON field names are for scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::engine::Release;
use super::requests::Act;
use crate::client;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub right: bool,
    pub verdict: String,
    pub requests: u64,
    pub failures: u64,
    pub elapsed_ms: u64,
    pub steps: Vec<Step>,
    /// Clients by what their requests say, and a chain of services.
    pub request_path: Vec<Act>,
    /// By the engine: one that comes to its end, one that is taken back.
    pub releases: Vec<Release>,
    pub curl: Option<Curl>,
    /// What `gray uninstall` left; one line each.
    pub left_behind: Vec<String>,
}

/// One act and the traffic after (or during) it.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub name: String,
    /// What a person would have typed; empty when nothing was.
    pub command: String,
    pub right: bool,
    pub rows: Vec<Row>,
}

/// One kind of client over one path and family.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// `clients` or `callers`.
    pub who: &'static str,
    /// `packet` or `connect`.
    pub path: &'static str,
    pub family: &'static str,
    /// Different identities.
    pub identities: u64,
    /// Those of them that should reach 2.0.
    pub expected_identities: u64,
    pub requests: u64,
    pub reached_1: u64,
    pub reached_2: u64,
    /// Requests that should reach 2.0.
    pub expected_2: u64,
    /// `expected_2` and `reached_2` of all answers, 0..=1.
    pub expected_share: f64,
    pub share: f64,
    pub failures: u64,
    /// Good answers by a version that this identity should not reach.
    pub misplaced: u64,
    /// Identities without an answer.
    pub unheard: u64,
    /// The first few in words.
    pub details: Vec<String>,
}

/// One real curl.
#[derive(Debug, Serialize)]
pub(super) struct Curl {
    pub command: String,
    pub answer: String,
    /// The peer that curl's socket names: the service.
    pub peer: String,
    pub right: bool,
}

const DETAILS: usize = 5;

impl Row {
    pub fn new(callers: bool, v6: bool, identities: u64) -> Self {
        Self {
            who: if callers { "callers" } else { "clients" },
            path: if callers { "connect" } else { "packet" },
            family: if v6 { "IPv6" } else { "IPv4" },
            identities,
            expected_identities: 0,
            requests: 0,
            reached_1: 0,
            reached_2: 0,
            expected_2: 0,
            expected_share: 0.0,
            share: 0.0,
            failures: 0,
            misplaced: 0,
            unheard: 0,
            details: Vec::new(),
        }
    }

    pub fn count(&mut self, report: &client::Report) {
        self.requests += report.requests;
        self.failures += report.failed();
        for detail in &report.details {
            self.detail(detail.clone());
        }
    }

    /// One identity: answers by version.
    pub fn judge(&mut self, name: &str, gray: bool, heard: &BTreeMap<&str, u64>) {
        let of = |version| heard.get(version).copied().unwrap_or(0);
        let (one, two, all) = (of("1.0"), of("2.0"), heard.values().sum::<u64>());
        self.reached_1 += one;
        self.reached_2 += two;
        self.expected_identities += u64::from(gray);
        self.expected_2 += if gray { all } else { 0 };
        let misplaced = all - if gray { two } else { one };
        self.misplaced += misplaced;
        if all == 0 {
            self.unheard += 1;
            self.detail(format!("{name} got no answer"));
        } else if misplaced > 0 {
            let should = if gray { "2.0" } else { "1.0" };
            self.detail(format!("{name} should reach {should}, reached {heard:?}"));
        }
        let answers = (self.reached_1 + self.reached_2).max(1) as f64;
        self.share = self.reached_2 as f64 / answers;
        self.expected_share = self.expected_2 as f64 / answers;
    }

    pub fn right(&self) -> bool {
        self.requests > 0 && self.failures == 0 && self.misplaced == 0 && self.unheard == 0
    }

    fn detail(&mut self, text: String) {
        if self.details.len() < DETAILS {
            self.details.push(text);
        }
    }
}

impl Report {
    pub fn new(
        steps: Vec<Step>,
        request_path: Vec<Act>,
        releases: Vec<Release>,
        curl: Option<Curl>,
        left_behind: Vec<String>,
        elapsed_ms: u64,
    ) -> Self {
        let rows = || steps.iter().flat_map(|s| &s.rows);
        let (requests, failures) = (rows().map(|r| r.requests).sum(), rows().map(|r| r.failures).sum());
        let wrong = steps.iter().filter(|s| !s.right).count();
        let ended = releases.iter().filter(|r| r.right).count();
        let acted = request_path.iter().filter(|a| a.right).count();
        let right = wrong == 0
            && acted == request_path.len()
            && !request_path.is_empty()
            && ended == releases.len()
            && !releases.is_empty()
            && curl.as_ref().is_some_and(|c| c.right)
            && left_behind.is_empty();
        let verdict = format!(
            "{}: {} of {} steps as expected, {requests} requests, {failures} failed; {acted} of {} steps of the request path; {ended} of {} releases ended as they should; {}; {:.1} s",
            if right { "RIGHT" } else { "WRONG" },
            steps.len() - wrong,
            steps.len(),
            request_path.len(),
            releases.len(),
            match left_behind.len() {
                0 => "nothing left behind".into(),
                n => format!("{n} things left behind"),
            },
            elapsed_ms as f64 / 1000.0,
        );
        Self {
            right,
            verdict,
            requests,
            failures,
            elapsed_ms,
            steps,
            request_path,
            releases,
            curl,
            left_behind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_be_wrong_is_noticed() {
        let row = |gray, heard: &[(&'static str, u64)]| {
            let mut r = Row::new(false, false, 1);
            r.requests = 8;
            r.judge("a", gray, &heard.iter().copied().collect());
            r
        };
        assert!(row(true, &[("2.0", 8)]).right() && row(false, &[("1.0", 8)]).right());
        for (gray, heard) in [
            (true, &[("1.0", 8)][..]),
            (false, &[("2.0", 8)]),
            (true, &[("2.0", 7), ("1.0", 1)]),
            (false, &[("1.0", 7), ("3.0", 1)]),
            (false, &[]),
        ] {
            assert!(!row(gray, heard).right(), "{gray} {heard:?}");
        }
        let mut failed = row(true, &[("2.0", 8)]);
        failed.failures = 1;
        assert!(!failed.right());
    }
}
