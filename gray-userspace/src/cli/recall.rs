//! `gray recall`: everybody back to stable, of every release that is open. Who needs it is in a hurry and knows no names.

use clap::{Args, ValueEnum};

use super::{Failure, ctx::Ctx, failure::UNREACHABLE, release};
use crate::{
    api::{
        client::path_segment,
        types::{LONGEST_DRAIN_MS, RecallMode, ReleaseCommand, ReleaseView},
    },
    release::Verb,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Of every open release that has moved anybody. A release goes back with all its services.\n\nExamples:\n  gray recall\n  gray recall --mode reset\n  gray recall --service shop --mode drain --grace 5m\n  gray recall --release shop-2.0 --message 'loses carts'"
)]
pub struct RecallArgs {
    /// Only releases that this service is in
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only this release
    #[arg(long, value_name = "NAME")]
    release: Option<String>,
    #[command(flatten)]
    way: Way,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Established connections end by themselves
    Keep,
    /// They may, for a while
    Drain,
    /// They are closed now
    Reset,
}

/// How connections come back.
#[derive(Debug, Args)]
pub(super) struct Way {
    /// What becomes of established connections; `keep` is `gray release abort`
    #[arg(long, default_value = "drain")]
    mode: Mode,
    /// With `drain`: what is open after this time is closed: 30s, 5m, 1h [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = grace)]
    grace: Option<u64>,
}

fn grace(text: &str) -> Result<u64, String> {
    let ms = crate::config::millis(text).map(u64::from);
    ms.filter(|ms| *ms <= LONGEST_DRAIN_MS)
        .ok_or_else(|| "not a time up to a week, such as 30s, 5m or 1h".into())
}

impl Way {
    pub(super) fn command(&self, message: Option<String>) -> Result<ReleaseCommand, Failure> {
        let (verb, mode) = match self.mode {
            Mode::Keep => (Verb::Abort, RecallMode::default()),
            Mode::Drain => (Verb::Recall, RecallMode::Drain),
            Mode::Reset => (Verb::Recall, RecallMode::Reset),
        };
        if self.mode != Mode::Drain && self.grace.is_some() {
            let name = if self.mode == Mode::Keep { "keep" } else { "reset" };
            return Err(Failure::usage(
                format!("`--mode {name}` has no grace"),
                "leave out --grace, or drain",
            ));
        }
        Ok(ReleaseCommand { verb, stage: None, mode, grace_ms: self.grace, message })
    }
}

pub fn run(args: RecallArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let command = args.way.command(args.message.clone())?;
    let all: Vec<ReleaseView> = ctx.wait(ctx.client.get("/v1/releases"))?;
    // Who is named is told, whatever it does; of the others those alone that have moved traffic: what another one deploys goes on.
    let concerned = |v: &&ReleaseView| goes_back(v, command.verb) && (args.release.is_some() || has_moved(v));
    let open: Vec<&ReleaseView> = all.iter().filter(concerned).collect();
    let chosen: Vec<&ReleaseView> = open.iter().copied().filter(|v| args.names(v)).collect();
    if chosen.is_empty() {
        return Err(args.nobody(&all, &open));
    }
    // One that cannot go back holds up none of the others.
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for v in chosen {
        let path = format!("/v1/releases/{}/command", path_segment(&v.name));
        match ctx.wait(ctx.client.post::<_, ReleaseView>(&path, &command)) {
            Ok(view) => done.push(view),
            Err(e) => {
                let lost = e.code == UNREACHABLE;
                failed.push((v.name.as_str(), e));
                if lost {
                    break;
                }
            }
        }
    }
    if !done.is_empty() {
        ctx.show(&done, |all, paint| release::table(all, paint))?;
    }
    together(failed).map_or(Ok(()), Err)
}

/// Whether its traffic may have moved.
fn has_moved(v: &ReleaseView) -> bool {
    !matches!(v.phase.as_str(), "requested" | "deploying" | "data" | "deploy-verify")
}

/// The agent has the last word: this only leaves out those that are back already.
fn goes_back(v: &ReleaseView, verb: Verb) -> bool {
    let back = match verb {
        Verb::Abort => matches!(v.phase.as_str(), "stopped" | "abnormal" | "recalling"),
        // An abort has left connections open.
        _ => v.phase == "stopped",
    };
    !v.over && !back
}

impl RecallArgs {
    fn names(&self, v: &ReleaseView) -> bool {
        self.release.as_ref().is_none_or(|name| *name == v.name)
            && self.service.as_ref().is_none_or(|name| v.services.iter().any(|s| s.service == *name))
    }

    /// Nothing fits.
    fn nobody(&self, all: &[ReleaseView], open: &[&ReleaseView]) -> Failure {
        let there = |v: &&ReleaseView| self.release.as_deref() == Some(&v.name) && self.names(v);
        if let Some(v) = all.iter().find(there) {
            return Failure::failed(
                format!("{} is {}: nobody is to go back", v.name, v.state),
                format!("`gray release status {}` shows why", v.name),
            );
        }
        if open.is_empty() {
            return Failure::failed(
                "no release is open that could go back",
                "`gray release status` shows them all; what the policy itself sends to gray: `gray get routes`",
            );
        }
        let what = match (&self.release, &self.service) {
            (Some(r), Some(s)) => format!("no open release {r} of {s}"),
            (Some(r), None) => format!("no open release {r}"),
            (None, s) => format!("no open release of {}", s.as_deref().unwrap_or_default()),
        };
        let names: Vec<&str> = open.iter().map(|v| v.name.as_str()).collect();
        let services: Vec<&str> = open.iter().flat_map(|v| &v.services).map(|s| s.service.as_str()).collect();
        let near = [(&self.release, &names), (&self.service, &services)]
            .into_iter()
            .find_map(|(asked, known)| asked.as_ref().and_then(|asked| nearest(asked, known)));
        let all: Vec<String> = open
            .iter()
            .map(|v| {
                let of: Vec<&str> = v.services.iter().map(|s| s.service.as_str()).collect();
                format!("{} of {}", v.name, of.join(", "))
            })
            .collect();
        let near = near.map(|n| format!("did you mean {n}? ")).unwrap_or_default();
        Failure::failed(what, format!("{near}open: {}", all.join("; ")))
    }
}

/// Another one, that was perhaps meant.
fn nearest<'a>(asked: &str, known: &[&'a str]) -> Option<&'a str> {
    let of = |name: &&str| strsim::jaro(name, asked);
    let near = known.iter().copied().max_by(|a, b| of(a).total_cmp(&of(b)))?;
    (near != asked && of(&near) > 0.7).then_some(near)
}

/// All of them in one, with the code of the gravest.
fn together(failed: Vec<(&str, Failure)>) -> Option<Failure> {
    let all: Vec<String> = failed.iter().map(|(name, f)| format!("{name}: {}", f.error)).collect();
    let mut help: Vec<&str> = Vec::new();
    for (_, f) in &failed {
        if !help.contains(&f.help.as_str()) {
            help.push(&f.help);
        }
    }
    let code = failed.iter().map(|(_, f)| f.code).max()?;
    let problems = failed.iter().flat_map(|(_, f)| f.problems.clone()).collect();
    Some(Failure { problems, ..Failure::new(code, all.join("; "), help.join("; ")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Phase;

    /// Of those that nobody named: what another release deploys goes on.
    #[test]
    fn f7_who_has_moved_nobody_is_left_alone() {
        for phase in Phase::ALL {
            let v = ReleaseView { phase: phase.name().into(), ..ReleaseView::default() };
            assert_eq!(has_moved(&v), phase > Phase::DeployVerify, "{}", v.phase);
        }
    }
}
