//! `vm`: the kernel tier inside Debian's kernels. Builds here, boots there; the guest sees this machine's files, so that what
//! was built runs in it. Knows nothing of what the tests test.

mod image;
mod initramfs;
mod outcome;
mod qemu;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use self::{
    image::Image,
    outcome::{Expected, Outcomes},
};
use crate::{
    build, run,
    setup::{self, Part},
    workspace::{Workspace, is_root},
};

#[derive(clap::Args)]
pub struct Args {
    /// `6.1`, `6.12` and the like, `newest`, or `smoke`: 6.1 with the smoke tests alone
    #[arg(default_values = ["6.1", "6.12", "newest"])]
    kernels: Vec<String>,
    /// Only tests whose path contains this
    #[arg(long)]
    filter: Option<String>,
    /// Fetch the kernels anew: what Debian has now
    #[arg(long)]
    update: bool,
}

/// Emulation is so much slower: patience of tests is multiplied by it.
const SLOW: u32 = 10;
const SMOKE: &str = "smoke";

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    if let Some(name) = args.kernels.iter().find(|k| *k != SMOKE && !image::is_name(k)) {
        bail!("no kernel is called `{name}`: 6.1, 6.12 and the like, newest, or smoke");
    }
    let mut failed = Vec::new();
    for name in &args.kernels {
        let result = if name == SMOKE {
            smoke(ws).map(drop)
        } else {
            tests(ws, name, args.filter.as_deref(), None, args.update).map(drop)
        };
        if let Err(e) = result {
            run::complain(&format!("vm {name}: {e:#}"));
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("vm: {} failed", failed.join(", ")) }
}

/// What `test` runs: gray loads, attaches and steers on the oldest kernel that it supports. The number of tests.
pub fn smoke(ws: &Workspace) -> Result<u32> {
    tests(ws, "6.1", None, Some(SMOKE), false)
}

/// Runs tests on a kernel: of one test target or of all of them. The number of tests that passed.
fn tests(
    ws: &Workspace,
    kernel: &str,
    filter: Option<&str>,
    target: Option<&str>,
    anew: bool,
) -> Result<u32> {
    if !is_root() {
        bail!("the guest's files are this machine's: run as root");
    }
    setup::need(ws, setup::LAB)?;
    build::debug(ws)?;
    let binaries = test_binaries(ws, target)?;
    let guest = Guest::prepare(ws, kernel, anew)?;
    let mut script =
        format!("export GRAY_LAB_SLOW={SLOW} GRAY_BIN={}\n", quoted(&guest.keep(&ws.debug_bin("gray"))?));
    for name in ["gray-lab-server", "gray-demo"] {
        let _ = guest.keep(&ws.debug_bin(name))?;
    }
    script += &quoted(&guest.keep(&ws.debug_bin("gray-lab-guest"))?);
    if let Some(filter) = filter {
        script += &format!(" --filter {}", quoted(Path::new(filter)));
    }
    for (name, path) in &binaries {
        script += &format!(" {name}={}", quoted(&guest.keep(path)?));
    }
    let start = Instant::now();
    let mut got = Outcomes::new();
    let ended = guest.run(&script, |line| {
        println!("{line}");
        got.extend(outcome::parse(line));
    });
    let seconds = start.elapsed().as_secs();
    println!("vm {kernel} (Linux {}): {}, {seconds} s", guest.image.release, outcome::summary(&got));
    let log = ws.show(&guest.console());
    ended.with_context(|| format!("kernel log: {log}"))?;
    let expected = Expected::read(&ws.root.join("tests/vm/expected.txt"), kernel)?;
    let faults = expected.faults(&got, filter.is_none() && target.is_none());
    if !faults.is_empty() {
        bail!("{}\nkernel log: {log}", faults.join("\n"));
    }
    let passed = got.values().filter(|o| **o == outcome::Outcome::Passed).count();
    if passed == 0 {
        bail!("no test passed");
    }
    guest.forget();
    Ok(passed as u32)
}

