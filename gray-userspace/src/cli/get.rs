//! `gray get`: parts of the policy in force.

use clap::{Args, ValueEnum};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Failure,
    ctx::Ctx,
    history, release,
    table::{Cell, Paint, Style, Table},
    text::percent,
};
use crate::api::types::{
    ArmView, CohortView, HistoryEntry, InstanceView, LaneView, ReleaseView, RouteView, ServiceView,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gray get services
  gray get instances shop            # of one service
  gray get instances shop/shop-2a
  gray get routes -o yaml
  gray get history 12")]
pub struct GetArgs {
    /// What to show
    kind: Kind,
    /// Only the one of this name
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    #[value(alias = "service")]
    Services,
    #[value(alias = "instance")]
    Instances,
    #[value(alias = "cohort")]
    Cohorts,
    #[value(alias = "route")]
    Routes,
    #[value(alias = "lane")]
    Lanes,
    #[value(alias = "release")]
    Releases,
    History,
}

pub fn run(args: GetArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let name = args.name.as_deref();
    match args.kind {
        Kind::Services => list("services", name, |s: &ServiceView, n| s.name == n, services, ctx),
        Kind::Instances => {
            let is = |i: &InstanceView, n: &str| i.service == n || n == format!("{}/{}", i.service, i.id);
            list("instances", name, is, instances, ctx)
        }
        Kind::Cohorts => list("cohorts", name, |c: &CohortView, n| c.name == n, cohorts, ctx),
        Kind::Routes => list("routes", name, |r: &RouteView, n| r.name == n, routes, ctx),
        Kind::Lanes => list("lanes", name, |l: &LaneView, n| l.name == n, lanes, ctx),
        Kind::Releases => list("releases", name, |r: &ReleaseView, n| r.name == n, release::table, ctx),
        Kind::History => {
            list("history", name, |h: &HistoryEntry, n| h.revision.to_string() == n, history::table, ctx)
        }
    }
}

fn list<T: Serialize + DeserializeOwned>(
    what: &str,
    name: Option<&str>,
    is: impl Fn(&T, &str) -> bool,
    human: impl FnOnce(&[T], Paint) -> String,
    ctx: &mut Ctx<'_>,
) -> Result<(), Failure> {
    let mut all: Vec<T> = ctx.wait(ctx.client.get(&format!("/v1/{what}")))?;
    if let Some(name) = name {
        all.retain(|item| is(item, name));
        if all.is_empty() {
            let error = format!("there is no `{name}` among the {what}");
            return Err(Failure::failed(error, format!("`gray get {what}` lists them")));
        }
    }
    ctx.show(&all, |all, paint| human(all, paint))
}

fn services(all: &[ServiceView], paint: Paint) -> String {
    let mut t = Table::new(&[
        "SERVICE",
        "LISTEN",
        "STABLE",
        "INSTANCES",
        "IDENTIFY",
        "MISSING",
        "NAT",
        "BALANCE",
        "AFFINITY",
        "HEALTH",
        "ROUTES",
    ]);
    for s in all {
        t.row([
            s.name.as_str().into(),
            s.listen.join(" ").into(),
            s.stable.as_str().into(),
            s.instances.into(),
            s.identify.join(",").into(),
            s.on_missing_identity.as_str().into(),
            s.encapsulation.as_ref().map_or_else(|| s.nat.clone(), |by| format!("{} ({by})", s.nat)).into(),
            s.balance.as_str().into(),
            match s.zone_affinity.as_str() {
                "" | "off" => s.affinity.clone(),
                zone => format!("{} (zone: {zone})", s.affinity),
            }
            .into(),
            s.health.as_deref().into(),
            if s.shadow { format!("{} (shadow)", s.routes.join(" ")) } else { s.routes.join(" ") }.into(),
        ]);
    }
    t.render(paint, "services")
}

fn instances(all: &[InstanceView], paint: Paint) -> String {
    let mut t = Table::new(&[
        "INSTANCE",
        "ADDRESS",
        "META",
        "WEIGHT",
        "STATE",
        "STABLE",
        "FLOWS",
        "HEALTH",
        "LAST PROBE",
    ]);
    for i in all {
        let meta: Vec<_> = i.meta.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let style = if i.state == "active" { Style::Good } else { Style::Warn };
        t.row([
            format!("{}/{}", i.service, i.id).into(),
            i.address.as_str().into(),
            meta.join(",").into(),
            i.weight.into(),
            match &i.deadline {
                Some(at) => Cell::styled(style, format!("{} to {at}", i.state)),
                None => Cell::styled(style, &*i.state),
            },
            if i.stable { "yes" } else { "no" }.into(),
            i.flows.into(),
            health(i),
            i.health.as_ref().and_then(|h| h.last.as_deref()).into(),
        ]);
    }
    t.render(paint, "instances")
}

fn health(i: &InstanceView) -> Cell {
    let Some(h) = &i.health else { return Cell::from("-") };
    match h.state.as_str() {
        "up" => Cell::styled(Style::Good, "up"),
        "starting" => Cell::styled(Style::Warn, format!("starting {}%", h.share)),
        "held" => Cell::styled(Style::Bad, format!("held {}s", h.held_s.unwrap_or(0))),
        "down" => Cell::styled(Style::Bad, "down"),
        other => Cell::styled(Style::Warn, other),
    }
}

fn cohorts(all: &[CohortView], paint: Paint) -> String {
    let mut t = Table::new(&["COHORT", "KIND", "OF", "SIZE", "EDITED"]);
    for c in all {
        let size = match c.basis_points {
            Some(bp) => Cell::from(percent(bp)),
            None if c.kind == "tail" || c.joined.is_some() => "".into(),
            None => c.size.into(),
        };
        t.row([
            c.name.as_str().into(),
            c.kind.as_str().into(),
            c.joined.as_deref().or(c.of.as_deref()).unwrap_or("identity").into(),
            size,
            if c.edited { "yes" } else { "no" }.into(),
        ]);
    }
    t.render(paint, "cohorts")
}

fn routes(all: &[RouteView], paint: Paint) -> String {
    let mut t = Table::new(&["ROUTE", "SERVICE", "WHEN", "TO", "PRECEDENCE", "DECISIONS"]);
    for r in all {
        let whole = |bp| if bp == 10_000 { String::new() } else { format!(" {}", percent(bp)) };
        let lane = r.lane.iter().map(|l| format!("lane {l}"));
        let arm = |a: &ArmView| format!("{}{}", a.subset, whole(a.basis_points));
        let to: Vec<_> = lane.chain(r.to.iter().map(arm)).collect();
        t.row([
            r.name.as_str().into(),
            r.service.as_deref().unwrap_or("(all)").into(),
            r.when.as_deref().unwrap_or("(everybody)").into(),
            to.join(" | ").into(),
            r.precedence.as_str().into(),
            r.decisions.into(),
        ]);
    }
    t.render(paint, "routes")
}

fn lanes(all: &[LaneView], paint: Paint) -> String {
    let mut t = Table::new(&["LANE", "NUMBER", "SERVICES", "ROUTES", "WORKLOADS", "DECISIONS"]);
    for l in all {
        let services: Vec<_> = l.services.iter().map(|(s, subset)| format!("{s}: {subset}")).collect();
        t.row([
            l.name.as_str().into(),
            u64::from(l.number).into(),
            services.join(" | ").into(),
            l.routes.join(" ").into(),
            l.workloads.join(" ").into(),
            l.decisions.into(),
        ]);
    }
    t.render(paint, "lanes")
}
