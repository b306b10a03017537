//! The report as a table for a person. Pure.

use std::fmt::Write;

use super::engine::Release;
use super::report::{Report, Row, Step};
use super::requests::Act;

const GREEN: &str = "32";
const RED: &str = "31;1";
const BOLD: &str = "1";

/// Text in colour, or as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub bool);

impl Paint {
    pub fn text(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn verdict(self, right: bool, text: &str) -> String {
        self.text(if right { GREEN } else { RED }, text)
    }

    pub fn bold(self, text: &str) -> String {
        self.text(BOLD, text)
    }
}

/// Everything that is printed at the end.
pub(super) fn render(report: &Report, paint: Paint) -> String {
    let width = report.steps.iter().map(|s| s.name.len()).max().unwrap_or(0).max(4);
    let head = format!(
        "{:<width$}  {:<26} {:>8} {:>6} {:>6} {:>9} {:>9} {:>7}",
        "STEP", "WHO (PATH)", "REQUESTS", "1.0", "2.0", "EXPECTED", "MEASURED", "FAILED"
    );
    let mut out = format!("{}\n", paint.bold(&head));
    for step in &report.steps {
        rows(&mut out, step, width, paint);
    }
    out.push_str("EXPECTED is the share of 2.0 by the lists and by the buckets that `gray explain` tells.\n");
    if let Some(curl) = &report.curl {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n$ {}\n{}\n", curl.command, paint.verdict(curl.right, &curl.answer));
        let _ = writeln!(out, "peer of its socket: {}, the service: the release is invisible", curl.peer);
    }
    for act in &report.request_path {
        self::act(&mut out, act, paint);
    }
    for release in &report.releases {
        self::release(&mut out, release, paint);
    }
    for left in &report.left_behind {
        let _ = writeln!(out, "{}", paint.verdict(false, &format!("left behind: {left}")));
    }
    let _ = writeln!(out, "\n{}", paint.verdict(report.right, &report.verdict));
    out
}

fn rows(out: &mut String, step: &Step, width: usize, paint: Paint) {
    for (i, row) in step.rows.iter().enumerate() {
        let name = if i == 0 { step.name.as_str() } else { "" };
        let numbers = format!(
            "{:>8} {:>6} {:>6} {:>9} {:>9} {:>7}",
            row.requests,
            row.reached_1,
            row.reached_2,
            percent(row.expected_share),
            percent(row.share),
            row.failures,
        );
        let numbers = if row.right() { numbers } else { paint.verdict(false, &format!("{numbers}  WRONG")) };
        let _ = writeln!(out, "{name:<width$}  {:<26} {numbers}", who(row));
        for detail in row.details.iter().filter(|_| !row.right()) {
            let _ = writeln!(out, "{:width$}    {}", "", paint.verdict(false, detail));
        }
    }
}

/// What came of one act of the request path.
fn act(out: &mut String, act: &Act, paint: Paint) {
    let verdict = format!("{} of {} as expected", act.as_expected, act.looked_at);
    let verdict = if act.right {
        paint.verdict(true, &verdict)
    } else {
        paint.verdict(false, &format!("{verdict}  WRONG"))
    };
    let _ = writeln!(out, "\n{} ({}): {verdict}", paint.bold(&act.name), act.command);
    for line in &act.shown {
        let _ = writeln!(out, "  {line}");
    }
    for detail in &act.details {
        let _ = writeln!(out, "  {}", paint.verdict(false, detail));
    }
}

/// What the engine did, and what each stage was judged by.
fn release(out: &mut String, release: &Release, paint: Paint) {
    let _ = writeln!(out, "\n$ {}", release.command);
    for step in &release.steps {
        let _ = writeln!(out, "  {step}");
    }
    let head = format!(
        "{:<8} {:<22} {:>7}  {:<8} {:>12} {:>7} {:>12} {:>7}  {}",
        "STAGE", "TO GRAY", "FOR", "SERVICE", "GRAY CONNS", "FAILED", "STABLE CONNS", "FAILED", "VERDICT"
    );
    let _ = writeln!(out, "{}", paint.bold(&head));
    for stage in &release.stages {
        for (i, s) in stage.services.iter().enumerate() {
            let (state, share, time, verdict) = match i {
                0 => (
                    stage.state.as_str(),
                    stage.share.as_str(),
                    format!("{:.1} s", stage.time_ms as f64 / 1000.0),
                    paint.verdict(stage.verdict == "pass", &stage.verdict),
                ),
                _ => ("", "", String::new(), String::new()),
            };
            let _ = writeln!(
                out,
                "{state:<8} {share:<22} {time:>7}  {:<8} {:>12} {:>7} {:>12} {:>7}  {verdict}",
                s.service, s.gray_connections, s.gray_failures, s.stable_connections, s.stable_failures
            );
        }
        if !stage.why.is_empty() {
            let _ = writeln!(out, "         {}", stage.why);
        }
    }
    let mut end = format!("{}: {}", release.name, release.ended);
    if let Some(ms) = release.taken_back_ms {
        let _ = write!(
            end,
            ", taken back by itself {:.1} s after its first share of the ramp",
            ms as f64 / 1000.0
        );
    }
    let _ = write!(end, "; clients: {} requests, {} failed", release.requests, release.failures);
    let _ = writeln!(out, "{}", paint.verdict(release.right, &end));
    for detail in &release.details {
        let _ = writeln!(out, "  {}", paint.verdict(false, detail));
    }
}

fn who(row: &Row) -> String {
    format!("{} {} {} ({})", row.identities, row.family, row.who, row.path)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
