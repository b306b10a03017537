//! The load generator's process: reads its spec, generates, answers `snapshot`, `stop` and `wait` on stdin.

use std::io::Write;

use anyhow::{Context, Result};

use super::LoadSpec;
use super::engine::Engine;

pub fn main() -> Result<()> {
    let mut input = std::io::stdin().lines();
    let spec = input.next().context("no spec on stdin")??;
    let spec: LoadSpec = serde_json::from_str(&spec).context("read the spec")?;
    let engine = Engine::start(spec);
    say("\"ready\"")?;
    for line in input {
        match line?.as_str() {
            "snapshot" => say(&serde_json::to_string(&engine.snapshot())?)?,
            "stop" => {
                engine.stop();
                return say(&serde_json::to_string(&engine.finish())?);
            }
            "wait" => return say(&serde_json::to_string(&engine.finish())?),
            other => anyhow::bail!("unknown order {other}"),
        }
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
