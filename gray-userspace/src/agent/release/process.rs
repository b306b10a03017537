//! A program of a step: the release on its standard input, what it writes kept up to a limit; and what is left of one whose agent died.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::{agent::health::plain, sys::program};

/// Bytes of what a program writes that are kept: the last ones.
const KEPT: usize = 2048;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
    /// It was ended, with its group.
    Late,
    /// It never began; or not now, for want of what comes back: descriptors, memory, processes.
    NotRun(String),
    NotNow(String),
}

/// How it ended and what it said.
pub async fn run(p: program::Program<'_>) -> (End, String) {
    use std::os::unix::process::ExitStatusExt as _;
    let said = Mutex::new(Said::default());
    let path = p.path.display().to_string();
    let heard =
        |_: program::Output, part: &[u8]| said.lock().unwrap_or_else(PoisonError::into_inner).add(part);
    let end = match program::run(p, &heard).await {
        Ok(program::End::Exit(status)) => match (status.code(), status.signal()) {
            (Some(code), _) => End::Code(code),
            (None, signal) => End::Signal(signal.unwrap_or(0)),
        },
        Ok(program::End::Late) => End::Late,
        Err(e) if program::is_passing(&e) => End::NotNow(format!("{path}: {}", plain(&e))),
        Err(e) => End::NotRun(format!("{path}: {}", plain(&e))),
    };
    (end, said.into_inner().unwrap_or_else(PoisonError::into_inner).text())
}

/// The last bytes of both its outputs, as they came.
#[derive(Default)]
struct Said {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl Said {
    fn add(&mut self, part: &[u8]) {
        self.bytes.extend(part);
        let over = self.bytes.len().saturating_sub(KEPT);
        drop(self.bytes.drain(..over));
        self.dropped += over as u64;
    }

    /// Lines with bars between.
    fn text(self) -> String {
        let bytes: Vec<u8> = self.bytes.into();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let clean = lines.join(" | ").replace(char::is_control, "?");
        if self.dropped > 0 { format!("({} bytes before) {clean}", self.dropped) } else { clean }
    }
}

/// Ends what is left of a step whose agent died. How many processes there were.
pub fn end_lost(key: &str) -> usize {
    program::end_lost("GRAY_KEY", key)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;

    async fn said(script: &str, within_ms: u64) -> (End, String) {
        let arguments = ["-c".to_owned(), script.to_owned()];
        run(program::Program {
            path: Path::new("/bin/sh"),
            arguments: &arguments,
            dir: Path::new("/tmp"),
            environment: &[("GRAY_KEY", format!("test.{}", std::process::id()))],
            input: Some(b"{\"name\":\"shop\"}".to_vec()),
            within: Duration::from_millis(within_ms),
        })
        .await
    }

    #[tokio::test]
    async fn f2_what_it_gets_and_what_is_kept() {
        assert_eq!(
            said("cat; pwd; echo $HOME", 9000).await,
            (End::Code(0), "{\"name\":\"shop\"}/tmp".into())
        );
        let (end, text) = said("echo one; echo two >&2; exit 3", 9000).await;
        assert_eq!(end, End::Code(3));
        assert!(text.contains("one") && text.contains("two"), "{text}");
        assert_eq!(said("kill -9 $$", 9000).await.0, End::Signal(9));
        let (end, text) = said("head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last", 9000).await;
        assert_eq!(end, End::Code(0));
        assert!(text.len() < 2 * KEPT && text.starts_with('(') && text.ends_with("| last"), "{text}");
    }

    fn alive(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }

    async fn gone(pid: &str) -> bool {
        for _ in 0..500 {
            if !alive(pid) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn f2_one_that_hangs_is_ended_with_its_group() {
        let (end, child) = said("sleep 1000 & echo $!; wait", 500).await;
        assert_eq!(end, End::Late);
        assert!(!child.is_empty() && gone(&child).await, "{child} lives");
    }

    #[tokio::test]
    async fn f7_one_that_nobody_waits_for_any_more_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let task = tokio::spawn(async move { said(&script, 60_000).await });
        let mut child = String::new();
        while child.trim().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            child = std::fs::read_to_string(&pid).unwrap_or_default();
        }
        assert!(alive(&child));
        task.abort();
        assert!(gone(&child).await, "{child} lives");
    }

    #[tokio::test]
    async fn f1_what_a_dead_agent_left_is_found_by_its_key() {
        let mut left = std::process::Command::new("/bin/sleep")
            .arg("1000")
            .env("GRAY_KEY", "shop.7.lost-in-a-test")
            .spawn()
            .unwrap();
        assert_eq!(end_lost("shop.7.lost-in-a-tes"), 0, "the whole key");
        let found = tokio::task::spawn_blocking(|| end_lost("shop.7.lost-in-a-test"));
        let status = tokio::task::spawn_blocking(move || left.wait()).await.unwrap().unwrap();
        assert!(!status.success());
        assert!(found.await.unwrap() >= 1);
    }
}
