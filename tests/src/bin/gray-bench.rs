//! `cargo xtask bench`: arguments and the exit code. What is measured is `gray_tests::bench`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use gray_tests::bench::machine::Machine;
use gray_tests::bench::{self, BENCHES, Options};

/// Measures gray side by side with what it is compared to. Needs root, an optimised build and a quiet machine.
///
/// Exit code 0: measured, whatever the figures; 1: could not be measured.
#[derive(Parser)]
#[command(name = "gray-bench", version, max_term_width = 110)]
struct Args {
    /// The benches to run; all of them when none is named
    names: Vec<String>,
    /// Short runs that show that the benches work
    #[arg(long)]
    quick: bool,
    /// Where the figures go, a JSON file for each bench
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Measure nothing: put what `--out` holds into the documents
    #[arg(long, conflicts_with_all = ["names", "quick"])]
    write: bool,
    /// Lock this file while measuring, minutes at a time; for a machine that is shared (may be repeated)
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
    /// List the benches
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for b in BENCHES {
            println!("{:10} {}", b.name, b.about);
        }
        return ExitCode::SUCCESS;
    }
    bench::turn::take_turns_by(args.lock.clone());
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if args.write {
        let taken = bench::report::write(&args.out, Path::new("docs"))?;
        println!("docs/benchmarks.md: {}", taken.join(", "));
        return Ok(());
    }
    for b in bench::chosen(&args.names)? {
        eprintln!("{}: {}", b.name, b.about);
        let start = Instant::now();
        let mut outcome = (b.run)(&Options { quick: args.quick }).with_context(|| b.name.to_owned())?;
        (outcome.quick, outcome.seconds) = (args.quick, start.elapsed().as_secs_f64());
        outcome.machine = Machine::here();
        outcome.save(&args.out)?;
        print!("{}", bench::report::text(&outcome));
    }
    Ok(())
}
