//! What the compiler refuses, and what each refusal is about. Must not know documents.

use gray_common::limits;

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompileError {
    #[error("the policy needs more than {limit} {what}")]
    Limit { what: &'static str, limit: u32 },
    #[error("service {service}: from here on, the policy needs more than {limit} {what}")]
    Full { service: String, what: &'static str, limit: u32 },
    #[error("service {service}: more than {limit} rules after its conditions are spread out", limit = limits::RULES_PER_SERVICE)]
    TooManyRules { service: String },
    #[error("route {route}: its condition has too many alternatives, or its service asks for more than {n} different cohorts and lanes; split the route", n = limits::FACTS_PER_SERVICE)]
    TooComplex { route: String },
    #[error("cohort {0} does not exist")]
    NoCohort(String),
    #[error("no room in the table of instances; remove services or instances")]
    ArenaFull,
    #[error("all {limit} numbers of {what} were given to names already; take back one of the older names")]
    Spent { what: &'static str, limit: u32 },
    #[error("more than {} distinct sets of lists", limits::CLASSES)]
    Classes,
}

/// What of the policy a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'e> {
    Service(&'e str),
    /// A route's name; `lane/NAME`; an entry of `accept`, `shop/accept-1`; of `route-headers`, `n-d/used@shop`.
    Rule(&'e str),
}

impl CompileError {
    /// `None`: the policy as a whole.
    pub fn about(&self) -> Option<About<'_>> {
        match self {
            Self::Full { service, .. } | Self::TooManyRules { service } => Some(About::Service(service)),
            Self::TooComplex { route } => Some(About::Rule(route)),
            Self::Limit { .. } | Self::NoCohort(_) | Self::ArenaFull | Self::Spent { .. } | Self::Classes => {
                None
            }
        }
    }

    /// What makes it smaller.
    pub fn help(&self) -> &'static str {
        match self {
            Self::TooManyRules { .. } => {
                "every alternative of a condition is a rule, and with `route-headers` every value that instances have: join cohorts into one list, or remove routes"
            }
            Self::TooComplex { .. } => {
                "clients of one list are one alternative: join cohorts into one list, or split the route"
            }
            Self::Full { .. } | Self::Limit { .. } => {
                "remove some of them, or give another node a part of the services"
            }
            Self::NoCohort(_) => "add it under `cohorts:`",
            Self::ArenaFull => "remove instances, or subsets of many instances",
            Self::Spent { .. } => "use a name that was there before",
            Self::Classes => "let fewer clients be on several lists at once",
        }
    }
}
