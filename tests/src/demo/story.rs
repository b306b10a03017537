//! The steps of the demo, in order. How traffic is sent and judged is `load`.

use anyhow::{Context, Result, ensure};

use super::engine::{self, Release};
use super::expect::Expect;
use super::load::Traffic;
use super::policy::{self, ADDED};
use super::report::{Curl, Report, Row, Step};
use super::requests::{self, Act};
use super::say::Say;
use super::stage::{SERVERS, Stage, target};
use super::{Options, keep, signal};
use crate::client::curl;

const GROWTH: [u32; 4] = [1, 10, 50, 100];
/// The agent dies while this many percent are gray.
const KILLED_AT: u32 = 50;
const BREAK_BY: u32 = 20;

struct Story<'a> {
    stage: Stage,
    expect: Expect,
    steps: Vec<Step>,
    request_path: Vec<Act>,
    releases: Vec<Release>,
    curl: Option<Curl>,
    say: &'a Say,
}

/// The whole demo; with `keep`, until a signal comes.
pub(super) fn tell(options: &Options, say: &Say) -> Result<Report> {
    say.line("building the world: 2 clients, an edge host with 4 callers, 3 nginx");
    let mut story = Story::begin(say)?;
    story.traffic("gray is not here", "")?;
    let first = story.start()?;
    story.add_live()?;
    for percent in GROWTH {
        story.grow(percent, if options.break_it && percent < 100 { BREAK_BY } else { 0 })?;
        if percent == KILLED_AT {
            story.kill()?;
        }
    }
    story.roll_back(first)?;
    story.request_path = requests::tell(&story.stage, say, first, options.break_it)?;
    // What must come out wrong has done so above.
    if !options.break_it {
        story.releases = engine::releases(&story.stage, say, first)?;
    }
    if options.keep { story.keep() } else { story.uninstall() }
}

impl<'a> Story<'a> {
    fn begin(say: &'a Say) -> Result<Self> {
        let stage = Stage::build()?;
        ensure!(stage.servers() == SERVERS, "one server each");
        Ok(Self {
            stage,
            expect: Expect::default(),
            steps: Vec::new(),
            request_path: Vec::new(),
            releases: Vec::new(),
            curl: None,
            say,
        })
    }

    fn traffic(&mut self, name: &str, command: &str) -> Result<()> {
        signal::check()?;
        let rows = Traffic::send(&self.stage, &self.expect)?;
        self.step(name, command, rows);
        Ok(())
    }

    fn step(&mut self, name: &str, command: &str, rows: Vec<Row>) {
        self.say.step(name, &rows);
        let right = rows.iter().all(Row::right);
        self.steps.push(Step { name: name.into(), command: command.into(), right, rows });
    }

    /// Agent and policy; the revision to come back to.
    fn start(&mut self) -> Result<u64> {
        self.stage.start_agent()?;
        let first = self.stage.apply(0)?;
        self.say
            .line("the agent runs, examples/demo.yaml is in force; asking `gray explain` about every client");
        let sources = [self.stage.sources(false), self.stage.sources(true)].concat();
        let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
        self.expect = Expect::ask(self.stage.agent()?, &sources)?;
        self.traffic("0 %, early list", "gray apply -f examples/demo.yaml")?;
        Ok(first)
    }

    fn add_live(&mut self) -> Result<()> {
        let mut commands = Vec::new();
        for (cohort, ids) in ADDED {
            let args = [&["cohort", "add", cohort][..], ids].concat();
            let _ = self.stage.agent()?.gray_ok(&args)?;
            self.expect.add(ids);
            commands.push(format!("gray {}", args.join(" ")));
        }
        self.traffic("identities added live", &commands.join("; "))?;
        self.curl = Some(self.curl(ADDED[0].1[0])?);
        Ok(())
    }

    /// As a person would, from one of the addresses just added.
    fn curl(&self, source: &str) -> Result<Curl> {
        let url = format!("http://{}/", target(false).ip());
        let client = self.stage.world.clients.last().context("the world has clients")?;
        let answer = curl::get(&client.place(), &url, &["--interface", source])?;
        let version = answer.json()?["version"].as_str().map(str::to_owned);
        let peer = format!("{}:{}", answer.remote_ip, answer.remote_port);
        let right = answer.status == 200
            && version.as_deref() == Some(if self.expect.gray(source) { "2.0" } else { "1.0" })
            && peer == target(false).to_string();
        let command = format!("curl --interface {source} {url}");
        Ok(Curl { command, answer: answer.text().trim().to_owned(), peer, right })
    }

    /// `more`: what is applied beyond what is expected.
    fn grow(&mut self, percent: u32, more: u32) -> Result<()> {
        let _ = self.stage.apply(percent + more)?;
        self.expect.percent(percent);
        self.traffic(
            &format!("{percent} %"),
            &format!("gray apply -f examples/demo.yaml  # percent: {percent}"),
        )
    }

    /// SIGKILL in the middle of load, some time without an agent, and a new one that adopts.
    fn kill(&mut self) -> Result<()> {
        let revision = |stage: &Stage| anyhow::Ok(stage.agent()?.gray_json(&["status"])?["revision"].clone());
        let before = revision(&self.stage)?;
        let mut traffic = Traffic::endless(&self.stage)?;
        traffic.more(40)?;
        self.stage.agent_mut()?.kill9()?;
        self.say.line("the agent was killed with -9 under load");
        traffic.more(60)?;
        self.stage.agent_mut()?.restart()?;
        self.say.line("a new agent has adopted what is in the kernel");
        traffic.more(40)?;
        let rows = traffic.end(&self.stage, &self.expect)?;
        self.step(&format!("{KILLED_AT} %, agent kill -9"), "kill -9 AGENT; gray agent", rows);
        let after = revision(&self.stage)?;
        ensure!(before == after, "the new agent has revision {after} in force, the old one had {before}");
        Ok(())
    }

    fn roll_back(&mut self, revision: u64) -> Result<()> {
        let revision = revision.to_string();
        let _ = self.stage.agent()?.gray_ok(&["rollback", &revision, "--message", "end of the demo"])?;
        self.expect = self.expect.first();
        self.traffic("rolled back", &format!("gray rollback {revision}"))
    }

    fn uninstall(mut self) -> Result<Report> {
        let left = self.stage.uninstall()?;
        self.expect = Expect::default();
        self.traffic("gray is gone", "gray uninstall")?;
        let elapsed = self.say.elapsed_ms();
        Ok(Report::new(self.steps, self.request_path, self.releases, self.curl, left, elapsed))
    }

    /// The result first, then the world as it is until a signal comes.
    fn keep(mut self) -> Result<Report> {
        let steps = std::mem::take(&mut self.steps);
        let (acts, releases) = (std::mem::take(&mut self.request_path), std::mem::take(&mut self.releases));
        let (curl, elapsed) = (self.curl.take(), self.say.elapsed_ms());
        let mut report = Report::new(steps, acts, releases, curl, Vec::new(), elapsed);
        self.say.result(&report)?;
        // As rolled back: the person edits what is in force.
        std::fs::write(self.stage.policy_file(), policy::TEXT)?;
        self.say.text(&keep::commands(&self.stage, self.say)?)?;
        signal::wait();
        self.say.line("removing everything");
        report.left_behind = self.stage.uninstall()?;
        report.right &= report.left_behind.is_empty();
        Ok(report)
    }
}
