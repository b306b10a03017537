//! `gray cohort plan`: which tenants a strategy chooses and why, shown before anything is changed; with `--load` they become a
//! cohort's list. And `gray cohort show --why`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    Failure, cohort,
    ctx::Ctx,
    failure::REFUSED,
    table::Paint,
    text::{count, percent},
};
use crate::{
    api::{
        client::path_segment,
        types::{Choice, ChoiceShow, ChosenTenant, CohortEdited, Problem},
    },
    config::{Source, load_strategy},
    tenants,
};

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The cohort of tenants; only with --load
    #[arg(required = false, required_if_eq("load", "true"))]
    name: Option<String>,
    /// The strategy, YAML or JSON; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    strategy: PathBuf,
    /// The table of tenants, CSV or JSON; `-` is standard input
    #[arg(long, value_name = "FILE")]
    tenants: PathBuf,
    /// Make the chosen tenants the cohort's whole list
    #[arg(long)]
    load: bool,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", requires = "load")]
    message: Option<String>,
}

#[derive(Debug, Serialize)]
struct Planned {
    strategy: String,
    of: u64,
    chosen: Vec<ChosenTenant>,
    layer_basis_points: Option<u16>,
    /// None: nothing was loaded.
    loaded: Option<CohortEdited>,
}

pub fn run(args: PlanArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    if [&args.strategy, &args.tenants].iter().all(|f| f.as_os_str() == "-") {
        return Err(Failure::usage("standard input is named twice", "give `-` once"));
    }
    let (strategy_file, document) = text(&args.strategy, ctx)?;
    let (table, tenants) = text(&args.tenants, ctx)?;
    let strategy = load_strategy(&Source::new(strategy_file, document.as_str())).map_err(|bad| Failure {
        problems: bad.errors.iter().map(Problem::from).collect(),
        ..Failure::failed(
            format!("the strategy has {}", count(bad.errors.len() as u64, "problem")),
            "correct it",
        )
    })?;
    let tenants_read = tenants::read(&table, &tenants, &strategy.choose).map_err(|bad| Failure {
        problems: bad.0.iter().map(|what| Problem::note(what.clone())).collect(),
        ..Failure::failed(format!("{table} cannot be used"), "correct the table")
    })?;
    let plan = tenants::plan(&strategy, &tenants_read);
    // Rounded up: a layer too small loses keys, one too large only space.
    let layer = plan.layer.map(|c| (c * 10_000.0).ceil().clamp(0.0, 10_000.0) as u16);
    let chosen: Vec<_> = plan.chosen.into_iter().map(|c| ChosenTenant { id: c.id, why: c.why }).collect();
    let mut planned = Planned {
        strategy: strategy.name.clone(),
        of: plan.of,
        chosen,
        layer_basis_points: layer,
        loaded: None,
    };
    if let (true, Some(name)) = (args.load, &args.name) {
        if planned.chosen.is_empty() {
            let what = format!("the strategy {} chooses none of {}", strategy.name, count(plan.of, "tenant"));
            return Err(Failure::new(
                REFUSED,
                what,
                "an empty list is loaded with `gray cohort load --file /dev/null`",
            ));
        }
        let choice = Choice {
            strategy: strategy.name,
            document,
            table,
            table_sha256: Sha256::digest(tenants.as_bytes()).iter().map(|b| format!("{b:02x}")).collect(),
            of: plan.of,
            chosen: planned.chosen.clone(),
            layer_basis_points: layer,
            message: args.message,
        };
        let path = format!("/v1/cohorts/{}/choose", path_segment(name));
        planned.loaded = Some(ctx.wait(ctx.client.post(&path, &choice))?);
    }
    ctx.show(&planned, shown)
}

fn text(file: &Path, ctx: &mut Ctx<'_>) -> Result<(String, String), Failure> {
    let name = file.display().to_string();
    let text = String::from_utf8(ctx.read(file)?)
        .map_err(|_| Failure::failed(format!("{name} is not UTF-8 text"), "save it as UTF-8"))?;
    Ok((name, text))
}

fn shown(p: &Planned, _: Paint) -> String {
    let mut out = list(&p.chosen, |_| "");
    out.push_str(&format!("{} of {} by strategy {}\n", p.chosen.len(), count(p.of, "tenant"), p.strategy));
    out.push_str(&layer(p.layer_basis_points));
    match &p.loaded {
        Some(edited) => out.push_str(&cohort::text(edited)),
        None => {
            out.push_str("nothing was loaded: `gray cohort plan NAME .. --load` makes them a cohort's list\n")
        }
    }
    out
}

fn list(chosen: &[ChosenTenant], mark: impl Fn(&str) -> &'static str) -> String {
    let mut out = String::new();
    for c in chosen {
        let line = format!("{}  {}{}", c.id, c.why.join("; "), mark(&c.id));
        out.push_str(&line.replace(char::is_control, "?"));
        out.push('\n');
    }
    out
}

fn layer(basis_points: Option<u16>) -> String {
    basis_points.map_or_else(String::new, |bp| format!("gray layer: {} of the formal one\n", percent(bp)))
}

/// The choice that the list was loaded from.
pub fn why(name: &str, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let reply: ChoiceShow =
        ctx.wait(ctx.client.get(&format!("/v1/cohorts/{}/choice", path_segment(name))))?;
    ctx.show(&reply, |r, _| {
        let gone = |id: &str| if r.removed.iter().any(|o| o == id) { "  (taken off since)" } else { "" };
        let mut out = list(&r.choice.chosen, gone);
        for id in &r.added {
            out.push_str(&format!("{}  not chosen: added since\n", id.replace(char::is_control, "?")));
        }
        let revision = r.revision.map_or_else(|| "no revision".to_owned(), |n| format!("revision {n}"));
        let c = &r.choice;
        out.push_str(&format!(
            "{} of {} of {} by strategy {}, {} by {}, {revision}\n",
            c.chosen.len(),
            count(c.of, "tenant"),
            c.table.replace(char::is_control, "?"),
            c.strategy,
            r.at,
            r.who
        ));
        out + &layer(c.layer_basis_points)
    })
}
