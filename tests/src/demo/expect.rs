//! Who should reach 2.0: lists as they were written, buckets as `gray explain` tells them once. It sends nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::policy::{self, CALLERS, SERVICE};
use super::signal;
use crate::agent::Agent;

/// The default expects nobody.
#[derive(Debug, Clone, Default)]
pub(super) struct Expect {
    listed: BTreeSet<String>,
    /// 0..10000 by identity.
    buckets: BTreeMap<String, u64>,
    /// Basis points: a bucket below it is gray.
    threshold: u64,
}

impl Expect {
    /// Asks for the bucket of everybody who is on no list; needs the policy in force.
    pub fn ask(agent: &Agent, sources: &[String]) -> Result<Self> {
        let mut expect = Self { listed: owned(policy::LISTED), ..Self::default() };
        let sources = sources.iter().map(|s| ("--src", s.as_str()));
        let callers = CALLERS.iter().map(|c| ("--workload", *c));
        for (flag, who) in
            sources.chain(callers).filter(|(_, who)| !expect.listed.contains(*who)).collect::<Vec<_>>()
        {
            signal::check()?;
            let told = agent.gray_json(&["explain", "--service", SERVICE, flag, who])?;
            let bucket = told["bucket"].as_u64().with_context(|| format!("explain has no bucket: {told}"))?;
            let _ = expect.buckets.insert(who.to_owned(), bucket);
        }
        Ok(expect)
    }

    pub fn add(&mut self, listed: &[&str]) {
        self.listed.extend(owned(listed));
    }

    pub fn percent(&mut self, percent: u32) {
        self.threshold = u64::from(percent) * 100;
    }

    /// As in the document: no live edit, 0 %.
    pub fn first(&self) -> Self {
        Self { listed: owned(policy::LISTED), buckets: self.buckets.clone(), threshold: 0 }
    }

    pub fn gray(&self, who: &str) -> bool {
        self.listed.contains(who) || self.buckets.get(who).is_some_and(|b| *b < self.threshold)
    }
}

fn owned(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}
