//! The second half: a release of two services by the engine, from its deployment to everybody; then one whose gray version is broken,
//! which the engine takes back. What it found is `told`; the programs that the releases run are `hooks`.

mod hooks;
mod told;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::policy;
use super::say::Say;
use super::signal;
use super::stage::Stage;
use crate::client::{Load, LoadSpec, Mode, Report};
use crate::command::wait_for;
use crate::pace;
use crate::server::Nginx;
use crate::world::vip4;

pub(super) use told::Release;

const POLICY: &str = include_str!("../../../examples/releases/demo-policy.yaml");
const DOCUMENT: &str = include_str!("../../../examples/releases/demo.yaml");
/// Where the first release's document and the second one's differ.
const SECOND: [(&str, &str); 2] = [("2.0", "2.1"), ("198.18.204.2:808", "198.18.203.2:809")];
const SERVICES: [&str; 2] = ["web", "api"];
/// The backend that has 1.0 and 2.1, and the gray server.
const OLD: usize = 3;
const GRAY: usize = 4;
const PATIENCE: Duration = Duration::from_secs(90);
const TIMEOUT_MS: u64 = 10_000;

/// Both releases, and the policy as it was before them.
pub(super) fn releases(stage: &Stage, say: &Say, before: u64) -> Result<Vec<Release>> {
    let engine = Engine::begin(stage, say)?;
    let first = engine.first()?;
    let second = engine.second()?;
    let args = ["rollback", &before.to_string(), "--message", "end of the releases"];
    let _ = stage.agent()?.gray_ok(&args)?;
    Ok(vec![first, second])
}

struct Engine<'a> {
    stage: &'a Stage,
    say: &'a Say,
    /// 1.0, until the first release's alignment ends it.
    _old: Vec<Nginx>,
}

impl<'a> Engine<'a> {
    fn begin(stage: &'a Stage, say: &'a Say) -> Result<Self> {
        say.line("two more services, web and api: 1.0 runs; 2.0 is not there, the release will deploy it");
        let old = hooks::begin(stage)?;
        let engine = Self { stage, say, _old: old };
        engine.apply("1.0")?;
        Ok(engine)
    }

    fn apply(&self, stable: &str) -> Result<()> {
        let file = self.stage.world.temp().join("demo-policy.yaml");
        let wanted = format!("stable: {{ version: \"{stable}\" }}");
        std::fs::write(&file, POLICY.replace("stable: { version: \"1.0\" }", &wanted))?;
        let (first, second) = (self.stage.policy_file(), file);
        std::fs::write(&first, policy::with_percent(0)?)?;
        let message = format!("{stable} is stable");
        let (first, second) = (first.to_string_lossy(), second.to_string_lossy());
        let args = ["apply", "-f", &first, "-f", &second, "--message", &message];
        self.stage.agent()?.gray_ok(&args).map(drop)
    }

    fn start(&self, document: &str, name: &str) -> Result<()> {
        let file = self.stage.world.temp().join("release.yaml");
        std::fs::write(&file, on_this_machine(document))?;
        let _ = self.stage.agent()?.gray_ok(&["release", "start", "-f", &file.to_string_lossy()])?;
        self.say.line(&format!("{name}: started, with traffic on both services"));
        Ok(())
    }

    /// Says each state as it comes, until this one.
    fn follow(&self, name: &str, last: &str) -> Result<()> {
        let mut seen = String::new();
        let came = wait_for(last, PATIENCE, || {
            signal::check()?;
            let shown = self.stage.agent()?.gray_json(&["release", "status", name])?;
            let text = |key: &str| shown[key].as_str().unwrap_or_default().to_owned();
            if text("state") != seen {
                seen = text("state");
                self.say.line(&format!("{name}: {seen}, {}", text("traffic")));
            }
            // It goes no further by itself.
            let over = matches!(seen.as_str(), "done" | "stopped" | "abnormal") || seen.starts_with("frozen");
            ensure!(seen == last || !over, "it ended otherwise");
            Ok(seen == last)
        });
        came.with_context(|| {
            let ask = |verb| {
                self.stage.agent().and_then(|a| a.gray_ok(&["release", verb, name])).unwrap_or_default()
            };
            format!("{name} came to {seen}, not to {last}\n{}\n{}", ask("status"), ask("history"))
        })
    }

    /// Clients of both services until stopped.
    fn loads(&self) -> Result<Vec<Load>> {
        let mut all = Vec::new();
        for service in 0..SERVICES.len() {
            for client in &self.stage.world.clients {
                let mut spec = load_spec(service).sources(client.sources(false));
                spec.pause_ms = 4;
                all.push(spec.start(&client.place())?);
            }
        }
        Ok(all)
    }

    /// One connection from each address to each service: how many answers each version gave.
    fn look(&self, version: &str) -> Result<Look> {
        let mut look = Look::default();
        for service in 0..SERVICES.len() {
            for client in &self.stage.world.clients {
                let sources = client.sources(false);
                let spec = load_spec(service).count(sources.len() as u64).sources(sources);
                let report = spec.run(&client.place())?;
                look.asked += report.requests;
                look.failed += report.failed();
                look.of_version += report.of_version(version);
            }
        }
        Ok(look)
    }

