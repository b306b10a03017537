//! `gray doctor`.

use super::{
    Failure,
    ctx::Ctx,
    table::{Paint, Style},
    text::count,
};
use crate::api::types::{CheckStatus, DoctorReport};

pub fn run(ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let report: DoctorReport = ctx.wait(ctx.client.get("/v1/doctor"))?;
    ctx.show(&report, text)?;
    let failed = report.checks.iter().filter(|c| c.status == CheckStatus::Fail).count() as u64;
    match failed {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{} failed", count(n, "check")), "follow the advice under each")),
    }
}

fn text(report: &DoctorReport, paint: Paint) -> String {
    let mut out = String::new();
    let width = report.checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    for c in &report.checks {
        let (word, style) = match c.status {
            CheckStatus::Ok => ("ok  ", Style::Good),
            CheckStatus::Warn => ("warn", Style::Warn),
            CheckStatus::Fail => ("FAIL", Style::Bad),
        };
        out.push_str(&format!("{}  {:<width$}  {}\n", paint.text(style, word), c.name, c.detail));
        if let Some(fix) = &c.fix {
            out.push_str(&format!("{:1$}  fix: {fix}\n", "", 6 + width));
        }
    }
    out
}
