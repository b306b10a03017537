//! The demo: a gray release from nothing to 100 % and back by hand, told as steps. Each step sends real HTTP over both
//! paths and both families and is judged against what `gray explain` says of every client. Then the request path, and two releases by the engine.

mod engine;
mod expect;
mod keep;
mod load;
mod policy;
mod report;
mod requests;
mod say;
mod signal;
mod stage;
mod story;
mod table;

use anyhow::Result;

use report::Report;
use say::Say;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub json: bool,
    pub keep: bool,
    /// Expects less than is applied, so that the verdict must be wrong.
    pub break_it: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Right,
    Wrong,
    Interrupted,
}

/// Runs all of it; everything that it made is gone when this returns.
pub fn run(options: &Options) -> Outcome {
    signal::listen();
    let say = Say::new(options.json);
    match told(options, &say) {
        Ok(report) if report.right => Outcome::Right,
        Ok(_) => Outcome::Wrong,
        Err(_) if signal::came() => {
            say.line("interrupted: everything was removed");
            Outcome::Interrupted
        }
        Err(e) => {
            say.failure(&format!("{e:#}"));
            Outcome::Wrong
        }
    }
}

fn told(options: &Options, say: &Say) -> Result<Report> {
    if !crate::sys::is_root() {
        anyhow::bail!(
            "the demo loads programs into the kernel and makes network namespaces: run it as root (sudo)"
        );
    }
    let report = story::tell(options, say)?;
    if !options.keep {
        say.result(&report)?;
    }
    Ok(report)
}
