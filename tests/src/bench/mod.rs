//! What gray costs and how fast it is: each bench measures, and leaves an [`Outcome`] in `target/bench`.

mod apply;
mod ask;
mod compare;
mod connect;
pub mod core;
mod cpu;
pub mod dial;
pub mod flip;
mod flood;
pub(crate) mod frames;
mod hook;
mod http;
pub mod idle;
mod links;
mod load;
pub mod machine;
mod others;
pub mod outcome;
pub mod packet;
pub mod ping;
mod policy;
mod recall;
pub mod report;
mod request;
mod rounds;
mod slice;
pub mod stats;
pub mod survive;
pub mod turn;

use anyhow::{Result, bail};

pub use outcome::Outcome;

/// How a bench is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A short run that shows that the bench works; its figures mean little.
    pub quick: bool,
}

/// A bench: its name on the command line, what it measures, and the function that does.
pub struct Bench {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Options) -> Result<Outcome>,
}

/// All of them, in the order they run and are reported.
pub const BENCHES: &[Bench] = &[
    Bench {
        name: "packet",
        about: "one packet in the packet path, net of an empty program",
        run: packet::run,
    },
    Bench {
        name: "frames",
        about: "whole frames through the packet path, beside the least that could be done with them",
        run: frames::run,
    },
    Bench { name: "http", about: "HTTP over the edge, side by side with what else steers", run: http::run },
    Bench {
        name: "request",
        about: "HTTP over the edge, by an APP ID in a header, side by side with what else reads it",
        run: request::run,
    },
    Bench {
        name: "flood",
        about: "handshakes beside a flood of SYNs, to those of the kernel's own SYN cookies",
        run: flood::run,
    },
    Bench { name: "connect", about: "the connect path against dialling the instance", run: connect::run },
    Bench {
        name: "links",
        about: "messages of others while a workload has a link, and connect(2) with tags",
        run: links::run,
    },
    Bench { name: "survive", about: "kill -9 under load, and a minute without an agent", run: survive::run },
    Bench { name: "idle", about: "CPU time and memory of an agent at rest", run: idle::run },
    Bench {
        name: "flip",
        about: "how long the old policy decides once the new one is on disk",
        run: flip::run,
    },
    Bench { name: "recall", about: "10000 idle connections of gray, all of them reset", run: recall::run },
    Bench {
        name: "apply",
        about: "a policy of 1000 services and 10000 routes, all of it changed",
        run: apply::run,
    },
    Bench { name: "load", about: "a list of a million, from a file to the decision", run: load::run },
];

/// The benches of these names; all when there is none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Bench>> {
    for name in names {
        if !BENCHES.iter().any(|b| b.name == name) {
            let known: Vec<&str> = BENCHES.iter().map(|b| b.name).collect();
            bail!("no bench is named `{name}`: there are {}", known.join(", "));
        }
    }
    Ok(BENCHES.iter().filter(|b| names.is_empty() || names.iter().any(|n| n == b.name)).collect())
}
