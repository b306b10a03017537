//! The `gray` binary: hands the agent's half to the command line.

use std::process::ExitCode;

use gray_userspace::cli::{self, Local};

fn main() -> ExitCode {
    cli::main(&Local {
        agent: |_| anyhow::bail!("this build has no agent"),
        uninstall: |_| anyhow::bail!("this build has no agent"),
    })
}
