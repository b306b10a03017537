//! The keys of a release's document.

use super::{Object, SELECTOR, Shape, limits, optional, required};

pub(in super::super) const DIALECTS: &[&str] = &["mysql", "postgres"];
pub(in super::super) const CHANGED_ROWS: &[&str] = &["freeze", "allow"];
pub(in super::super) const UNMEASURED: &[&str] = &["hold", "allow"];
const HOOKS: Shape = Shape::List(&Shape::One(&HOOK), 0, Some(limits::HOOKS));

pub(in super::super) static RELEASE: Object = Object {
    name: "a release",
    doc: "The gray release of one version of one or many services.",
    keys: &[
        required("release", "The release's name.", Shape::Name),
        required("version", "The gray version number: `2.0.0-gray.3`.", Shape::Text),
        optional(
            "formal",
            "The number that it will have. Default: what stands before `-gray.`.",
            Shape::Text,
        ),
        required("services", "What is released, by the services' names.", Shape::Map(&RELEASED)),
        optional("salt", "Of the stages' percentages. Default: the release's name.", Shape::Text),
        optional(
            "testers",
            "A cohort of the policy that reaches gray from gray verification on.",
            Shape::Name,
        ),
        optional(
            "irreversible",
            "true: what is released cannot be undone; bad evidence freezes the release, and a person decides. Default: false.",
            Shape::True,
        ),
        optional("deploy", "Brings the new version to the gray servers.", HOOKS),
        optional(
            "data",
            "What is done of the data layers, between `deploy` and `verify`.",
            Shape::One(&DATA),
        ),
        optional("verify", "Whether it was deployed well. If not, the release stops.", HOOKS),
        optional(
            "gray-verify",
            "Whether gray serves, with the testers on it. If not, everybody is back on stable.",
            HOOKS,
        ),
        optional(
            "gray-period",
            "So long the testers alone are gray before the ramp. Default: 0s.",
            Shape::Duration,
        ),
        required(
            "stages",
            "The ramp. No stage takes a smaller share than the one before.",
            Shape::List(&Shape::One(&STAGE), 1, Some(limits::STAGES)),
        ),
        optional("verdict", "How strictly gray and stable are compared.", Shape::One(&VERDICT)),
        optional("align", "What comes when the last stage has passed.", Shape::One(&ALIGN)),
        optional("notify", "Told of every transition: webhooks and commands.", HOOKS),
    ],
    later: &["instances", "lane", "script", "tenants"],
};

pub(in super::super) static DATA: Object = Object {
    name: "a data plan",
    doc: "Steps that are done in this order, however they are written: script, clear, parameters, restart, load.",
    keys: &[
        optional("script", "Runs scripts of the database: steps with `script`, `dialect` and `run`.", HOOKS),
        optional("clear", "Empties the gray layer.", HOOKS),
        optional("parameters", "Sets what gray runs with.", HOOKS),
        optional("restart", "Starts gray again.", HOOKS),
        optional("load", "Fills the gray layer.", HOOKS),
    ],
    later: &[],
};

pub(in super::super) static RELEASED: Object = Object {
    name: "a released service",
    doc: "One service of the release.",
    keys: &[required("gray", "The instances of the new version.", Shape::One(&SELECTOR))],
    later: &["stable"],
};

pub(in super::super) static STAGE: Object = Object {
    name: "a stage",
    doc: "One step of the ramp: a cohort, a percentage, or both.",
    keys: &[
        optional("cohort", "A cohort of the policy. It stays gray in the later stages.", Shape::Name),
        optional("percent", "Share of all identities. Default: that of the stage before.", Shape::Percent),
        optional("time", "At least so long. Default: 0s.", Shape::Duration),
        optional(
            "samples",
            "At least so many new connections of each arm of each service; at 100 percent of gray alone. 0: nothing is judged; 1 to 19 are 20. Default: 50.",
            Shape::Integer(0, 1_000_000_000),
        ),
        optional(
            "unmeasured",
            "What a service does whose failures are not seen (UDP, answers that do not pass gray): hold the stage, or allow it to go on. Default: hold.",
            Shape::Word(UNMEASURED),
        ),
        optional(
            "checks",
            "Asked in rounds while the stage lasts. One that fails takes the release back.",
            HOOKS,
        ),
        optional("every", "Between two rounds of checks. Default: 10s.", Shape::Duration),
        optional("approval", "true: a person must approve before it goes on. Default: false.", Shape::True),
    ],
    later: &["sequential", "metrics"],
};

