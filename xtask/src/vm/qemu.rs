//! One guest: started, its lines handed on as they come, ended. Emulated (TCG): the same everywhere, with or without KVM.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::image::Image;
use crate::run;

/// A guest that says nothing for so long hangs: each test in it has a limit that is shorter.
const SILENCE: Duration = Duration::from_secs(20 * 60);
const MEMORY_MB: u32 = 3072;
/// Of two, one spins for a lock whose holder the host does not run: where guests are as many as the host's CPUs, a test takes
/// three times as long.
const CPUS: &str = "1";
/// What the emulator is quick at. A newer CPU has `rep movsb`, which it runs a byte at a time, and AVX, which is slower there
/// than SSE: with `max` a test takes half as long again. Of Intel's, Linux thinks that they copy by `rep movsq`, which the
/// emulator runs a word at a time; of AMD's family 6, it does not.
const CPU: &str = "Nehalem,vendor=AuthenticAMD";
/// A panic ends the guest at once; `nokaslr` keeps addresses in logs comparable. `norandmaps`: the emulator knows what it has
/// translated by its virtual address, too, and would translate a program anew each time that it starts. The rest is what costs
/// time and defends nothing here. A second CPU that never comes: what is for each CPU is there twice.
const KERNEL: &str = "possible_cpus=2 console=ttyS0 panic=-1 nokaslr norandmaps mitigations=off init_on_alloc=0 \
                      apparmor=0 audit=0 rcupdate.rcu_expedited=1";

/// Boots; hands each line of the guest's second serial port to `line` until it powers off. `job` is what the guest sees as
/// `/vm`; kernel messages go to `console`. A guest that ends before it has said anything is booted once more: emulated
/// kernels now and then panic on their way up, over timers that came too late.
pub fn boot(
    image: &Image,
    initrd: &Path,
    job: &Path,
    console: &Path,
    mut line: impl FnMut(&str),
) -> Result<()> {
    let mut said = false;
    let mut listen = |text: &str| {
        said = true;
        line(text);
    };
    match boot_once(image, initrd, job, console, &mut listen) {
        Err(_) if !said => boot_once(image, initrd, job, console, &mut line),
        ended => ended,
    }
}

fn boot_once(
    image: &Image,
    initrd: &Path,
    job: &Path,
    console: &Path,
    line: &mut impl FnMut(&str),
) -> Result<()> {
    let share = |path: &Path, tag: &str, more: &str| {
        format!("local,path={},mount_tag={tag},security_model=none,multidevs=remap{more}", comma(path))
    };
    // The guest goes when xtask is killed.
    let mut cmd = Command::new(run::find("setpriv").context("no setpriv (package util-linux)")?);
    let _ = cmd
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config"])
        .args([
            "-display",
            "none",
            "-no-reboot",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            CPU,
            "-smp",
            CPUS,
            "-m",
        ])
        .arg(MEMORY_MB.to_string())
        .arg("-kernel")
        .arg(image.kernel())
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", KERNEL, "-serial"])
        .arg(format!("file:{}", comma(console)))
        .args(["-serial", "stdio", "-virtfs"])
        .arg(share(Path::new("/"), "host", ",readonly=on"))
        .arg("-virtfs")
        .arg(share(job, "job", ""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = cmd.spawn().context("cannot start qemu-system-x86_64")?;
    let heard = listen(&mut child, line);
    if heard.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    if !heard? {
        bail!("the guest ended before its job did ({status})");
    }
    Ok(())
}

/// True when the guest said that it was done.
fn listen(child: &mut Child, line: &mut impl FnMut(&str)) -> Result<bool> {
    let stdout = child.stdout.take().context("qemu has no stdout")?;
    let (to, from) = mpsc::channel();
    let _ = thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
            if to.send(text).is_err() {
                return;
            }
        }
    });
    let mut done = false;
    loop {
        match from.recv_timeout(SILENCE) {
            Ok(text) if text == "vm: done" => done = true,
            Ok(text) => line(&text),
            Err(RecvTimeoutError::Disconnected) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => bail!("the guest said nothing for {} s", SILENCE.as_secs()),
        }
    }
}

/// QEMU's option values write a comma as two.
fn comma(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
