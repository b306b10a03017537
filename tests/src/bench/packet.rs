//! What one packet costs in the packet path, net of an empty program: BPF_PROG_TEST_RUN on the real data path.

mod fresh;
mod ring;
pub mod rival;
pub mod rounds;
mod rows;
mod show;
mod spliced;
mod spread;
mod table;
pub mod testrun;
mod traffic;
mod xdp;

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use gray_userspace::kernel::Direction;

use super::{Options, Outcome, core};
use crate::bpf::TCX_NEXT;
use crate::packets::rig::{Rig, Routes, Spec, with_spec};
use rounds::{Measured, Plan, Subject, measure};
use rows::{Pace, Row};
use testrun::{Program, Size};
use traffic::{Traffic, Verdicts};

pub use traffic::STRIDE;

/// Names the rows to measure, by a part of their labels; without it all are.
const ONLY: &str = "GRAY_BENCH_ROWS";

/// A row's figures.
pub struct Figures {
    label: String,
    pace: Pace,
    flows: u32,
    measured: Measured,
}

/// What all rows of a bench gave.
#[derive(Default)]
pub struct Findings {
    quick: bool,
    /// Of the subjects; the first is the empty program.
    names: Vec<String>,
    sizes: Vec<Size>,
    rows: Vec<Figures>,
}

pub fn run(options: &Options) -> Result<Outcome> {
    let quick = options.quick;
    let mut all = Findings { quick, ..Findings::default() };
    on_rig(131_072, |rig| {
        let bench = Session::open(rig, &mut all, false)?;
        rows::ordinary(quick).into_iter().try_for_each(|row| bench.measure(rig, row, &mut all))?;
        Ok(())
    })?;
    for size in fresh::sizes(quick) {
        // Tables of its own: nobody removes here what an earlier policy listed.
        on_rig(131_072, |rig| {
            let row = fresh::row(rig, size);
            Session::open(rig, &mut all, false)?.measure(rig, row, &mut all)
        })?;
    }
    if !quick {
        on_rig(131_072, |rig| {
            let row = fresh::beside(rig);
            Session::open(rig, &mut all, false)?.measure(rig, row, &mut all)
        })?;
    }
    for flows in [65_536, 524_288] {
        if quick && flows > 65_536 {
            continue;
        }
        on_rig(flows * 4, |rig| {
            // The flows of a ring have no answers' entries, and so many take longer than a next hop is young: then they would be
            // decided anew. Here it is young for two minutes.
            rig.live.configure(|c| c.hz *= 32);
            let bench = Session::open(rig, &mut all, false)?;
            rows::many(flows, quick).into_iter().try_for_each(|row| bench.measure(rig, row, &mut all))
        })?;
    }
    on_rig(131_072, |rig| {
        rig.apply(&spliced::policy());
        let bench = Session::open(rig, &mut all, true)?;
        spliced::rows(quick).into_iter().try_for_each(|row| bench.measure(rig, row, &mut all))
    })?;
    let mut o = show::outcome(&all);
    xdp::run(quick, &mut o)?;
    Ok(o)
}

/// A rig whose flow tables have so many entries, with the policy of the packet cases and the clients on the link.
fn on_rig<R: Send>(flows: u32, f: impl FnOnce(&mut Rig) -> Result<R> + Send) -> Result<R> {
    let hosts = rows::hosts();
    with_spec(&Spec { routes: Routes::Neighbours, flows, hosts: &hosts, tags: false }, |rig| {
        let _ = core::pin().context("pin to a core")?;
        let hz = rig.live.measure_ticks()?;
        rig.live.configure(|c| c.hz = hz);
        rig.apply_land(false);
        f(rig)
    })
}

/// The programs of one rig.
struct Session {
    subjects: Vec<Subject>,
    verdicts: Verdicts,
    /// Holds the maps that the rival has for itself.
    _rival: Option<aya::Ebpf>,
}

impl Session {
    fn open(rig: &mut Rig, all: &mut Findings, reads: bool) -> Result<Self> {
        let ours = Program::new(rig.live.packet_program(Direction::Ingress, reads)?);
        let mut subjects = vec![
            Subject { name: "empty".into(), program: Program::empty()?, always: Some(TCX_NEXT) },
            Subject { name: "gray".into(), program: ours, always: None },
        ];
        let mut rival = None;
        if let Some(path) = env::var_os(rival::VARIABLE).map(PathBuf::from) {
            let loaded = rival::load(&path, &rig.pins);
            let (object, program) = loaded.with_context(|| format!("load {}", path.display()))?;
            subjects.push(Subject { name: "rival".into(), program, always: None });
            rival = Some(object);
        }
        all.names = subjects.iter().map(|s| s.name.clone()).collect();
        all.sizes = subjects.iter().map(|s| s.program.size()).collect::<Result<_, _>>()?;
        Ok(Self { subjects, verdicts: traffic::TC, _rival: rival })
    }

    #[expect(clippy::print_stderr, reason = "progress, for a person")]
    fn measure(&self, rig: &Rig, row: Row, all: &mut Findings) -> Result<()> {
        let Row { label, pace, flows, kind, out } = row;
        if env::var(ONLY).is_ok_and(|only| !label.contains(&only)) {
            return Ok(());
        }
        eprintln!("  {label}");
        let ours = &self.subjects[1].program;
        let measured = Traffic::new(rig, (ours, self.verdicts), kind, flows, out.as_deref())
            .and_then(|mut traffic| measure(&self.subjects, &mut traffic, plan(pace, all.quick)))
            .with_context(|| label.clone())?;
        all.rows.push(Figures { label, pace, flows, measured });
        Ok(())
    }
}

/// How much of it is run.
fn plan(pace: Pace, quick: bool) -> Plan {
    match pace {
        Pace::BackToBack => {
            Plan { rounds: 9, calls: if quick { 160 } else { 320 }, turn: 8, repeat: ring::REPEAT }
        }
        Pace::OneACall => Plan { rounds: 9, calls: if quick { 4096 } else { 8192 }, turn: 256, repeat: 1 },
    }
}
