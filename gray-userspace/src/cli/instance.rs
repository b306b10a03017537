//! `gray instance`: drain and restore.

use clap::{Args, Subcommand};

use super::{Failure, ctx::Ctx};
use crate::api::types::{Done, InstanceRef, LONGEST_DRAIN_MS};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gray instance drain shop/shop-2a\n  gray instance restore shop/198.18.2.3:8080"
)]
pub struct InstanceArgs {
    #[command(subcommand)]
    verb: InstanceVerb,
}

#[derive(Debug, Subcommand)]
enum InstanceVerb {
    /// No new connections; established ones stay, or live to a deadline
    #[command(
        after_help = "Examples:\n  gray instance drain shop/shop-2a\n  gray instance drain shop/shop-2a --deadline 30s\n  gray flows --service shop   # what is left"
    )]
    Drain(Drain),
    /// New connections again
    #[command(after_help = "Examples:\n  gray instance restore shop/shop-2a")]
    Restore(One),
}

#[derive(Debug, Args)]
struct One {
    /// SERVICE/INSTANCE, as `gray get instances` shows it
    #[arg(value_name = "SERVICE/INSTANCE", value_parser = instance)]
    id: InstanceRef,
}

#[derive(Debug, Args)]
struct Drain {
    #[command(flatten)]
    one: One,
    /// TCP connections that are still open after this time are closed: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    deadline: Option<u64>,
}

fn deadline(text: &str) -> Result<u64, String> {
    let ms = crate::config::millis(text).map(u64::from);
    ms.filter(|ms| *ms <= LONGEST_DRAIN_MS)
        .ok_or_else(|| "not a time up to a week, such as 30s, 5m or 1h".into())
}

fn instance(text: &str) -> Result<InstanceRef, String> {
    let id = InstanceRef { id: text.into(), deadline_ms: None };
    if id.split().is_some() {
        Ok(id)
    } else {
        Err("not of the form SERVICE/INSTANCE, such as shop/shop-2a".into())
    }
}

pub fn run(args: InstanceArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let (verb, id) = match args.verb {
        InstanceVerb::Drain(d) => ("drain", InstanceRef { deadline_ms: d.deadline, ..d.one.id }),
        InstanceVerb::Restore(one) => ("restore", one.id),
    };
    let done: Done = ctx.wait(ctx.client.post(&format!("/v1/instances/{verb}"), &id))?;
    ctx.show(&done, |d, _| {
        let epoch = d.epoch.map(|e| format!(" (epoch {e})")).unwrap_or_default();
        format!("{}{epoch}\n", d.text)
    })
}
