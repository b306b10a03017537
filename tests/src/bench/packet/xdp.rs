//! The same packets through the XDP program, net of an empty one.

use anyhow::{Context as _, Result};

use super::{
    Figures, Findings, Session, on_rig,
    rounds::Subject,
    rows::{self, Pace},
    show,
    testrun::{PASS, Program},
    traffic,
};
use crate::bench::{Outcome, outcome::Bar};
use crate::link;

/// The rows of the bars, and the most that each may cost, ns.
const LIMITS: [(&str, f64); 2] =
    [("IPv4 TCP address and port, 64 flows", 55.0), ("IPv4 TCP address and port, 4096 flows", 70.0)];
/// IPv6 against IPv4.
const V6: f64 = 1.3;

/// Measures, and adds a table and bars.
pub fn run(quick: bool, o: &mut Outcome) -> Result<()> {
    let mut all = Findings { quick, ..Findings::default() };
    on_rig(131_072, |rig| {
        let out = link::info(&rig.ns, "out")?.ifindex;
        rig.live.set_xdp_out(&[out])?;
        let program = Program::new(rig.live.xdp_program()?);
        let empty = Program::empty_xdp().context("load an empty XDP program")?;
        let _held = (program.hold(out)?, empty.hold(link::info(&rig.ns, "lo")?.ifindex)?);
        let subjects = vec![
            Subject { name: "empty".into(), program: empty, always: Some(PASS) },
            Subject { name: "gray".into(), program, always: None },
        ];
        all.names = subjects.iter().map(|s| s.name.clone()).collect();
        let session = Session { subjects, verdicts: traffic::XDP, _rival: None };
        rows::xdp(quick).into_iter().try_for_each(|row| session.measure(rig, row, &mut all))
    })?;
    o.tables.push(show::times(
        &all,
        Pace::BackToBack,
        "XDP: established flows back to back, net of an empty program",
    ));
    for (label, limit) in LIMITS {
        let Some(v4) = figures(&all, label) else { continue };
        o.bars.push(bar(v4, limit));
        let Some(v6) = figures(&all, &label.replace("IPv4", "IPv6")) else { continue };
        o.bars.push(bar(v6, V6 * show::range(&v4.measured.net(1)).0));
    }
    Ok(())
}

fn figures<'f>(all: &'f Findings, label: &str) -> Option<&'f Figures> {
    all.rows.iter().find(|r| r.label == label)
}

fn bar(f: &Figures, limit: f64) -> Bar {
    let range = show::range(&f.measured.net(1));
    Bar {
        what: format!("established packet, XDP, {}, back to back, net of an empty program", f.label),
        bar: format!("<= {limit:.0} ns"),
        measured: format!("{} ns", show::cell(range)),
        met: !f.measured.void && range.0 <= limit,
    }
}
