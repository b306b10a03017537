//! The same of a recall: a release has everybody on gray, and one word takes them back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Flip, read};
use crate::World;
use crate::bench::ask::Ask;
use crate::bench::flip::witness::Witness;
use crate::sys::monotonic_ns;

const PATIENCE: Duration = Duration::from_secs(10);

/// One release after the other. What the policy says at the beginning is in force at the end.
pub fn measure(ask: &mut Ask, witness: &mut Witness, world: &World, count: usize) -> Result<Vec<Flip>> {
    let (stable, gray) = (world.backends[0].v4, world.backends[1].v4);
    let mut out = Vec::with_capacity(count);
    for run in 1..=count {
        let document = format!(
            "release: bench\nversion: 2.0.0-gray.{run}\nservices: {{ dns: {{ gray: {{ version: '2.0' }} }} }}\nstages: [{{ percent: 100, approval: true }}]\n"
        );
        let _ = ask.post("/v1/releases", &json!({ "source": { "name": "bench", "text": document } }))?;
        witness.forget(gray)?;
        let began = Instant::now();
        while witness.seen(gray)?.count == 0 || ask.get("/v1/releases/bench")?["phase"] != "ramp" {
            ensure!(began.elapsed() < PATIENCE, "the release does not come to its ramp");
            std::thread::sleep(Duration::from_millis(2));
        }
        let before = witness.seen(gray)?.count;
        witness.forget(stable)?;
        let asked = monotonic_ns();
        let command = json!({ "verb": "recall", "mode": "reset" });
        let answer = ask.post("/v1/releases/bench/command", &command)?;
        let answered = monotonic_ns();
        ensure!(answer["phase"] == "abnormal", "not taken back: {answer}");
        let history = ask.get("/v1/history?limit=1")?;
        let timings = &history[0]["timings"];
        let at = |key: &str| timings[key].as_u64().with_context(|| format!("no {key} in {history}"));
        out.push(read(witness, (gray, before), stable, (asked, answered), at)?);
        let _ = ask.post("/v1/releases/bench/command", &json!({ "verb": "close" }))?;
    }
    Ok(out)
}
