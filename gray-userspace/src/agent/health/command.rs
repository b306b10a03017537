//! A check by a program of the machine's administrator. Its end is the answer, the first line of what it writes the
//! words. It gets no more of the agent than the environment below, and is killed with its children when it is late.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::probe::{Fault, Spec, plain, program as find, short};
use crate::sys::program::{self, End, Output, Program};

/// By which the next agent finds what it has to end of one that was killed.
pub const MARK: &str = "GRAY_CHECK";
/// Bytes that are kept of what a program writes: the first ones.
const KEPT: usize = 1024;

/// Passes when the program ends with 0 in time.
pub async fn run(
    dir: &Path,
    words: &[String],
    (spec, agent): (&Spec, &str),
    within: Duration,
) -> Result<String, Fault> {
    execute(dir, words, &environment(spec, agent), within).await
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
    let path = find(dir, name).map_err(|e| Fault::Own(format!("not asked: {e}")))?;
    let said = Mutex::new((Vec::new(), Vec::new()));
    let heard = |from: Output, part: &[u8]| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: &mut Vec<u8> = if from == Output::Out { &mut said.0 } else { &mut said.1 };
        let room = KEPT.saturating_sub(kept.len()).min(part.len());
        kept.extend_from_slice(&part[..room]);
    };
    let asked = Program { path: &path, arguments, dir: Path::new("/"), environment, input: None, within };
    let end = program::run(asked, &heard).await.map_err(|e| Fault::Own(format!("{name}: {}", plain(&e))))?;
    let End::Exit(status) = end else {
        let within = crate::model::Millis(u32::try_from(within.as_millis()).unwrap_or(u32::MAX));
        return Err(Fault::Instance(format!("{name} did not end within {within}")));
    };
    let said = told(said.into_inner().unwrap_or_else(PoisonError::into_inner));
    if status.success() {
        return Ok(if said.is_empty() { "ended with 0".into() } else { said });
    }
    let how = status.to_string().replace("exit status: ", "ended with ");
    Err(Fault::Instance(match said.is_empty() {
        true => format!("{name} {how}"),
        false => format!("{said} ({name} {how})"),
    }))
}

/// The first line of what it wrote, of errors before all else.
fn told((out, err): (Vec<u8>, Vec<u8>)) -> String {
    short(&String::from_utf8_lossy(if err.is_empty() { &out } else { &err }))
}

/// What a check may know, documented in docs/policy.md.
fn environment(spec: &Spec, agent: &str) -> [(&'static str, String); 6] {
    [
        (MARK, agent.to_owned()),
        ("GRAY_SERVICE", spec.service.clone()),
        ("GRAY_INSTANCE", spec.instance.clone()),
        ("GRAY_ADDRESS", spec.address.ip().to_string()),
        ("GRAY_PORT", spec.address.port().to_string()),
        ("GRAY_TIMEOUT_MS", spec.check.timeout_ms.to_string()),
    ]
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
        run(dir.path(), &["check".into(), "a b".into()], (&spec(), "test"), within).await
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
        let none = run(Path::new("/nowhere"), &["check".into()], (&spec(), "test"), LONG).await;
        assert!(matches!(none, Err(Fault::Own(e)) if e.starts_with("not asked: /nowhere")));
    }

    #[tokio::test]
    async fn it_knows_what_it_checks_and_nothing_else() {
        let all = said(
            "echo $GRAY_SERVICE $GRAY_INSTANCE $GRAY_ADDRESS $GRAY_PORT $GRAY_TIMEOUT_MS \"$1\" $PWD $HOME",
            LONG,
        );
        assert_eq!(all.await, Ok("shop two 198.18.2.3 8080 300 a b /".into()));
    }

    /// An agent that was killed has left it; the next one knows whose it was.
    #[tokio::test]
    async fn h2_what_a_dead_agent_has_left_is_ended() {
        let mark = format!("lost-{}", std::process::id());
        let begin = |mark: &str| {
            let mut sleeper = std::process::Command::new("sleep");
            sleeper.arg("1000").env_clear().env(MARK, mark).spawn().unwrap()
        };
        let (mut lost, mut other) = (begin(&mark), begin("other"));
        while program::end_lost(MARK, &mark) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!lost.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "another agent's");
        other.kill().unwrap();
        let _ = other.wait().unwrap();
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
