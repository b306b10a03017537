//! Runs a program of the machine's administrator: a process group and an environment of its own, an end in time. However it ends, or the
//! wait for it, nothing of a group that was not done is left. What is kept of what it writes is the caller's.

use std::{
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::oneshot,
    time::{Instant, timeout},
};

/// What it wrote is waited for after its end for so long.
const LEFT: Duration = Duration::from_millis(50);
/// What was killed is waited for so long.
const KILLED: Duration = Duration::from_secs(5);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub struct Program<'a> {
    pub path: &'a Path,
    pub arguments: &'a [String],
    pub dir: &'a Path,
    /// Beside `PATH`, and nothing else.
    pub environment: &'a [(&'static str, String)],
    /// On its standard input; `None`: it has none.
    pub input: Option<Vec<u8>>,
    pub within: Duration,
}

/// Where it wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Out,
    Err,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(ExitStatus),
    /// It was ended, with its group.
    Late,
}

/// Its end. `heard` gets what it writes as it comes, and must not wait; a child of it that holds the pipes open is not waited for, and lives on
/// when the program has ended by itself.
///
/// # Errors
/// It could not be started, or not be waited for.
pub async fn run(p: Program<'_>, heard: &(dyn Fn(Output, &[u8]) + Sync)) -> io::Result<End> {
    let began = Instant::now();
    let Ok(child) = timeout(p.within, started(command(&p))).await else {
        heard(Output::Err, b"it had not begun: its directory or its file does not answer");
        // It is ended as soon as it begins.
        return Ok(End::Late);
    };
    let mut child = child?;
    // Dropped with this future, too: whoever stops waiting ends it.
    let mut group = Group::of(&child);
    let left = p.within.saturating_sub(began.elapsed());
    match timeout(left, finish(&mut child, p.input.unwrap_or_default(), heard)).await {
        Ok(status) => {
            let status = status?;
            // What it started on purpose lives on.
            group.0 = None;
            Ok(End::Exit(status))
        }
        Err(_) => {
            group.end();
            // One that hangs in the kernel ends when it can; nobody waits for it.
            let _ = timeout(KILLED, child.wait()).await;
            Ok(End::Late)
        }
    }
}

fn command(p: &Program<'_>) -> Command {
    let mut command = Command::new(p.path);
    let _ = command
        .args(p.arguments)
        .current_dir(p.dir)
        .env_clear()
        .env("PATH", PATH)
        .envs(p.environment.iter().map(|(k, v)| (k, v)))
        .stdin(if p.input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Begins it where it may block: the standard library waits until the child is in its directory and runs its program, and a file
/// system that does not answer holds both up.
async fn started(mut command: Command) -> io::Result<Child> {
    let (tell, told) = oneshot::channel();
    drop(tokio::task::spawn_blocking(move || {
        // Whoever waited is gone: it and its group end.
        if let Err(Ok(child)) = tell.send(command.spawn()) {
            Group::of(&child).end();
        }
    }));
    told.await.unwrap_or_else(|_| Err(io::Error::other("the agent ends")))
}

/// Whether a program that could not be begun may be, some time: there is no descriptor, memory or process to be had now.
pub fn is_passing(e: &io::Error) -> bool {
    [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::ENOMEM]
        .iter()
        .any(|code| e.raw_os_error() == Some(*code))
}

/// Ends what is left of programs whose agent died: every process that has this in its environment. How many there were.
pub fn end_lost(variable: &str, value: &str) -> usize {
    let wanted = format!("{variable}={value}");
    let own = std::process::id();
    let mut n = 0;
    // What it starts while we look is found the next time round.
    for _ in 0..10 {
        let found: Vec<Pid> = with_environment(&wanted)
            .into_iter()
            .filter(|p| p.cast_unsigned() != own)
            .filter_map(Pid::from_raw)
            .collect();
        if found.is_empty() {
            break;
        }
        n += found.len();
        for pid in found {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    n
}

fn with_environment(wanted: &str) -> Vec<i32> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    all.flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let read = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            read.split(|b| *b == 0).any(|v| v == wanted.as_bytes())
        })
        .collect()
}

/// A process group that ends with this.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    fn end(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

async fn finish(
    child: &mut Child,
    input: Vec<u8>,
    heard: &(dyn Fn(Output, &[u8]) + Sync),
) -> io::Result<ExitStatus> {
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that reads nothing is none the worse for it.
            let _ = stdin.write_all(&input).await;
        }
    };
    let read = async {
        let _ = tokio::join!(write, drain(out, Output::Out, heard), drain(err, Output::Err, heard));
    };
    tokio::pin!(read);
    let mut open = true;
    let status = loop {
        tokio::select! {
            () = &mut read, if open => open = false,
            status = child.wait() => break status?,
        }
    };
    if open {
        let _ = timeout(LEFT, &mut read).await;
    }
    Ok(status)
}

/// To the end, so that the program is not held up.
async fn drain(from: Option<impl AsyncRead + Unpin>, which: Output, heard: &(dyn Fn(Output, &[u8]) + Sync)) {
    let Some(mut from) = from else { return };
    let mut part = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut part).await {
        heard(which, &part[..n]);
    }
}
