//! `gray instance`: drain and restore.

use clap::{Args, Subcommand};

use super::{Failure, ctx::Ctx};
use crate::api::types::{Done, InstanceRef};

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
    /// No new connections; established ones stay
    #[command(
        after_help = "Examples:\n  gray instance drain shop/shop-2a\n  gray flows --service shop   # what is left"
    )]
    Drain(One),
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

fn instance(text: &str) -> Result<InstanceRef, String> {
    let id = InstanceRef { id: text.into() };
    if id.split().is_some() {
        Ok(id)
    } else {
        Err("not of the form SERVICE/INSTANCE, such as shop/shop-2a".into())
    }
}

pub fn run(args: InstanceArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let (verb, one) = match args.verb {
        InstanceVerb::Drain(one) => ("drain", one),
        InstanceVerb::Restore(one) => ("restore", one),
    };
    let done: Done = ctx.wait(ctx.client.post(&format!("/v1/instances/{verb}"), &one.id))?;
    ctx.show(&done, |d, _| {
        let epoch = d.epoch.map(|e| format!(" (epoch {e})")).unwrap_or_default();
        format!("{}{epoch}\n", d.text)
    })
}
