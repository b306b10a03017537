//! How long the old policy decides after the new one's record is on disk.

mod recall;
pub mod redial;
pub mod witness;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ask::Ask;
use super::outcome::{Bar, Plot, Point, Row, Series, Table};
use super::turn::Turn;
use super::{Options, Outcome, stats};
use crate::agent::Agent;
use crate::policy::PolicyText;
use crate::sys::monotonic_ns;
use crate::{World, WorldSpec};
use witness::Witness;

const HOW: &str = "A caller on the node dials a UDP service with `connect(2)` in a tight loop on one core. Behind gray's program a program of the \
lab notes, by the kernel's clock, when each backend was last chosen. Two policies, everybody to 1.0 and everybody to 2.0, are applied in \
turn over the agent's socket. The agent's answer says when revision and audit record were on disk (`durable_ns`, the same clock). The \
latency of a flip is from there to the last decision for the old version. `first new` is the other bound: a decision by the new policy was \
there at the latest then. A recall takes back a release whose ramp has brought everybody to 2.0: the command, the revision and the audit \
record are one record.";

const FLIPPED: &str = "audit record durable to the last old decision";
const RECALLED: &str = "recall: audit record durable to the last gray decision";

/// The bar, ms.
const BAR: f64 = 1.0;

/// Of one flip, ns.
#[derive(Debug, Clone, Copy)]
struct Flip {
    /// From durable to the last old decision; negative when none came after.
    last_old: f64,
    first_new: f64,
    /// From durable to the store, as the agent saw it.
    store: f64,
    /// From the request to durable; to the answer.
    durable: f64,
    answer: f64,
}

pub fn run(o: &Options) -> Result<Outcome> {
    let mut out = Outcome::new("flip", "The epoch flip");
    out.how = HOW.into();
    let world = World::build(WorldSpec::default())?;
    let agent = Agent::start(&world)?;
    let everybody = PolicyText::moved(&world).route("to: { version: \"2.0\" }");
    let texts = [PolicyText::moved(&world).to_string(), everybody.to_string()];
    let mut ask = Ask::connect(agent.socket())?;
    let _ = apply(&mut ask, &texts[0])?;
    let mut witness = Witness::attach(world.callers.path())?;
    let service = crate::scene::vip(false, 9001);
    let _dialler = redial::start(&world.caller(), service, Duration::ZERO)?;
    let backends = [world.backends[0].v4, world.backends[1].v4];
    let _turn = Turn::wait()?;
    let count = if o.quick { 40 } else { 1000 };
    let mut flips = Vec::with_capacity(count);
    for i in 0..count {
        let (old, new) = (i % 2, (i + 1) % 2);
        flips.push(flip(&mut ask, &mut witness, &texts[new], backends[old], backends[new])?);
    }
    let decisions = witness.seen(backends[0])?.count.max(witness.seen(backends[1])?.count);
    ensure!(decisions > 0, "nobody dialled");
    report(&mut out, ("flips", FLIPPED), &flips);
    // The last of an even number of flips was to 1.0: from there a release takes everybody to 2.0.
    let recalls = recall::measure(&mut ask, &mut witness, &world, count)?;
    report(&mut out, ("recalls", RECALLED), &recalls);
    Ok(out)
}

fn apply(ask: &mut Ask, text: &str) -> Result<Value> {
    ask.post("/v1/apply", &json!({ "sources": [{ "name": "bench", "text": text }] }))
}

fn flip(ask: &mut Ask, witness: &mut Witness, text: &str, old: Ipv4Addr, new: Ipv4Addr) -> Result<Flip> {
    // The dialler is at work on the old side, and the new side's last turn is forgotten.
    let before = witness.seen(old)?.count;
    witness.forget(new)?;
    let asked = monotonic_ns();
    let answer = apply(ask, text)?;
    let answered = monotonic_ns();
    let at = |key: &str| answer["timings"][key].as_u64().with_context(|| format!("no {key} in {answer}"));
    read(witness, (old, before), new, (asked, answered), at)
}

/// What the witness saw of a change whose timings are `at`. `before`: decisions for the old side when it was asked for.
fn read(
    witness: &Witness,
    (old, before): (Ipv4Addr, u64),
    new: Ipv4Addr,
    (asked, answered): (u64, u64),
    at: impl Fn(&str) -> Result<u64>,
) -> Result<Flip> {
    std::thread::sleep(Duration::from_millis(3));
    let (o, n) = (witness.seen(old)?, witness.seen(new)?);
    ensure!(o.count > before && n.count > 0, "the dialler stands still: {o:?} {n:?}");
    ensure!(o.last_ns < n.last_ns && o.last_ns < answered, "the old policy still decides after the answer");
    let durable = at("durable_ns")? as f64;
    Ok(Flip {
        last_old: o.last_ns as f64 - durable,
        first_new: n.first_ns as f64 - durable,
        store: at("flipped_ns")? as f64 - durable,
        durable: durable - asked as f64,
        answer: (answered - asked) as f64,
    })
}

fn report(out: &mut Outcome, (name, what): (&str, &str), flips: &[Flip]) {
    let of = |f: fn(&Flip) -> f64| flips.iter().map(f).collect::<Vec<_>>();
    let rows: [(&str, &str, f64, Vec<f64>); 5] = [
        ("durable to last old decision, us", "last_old_us", 1e3, of(|f| f.last_old)),
        ("durable to first new decision, us", "first_new_us", 1e3, of(|f| f.first_new)),
        ("durable to the store of the epoch, us", "store_us", 1e3, of(|f| f.store)),
        ("request to durable, ms", "durable_ms", 1e6, of(|f| f.durable)),
        ("request to answer, ms", "answer_ms", 1e6, of(|f| f.answer)),
    ];
    let mut table = Table {
        title: format!("{} {name}", flips.len()),
        columns: ["", "p50", "p99", "max"].map(String::from).into(),
        rows: Vec::new(),
    };
    for (label, key, unit, values) in &rows {
        let p = [50.0, 99.0, 100.0].map(|p| stats::percentile(values, p) / unit);
        let names = ["p50", "p99", "max"].map(|n| format!("{key}_{n}"));
        table.rows.push(Row {
            label: (*label).into(),
            cells: p.iter().map(|v| format!("{v:.2}")).collect(),
            values: BTreeMap::from_iter(names.into_iter().zip(p)),
        });
    }
    let last = &rows[0].3;
    let p99 = stats::percentile(last, 99.0) / 1e6;
    out.bars.push(Bar {
        what: format!("{what}, p99 of {}", flips.len()),
        bar: format!("<= {BAR} ms"),
        measured: format!("{p99:.4} ms"),
        met: p99 <= BAR,
    });
    let mut sorted = last.clone();
    sorted.sort_by(f64::total_cmp);
    let step = (sorted.len() / 200).max(1);
    let points = sorted.iter().enumerate().step_by(step).map(|(i, v)| {
        let (x, y) = (v / 1e3, (i + 1) as f64 * 100.0 / sorted.len() as f64);
        Point { x, y, low: y, high: y }
    });
    out.plots.push(Plot {
        name: name.trim_end_matches('s').into(),
        title: format!("From the record on disk to the last old decision, {name}"),
        x: "us".into(),
        y: format!("% of {name}"),
        series: vec![Series { name: name.into(), points: points.collect() }],
        ..Plot::default()
    });
    out.tables.push(table);
}
