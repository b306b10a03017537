//! `gray explain`: asks the agent why, and prints the trail.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use clap::Args;

use super::{
    Failure,
    ctx::Ctx,
    table::{Paint, Style},
};
use crate::{
    api::types::{ArmName, ExplainReply, ExplainRequest, FlowTuple},
    model::{ClaimKind, Proto},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Answers with the tables in force; no traffic is sent.

Examples:
  gray explain --service shop --src 198.18.1.3
  gray explain --service shop --workload cart
  gray explain --service shop --lane gray-2.0
  gray explain --service shop --src 198.18.1.3 --app app7
  gray explain --service shop -H 'X-App-Id: app7' -H 'Cookie: uid=u42' --path '/buy?channel=beta'
  gray explain --service vault --src 198.18.1.3 --sni acme.example.com
  gray explain --service dns --proto udp --port 53 --src fd00::7 --dscp 46
  gray explain --live tcp 198.18.1.3 40000 198.18.1.100 80")]
pub struct ExplainArgs {
    /// The service that is dialled
    #[arg(long, short, required_unless_present = "live")]
    service: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    src: Option<IpAddr>,
    /// The client's port; matters only for choices by flow
    #[arg(long, value_name = "PORT")]
    sport: Option<u16>,
    /// The packet's or socket's mark, decimal or 0x..
    #[arg(long, value_parser = mark)]
    mark: Option<u32>,
    /// The packet's DSCP
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..64))]
    dscp: Option<u8>,
    /// The caller's workload
    #[arg(long, short)]
    workload: Option<String>,
    /// The lane that the connection is in. Without: that of the workload on this node
    #[arg(long)]
    lane: Option<String>,
    /// The app that the request names
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// The user that the request names
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The tenant that the request names
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// The device that the request names
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// The platform that the request names
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    /// The channel that the request names
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// A header of the request; cookies as clients send them, `Cookie: a=1; b=2`
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Path and query of the request
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The server's name in the TLS ClientHello
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// The first protocol that the TLS ClientHello offers
    #[arg(long, value_name = "PROTOCOL")]
    alpn: Option<String>,
    /// The identity in the SYN's tag, 16 hex digits: the HASH of a claim at the node that says it
    #[arg(long, value_name = "HASH")]
    tag: Option<String>,
    /// Which listener of the service
    #[arg(long, value_parser = proto)]
    proto: Option<Proto>,
    /// Which listener of the service
    #[arg(long)]
    port: Option<u16>,
    /// A connection that is open now
    #[arg(long, num_args = 1..=5, value_names = ["PROTO", "SRC", "SPORT", "DST", "DPORT"],
        conflicts_with_all = ["service", "src", "sport", "mark", "dscp", "workload", "lane", "app", "user", "tenant", "device",
            "platform", "channel", "headers", "path", "sni", "alpn", "tag", "proto", "port"])]
    live: Vec<String>,
}

pub fn run(args: ExplainArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let reply = ctx.wait(ctx.client.post("/v1/explain", &request(args)?))?;
    ctx.show(&reply, text)
}

pub(super) fn request(args: ExplainArgs) -> Result<ExplainRequest, Failure> {
    let live = if args.live.is_empty() { None } else { Some(tuple(&args.live.join(" "))?) };
    let claims = [
        (ClaimKind::App, args.app),
        (ClaimKind::User, args.user),
        (ClaimKind::Tenant, args.tenant),
        (ClaimKind::Device, args.device),
        (ClaimKind::Platform, args.platform),
        (ClaimKind::Channel, args.channel),
    ];
    Ok(ExplainRequest {
        service: args.service,
        src: args.src,
        sport: args.sport,
        mark: args.mark,
        dscp: args.dscp,
        workload: args.workload,
        lane: args.lane,
        claims: claims.into_iter().filter_map(|(of, value)| Some((of, value?))).collect(),
        headers: args.headers,
        path: args.path,
        sni: args.sni,
        alpn: args.alpn,
        tag: args.tag,
        proto: args.proto,
        port: args.port,
        live,
    })
}

