//! A check by a program of the machine's administrator. Its end is the answer, the first line of what it writes the
//! words. It gets no more of the agent than the environment below, and is killed with its children when it is late.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};

use super::probe::{Fault, Spec, plain, program, short};

/// Bytes that are kept of what a program writes.
const KEPT: usize = 1024;
/// What it wrote is waited for after its end for so long.
const LEFT: Duration = Duration::from_millis(50);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Passes when the program ends with 0 in time.
pub async fn run(dir: &Path, words: &[String], spec: &Spec, within: Duration) -> Result<String, Fault> {
    execute(dir, words, &environment(spec), within).await
}

/// Runs a program of the directory, with these words and `PATH` in its environment and nothing else.
pub async fn execute(
    dir: &Path,
    words: &[String],
    environment: &[(&'static str, String)],
    within: Duration,
) -> Result<String, Fault> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(Fault::Own("no program is named".into()));
    };
    let path = program(dir, name).map_err(|e| Fault::Own(format!("not asked: {e}")))?;
    let mut child = Command::new(&path)
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Fault::Own(format!("{name}: {}", plain(&e))))?;
    match timeout(within, finish(&mut child)).await {
        Ok(Ok((status, said))) if status.success() => {
            Ok(if said.is_empty() { "ended with 0".into() } else { said })
        }
        Ok(Ok((status, said))) => {
            let how = status.to_string().replace("exit status: ", "ended with ");
            Err(Fault::Instance(match said.is_empty() {
                true => format!("{name} {how}"),
                false => format!("{said} ({name} {how})"),
            }))
        }
        Ok(Err(e)) => Err(Fault::Own(format!("{name}: {}", plain(&e)))),
        Err(_) => {
            kill(&mut child).await;
            let within = crate::model::Millis(u32::try_from(within.as_millis()).unwrap_or(u32::MAX));
            Err(Fault::Instance(format!("{name} did not end within {within}")))
        }
    }
}

/// What a check may know, documented in docs/policy.md.
fn environment(spec: &Spec) -> [(&'static str, String); 5] {
    [
        ("GRAY_SERVICE", spec.service.clone()),
        ("GRAY_INSTANCE", spec.instance.clone()),
        ("GRAY_ADDRESS", spec.address.ip().to_string()),
        ("GRAY_PORT", spec.address.port().to_string()),
        ("GRAY_TIMEOUT_MS", spec.check.timeout_ms.to_string()),
    ]
}

/// How it ended and the first line of what it wrote, of errors before all else. A child of it that holds the pipes open is not waited for.
async fn finish(child: &mut Child) -> std::io::Result<(std::process::ExitStatus, String)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut said, mut wrong) = (Vec::new(), Vec::new());
    let status = {
        let read = async {
            let _ = tokio::join!(drain(out, &mut said), drain(err, &mut wrong));
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
        status
    };
    let words = if wrong.is_empty() { said } else { wrong };
    Ok((status, short(&String::from_utf8_lossy(&words))))
}

/// Keeps the beginning; the rest is read, so that the program is not held up, and thrown away.
async fn drain(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut part = [0; 512];
    while let Ok(n @ 1..) = from.read(&mut part).await {
        let room = KEPT.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(&part[..room]);
    }
}

async fn kill(child: &mut Child) {
    // Its group: what it started, too.
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill().await;
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

    use super::*;
    use crate::model::{Damping, Empty, Health, Probe};

    fn spec() -> Spec {
        let check = Health {
            probe: Probe::Command(vec!["check".into()]),
            port: None,
            interval_ms: 1000,
            timeout_ms: 300,
            rise: 1,
            fall: 1,
            jitter: 0,
            slow_start_ms: 0,
            damping: Damping { flips: 3, hold_ms: 0, max_ms: 0 },
            empty: Empty::Stable,
        };
        Spec {
            service: "shop".into(),
            instance: "two".into(),
            address: "198.18.2.3:8080".parse().unwrap(),
            check: Arc::new(check),
        }
    }

    fn failed(said: Result<String, Fault>) -> String {
        match said {
            Err(Fault::Instance(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    async fn said(script: &str, within: Duration) -> Result<String, Fault> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("check");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        run(dir.path(), &["check".into(), "a b".into()], &spec(), within).await
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn its_end_is_the_answer_and_its_words_are_kept() {
        assert_eq!(said("exit 0", LONG).await, Ok("ended with 0".into()));
        assert_eq!(said("echo fine", LONG).await, Ok("fine".into()));
        assert_eq!(failed(said("exit 3", LONG).await), "check ended with 3");
        let told = failed(said("echo disk full >&2; exit 1", LONG).await);
        assert_eq!(told, "disk full (check ended with 1)");
        let much = said("yes | head -c 1000000; exit 0", LONG).await.unwrap();
        assert_eq!(much, "y");
        assert!(failed(said("kill -9 $$", LONG).await).contains("signal: 9"));
        let none = run(Path::new("/nowhere"), &["check".into()], &spec(), LONG).await;
        assert!(
            matches!(none, Err(Fault::Own(e)) if e.starts_with("not asked: /nowhere/check: no such file"))
        );
    }

    #[tokio::test]
    async fn it_knows_what_it_checks_and_nothing_else() {
        let all = said(
            "echo $GRAY_SERVICE $GRAY_INSTANCE $GRAY_ADDRESS $GRAY_PORT $GRAY_TIMEOUT_MS \"$1\" $PWD $HOME",
            LONG,
        );
        assert_eq!(all.await, Ok("shop two 198.18.2.3 8080 300 a b /".into()));
    }

    #[tokio::test]
    async fn a_late_one_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let late = failed(said(&script, Duration::from_millis(700)).await);
        assert!(late.contains("did not end within 700ms"), "{late}");
        let child = fs::read_to_string(&pid).unwrap_or_default();
        let state = || fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        // A signal is not obeyed before its receiver runs.
        let gone = || state().is_empty() || state().contains(") Z ");
        for _ in 0..500 {
            if !gone() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(gone(), "its child lives on: {}", state());
    }
}
