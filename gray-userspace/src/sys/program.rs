//! Runs a program of the machine's administrator: a process group and an environment of its own, an end in time. However it ends, or the
//! wait for it, nothing of a group that was not done is left. What is kept of what it writes is the caller's.

use std::{
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};

/// What it wrote is waited for after its end for so long.
const LEFT: Duration = Duration::from_millis(50);
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
    let input = if p.input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = Command::new(p.path)
        .args(p.arguments)
        .current_dir(p.dir)
        .env_clear()
        .env("PATH", PATH)
        .envs(p.environment.iter().map(|(k, v)| (k, v)))
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    // Dropped with this future, too: whoever stops waiting ends it.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    match timeout(p.within, finish(&mut child, p.input.unwrap_or_default(), heard)).await {
        Ok(status) => {
            let status = status?;
            // What it started on purpose lives on.
            group.0 = None;
            Ok(End::Exit(status))
        }
        Err(_) => {
            group.end();
            let _ = child.wait().await;
            Ok(End::Late)
        }
    }
}

/// A process group that ends with this.
struct Group(Option<Pid>);

impl Group {
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
