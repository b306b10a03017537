//! `test`: the host tier (no root, no eBPF toolchain), then those that need a kernel: the verifier's budget, the lab's tests, and
//! the smoke tests on the oldest kernel. Knows how to run them, nothing of what they test.

mod side_by_side;

use std::{
    io::{self, BufRead as _, BufReader, Write},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build, ebpf, run, setup, verifier, vm,
    workspace::{Workspace, is_root},
};

#[derive(Default, clap::Args)]
pub struct Args {
    /// Only the host tier
    #[arg(long, conflicts_with = "kernel")]
    host: bool,
    /// Only the kernel tier: no host tests, no verifier budget, no VM
    #[arg(long)]
    kernel: bool,
    /// Only tests whose path contains this
    filter: Option<String>,
}

/// What the test binaries said of themselves, summed up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    ignored: u32,
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    let (host, kernel) = (!args.kernel, !args.host);
    if kernel && !is_root() {
        bail!(
            "the kernel tier loads programs and makes network namespaces: run as root, or `cargo xtask test --host`"
        );
    }
    if kernel {
        // Before the host tier: the object is part of what both compile.
        ebpf::build(ws)?;
    }
    let mut tiers: Vec<(&str, Result<Count>, f32)> = Vec::new();
    let mut tier = |name, run: &dyn Fn() -> Result<Count>| {
        let start = Instant::now();
        tiers.push((name, run(), start.elapsed().as_secs_f32()));
    };
    if host {
        tier("host", &|| self::host(ws, args.filter.as_deref()));
    }
    // What these run has no names to filter by but their own.
    let wanted =
        |name: &str| host == kernel && args.filter.as_ref().is_none_or(|f| name.contains(f.as_str()));
    // Before the long ones: what it refuses, no agent loads.
    if wanted("verifier") {
        tier("verifier", &|| verifier::check(ws).map(Count::passed));
    }
    if kernel {
        tier("kernel", &|| self::kernel(ws, args.filter.as_deref()));
    }
    if wanted("vm smoke") {
        tier("vm smoke", &|| vm::smoke(ws).map(Count::passed));
    }
    let mut passed = 0;
    let mut failed = false;
    for (name, result, seconds) in tiers {
        match result {
            Ok(n) if n.passed == 0 && args.filter.is_none() => {
                // A tier that silently ran nothing must not look like one that passed.
                println!("{name} tier: FAILED, no test ran, {seconds:.1} s");
                failed = true;
            }
            Ok(n) => {
                println!("{name} tier: ok, {} passed, {} ignored, {seconds:.1} s", n.passed, n.ignored);
                passed += n.passed;
            }
            Err(e) => {
                println!("{name} tier: FAILED, {e:#}, {seconds:.1} s");
                failed = true;
            }
        }
    }
    if failed {
        bail!("tests failed");
    }
    if passed == 0 {
        bail!(
            "no test ran{}",
            args.filter.as_ref().map(|f| format!(": none has `{f}` in its path")).unwrap_or_default()
        );
    }
    Ok(())
}

fn host(ws: &Workspace, filter: Option<&str>) -> Result<Count> {
    let mut cmd = run::cargo(&ws.root);
    let _ = cmd.args(["test", "--workspace", "--exclude", "gray-tests", "--no-fail-fast"]).args(filter);
    let product = counted(&mut cmd, plainly).context("the workspace");
    // Of the lab, what needs neither root nor a kernel.
    let mut cmd = run::cargo(&ws.root);
    let _ = cmd.args(["test", "-p", "gray-tests", "--test", "packet_model"]).args(filter);
    let model = counted(&mut cmd, plainly).context("the model of the lab");
    // Between two ABI numbers, of which there is only one without the feature.
    let mut cmd = run::cargo(&ws.root);
    let _ = cmd.args(["test", "-p", "gray-common", "--features", "abi-test", "--lib"]);
    let _ = cmd.arg(filter.unwrap_or("layouts"));
    let layouts = counted(&mut cmd, plainly).context("two layouts (abi-test)");
    let mut all = product?;
    all.add(&model?);
    all.add(&layouts?);
    Ok(all)
}

