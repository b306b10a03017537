//! `gray flows`.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

use super::{
    Failure,
    ctx::Ctx,
    table::{Cell, Paint, Style, Table},
    text::duration,
};
use crate::api::{
    client::query,
    types::{ArmName, Flow, Flows},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gray flows
  gray flows --service shop --arm gray
  gray flows --src 198.18.1.3 -o json")]
pub struct FlowsArgs {
    /// Only of this service
    #[arg(long, short)]
    service: Option<String>,
    /// Only of this client
    #[arg(long, value_name = "IP")]
    src: Option<IpAddr>,
    /// Only of this arm
    #[arg(long)]
    arm: Option<Arm>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    limit: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arm {
    Gray,
    Stable,
}

pub fn run(args: &FlowsArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let arm = args.arm.map(|a| match a {
        Arm::Gray => ArmName::Gray,
        Arm::Stable => ArmName::Stable,
    });
    let path = query(&[
        ("service", args.service.clone()),
        ("src", args.src.map(|s| s.to_string())),
        ("arm", arm.map(|a| a.name().to_string())),
        ("limit", Some(args.limit.to_string())),
    ]);
    let flows: Flows = ctx.wait(ctx.client.get(&format!("/v1/flows{path}")))?;
    ctx.show(&flows, text)
}

fn instance(f: &Flow) -> String {
    let by = f.encapsulation.as_ref().map_or_else(String::new, |by| format!(", {by}"));
    format!("{} ({}{by})", f.instance, f.instance_addr)
}

fn text(all: &Flows, paint: Paint) -> String {
    let mut t = Table::new(&[
        "PROTO", "CLIENT", "SERVICE", "ADDRESS", "ARM", "INSTANCE", "RULE", "STATE", "IDLE", "NEXT HOP",
    ]);
    for f in &all.flows {
        let style = if f.arm == ArmName::Gray { Style::Warn } else { Style::Good };
        t.row([
            f.proto.as_str().into(),
            f.seen_as.as_ref().map_or_else(|| f.client.clone(), |s| format!("{} (as {s})", f.client)).into(),
            f.service.as_str().into(),
            f.service_addr.as_str().into(),
            Cell::styled(style, f.arm.name()),
            instance(f).into(),
            f.rule.as_deref().unwrap_or("default").into(),
            f.state.as_str().into(),
            duration(f.idle_s).into(),
            f.next_hop.as_deref().unwrap_or("stack").into(),
        ]);
    }
    let mut out = t.render(paint, "flows");
    let shown = all.flows.len() as u64;
    if all.matched > shown {
        out.push_str(&format!("{shown} of {} shown: --limit shows more\n", all.matched));
    }
    out
}
