//! Brings a notice to people: a POST, tried again for some minutes, or a program of the machine's administrator, once. Each
//! attempt has its time; nobody waits for it.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use hyper::Method;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    agent::{
        health::command::execute,
        http::{self, Ask},
    },
    api::types::AlarmEvent,
    model::{Alarm, Webhook},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Webhook,
    Command,
}

/// Before each attempt of a POST, seconds.
const PAUSES: [u64; 6] = [0, 1, 5, 15, 60, 120];
const POST: Duration = Duration::from_secs(5);
const COMMAND: Duration = Duration::from_secs(30);

/// `None`: not asked for, or there is a later notice, and this one would only confuse.
pub async fn deliver(
    by: By,
    rule: &Alarm,
    event: &AlarmEvent,
    dir: Option<&Path>,
    room: &Semaphore,
    latest: impl Fn() -> bool,
) -> Option<Result<(), String>> {
    match by {
        By::Webhook => posted(rule.webhook.as_ref()?, event, &PAUSES, room, latest).await,
        By::Command => {
            let words = rule.command.as_ref()?;
            let _turn = room.acquire().await.ok()?;
            let Some(dir) = dir else {
                return Some(Err("this agent has no --health-commands directory".into()));
            };
            let done = execute(dir, words, &environment(event), COMMAND).await;
            Some(done.map(|_| ()).map_err(|fault| fault.to_string()))
        }
    }
}

async fn posted(
    hook: &Webhook,
    event: &AlarmEvent,
    pauses: &[u64],
    room: &Semaphore,
    latest: impl Fn() -> bool,
) -> Option<Result<(), String>> {
    let mut last = String::new();
    for pause in pauses {
        tokio::time::sleep(Duration::from_secs(*pause)).await;
        // The semaphore is never closed.
        let _turn = room.acquire().await.ok()?;
        if !latest() {
            return None;
        }
        match timeout(POST, post(hook, event)).await {
            Ok(Ok(())) => return Some(Ok(())),
            Ok(Err(error)) => last = error,
            Err(_) => last = format!("no answer within {} s", POST.as_secs()),
        }
        tracing::debug!(service = event.service, error = last, "alarm: the webhook did not take it yet");
    }
    Some(Err(format!("{hook}: {last}")))
}

/// What a program may know, documented in docs/policy.md.
fn environment(e: &AlarmEvent) -> Vec<(&'static str, String)> {
    vec![
        ("GRAY_SERVICE", e.service.clone()),
        ("GRAY_ALARM", e.alarm.clone()),
        ("GRAY_RULE", e.rule.clone()),
        ("GRAY_REQUESTS", e.requests.to_string()),
        ("GRAY_MISSING", e.missing.to_string()),
    ]
}

async fn post(hook: &Webhook, event: &AlarmEvent) -> Result<(), String> {
    let body = serde_json::to_vec(event).map_err(|e| e.to_string())?;
    let kind = [("content-type", "application/json".to_owned())];
    let (method, body) = (Method::POST, Bytes::from(body));
    let asked = Ask { method, url: hook, query: "", agent: "gray-alarm", headers: &kind, body, most: 0 };
    match http::ask(asked).await? {
        (200..=299, _) => Ok(()),
        (status, _) => Err(format!("status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::model::Over;

    fn event() -> AlarmEvent {
        AlarmEvent {
            at: "2026-01-01T00:00:00Z".into(),
            service: "shop".into(),
            alarm: "raised".into(),
            rule: "over 10 % in 30s".into(),
            requests: 100,
            missing: 40,
        }
    }

    fn rule(port: u16) -> Alarm {
        let webhook = Some(Webhook { host: "127.0.0.1".into(), port, path: "/alarm?x=1".into() });
        let command = Some(vec!["page".into(), "shop".into()]);
        Alarm { over: Over::Percent(1000), clear: 500, window_ms: 30_000, least: 20, webhook, command }
    }

    /// Refused once, then taken: the second attempt brings it.
    #[tokio::test]
    async fn a3_a_webhook_is_tried_again() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rule = rule(server.local_addr().unwrap().port());
        let room = Semaphore::new(1);
        let serve = async {
            let mut said = Vec::new();
            for answer in
                ["HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"]
            {
                let (mut s, _) = server.accept().await.unwrap();
                let mut text = String::new();
                while !text.ends_with('}') {
                    let mut part = [0; 4096];
                    let n = s.read(&mut part).await.unwrap();
                    text += std::str::from_utf8(&part[..n]).unwrap();
                }
                s.write_all(answer.as_bytes()).await.unwrap();
                said.push(text);
            }
            said
        };
        let event = event();
        let (said, done) = tokio::join!(serve, deliver(By::Webhook, &rule, &event, None, &room, || true));
        assert_eq!(done, Some(Ok(())));
        for text in said {
            assert!(text.starts_with("POST /alarm?x=1 HTTP/1.1\r\n"), "{text}");
            assert!(text.contains("content-type: application/json\r\n"), "{text}");
            let body = text.split("\r\n\r\n").nth(1).unwrap();
            assert_eq!(serde_json::from_str::<AlarmEvent>(body).unwrap(), event);
        }
    }

    /// Nobody listens: it is given up in the end, or at once when there is later news.
    #[tokio::test]
    async fn a3_a_webhook_that_nobody_answers_is_given_up() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (room, event) = (Semaphore::new(1), event());
        let rule = rule(gone.port());
        let hook = rule.webhook.as_ref().unwrap();
        let done = posted(hook, &event, &[0, 0], &room, || true).await;
        assert!(matches!(&done, Some(Err(e)) if e.contains("connect:")), "{done:?}");
        let first = AtomicBool::new(true);
        let latest = || first.swap(false, Ordering::Relaxed);
        let done = posted(hook, &event, &[0, 0], &room, latest).await;
        assert_eq!(done, None);
    }

    #[tokio::test]
    async fn a3_only_the_administrators_programs_run() {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let (room, event) = (Semaphore::new(1), event());
        let run =
            async |dir: Option<&Path>| deliver(By::Command, &rule(1), &event, dir, &room, || true).await;
        assert!(matches!(run(None).await, Some(Err(e)) if e.contains("--health-commands")));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(run(Some(dir.path())).await, Some(Err(e)) if e.contains("no such file")));
        let path = dir.path().join("page");
        let script = "#!/bin/sh\necho \"$GRAY_SERVICE $GRAY_ALARM $GRAY_REQUESTS $GRAY_MISSING $1 $HOME\" > $(dirname $0)/said\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(run(Some(dir.path())).await, Some(Ok(())));
        assert_eq!(fs::read_to_string(dir.path().join("said")).unwrap(), "shop raised 100 40 shop \n");
    }
}
