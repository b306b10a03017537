//! iperf3 as a client: one run, its JSON and the few numbers that tests compare.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::output;
use crate::pace;
use crate::place::Place;

/// The result of one run.
#[derive(Debug)]
pub struct IperfResult {
    pub bytes_sent: u64,
    /// With `-n` less than was sent: the receiver's count ends with the sender, not with the last byte.
    pub bytes_received: u64,
    pub bits_per_second: f64,
    pub retransmits: u64,
    pub json: Value,
}

/// `iperf3 -c`; `args` as on its command line (`-R`, `-n 100M`, `-t 2`, `-B ADDRESS`). TCP only.
pub fn run(place: &Place, server: IpAddr, port: u16, args: &[&str]) -> Result<IperfResult> {
    let mut command = place.command("iperf3");
    let patience = pace::patience(Duration::from_secs(3)).as_millis().to_string();
    let _ = command.args(["--json", "--connect-timeout", &patience, "-c", &server.to_string()]);
    let out = output(command.args(["-p", &port.to_string()]).args(args))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let json: Value = serde_json::from_str(&text)
        .with_context(|| format!("iperf3: {}: {text}{}", out.status, String::from_utf8_lossy(&out.stderr)))?;
    if let Some(error) = json.get("error") {
        bail!("iperf3 to {server}:{port}: {error}");
    }
    let end = |path: &str| json.pointer(path).with_context(|| format!("iperf3's JSON has no {path}"));
    let whole = |path: &str| Ok::<_, anyhow::Error>(end(path)?.as_u64().unwrap_or(0));
    Ok(IperfResult {
        bytes_sent: whole("/end/sum_sent/bytes")?,
        bytes_received: whole("/end/sum_received/bytes")?,
        bits_per_second: end("/end/sum_received/bits_per_second")?.as_f64().unwrap_or(0.0),
        retransmits: json.pointer("/end/sum_sent/retransmits").and_then(Value::as_u64).unwrap_or(0),
        json,
    })
}
