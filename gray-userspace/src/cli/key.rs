//! `gray key`: the fleet's hash key out and in. Never an argument, never in a log: a file or a pipe.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{Failure, ctx::Ctx};
use crate::api::types::{Done, HashKey};

#[derive(Debug, Args)]
#[command(after_help = "\
Nodes with the same key give a client the same answer. Another key reshuffles all percentages.

Examples:
  gray key export --file gray.key
  gray key export | ssh node2 gray key import -")]
pub struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    /// Print the key, or write it to a new file of mode 0600
    #[command(after_help = "Examples:\n  gray key export --file gray.key")]
    Export {
        /// Must not exist yet
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
    /// Take over a key; every percentage picks other clients from then on
    #[command(after_help = "Examples:\n  gray key import gray.key\n  gray key import - < gray.key")]
    Import {
        /// `-` is standard input
        file: PathBuf,
    },
}

pub fn run(args: KeyArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    match args.verb {
        KeyVerb::Export { file } => {
            let key: HashKey = ctx.wait(ctx.client.get("/v1/key"))?;
            match file {
                Some(path) => save(&path, &key),
                None => ctx.show(&key, |k, _| format!("{}\n", k.key)),
            }
        }
        KeyVerb::Import { file } => {
            let text = String::from_utf8_lossy(&ctx.read(&file)?).trim().to_string();
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                let what = format!("{} holds no key", file.display());
                return Err(Failure::failed(what, "take the output of `gray key export`, hex digits"));
            }
            let done: Done = ctx.wait(ctx.client.put("/v1/key", &HashKey { key: text }))?;
            ctx.show(&done, |d, _| format!("{}\n", d.text))
        }
    }
}

fn save(path: &Path, key: &HashKey) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut f| writeln!(f, "{}", key.key))
        .map_err(|e| Failure::file("write", path, &e))
}
