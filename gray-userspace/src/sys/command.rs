//! Runs a foreign tool for its output: no shell, no input, an end in time and in size.

use std::{
    io::{self, Read},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const MOST: u64 = 16 << 20;

/// Standard output of a tool that succeeded.
///
/// # Errors
/// `NotFound` when there is no such tool, `TimedOut` (it is killed then), else what it wrote to standard error.
pub fn output(program: &str, args: &[&str], limit: Duration) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            let _ = child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{program}: no end after {limit:?}"),
            ));
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text =
        |t: thread::JoinHandle<Vec<u8>>| String::from_utf8_lossy(&t.join().unwrap_or_default()).into_owned();
    if status.success() {
        return Ok(text(out));
    }
    Err(io::Error::other(format!("{program}: {status}: {}", text(err).lines().next().unwrap_or_default())))
}

/// Reads a pipe to its end on a thread of its own, so that a tool never waits for us; keeps the first part.
fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(MOST).read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_output_error_absence_and_an_end() {
        let limit = Duration::from_secs(5);
        assert_eq!(output("echo", &["a b", "$HOME"], limit).unwrap(), "a b $HOME\n");
        assert_eq!(output("no-such-tool", &[], limit).unwrap_err().kind(), io::ErrorKind::NotFound);
        let e = output("sh", &["-c", "echo why >&2; exit 3"], limit).unwrap_err();
        assert!(e.to_string().contains("why"), "{e}");
        let start = Instant::now();
        let e = output("sleep", &["30"], Duration::from_millis(50)).unwrap_err();
        assert!(e.kind() == io::ErrorKind::TimedOut && start.elapsed() < limit);
        assert_eq!(output("head", &["-c", "20000000", "/dev/zero"], limit).unwrap().len() as u64, MOST);
    }
}
