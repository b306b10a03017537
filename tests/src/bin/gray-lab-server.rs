//! The lab's child processes: `serve` (servers), `load` and `crowd` (load generators), `fetch` (one large download), `messages` (a worker
//! at a queue), `dial` (times `connect`), `ping` (times messages), `redial`
//! (does nothing else), `hold` (a lab that waits to be killed). Started by guards of gray-tests only; speaks JSON lines on stdin and stdout.

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => gray_tests::server::process::main(),
        Some("load") => gray_tests::client::process::main(),
        Some("crowd") => gray_tests::client::crowd::process::main(),
        Some("fetch") => gray_tests::client::fetch::main(),
        Some("messages") => gray_tests::client::messages::main(),
        Some("dial") => gray_tests::bench::dial::main(),
        Some("ping") => gray_tests::bench::ping::main(),
        Some("redial") => gray_tests::bench::flip::redial::main(),
        Some("hold") => hold(),
        _ => bail!(
            "this program belongs to the lab of gray-tests: serve | load | crowd | fetch | messages | dial | ping | redial | hold"
        ),
    }
}

/// Builds a world and a process in it, says what it made, and waits to be killed.
fn hold() -> Result<()> {
    use std::io::Write;
    let world = gray_tests::World::build(gray_tests::WorldSpec::default())?;
    // Of the edge's agent, and of one elsewhere.
    let pins = ["", "-b0"].map(|s| format!("{}{s}", world.lab().bpffs().display()));
    pins.iter().try_for_each(std::fs::create_dir)?;
    // An orphan on purpose: its parent is gone, so only its cgroup leads to it.
    let orphan = "sleep 600 >/dev/null 2>&1 & echo $!";
    let pid = gray_tests::command::run(world.caller().command("sh").args(["-c", orphan]))?;
    let made = serde_json::json!({
        "netns": world.namespaces().iter().map(|n| n.path()).collect::<Vec<_>>(),
        "dirs": [world.temp(), world.lab().cgroup().path(), Path::new(&pins[0]), Path::new(&pins[1])],
        "child": pid.trim().parse::<u32>()?,
    });
    writeln!(std::io::stdout(), "{made}")?;
    loop {
        std::thread::park();
    }
}
