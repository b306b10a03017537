//! The release engine's pure half: the document as validated, the machine, the evidence, the routes of a stage.
//! No I/O, no clock, no tokio: `agent::release` drives it. docs/releases.md draws the machine.

mod buckets;
mod command;
mod evidence;
mod judge;
mod machine;
mod routes;
mod spec;
mod stage;
mod state;
mod steps;

#[cfg(test)]
mod tests;

pub use buckets::Buckets;
pub use command::{Command, Refused, Verb};
pub use evidence::{ArmCounts, Counts, since};
pub use judge::{Asked, Compared, FEW, Judged, Says, Verdict, judge};
pub use machine::on;
pub use routes::{SOURCE, owns, source, source_name};
pub use spec::{DataStep, Does, Hook, Kind, Layer, Limit, Script, ServiceSpec, Spec, Stage, Strictness};
pub use stage::{clients, share, verdict, waits};
pub use state::{
    Closing, Effect, Ended, Entry, Event, Evidence, Hold, List, Outcome, Phase, State, Traffic, What,
};
pub use steps::{hook_of, step_name};