pub(in super::super) const TIMES: &[&str] = &["compare", "ignore"];

pub(in super::super) static VERDICT: Object = Object {
    name: "a verdict",
    doc: "Of the comparison of gray with stable, in every stage.",
    keys: &[
        optional(
            "level",
            "Percent: how probably a release whose versions are alike is taken back by chance, of all its stages together. Default: 5.",
            Shape::Percent,
        ),
        optional(
            "exclude-failures",
            "Percentage points of failures that must be ruled out to pass. Default: what a stage's samples can rule out, no less than 1.",
            Shape::Percent,
        ),
        optional(
            "least",
            "With fewer connections of either arm nothing is compared. Default: 20.",
            Shape::Integer(20, 1_000_000_000),
        ),
        optional(
            "times",
            "compare: gray that answers more slowly than stable fails, and passes when twice as slow is ruled out. ignore: times are shown alone. Default: compare.",
            Shape::Word(TIMES),
        ),
    ],
    later: &["ignore-failures"],
};

pub(in super::super) static ALIGN: Object = Object {
    name: "an alignment",
    doc: "Everybody is on gray while it lasts.",
    keys: &[
        optional("approval", "true: a person must approve before it begins. Default: false.", Shape::True),
        optional("steps", "Brings the new version to the rest.", HOOKS),
    ],
    later: &[],
};

pub(in super::super) static HOOK: Object = Object {
    name: "a step",
    doc: "Something that is done or asked: exactly one of `command`, `webhook`, `unit`, `http`, `prometheus`, or, under `data: script`, `script`.",
    keys: &[
        optional(
            "command",
            "A program of the agent's --release-hooks directory, and its arguments.",
            Shape::List(&Shape::Words, 1, Some(limits::COMMAND_WORDS)),
        ),
        optional("dir", "Of `command`: where it runs. Default: /.", Shape::Words),
        optional("webhook", "A URL that is posted to.", Shape::Words),
        optional(
            "secret",
            "Of `webhook`: a file of the directory; what it holds signs the request.",
            Shape::Name,
        ),
        optional("unit", "A systemd service that is started.", Shape::Words),
        optional("http", "A URL that is asked for.", Shape::Words),
        optional("status", "Of `http`: what it answers. Default: 200-399.", Shape::Statuses),
        optional("prometheus", "The URL of a Prometheus server.", Shape::Words),
        optional("query", "Of `prometheus`: a query of one number.", Shape::Words),
        optional(
            "script",
            "Under `data: script`: a file of the agent's --release-hooks directory; `gray lint-sql` must let it pass.",
            Shape::Name,
        ),
        optional("dialect", "Of `script`: mysql or postgres.", Shape::Word(DIALECTS)),
        optional("rules", "Of `script`: a file of the directory with levels of rules.", Shape::Name),
        optional(
            "run",
            "Of `script`: a program of the directory, and its arguments. The script is its standard input.",
            Shape::List(&Shape::Words, 1, Some(limits::COMMAND_WORDS)),
        ),
        optional(
            "changed-rows",
            "Of `script`: whether changes of rows that cannot be undone freeze what is bad, as definitions do, or allow the release to be taken back. Default: freeze.",
            Shape::Word(CHANGED_ROWS),
        ),
        optional("below", "Of `prometheus`: the number must be smaller.", Shape::Words),
        optional("above", "Of `prometheus`: the number must be larger.", Shape::Words),
        optional("timeout", "An attempt has so long. Default: 1m.", Shape::Duration),
        optional("retries", "Attempts after the first. Default: 0.", Shape::Integer(0, 100)),
        optional(
            "backoff",
            "Before the second attempt; doubled before each later one, at most 10m. Default: 1s.",
            Shape::Duration,
        ),
    ],
    later: &["grpc"],
};
