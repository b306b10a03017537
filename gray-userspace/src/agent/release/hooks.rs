//! One attempt of a step: what is done or asked, and what counts as an answer. Decides nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use hyper::Method;
use tokio::time::timeout;

use super::{
    process::{self, End},
    scripts, sign,
};
use crate::{
    agent::{
        health,
        http::{self, Ask},
    },
    api::client,
    model::{Millis, Webhook},
    release::{Does, Hook, Limit, Outcome, Script},
    sys::program::Program,
};

/// A program that ends so says that it cannot tell (sysexits.h).
const EX_TEMPFAIL: i32 = 75;
/// Bytes of a Prometheus answer.
const NUMBERS: usize = 1 << 20;
/// The services that may be started, one a line, in the directory of hooks.
const UNITS: &str = "units";

/// An attempt, with all that it needs to know.
#[derive(Clone, Debug)]
pub struct Job {
    pub release: String,
    pub run: u64,
    pub seq: u64,
    pub hook: Hook,
    pub key: String,
    pub environment: Vec<(&'static str, String)>,
    /// JSON.
    pub input: Vec<u8>,
    pub dir: Option<PathBuf>,
    /// Of a script: the digest of what was judged.
    pub judged: Option<String>,
}

/// Ends after the step's time-out at the latest.
pub async fn attempt(job: &Job) -> (Outcome, String) {
    let within = Duration::from_millis(u64::from(job.hook.timeout_ms));
    match &job.hook.does {
        // They end their programs by themselves.
        Does::Command { words, dir } => command(job, words, dir.as_deref(), within).await,
        Does::Unit(unit) => start_unit(job, unit, within).await,
        Does::Script(s) => script(job, s, within).await,
        does => match timeout(within, ask(job, does)).await {
            Ok(done) => done,
            Err(_) => (Outcome::Fail, format!("no answer within {}", Millis(job.hook.timeout_ms))),
        },
    }
}

async fn command(job: &Job, words: &[String], dir: Option<&str>, within: Duration) -> (Outcome, String) {
    let Some((name, arguments)) = words.split_first() else {
        return (Outcome::Fail, "no program is named".into());
    };
    match job.dir.as_deref().map(|d| health::program(d, name)) {
        None => (Outcome::Fail, "this agent has no --release-hooks directory".into()),
        Some(Err(e)) => (Outcome::Fail, e),
        Some(Ok(path)) => program(job, (&path, arguments), dir, job.input.clone(), within).await,
    }
}

async fn start_unit(job: &Job, unit: &str, within: Duration) -> (Outcome, String) {
    match job.dir.as_deref().map(|d| unit_allowed(d, unit)) {
        None => (Outcome::Fail, "this agent has no --release-hooks directory".into()),
        Some(Err(e)) => (Outcome::Fail, e),
        Some(Ok(())) => {
            let arguments = ["start".to_owned(), "--".to_owned(), unit.to_owned()];
            program(job, (Path::new("systemctl"), &arguments), None, job.input.clone(), within).await
        }
    }
}

/// The program gets what was judged, and nothing else.
async fn script(job: &Job, script: &Script, within: Duration) -> (Outcome, String) {
    let Some((name, arguments)) = script.run.split_first() else {
        return (Outcome::Fail, "no program is named".into());
    };
    let Some(dir) = job.dir.as_deref() else {
        return (Outcome::Fail, "this agent has no --release-hooks directory".into());
    };
    let found = health::program(dir, name).and_then(|path| Ok((path, scripts::read(dir, &script.file)?)));
    match found {
        Err(e) => (Outcome::Fail, e),
        Ok((_, text)) if job.judged.as_deref() != Some(scripts::digest(&text).as_str()) => {
            let why = "is not what was judged when the release was started: close it, and start it again";
            (Outcome::Fail, format!("{} {why}", script.file))
        }
        Ok((path, text)) => program(job, (&path, arguments), None, text.into_bytes(), within).await,
    }
}

async fn program(
    job: &Job,
    (path, arguments): (&Path, &[String]),
    dir: Option<&str>,
    input: Vec<u8>,
    within: Duration,
) -> (Outcome, String) {
    let (end, said) = process::run(Program {
        path,
        arguments,
        dir: Path::new(dir.unwrap_or("/")),
        environment: &job.environment,
        input: Some(input),
        within,
    })
    .await;
    let said = if said.is_empty() { said } else { format!(": {said}") };
    match end {
        End::Code(0) => (Outcome::Pass, format!("ended with 0{said}")),
        End::Code(EX_TEMPFAIL) => (Outcome::Inconclusive, format!("cannot tell{said}")),
        End::Code(code) => (Outcome::Fail, format!("ended with {code}{said}")),
        End::Signal(n) => (Outcome::Fail, format!("ended by signal {n}{said}")),
        End::Late => {
            let within = Millis(job.hook.timeout_ms);
            (Outcome::Fail, format!("did not end within {within} and was ended, with what it started{said}"))
        }
        End::NotRun(why) => (Outcome::Fail, why),
        End::NotNow(why) => (Outcome::Inconclusive, why),
    }
}

/// Only what the administrator lists.
pub fn unit_allowed(dir: &Path, unit: &str) -> Result<(), String> {
    let path = dir.join(UNITS);
    let _ = health::unchanged(dir, &path)?;
    let text =
        std::fs::read_to_string(&path).map_err(|e| format!("{}: {}", path.display(), health::plain(&e)))?;
    match text.lines().map(str::trim).any(|l| l == unit) {
        true => Ok(()),
        false => Err(format!("{unit} is not listed in {}", path.display())),
    }
}

async fn ask(job: &Job, does: &Does) -> (Outcome, String) {
    match does {
        Does::Webhook { url, secret } => post(job, url, secret.as_deref()).await,
        Does::Http { url, status } => match http::ask(get(url, "", 0)).await {
            Ok((n, _)) if (status.0..=status.1).contains(&n) => (Outcome::Pass, format!("status {n}")),
            Ok((n, _)) => (Outcome::Fail, format!("status {n}, not {} to {}", status.0, status.1)),
            Err(e) => (Outcome::Fail, e),
        },
        Does::Prometheus { url, query, limit } => query_number(url, query, *limit).await,
        // Asked above.
        Does::Command { .. } | Does::Unit(_) | Does::Script(_) => (Outcome::Fail, "no question".into()),
    }
}

async fn post(job: &Job, url: &Webhook, secret: Option<&str>) -> (Outcome, String) {
    let mut headers =
        vec![("content-type", "application/json".to_owned()), ("idempotency-key", job.key.clone())];
    if let Some(name) = secret {
        let found = match &job.dir {
            Some(dir) => sign::secret(dir, name),
            None => Err("this agent has no --release-hooks directory".into()),
        };
        match found {
            Ok(secret) => headers.push(("x-gray-signature", sign::signature(&secret, &job.input))),
            Err(e) => return (Outcome::Fail, e),
        }
    }
    let body = Bytes::from(job.input.clone());
    let asked =
        Ask { method: Method::POST, url, query: "", agent: "gray-release", headers: &headers, body, most: 0 };
    match http::ask(asked).await {
        Ok((n @ 200..=299, _)) => (Outcome::Pass, format!("status {n}")),
        Ok((n, _)) => (Outcome::Fail, format!("status {n}")),
        Err(e) => (Outcome::Fail, e),
    }
}

fn get<'a>(url: &'a Webhook, query: &'a str, most: usize) -> Ask<'a> {
    Ask { method: Method::GET, url, query, agent: "gray-release", headers: &[], body: Bytes::new(), most }
}

/// The instant query of the HTTP API. No answer says nothing about gray: inconclusive.
async fn query_number(url: &Webhook, query: &str, limit: Limit) -> (Outcome, String) {
    let base = Webhook { path: format!("{}/api/v1/query", url.path.trim_end_matches('/')), ..url.clone() };
    let asked = client::query(&[("query", Some(query.to_owned()))]);
    match http::ask(get(&base, &asked, NUMBERS)).await {
        Ok((200, body)) => match numbers(&body) {
            Ok(all) if all.is_empty() => (Outcome::Inconclusive, "the query has no result".into()),
            Ok(all) => {
                // One series that has no number hides none that is bad.
                match all.iter().find(|n| !n.is_nan() && !limit.holds(**n)) {
                    Some(n) => (Outcome::Fail, format!("{n} is not {limit}")),
                    None if all.iter().any(|n| n.is_nan()) => {
                        (Outcome::Inconclusive, "the result is no number".into())
                    }
                    None => (Outcome::Pass, format!("{} is {limit}", shown(&all))),
                }
            }
            Err(e) => (Outcome::Inconclusive, e),
        },
        Ok((n, _)) => (Outcome::Inconclusive, format!("status {n}")),
        Err(e) => (Outcome::Inconclusive, e),
    }
}

fn shown(all: &[f64]) -> String {
    all.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
}

/// The numbers of a vector or a scalar.
fn numbers(body: &[u8]) -> Result<Vec<f64>, String> {
    let reply: serde_json::Value =
        serde_json::from_slice(body).map_err(|e| format!("no answer of Prometheus: {e}"))?;
    let data = &reply["data"];
    let number = |value: &serde_json::Value| value[1].as_str().and_then(|t| t.parse::<f64>().ok());
    let found: Option<Vec<f64>> = match data["resultType"].as_str() {
        Some("vector") => {
            data["result"].as_array().and_then(|all| all.iter().map(|r| number(&r["value"])).collect())
        }
        Some("scalar") => number(&data["result"]).map(|n| vec![n]),
        _ => None,
    };
    found.ok_or_else(|| "the answer is neither a vector nor a scalar".into())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::lint_sql::Dialect;

    fn job(does: Does, dir: Option<&Path>) -> Job {
        Job {
            release: "shop-2.0".into(),
            run: 7,
            seq: 1,
            hook: Hook { does, timeout_ms: 5000, retries: 0, backoff_ms: 100 },
            key: "shop-2.0.7.1".into(),
            environment: vec![("GRAY_KEY", "shop-2.0.7.1".into())],
            input: b"{}".to_vec(),
            dir: dir.map(Path::to_path_buf),
            judged: Some(scripts::digest("select 1;\n")),
        }
    }

    /// One answer; what was asked, and what came of it.
    async fn asked(
        answer: String,
        does: impl Fn(Webhook) -> Does,
        dir: Option<&Path>,
    ) -> (String, (Outcome, String)) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let serve = async {
            let (mut s, _) = server.accept().await.unwrap();
            let mut head = vec![0; 8192];
            let mut text = String::new();
            while !text.contains("\r\n\r\n") || text.starts_with("POST") && !text.ends_with("{}") {
                let n = s.read(&mut head).await.unwrap();
                text += std::str::from_utf8(&head[..n]).unwrap();
            }
            let _ = s.write_all(answer.as_bytes()).await;
            text
        };
        let url = Webhook { host: "127.0.0.1".into(), port, path: "/x".into() };
        let job = job(does(url), dir);
        tokio::join!(serve, attempt(&job))
    }

