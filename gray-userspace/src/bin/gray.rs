//! The `gray` binary: hands the agent's half to the command line.

use std::process::ExitCode;

use gray_userspace::{agent, cli, splice};

fn main() -> ExitCode {
    cli::main(&cli::Local {
        agent: agent::run,
        splice: splice::run,
        uninstall: agent::uninstall,
        migrate: agent::migrate,
    })
}
