//! What became of a release, out of its status and its history. Plain data: the table and the JSON are made of it.

use serde::Serialize;
use serde_json::Value;

use super::number;

#[derive(Debug, Serialize)]
pub(in super::super) struct Release {
    pub name: String,
    /// What a person would have typed.
    pub command: String,
    pub right: bool,
    /// The state at its end.
    pub ended: String,
    /// Steps that were run by hook: `deploy 1 of 2 (command deploy web 2.0)`, and how they ended.
    pub steps: Vec<String>,
    /// Of the ramp, those that were left.
    pub stages: Vec<Stage>,
    /// From the first share of the ramp to the last gray decision; of one that the engine took back.
    pub taken_back_ms: Option<u64>,
    /// Of clients, as long as it lasted.
    pub requests: u64,
    pub failures: u64,
    /// What is wrong, in words.
    pub details: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(in super::super) struct Stage {
    pub state: String,
    pub share: String,
    pub time_ms: u64,
    pub verdict: String,
    pub why: String,
    pub services: Vec<Service>,
}

/// What the kernel counted of one service in one stage.
#[derive(Debug, Serialize)]
pub(in super::super) struct Service {
    pub service: String,
    pub gray_connections: u64,
    pub gray_failures: u64,
    pub stable_connections: u64,
    pub stable_failures: u64,
}

impl Release {
    pub fn read(name: &str, command: &str, status: &Value, history: &Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let mut release = Self {
            name: name.into(),
            command: command.into(),
            right: true,
            ended: text(&status["state"]),
            steps: Vec::new(),
            stages: Vec::new(),
            taken_back_ms: None,
            requests: 0,
            failures: 0,
            details: Vec::new(),
        };
        let mut events: Vec<&Value> = history.as_array().into_iter().flatten().collect();
        // Oldest first, whatever the order that people are shown.
        if events.first().is_some_and(|e| e["what"] != "start") {
            events.reverse();
        }
        let mut share = String::new();
        for e in events {
            match e["what"].as_str().unwrap_or_default() {
                "traffic" => {
                    let said = text(&e["text"]);
                    share = said.split(" to gray").next().unwrap_or_default().to_owned();
                }
                "step" => release.steps.push(text(&e["text"])),
                // Around the ramp nothing is judged.
                "transition" if e["evidence"].is_object() && text(&e["from"]).starts_with("ramp") => {
                    let (evidence, judged) = (&e["evidence"], &e["evidence"]["judged"]);
                    let services = evidence["counts"].as_array().into_iter().flatten().map(Service::read);
                    release.stages.push(Stage {
                        state: text(&e["from"]),
                        share: share.clone(),
                        time_ms: number(&evidence["time_ms"]),
                        verdict: text(&judged["verdict"]),
                        why: text(&judged["why"]),
                        services: services.collect(),
                    });
                }
                _ => {}
            }
        }
        release
    }

    pub fn check(&mut self, right: bool, wrong: impl FnOnce() -> String) {
        if !right {
            self.right = false;
            self.details.push(wrong());
        }
    }
}

impl Service {
    fn read(v: &Value) -> Self {
        let failures =
            |arm: &Value| ["refused", "resets", "unanswered"].iter().map(|k| number(&arm[k])).sum();
        Self {
            service: v["service"].as_str().unwrap_or_default().into(),
            gray_connections: number(&v["gray"]["connections"]),
            gray_failures: failures(&v["gray"]),
            stable_connections: number(&v["stable"]["connections"]),
            stable_failures: failures(&v["stable"]),
        }
    }
}
