//! The command line: arguments in, exit code out. Each verb is a file; none of them decides about traffic.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 3 refused, 4 agent not reachable.

pub mod agent;
mod agent_file;
mod apply;
mod args;
mod audit;
mod cohort;
mod ctx;
mod doctor;
mod events;
mod explain;
pub mod failure;
mod flows;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod generate;
mod get;
mod history;
mod import;
mod instance;
mod io;
mod key;
mod lint_sql;
mod migrate;
mod plan;
mod prefix;
mod recall;
mod release;
mod splice;
mod status;
mod table;
mod tag;
mod text;
mod uninstall;
mod validate;
mod workload;

use std::{ffi::OsString, process::ExitCode};

pub use agent::{AgentOptions, Attach, AttachRole, LogFormat, XdpWish};
pub use args::command;
pub use failure::Failure;
pub use io::Io;
pub use migrate::MigrateOptions;
pub use prefix::Prefix;
pub use splice::SpliceOptions;
pub use uninstall::UninstallOptions;

use args::{Cli, Verb};
use clap::{CommandFactory, FromArgMatches};
use ctx::Ctx;

/// The verbs whose work the agent's half does in this process: handed in, so that the command line can be tested without a kernel.
#[derive(Clone, Copy)]
pub struct Local {
    /// Returns when the agent was told to end. An `ApiError`, `ServerError` or `Failure` in the chain keeps its advice.
    pub agent: fn(AgentOptions) -> anyhow::Result<()>,
    /// Returns when the splice listener was told to end, or another one is in its place.
    pub splice: fn(&SpliceOptions) -> anyhow::Result<()>,
    /// What was (dry run: would be) removed, one line each.
    pub uninstall: fn(UninstallOptions) -> anyhow::Result<Vec<String>>,
    /// What was done, one line each.
    pub migrate: fn(MigrateOptions) -> anyhow::Result<Vec<String>>,
}

/// The whole program.
pub fn main(local: &Local) -> ExitCode {
    let mut io = Io::real();
    ExitCode::from(run(std::env::args_os(), local, &mut io))
}

/// One command. `args` begins with the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>, local: &Local, io: &mut Io) -> u8 {
    let done = parse(args, io).and_then(|cli| cli.map_or(Ok(()), |cli| dispatch(cli, local, io)));
    // What was not written was not done: a backup of a key, say.
    let done = done.and_then(|()| io.out.flush().map_err(Failure::from));
    match done {
        Ok(()) => failure::OK,
        Err(failure) => failure.report(io),
    }
}

/// None: help or version was asked for and is printed.
fn parse(args: impl IntoIterator<Item = OsString>, io: &mut Io) -> Result<Option<Cli>, Failure> {
    let parsed = Cli::command().try_get_matches_from(args).and_then(|m| Cli::from_arg_matches(&m));
    match parsed {
        Ok(cli) => Ok(Some(cli)),
        Err(e) if e.use_stderr() => Err(Failure::from_clap(&e)),
        Err(e) => {
            let text = e.render();
            let text = if io.color { text.ansi().to_string() } else { text.to_string() };
            io.out.write_all(text.as_bytes())?;
            Ok(None)
        }
    }
}

fn dispatch(cli: Cli, local: &Local, io: &mut Io) -> Result<(), Failure> {
    let global = cli.global;
    let mut ctx = Ctx::new(io, &global)?;
    match cli.verb {
        Verb::Agent(a) => (local.agent)(a.options(global.socket)?).map_err(Failure::from_anyhow),
        Verb::Splice(a) => (local.splice)(&a.options()?).map_err(Failure::from_anyhow),
        Verb::Uninstall(a) => uninstall::run(a, global.socket, local.uninstall, &mut ctx),
        Verb::Migrate(a) => migrate::run(a, local.migrate, &mut ctx),
        Verb::Validate(a) => validate::run(&a, &mut ctx),
        Verb::Import(a) => import::run(a, &mut ctx),
        Verb::Schema => generate::schema(&mut ctx),
        Verb::Apply(a) => apply::run(a, &mut ctx),
        Verb::Rollback(a) => apply::rollback(a, &mut ctx),
        Verb::Audit(a) => audit::run(&a, &mut ctx),
        Verb::History(a) => history::run(&a, &mut ctx),
        Verb::Get(a) => get::run(a, &mut ctx),
        Verb::Cohort(a) => cohort::run(a, &mut ctx),
        Verb::Explain(a) => explain::run(a, &mut ctx),
        Verb::Status => status::run(&mut ctx),
        Verb::Events(a) => events::run(&a, &mut ctx),
        Verb::Flows(a) => flows::run(&a, &mut ctx),
        Verb::Workload(a) => workload::run(a, &mut ctx),
        Verb::Tag(a) => tag::run(&a, &mut ctx),
        Verb::Recall(a) => recall::run(a, &mut ctx),
        Verb::Release(a) => release::run(a, &mut ctx),
        Verb::Instance(a) => instance::run(a, &mut ctx),
        Verb::Doctor => doctor::run(&mut ctx),
        Verb::Key(a) => key::run(a, &mut ctx),
        Verb::LintSql(a) => lint_sql::run(&a, &mut ctx),
        Verb::Completions(a) => generate::completions(&a, &mut ctx),
        Verb::Man(a) => generate::man(&a),
        Verb::Openapi => generate::openapi(&mut ctx),
    }
}
