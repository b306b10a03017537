//! The named limits of the policy document. Must hold numbers only; who refuses what stands beside the check.

/// Bytes of all files together.
pub const TEXT_BYTES: usize = 64 << 20;
/// Nested lists and maps of a document.
pub const TREE_DEPTH: usize = 64;
/// Nodes (keys, values, lists, maps) of one file; keeps a hostile 64 MiB of `-` from taking gigabytes.
pub const TREE_NODES: usize = 4_000_000;
/// Nodes that anchors hold and aliases repeat, per file: an alias bomb ends here.
pub const ALIAS_NODES: usize = 100_000;
/// Problems that are kept; the rest is counted.
pub const PROBLEMS: usize = 1_000;

/// Services of a policy.
pub const SERVICES: usize = 1_024;
/// Addresses that one service listens on.
pub const LISTENERS_PER_SERVICE: usize = 16;
/// Instances of one service.
pub const INSTANCES_PER_SERVICE: usize = 256;
/// Lists: cohorts of `sources`, `apps` and their like, and different conditions on claims.
pub const LISTS: usize = 254;
/// Lanes of a policy.
pub const LANES: usize = gray_common::limits::LANES as usize;
/// Workloads of which a policy says something.
pub const WORKLOADS: usize = 16_384;
/// Routes that apply to one service, those for every service included, and lanes that name it.
pub const RULES_PER_SERVICE: usize = 64;
/// Entries of a service's `accept`.
pub const ACCEPTS: usize = 8;
/// Weighted subsets of one route.
pub const ARMS_PER_ROUTE: usize = 8;
/// Values of one key of a selector.
pub const SELECTOR_VALUES: usize = 64;
/// Nested `all`, `any`, `not` of one condition.
pub const CONDITION_DEPTH: usize = 8;

/// What a cohort is made of, with what those are made of that it names: each `all`, `any`, `not`, claim, lane and other cohort is one.
pub const COHORT_PARTS: usize = 256;
/// The same of a condition.
pub const CONDITION_PARTS: usize = 1_024;
/// Values of one condition on a claim.
pub const CONDITION_VALUES: usize = 64;

/// Characters of a service's, cohort's or route's given name.
pub const NAME_CHARS: usize = 63;
/// Characters of a metadata value, an instance id, a salt.
pub const META_CHARS: usize = 64;
/// Characters of a route name that is made from service, condition and target.
pub const ROUTE_NAME_CHARS: usize = 253;
/// Weight of an instance.
pub const INSTANCE_WEIGHT: std::ops::RangeInclusive<u16> = 1..=1_000;
/// Weight of an instance that gives none.
pub const INSTANCE_WEIGHT_DEFAULT: u16 = 100;
/// Words of a health check's command.
pub const COMMAND_WORDS: usize = 32;
/// Steps of one list of a release.
pub const HOOKS: usize = 64;
/// Stages of a release.
pub const STAGES: usize = 64;
/// Services of a release.
pub const RELEASED: usize = 64;
/// Characters of a release's name: routes are named after it.
pub const RELEASE_CHARS: usize = 40;
/// Characters of a path, a host, a word of a command.
pub const WORD_CHARS: usize = 1_024;
/// 100 % in basis points.
pub const FULL: u32 = 10_000;
