//! `cargo xtask demo`: arguments, signals and the exit code. What is shown is `gray_tests::demo`.

use std::process::ExitCode;

use clap::Parser;
use gray_tests::demo::{self, Options, Outcome};

/// A gray release on this machine, in network namespaces of its own: real servers, real HTTP, the real agent.
///
/// Needs root. Exit code 0: everything was right; 1: something was not; 130: interrupted.
#[derive(Parser)]
#[command(name = "gray-demo", version, max_term_width = 110)]
struct Args {
    /// Print the result as JSON, and nothing else, on stdout
    #[arg(long)]
    json: bool,
    /// Leave the world up until Ctrl-C, and print commands to play with
    #[arg(long)]
    keep: bool,
    /// Apply more percent than the table expects: proof that a wrong share is noticed
    #[arg(long, hide = true)]
    break_it: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match demo::run(&Options { json: args.json, keep: args.keep, break_it: args.break_it }) {
        Outcome::Right => ExitCode::SUCCESS,
        Outcome::Wrong => ExitCode::FAILURE,
        Outcome::Interrupted => ExitCode::from(130),
    }
}