    fn first(&self) -> Result<Release> {
        let name = "web-api-2.0";
        let loads = self.loads()?;
        self.start(DOCUMENT, name)?;
        self.follow(name, "done")?;
        let after = self.look("2.0")?;
        let traffic = stop(loads)?;
        self.apply("2.0")?;
        let _ = self.stage.agent()?.gray_ok(&["release", "close", name])?;
        let mut release = self.told(name, "gray release start -f examples/releases/demo.yaml", &traffic)?;
        release.check(traffic.failed == 0, || format!("{} requests failed", traffic.failed));
        release.check(after.all_of_version(), || {
            format!("after it {} of {} connections were on 2.0", after.of_version, after.asked)
        });
        release.check(release.stages.len() == 4, || "the ramp has four stages".into());
        let passed = release.stages.iter().all(|s| s.verdict == "pass");
        release.check(passed, || "a stage did not pass".into());
        self.say.line(&format!(
            "{name}: everybody is on 2.0, 1.0 is offline; {} requests, {} failed",
            traffic.requests, traffic.failed
        ));
        Ok(release)
    }

    fn second(&self) -> Result<Release> {
        let name = "web-api-2.1";
        self.say
            .line("2.1 of api is broken on purpose: its health is good, and one request in five is reset");
        let loads = self.loads()?;
        let document = SECOND.iter().fold(DOCUMENT.to_owned(), |t, (from, to)| t.replace(from, to));
        // 2.0 is what stands now.
        let document = document.replace("[retire, web, \"1.0\"]", "[retire, web, \"2.0\"]");
        let document = document.replace("[retire, api, \"1.0\"]", "[retire, api, \"2.0\"]");
        self.start(&document, name)?;
        self.follow(name, "abnormal")?;
        // What had been begun may still fail.
        std::thread::sleep(pace::patience(Duration::from_millis(100)));
        let traffic = stop(loads)?;
        let after = self.look("2.0")?;
        let _ = self.stage.agent()?.gray_ok(&["release", "close", name])?;
        let mut release = self.told(name, "gray release start -f release-2.1.yaml", &traffic)?;
        release.taken_back_ms = Some(self.exposed_ms(name)?);
        release.check(traffic.failed > 0, || "nothing failed: 2.1 was not broken".into());
        release.check(after.all_of_version() && after.failed == 0, || {
            format!("after it {} of {} connections were on 2.0", after.of_version, after.asked)
        });
        let judged =
            release.stages.last().is_some_and(|s| s.verdict == "fail" && s.why.starts_with("api: failures"));
        release.check(judged, || "it was not the measured failures of api that took it back".into());
        self.say.line(&format!(
            "{name}: taken back by itself {:.1} s after its first share; {} of {} requests failed, none since",
            release.taken_back_ms.unwrap_or_default() as f64 / 1000.0,
            traffic.failed,
            traffic.requests
        ));
        Ok(release)
    }

    /// From the flip that sent the first clients of the ramp to gray to the flip that sent everybody back.
    fn exposed_ms(&self, name: &str) -> Result<u64> {
        let history = self.stage.agent()?.gray_json(&["history"])?;
        let all = history.as_array().context("the history is a list")?;
        let flipped = |share: &str| {
            let summary = format!("release {name}: {share}");
            let of = all.iter().find(|r| r["summary"].as_str().is_some_and(|s| s.starts_with(&summary)));
            of.and_then(|r| r["timings"]["flipped_ns"].as_u64())
                .with_context(|| format!("no revision `{summary}`"))
        };
        Ok(flipped("nobody")?.saturating_sub(flipped("1 %")?) / 1_000_000)
    }

    fn told(&self, name: &str, command: &str, traffic: &Traffic) -> Result<Release> {
        let agent = self.stage.agent()?;
        let status = agent.gray_json(&["release", "status", name])?;
        let history = agent.gray_json(&["release", "history", name])?;
        ensure!(history.is_array(), "the history is a list");
        let mut release = Release::read(name, command, &status, &history);
        (release.requests, release.failures) = (traffic.requests, traffic.failed);
        Ok(release)
    }
}

#[derive(Default)]
struct Traffic {
    requests: u64,
    failed: u64,
}

#[derive(Default)]
struct Look {
    asked: u64,
    failed: u64,
    of_version: u64,
}

impl Look {
    fn all_of_version(&self) -> bool {
        self.asked > 0 && self.of_version == self.asked
    }
}

fn load_spec(service: usize) -> LoadSpec {
    let target = SocketAddr::new(IpAddr::V4(vip4(service + 1)), 80);
    let mut spec = LoadSpec::new(target, Mode::Http { per_connection: 1 });
    spec.timeout_ms = TIMEOUT_MS;
    spec
}

fn stop(loads: Vec<Load>) -> Result<Traffic> {
    let mut traffic = Traffic::default();
    for load in loads {
        let report: Report = load.stop()?;
        traffic.requests += report.requests;
        traffic.failed += report.failed();
    }
    Ok(traffic)
}

/// A slow machine makes fewer connections.
fn on_this_machine(document: &str) -> String {
    if pace::factor() == 1 {
        return document.to_owned();
    }
    pace::fewer("samples of a stage", 1000, 50);
    ["samples: 1000", "samples: 100", "samples: 200", "samples: 500"]
        .iter()
        .fold(document.to_owned(), |t, samples| t.replace(samples, "samples: 50"))
}

/// For `told`.
fn number(v: &Value) -> u64 {
    v.as_u64().unwrap_or(0)
}
