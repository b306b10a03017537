//! Commands to play with while the world is kept, ready to copy. Pure, but for the paths it asks for.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::policy::SERVICE;
use super::say::Say;
use super::stage::{Stage, target};

pub(super) fn commands(stage: &Stage, say: &Say) -> Result<String> {
    let agent = stage.agent()?;
    let client = stage.world.clients.first().context("the world has clients")?;
    let caller = stage.callers.last().context("the world has callers")?;
    let (v4, v6) = (target(false).ip(), target(true).ip());
    let (listed, other) = (client.v4[1], client.v4[7]);
    let nsenter = format!("nsenter --net={}", client.ns.path().display());
    let edge = format!("nsenter --net={}", stage.world.edge.path().display());
    let (policy, gray) = (stage.policy_file(), agent.binary().display().to_string());
    let (policy, cgroup) = (policy.display(), caller.cgroup.path().display());
    let groups = [
        (
            "In another root shell, first:",
            vec![format!("export GRAY_SOCKET={}", agent.socket().display()), format!("alias gray={gray}")],
        ),
        (
            "Be a client: on the early list, not on it, over IPv6",
            vec![
                format!("{nsenter} curl --interface {listed} http://{v4}/"),
                format!("{nsenter} curl --interface {other} http://{v4}/"),
                format!("{nsenter} curl -g --interface {} 'http://[{v6}]/'", client.v6[1]),
            ],
        ),
        (
            "Be a program on the edge host: the caller's cgroup is its identity",
            vec![format!("sh -c 'echo $$ > {cgroup}/cgroup.procs; exec {edge} curl http://{v4}/'")],
        ),
        (
            "Move clients",
            vec![
                format!("gray cohort add early {other}"),
                format!("gray cohort add early-callers {}", caller.name),
                format!("sed -i 's/percent: [0-9]*/percent: 25/' {policy}; gray apply -f {policy}"),
                "gray history".into(),
            ],
        ),
        (
            "Look",
            vec![
                "gray status".into(),
                format!("gray explain --service {SERVICE} --src {other}"),
                "gray events --follow".into(),
                "gray flows".into(),
                "gray doctor".into(),
            ],
        ),
        ("Kill the agent: traffic goes on as it was", vec![format!("kill -9 {}", agent.pid().unwrap_or(0))]),
    ];
    let mut out = String::from("\n");
    for (heading, lines) in groups {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", say.heading(heading));
        for line in lines {
            let _ = writeln!(out, "  {line}");
        }
    }
    out.push_str("\nThe world stays until Ctrl-C.\n");
    Ok(out)
}