/// `tcp 198.18.1.3 40000 198.18.1.100 80`.
fn tuple(text: &str) -> Result<FlowTuple, Failure> {
    let parse = || {
        let mut words = text.split_whitespace();
        let proto = proto(words.next()?).ok()?;
        let mut end = || Some(SocketAddr::new(words.next()?.parse().ok()?, words.next()?.parse().ok()?));
        let (src, dst) = (end()?, end()?);
        (words.next().is_none() && src.is_ipv4() == dst.is_ipv4()).then_some(FlowTuple { proto, src, dst })
    };
    parse().ok_or_else(|| {
        let what = format!("`{text}` is no connection");
        Failure::usage(
            what,
            "write --live PROTO SRC SPORT DST DPORT, such as tcp 198.18.1.3 40000 198.18.1.100 80",
        )
    })
}

fn proto(text: &str) -> Result<Proto, String> {
    match text {
        "tcp" => Ok(Proto::Tcp),
        "udp" => Ok(Proto::Udp),
        _ => Err("use tcp or udp".into()),
    }
}

fn mark(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "use a number from 0 to 4294967295, or 0x..".into())
}

fn text(r: &ExplainReply, paint: Paint) -> String {
    let mut out = format!("{}\n\n", paint.text(Style::Bold, &r.text));
    let mut field = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<10} {}", value.replace(char::is_control, "?"));
    };
    field("service", &format!("{} ({})", r.service, r.listener));
    for (i, c) in r.claims.iter().enumerate() {
        field(if i == 0 { "claims" } else { "" }, &format!("{} {}  (hash {})", c.kind, c.value, c.hash));
    }
    field("identity", r.identity.as_deref().unwrap_or("none"));
    for (name, trail) in [("held by", &r.held_trail), ("rules", &r.trail)] {
        for (i, step) in trail.iter().enumerate() {
            let mark = if step.matched { ">" } else { "-" };
            let line = format!("{mark} {} ({}): {}", step.rule, step.precedence, step.why);
            field(if i == 0 { name } else { "" }, &line);
        }
    }
    match (r.bucket, r.threshold) {
        (Some(bucket), Some(threshold)) => {
            let side = if bucket < threshold { "below" } else { "not below" };
            field("bucket", &format!("{bucket} of 10000, {side} {threshold}"));
        }
        (Some(bucket), None) => field("bucket", &format!("{bucket} of 10000")),
        _ => {}
    }
    field("route", r.route.as_deref().unwrap_or("none: the default"));
    let (arm, style) = match r.arm {
        ArmName::Gray => ("gray", Style::Warn),
        ArmName::Stable => ("stable", Style::Good),
    };
    let subset = if r.subset.is_empty() { String::new() } else { format!(" ({})", r.subset) };
    field("arm", &format!("{arm}{subset}"));
    field("instance", r.instance.as_deref().unwrap_or("none"));
    field("reason", &r.reason);
    field("epoch", &r.epoch.to_string());
    let plain = format!("{:<10} {arm}", "arm");
    out.replacen(&plain, &format!("{:<10} {}", "arm", paint.text(style, arm)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_connection_is_five_words() {
        let t = tuple("tcp 198.18.1.3 40000 198.18.1.100 80").unwrap();
        assert_eq!((t.src.to_string(), t.dst.port()), ("198.18.1.3:40000".into(), 80));
        assert_eq!(tuple("udp fd00::1 1 fd00::2 53").unwrap().src.to_string(), "[fd00::1]:1");
        for bad in [
            "",
            "tcp",
            "icmp 1.1.1.1 1 2.2.2.2 2",
            "tcp 1.1.1.1 1 2.2.2.2",
            "tcp 1.1.1.1 1 2.2.2.2 2 3",
            "tcp 1.1.1.1 1 fd00::1 2",
            "tcp 1.1.1.1 70000 2.2.2.2 2",
        ] {
            assert_eq!(tuple(bad).unwrap_err().code, super::super::failure::USAGE, "{bad}");
        }
    }

    #[test]
    fn marks_are_decimal_or_hex() {
        assert_eq!((mark("0x10"), mark("16")), (Ok(16), Ok(16)));
        assert!(mark("0x").is_err() && mark("-1").is_err() && mark("4294967296").is_err());
    }
}
