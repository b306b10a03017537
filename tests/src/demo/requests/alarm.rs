//! A request that names nobody: it is served by stable, it is in the events and in the log, and when there are too many somebody is paged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::{Act, Requests, orders, url};
use crate::client::{LoadSpec, Mode};
use crate::command::wait_for;
use crate::demo::signal;
use crate::demo::stage::Stage;

/// The service that the policy's `command: [page, on-call]` is of.
const SERVICE: &str = "orders";
const PATIENCE: Duration = Duration::from_secs(20);
const REQUESTS: u64 = 40;
/// Its query is nobody's business.
const PATH: &str = "cart/7?token=secret";

/// Where the program writes.
fn paged(stage: &Stage) -> PathBuf {
    stage.world.temp().join("paged")
}

/// `page WHO`, as an administrator would write it.
pub(super) fn write_program(stage: &Stage) -> Result<()> {
    let path = stage.programs().join("page");
    let text = format!(
        "#!/bin/sh\necho \"page $1: $GRAY_SERVICE $GRAY_ALARM, $GRAY_RULE: $GRAY_MISSING of $GRAY_REQUESTS requests\" >> {}\n",
        paged(stage).display()
    );
    fs::write(&path, text)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}

impl Requests<'_> {
    pub(super) fn nobody(&self) -> Result<Act> {
        let url = format!("{}{PATH}", url(orders(false)));
        let mut act = Act::new("no APP ID", &format!("curl '{url}'"));
        let answer = self.curl(&url, None)?;
        act.expect(answer["version"] == "1.0", || format!("nobody should reach 1.0: {answer}"));
        let event = self.soon(|| self.event())?;
        let known = event.as_ref().is_some_and(|e| e["request"] == "GET /cart/7?...");
        act.shows(format!("gray events: {}", event.unwrap_or_default()));
        act.expect(known, || "no event tells of it".into());
        let log = fs::read_to_string(self.stage.agent()?.log())?;
        let logged = log.lines().any(|l| l.contains("without any of the claims") && l.contains(SERVICE));
        act.expect(logged, || "the agent's log has no line of it".into());
        act.expect(!log.contains("secret"), || "the agent's log has its query".into());
        let spec = LoadSpec::new(orders(false), Mode::Http { per_connection: 1 }).count(REQUESTS);
        let report = spec.run(&self.stage.world.clients[0].place())?;
        act.expect_all(report.of_version("1.0"), REQUESTS, || format!("{:?}", report.by_server));
        let alarm =
            self.soon(|| Ok(self.stage.agent()?.gray_json(&["status"])?["alarms"].get(0).cloned()))?;
        let right = alarm.as_ref().is_some_and(|a| a["service"] == SERVICE);
        act.shows(format!("gray status, alarms: {}", alarm.unwrap_or_default()));
        act.expect(right, || "there is no alarm".into());
        let said =
            self.soon(|| Ok(fs::read_to_string(paged(self.stage)).ok().filter(|s| s.ends_with('\n'))))?;
        let said = said.unwrap_or_default();
        act.shows(format!("the alarm's program: {}", said.trim_end()));
        act.expect(said.starts_with("page on-call: orders raised"), || "nobody was paged".into());
        Ok(self.end(act))
    }

    /// What the agent tells of the request.
    fn event(&self) -> Result<Option<Value>> {
        let lines = self.stage.agent()?.gray_ok(&["events", "--recent", "256", "-o", "json"])?;
        let mut all = lines.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        Ok(all.find(|e| e["missing"].is_string() && e["service"] == SERVICE))
    }

    /// What comes within some seconds. That nothing comes is told as an act that is wrong.
    fn soon<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        let mut found = Ok(None);
        // An error is that nothing came in time.
        let _ = wait_for("it", PATIENCE, || {
            found = signal::check().and_then(|()| look());
            Ok(!matches!(found, Ok(None)))
        });
        found
    }
}