fn kernel(ws: &Workspace, filter: Option<&str>) -> Result<Count> {
    setup::need(ws, setup::LAB)?;
    build::for_tests(ws, build::Profile::Debug)?;
    run::show(run::cargo(&ws.root).args(["test", "-q", "-p", "gray-tests", "--no-run"]))?;
    side_by_side::run(&side_by_side::targets(&ws.root.join("tests/tests"))?, |target| {
        let mut cmd = run::cargo(&ws.root);
        let _ = cmd
            .args(["test", "-p", "gray-tests"])
            .args(target.selects())
            .args(filter)
            .args(["--", "--test-threads=1"])
            .env("GRAY_BIN", ws.debug_bin("gray"));
        // Two write at once: every line says whose it is and when it came, and goes in one piece.
        let (name, start) = (target.name(), Instant::now());
        counted(&mut cmd, |line| {
            let begin = format!("{name:<12} {:>4} ", start.elapsed().as_secs());
            io::stdout().write_all(&[begin.as_bytes(), line].concat())
        })
    })
}

fn plainly(line: &[u8]) -> io::Result<()> {
    io::stdout().write_all(line)
}

/// Runs cargo test, hands each line of its output to `show` as it comes, its end included, and counts.
fn counted(cmd: &mut Command, mut show: impl FnMut(&[u8]) -> io::Result<()>) -> Result<Count> {
    let mut child = cmd.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut count = Count::default();
    let mut why = Failures::default();
    // Always there: piped above.
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let mut line = line.context("reading cargo's output")?;
            let text = String::from_utf8_lossy(&line);
            count.read(&text);
            why.read(&text);
            // A closed stdout (`| head`) must not end the tests half-way.
            line.push(b'\n');
            let _ = show(&line);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} passed, {} failed ({status}){}", count.passed, count.failed, why.told);
    }
    Ok(count)
}

/// What libtest says under `---- NAME stdout ----`, the first lines of it: a log of an hour ends with them.
#[derive(Default)]
struct Failures {
    told: String,
    /// Lines of the present test that still go in.
    room: usize,
}

impl Failures {
    const LINES: usize = 16;

    fn read(&mut self, line: &str) {
        if line.starts_with("---- ") {
            self.room = Self::LINES;
        } else if line == "failures:" || line.starts_with("stack backtrace:") {
            self.room = 0;
        }
        if self.room > 0 && !line.trim().is_empty() {
            self.room -= 1;
            self.told.extend(["\n    ", line]);
        }
    }
}

impl Count {
    fn passed(passed: u32) -> Self {
        Self { passed, ..Self::default() }
    }

    fn add(&mut self, more: &Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.ignored += more.ignored;
    }

    /// Adds libtest's line `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; other lines change nothing.
    fn read(&mut self, line: &str) {
        let Some((_, numbers)) = line.strip_prefix("test result: ").and_then(|r| r.split_once(". ")) else {
            return;
        };
        for part in numbers.split(';') {
            let Some((n, what)) = part.trim().split_once(' ') else { continue };
            let Ok(n) = n.parse::<u32>() else { continue };
            match what {
                "passed" => self.passed += n,
                "failed" => self.failed += n,
                "ignored" => self.ignored += n,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_others_ignored() {
        let mut c = Count::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s",
            "test a::b ... ok",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            c.read(line);
        }
        assert_eq!(c, Count { passed: 13, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_failing_run_is_an_error_with_its_numbers() {
        let script = "echo '---- a::b stdout ----'; echo why; echo 'stack backtrace:'; echo deep;
            echo 'test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured'; exit 101";
        let mut shown = Vec::new();
        let e = counted(Command::new("sh").args(["-c", script]), |line| shown.write_all(line))
            .unwrap_err()
            .to_string();
        assert!(String::from_utf8_lossy(&shown).contains("\ndeep\n"));
        assert!(e.starts_with("4 passed, 1 failed"), "{e}");
        assert!(e.ends_with("\n    ---- a::b stdout ----\n    why"), "{e}");
    }
}