    fn reply(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn f2_a_webhook_is_signed_and_has_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook-key");
        fs::write(&path, "s3cret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let does = |url| Does::Webhook { url, secret: Some("hook-key".into()) };
        let (text, done) = asked(reply("202 Accepted", ""), does, Some(dir.path())).await;
        assert_eq!(done, (Outcome::Pass, "status 202".into()));
        assert!(text.contains("idempotency-key: shop-2.0.7.1\r\n"), "{text}");
        let want = sign::signature(b"s3cret", b"{}");
        assert!(text.contains(&format!("x-gray-signature: {want}\r\n")), "{text}");
        let (_, done) = asked(reply("500 No", ""), |url| Does::Webhook { url, secret: None }, None).await;
        assert_eq!(done, (Outcome::Fail, "status 500".into()));
    }

    #[tokio::test]
    async fn f10_a_number_of_prometheus_is_held_against_its_limit() {
        let vector = |n: &str| {
            format!("{{\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"value\":[1,\"{n}\"]}}]}}}}")
        };
        let empty = "{\"data\":{\"resultType\":\"vector\",\"result\":[]}}".to_owned();
        let scalar = "{\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"0.5\"]}}".to_owned();
        for (body, limit, want) in [
            (vector("0.001"), Limit::Below(0.01), Outcome::Pass),
            (vector("0.01"), Limit::Below(0.01), Outcome::Fail),
            (vector("0.02"), Limit::Above(0.01), Outcome::Pass),
            (vector("NaN"), Limit::Above(0.01), Outcome::Inconclusive),
            (vector("NaN\"]},{\"value\":[1,\"0.9"), Limit::Below(0.01), Outcome::Fail),
            (vector("0.001\"]},{\"value\":[1,\"NaN"), Limit::Below(0.01), Outcome::Inconclusive),
            (empty, Limit::Below(1.0), Outcome::Inconclusive),
            (scalar, Limit::Below(1.0), Outcome::Pass),
            ("<html>".into(), Limit::Below(1.0), Outcome::Inconclusive),
        ] {
            let does = |url| Does::Prometheus { url, query: "sum(a[1m])".into(), limit };
            let (text, done) = asked(reply("200 OK", &body), does, None).await;
            assert_eq!(done.0, want, "{body} {limit}: {}", done.1);
            assert!(text.starts_with("GET /x/api/v1/query?query=sum%28a%5B1m%5D%29 HTTP/1.1\r\n"), "{text}");
        }
    }

    #[tokio::test]
    async fn f10_an_http_probe_wants_its_status() {
        for (status, want) in [("200 OK", Outcome::Pass), ("404 No", Outcome::Fail)] {
            let (_, done) =
                asked(reply(status, ""), |url| Does::Http { url, status: (200, 299) }, None).await;
            assert_eq!(done.0, want);
        }
    }

    #[tokio::test]
    async fn f10_a_command_passes_fails_or_cannot_tell() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("check");
        fs::write(&path, "#!/bin/sh\necho $GRAY_KEY; exit $1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for (code, want) in [("0", Outcome::Pass), ("75", Outcome::Inconclusive), ("1", Outcome::Fail)] {
            let does = Does::Command { words: vec!["check".into(), code.into()], dir: None };
            let (outcome, text) = attempt(&job(does, Some(dir.path()))).await;
            assert_eq!(outcome, want);
            assert!(text.ends_with(": shop-2.0.7.1"), "{text}");
        }
        let does = Does::Command { words: vec!["check".into()], dir: None };
        assert_eq!(attempt(&job(does, None)).await.0, Outcome::Fail);
    }

    #[tokio::test]
    async fn g1_a_script_is_run_as_it_was_judged_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("run-sql", "#!/bin/sh\ncat\n", 0o755);
        write("a.sql", "select 1;\n", 0o644);
        let run = vec!["run-sql".to_owned()];
        let script = Script {
            file: "a.sql".into(),
            dialect: Dialect::Postgres,
            rules: None,
            rows_may_stay: false,
            run,
        };
        let job = job(Does::Script(script), Some(dir.path()));
        assert_eq!(attempt(&job).await, (Outcome::Pass, "ended with 0: select 1;".into()));
        write("a.sql", "select 2;\n", 0o644);
        let (outcome, text) = attempt(&job).await;
        assert!(outcome == Outcome::Fail && text.contains("not what was judged"), "{text}");
    }

    #[test]
    fn only_listed_units_are_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(UNITS);
        assert!(unit_allowed(dir.path(), "a.service").is_err());
        fs::write(&path, "a.service\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(unit_allowed(dir.path(), "a.service"), Ok(()));
        assert!(unit_allowed(dir.path(), "b.service").unwrap_err().contains("is not listed"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(unit_allowed(dir.path(), "a.service").unwrap_err().contains("changed by others"));
    }
}
