//! The project's verbs, one file each; this file only reads the command line.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "xtask talks to a person or to a CI log")]

mod abi;
mod bench;
mod build;
mod ci;
mod demo;
mod ebpf;
mod fuzz;
mod lint;
mod run;
mod setup;
mod test;
mod verifier;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::workspace::Workspace;

/// gray's project verbs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a fresh machine ready: rust-src, bpf-linker, Debian packages, bpffs
    Setup(setup::Args),
    /// Build the eBPF object, then the host programs with it inside
    Build(build::Args),
    /// Run the host tests, then the tests that need a kernel and root
    Test(test::Args),
    /// Check format, lints, licences, file sizes and the ABI file
    Lint,
    /// Lint, then test: what CI runs
    Ci,
    /// Build, then show gray at work in a small world of network namespaces
    Demo(demo::Args),
    /// Build optimised, then measure gray side by side with what it is compared to
    Bench(bench::Args),
    /// Run the tests that need a kernel in Debian's kernels, emulated
    Vm(vm::Args),
    /// Count what the kernel's verifier looks at, against docs/verifier-budget.txt
    Verifier(verifier::Args),
    /// Feed the parsers with what no person would write, and keep what leads somewhere new
    Fuzz(fuzz::Args),
    /// Compare the kernel ABI with gray-common/abi.txt, or write that file
    Abi(abi::Args),
}

fn main() -> ExitCode {
    let Some(verb) = Cli::parse().verb else {
        return match Cli::command().print_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    };
    match Workspace::find().and_then(|ws| dispatch(&ws, verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            run::complain(&format!("error: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(ws: &Workspace, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Setup(args) => setup::run(ws, &args),
        Verb::Build(args) => build::run(ws, &args),
        Verb::Test(args) => test::run(ws, &args),
        Verb::Lint => lint::run(ws),
        Verb::Ci => ci::run(ws),
        Verb::Demo(args) => demo::run(ws, &args),
        Verb::Bench(args) => bench::run(ws, &args),
        Verb::Vm(args) => vm::run(ws, &args),
        Verb::Verifier(args) => verifier::run(ws, &args),
        Verb::Fuzz(args) => fuzz::run(ws, &args),
        Verb::Abi(args) => abi::run(ws, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_verb_has_its_line() {
        Cli::command().debug_assert();
        for verb in Cli::command().get_subcommands() {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.contains('\n'), "{}: `{about}`", verb.get_name());
        }
    }
}