/// Names and paths of gray-tests' test programs.
fn test_binaries(ws: &Workspace, target: Option<&str>) -> Result<Vec<(String, PathBuf)>> {
    let mut cmd = run::cargo(&ws.root);
    let _ = cmd.args([
        "test",
        "-p",
        "gray-tests",
        "--no-run",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    if let Some(target) = target {
        let _ = cmd.args(["--test", target]);
    }
    let mut out = Vec::new();
    for line in run::capture(&mut cmd)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo's messages")?;
        let (test, path) = (&message["profile"]["test"], message["executable"].as_str());
        if let (Some(true), Some(path), Some(name)) =
            (test.as_bool(), path, message["target"]["name"].as_str())
        {
            out.push((name.to_string(), path.into()));
        }
    }
    out.sort();
    if out.is_empty() { bail!("cargo names no test program") } else { Ok(out) }
}

/// A kernel that is ready to boot, and the directory that its guest sees as `/vm`. One guest of a kernel at a time.
pub struct Guest<'a> {
    ws: &'a Workspace,
    image: Image,
    job: PathBuf,
    _lock: fs::File,
}

impl<'a> Guest<'a> {
    pub fn prepare(ws: &'a Workspace, kernel: &str, anew: bool) -> Result<Self> {
        setup::need(ws, &[Part::Vm])?;
        let job = ws.vm().join(kernel);
        fs::create_dir_all(&job).with_context(|| ws.show(&job))?;
        let lock = fs::File::create(ws.vm().join(format!("{kernel}.lock")))?;
        lock.lock()?;
        let image = image::get(ws, kernel, anew)?;
        fs::remove_dir_all(&job).with_context(|| ws.show(&job))?;
        fs::create_dir_all(job.join("bin/deps")).with_context(|| ws.show(&job))?;
        initramfs::write(ws, &image, &job.join("initrd"))?;
        let script = ws.root.join("tests/vm/guest.sh");
        let _ = fs::copy(&script, job.join("guest.sh")).with_context(|| ws.show(&script))?;
        fs::write(job.join("env.sh"), format!("VM_MODULES={}\n", quoted(&image.modules())))?;
        Ok(Self { ws, image, job, _lock: lock })
    }

    /// A file as it is now, for the guest: what is built while it runs must not change under it. Keeps the directory `deps`.
    pub fn keep(&self, file: &Path) -> Result<PathBuf> {
        let deps = file.parent().is_some_and(|p| p.ends_with("deps"));
        let to =
            self.job.join(if deps { "bin/deps" } else { "bin" }).join(file.file_name().unwrap_or_default());
        // The linker writes a new file in place of the old one, so that a second name keeps the old one.
        fs::hard_link(file, &to)
            .or_else(|_| fs::copy(file, &to).map(drop))
            .with_context(|| file.display().to_string())?;
        Ok(to)
    }

    /// Boots, and runs a shell script in `/`. Its output comes line by line.
    pub fn run(&self, script: &str, line: impl FnMut(&str)) -> Result<()> {
        fs::write(self.job.join("job.sh"), script)?;
        qemu::boot(&self.image, &self.job.join("initrd"), &self.job, &self.console(), line)
    }

    /// Its directory, here.
    pub fn job(&self) -> &Path {
        &self.job
    }

    pub fn release(&self) -> &str {
        &self.image.release
    }

    /// What its kernel said.
    pub fn console(&self) -> PathBuf {
        let name = self.job.file_name().unwrap_or_default().display().to_string();
        self.ws.vm().join(format!("{name}.log"))
    }

    /// Nothing went wrong: nobody needs its log.
    pub fn forget(self) {
        let _ = fs::remove_file(self.console());
        let _ = fs::remove_dir_all(&self.job);
    }
}

/// A word of a shell script.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
