//! `gray import`: rules of other systems as our document, and what of them has no counterpart. Needs no agent.

use std::{collections::BTreeMap, io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, args::Format, ctx::Ctx, text::count};
use crate::{
    config::to_yaml,
    import::{Imported, Left, Wishes, discovery},
    model::ClaimKind,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gray import discovery rule.xml > routes.yaml
  gray validate services.yaml routes.yaml")]
pub struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Rules of the Nepxion Discovery family: rule.xml, or properties with such rules as values
    #[command(after_help = "\
The document goes to standard output, what has no counterpart to standard error, one line each. A rule file does not say
where services listen: the document has routes only, and is read together with one that has the services.

Examples:
  gray import discovery rule.xml > routes.yaml
  gray import discovery rule.xml --claim mobile=user --claim os=platform > routes.yaml
  gray import discovery gateway.xml --consumer shop-gateway > gateway.yaml
  gray import discovery rule.xml -o json | jq -r '.left[] | .place + \" \" + .why'")]
    Discovery(DiscoveryArgs),
}

#[derive(Debug, Args)]
struct DiscoveryArgs {
    /// The rule file; `-` is standard input
    file: PathBuf,
    /// A header, parameter or cookie of the conditions, and the claim that it is: `mobile=user`; may be given several times
    #[arg(long = "claim", value_name = "NAME=CLAIM", value_parser = claim)]
    claims: Vec<(String, ClaimKind)>,
    /// The rules are of this service's own data id: they are about its calls only
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
}

fn claim(text: &str) -> Result<(String, ClaimKind), String> {
    let names = || ClaimKind::READ.map(ClaimKind::name).join(", ");
    let (name, of) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=CLAIM")?;
    let of = ClaimKind::READ.into_iter().find(|k| k.name() == of);
    Ok((name.to_owned(), of.ok_or_else(|| format!("the claim is one of {}", names()))?))
}

#[derive(Debug, Serialize)]
struct Reply {
    /// YAML.
    document: String,
    /// Where the services must read the claims.
    claims: BTreeMap<&'static str, String>,
    left: Vec<Left>,
}

pub fn run(args: ImportArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let From::Discovery(args) = args.from;
    let name = args.file.display().to_string();
    let text = String::from_utf8(ctx.read(&args.file)?)
        .map_err(|_| Failure::failed(format!("{name} is not UTF-8 text"), "save the rules as UTF-8"))?;
    let wishes = Wishes { claims: args.claims.into_iter().collect(), consumer: args.consumer };
    let found = discovery(&name, &text, &wishes).map_err(|e| Failure::failed(e.to_string(), e.help))?;
    let reply = reply(&name, found);
    if ctx.format != Format::Table {
        return ctx.show(&reply, |_, _| String::new());
    }
    ctx.io.out.write_all(reply.document.as_bytes())?;
    ctx.io.out.flush()?;
    for l in &reply.left {
        let line = format!("{}: left out: {}: {}", l.place, l.what, l.why);
        writeln!(ctx.io.err, "{}", line.replace(char::is_control, "?"))?;
    }
    if !reply.left.is_empty() {
        writeln!(ctx.io.err, "{} left out", count(reply.left.len() as u64, "thing"))?;
    }
    Ok(())
}

fn reply(name: &str, found: Imported) -> Reply {
    let claims: BTreeMap<_, _> = found.claims.iter().map(|(of, at)| (of.name(), at.clone())).collect();
    let name = name.replace(char::is_control, "?");
    let mut document =
        format!("# Made of {name}. It is read together with a document that has the services.\n");
    if !claims.is_empty() {
        let all: Vec<_> = claims.iter().map(|(of, at)| format!("{of}: {{ header: {at} }}")).collect();
        document += &format!("# They read what its conditions name: claims: {{ {} }}\n", all.join(", "));
    }
    document += &to_yaml(&found.policy);
    Reply { document, claims, left: found.left }
}
