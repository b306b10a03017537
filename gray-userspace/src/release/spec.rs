//! A release as validated: what is released, by which steps, through which stages. `config` makes it.

use std::fmt;

use crate::{
    lint_sql::Dialect,
    model::{Selector, Webhook},
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    pub name: String,
    /// The gray version number: `2.0.0-gray.3`.
    pub version: String,
    /// The number it will have: `2.0.0`.
    pub formal: String,
    /// Never empty.
    pub services: Vec<ServiceSpec>,
    /// The percentages' salt: growth moves nobody out.
    pub salt: String,
    /// The cohort that reaches gray from gray verification on.
    pub testers: Option<String>,
    /// What was done cannot be undone: bad evidence freezes, and a person decides.
    pub irreversible: bool,
    pub deploy: Vec<Hook>,
    /// In the order of [`Layer`].
    pub data: Vec<DataStep>,
    pub verify: Vec<Hook>,
    pub gray_verify: Vec<Hook>,
    pub gray_period_ms: u32,
    /// Never empty.
    pub stages: Vec<Stage>,
    pub verdict: Strictness,
    /// A person must say so before alignment begins.
    pub align_approval: bool,
    pub align: Vec<Hook>,
    /// Told of every transition: webhooks and commands.
    pub notify: Vec<Hook>,
}

/// One step of the data plan.
#[derive(Clone, Debug, PartialEq)]
pub struct DataStep {
    pub layer: Layer,
    pub hook: Hook,
}

/// What is done of the data layers, in this order (G5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The database's script, once it was judged.
    Script,
    /// The gray layer is emptied.
    Clear,
    /// What gray runs with.
    Parameters,
    /// Gray starts again, with them.
    Restart,
    /// The gray layer is filled.
    Load,
}

impl Layer {
    pub const ALL: [Self; 5] = [Self::Script, Self::Clear, Self::Parameters, Self::Restart, Self::Load];

    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Clear => "clear",
            Self::Parameters => "parameters",
            Self::Restart => "restart",
            Self::Load => "load",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    pub name: String,
    /// The instances of the new version.
    pub gray: Selector,
}

/// How strictly the arms are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strictness {
    /// The probability that a release whose versions are alike ever fails by what is counted, of all its stages together.
    pub level: f64,
    /// The difference of failures that must be ruled out; none: what a stage's samples can rule out.
    pub exclude: Option<f64>,
    /// With fewer attempts of either arm nothing is compared.
    pub least: u64,
    /// How long instances take is compared, too.
    pub times: bool,
}

impl Default for Strictness {
    fn default() -> Self {
        Self { level: 0.05, exclude: None, least: super::FEW, times: true }
    }
}

/// One stage of the ramp. It has a cohort, a percentage, or both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Stays gray in all later stages.
    pub cohort: Option<String>,
    /// Never smaller than an earlier stage's.
    pub basis_points: u16,
    /// At least so long.
    pub time_ms: u32,
    /// At least so many new connections of each arm, of each service; at 100 % of the gray arm alone. 0: nothing is judged.
    pub samples: u64,
    /// A service whose failures are not seen holds nothing up.
    pub unmeasured: bool,
    pub checks: Vec<Hook>,
    /// A round of checks begins so long after the last one ended.
    pub every_ms: u32,
    pub approval: bool,
}

/// One thing to be done or asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    pub does: Does,
    pub timeout_ms: u32,
    /// Attempts after the first.
    pub retries: u32,
    /// Before the first of them; each later one waits twice as long as the one before, at most ten minutes.
    pub backoff_ms: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Does {
    /// A program of the agent's directory and its arguments.
    Command { words: Vec<String>, dir: Option<String> },
    /// A POST, signed with the secret in this file of the directory.
    Webhook { url: Webhook, secret: Option<String> },
    /// `systemctl start`.
    Unit(String),
    /// A GET.
    Http { url: Webhook, status: (u16, u16) },
    /// A file of the directory, given to a program there once `lint-sql` has let it pass.
    Script(Script),
    /// A query of one number.
    Prometheus { url: Webhook, query: String, limit: Limit },
}

/// A script of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub file: String,
    pub dialect: Dialect,
    /// A file of levels.
    pub rules: Option<String>,
    /// Changes of rows that cannot be undone do not freeze the release; definitions do all the same.
    pub rows_may_stay: bool,
    /// The program and its arguments; the script is its standard input.
    pub run: Vec<String>,
}

/// What a number must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    Below(f64),
    Above(f64),
}

/// What a hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Command,
    Webhook,
    Unit,
    Http,
    Prometheus,
    Script,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Command, Self::Webhook, Self::Unit, Self::Http, Self::Prometheus, Self::Script];

    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Webhook => "webhook",
            Self::Unit => "unit",
            Self::Http => "http",
            Self::Prometheus => "prometheus",
            Self::Script => "script",
        }
    }
}

impl Hook {
    pub fn kind(&self) -> Kind {
        match self.does {
            Does::Command { .. } => Kind::Command,
            Does::Webhook { .. } => Kind::Webhook,
            Does::Unit(_) => Kind::Unit,
            Does::Http { .. } => Kind::Http,
            Does::Prometheus { .. } => Kind::Prometheus,
            Does::Script(_) => Kind::Script,
        }
    }

    /// The pause before attempt `n` (from 1).
    pub fn pause_ms(&self, n: u32) -> u64 {
        let times = 1u64 << n.saturating_sub(1).min(20);
        (u64::from(self.backoff_ms) * times).min(600_000)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.does {
            Does::Command { words, .. } => write!(f, "command {}", words.join(" ")),
            Does::Webhook { url, .. } => write!(f, "webhook {url}"),
            Does::Unit(unit) => write!(f, "unit {unit}"),
            Does::Http { url, .. } => write!(f, "http {url}"),
            Does::Prometheus { query, limit, .. } => write!(f, "prometheus {query} {limit}"),
            Does::Script(s) => write!(f, "script {} by {}", s.file, s.run.join(" ")),
        }
    }
}

impl Limit {
    pub fn holds(self, n: f64) -> bool {
        match self {
            Self::Below(limit) => n < limit,
            Self::Above(limit) => n > limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(n) => write!(f, "below {n}"),
            Self::Above(n) => write!(f, "above {n}"),
        }
    }
}

impl Spec {
    /// Every step, notices and checks too.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> {
        let checks = self.stages.iter().flat_map(|s| &s.checks);
        let data = self.data.iter().map(|d| &d.hook);
        let lists = [&self.deploy, &self.verify, &self.gray_verify, &self.align, &self.notify];
        lists.into_iter().flatten().chain(data).chain(checks)
    }

    pub fn scripts(&self) -> impl Iterator<Item = &Script> {
        self.data.iter().filter_map(|d| if let Does::Script(s) = &d.hook.does { Some(s) } else { None })
    }

    /// Cohorts that are gray in a stage: the testers, its own, and those of the stages before.
    pub fn cohorts(&self, stage: usize) -> Vec<&str> {
        let mut out: Vec<&str> = Vec::new();
        let stages = self.stages.iter().take(stage + 1).filter_map(|s| s.cohort.as_deref());
        for c in self.testers.as_deref().into_iter().chain(stages) {
            if !out.contains(&c) {
                out.push(c);
            }
        }
        out
    }
}
