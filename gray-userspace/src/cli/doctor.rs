//! `gray doctor`: the agent looks at its host; without an agent, this process does, as an agent with defaults would.

use std::io::Write;

use super::{
    Failure, agent,
    ctx::Ctx,
    failure::UNREACHABLE,
    table::{Paint, Style},
    text::count,
};
use crate::{
    api::types::{CheckStatus, DoctorReport},
    doctor::{self, DoctorInput, Links},
};

pub fn run(ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let report = match ctx.wait(ctx.client.get::<DoctorReport>("/v1/doctor")) {
        Err(f) if f.code == UNREACHABLE && !ctx.client.socket().exists() => {
            writeln!(ctx.io.err, "no agent runs: this host is checked for one with default options")?;
            doctor::run(&defaults()).into()
        }
        answer => answer?,
    };
    ctx.show(&report, text)?;
    let failed = report.checks.iter().filter(|c| c.status == CheckStatus::Fail).count() as u64;
    match failed {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{} failed", count(n, "check")), "follow the advice under each")),
    }
}

fn defaults() -> DoctorInput {
    let map_bytes = doctor::OTHER_BYTES + doctor::flow_bytes(agent::DEFAULT_FLOWS);
    DoctorInput {
        bpffs: agent::DEFAULT_BPFFS.into(),
        cgroup: None,
        interfaces: Vec::new(),
        map_bytes,
        agent: None,
        links: Links { connect: true, ..Links::default() },
    }
}

fn text(report: &DoctorReport, paint: Paint) -> String {
    let mut out = String::new();
    let width = report.checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    for c in &report.checks {
        let (word, style) = match c.status {
            CheckStatus::Ok => ("ok  ", Style::Good),
            CheckStatus::Warn => ("warn", Style::Warn),
            CheckStatus::Fail => ("FAIL", Style::Bad),
        };
        out.push_str(&format!("{}  {:<width$}  {}\n", paint.text(style, word), c.name, c.detail));
        if let Some(fix) = &c.fix {
            out.push_str(&format!("{:1$}  fix: {fix}\n", "", 6 + width));
        }
    }
    out
}
