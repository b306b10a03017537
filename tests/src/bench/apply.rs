//! A large policy, all of it changed: from the API to the flip.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ask::Ask;
use super::outcome::{Bar, Row, Table};
use super::{Options, Outcome, stats};
use crate::agent::Agent;
use crate::sys::monotonic_ns;
use crate::{World, WorldSpec};

const HOW: &str = "One agent; two policies of 1000 services and 10000 routes, that differ in where every route leads, are applied in turn over the \
agent's socket. The times of the agent's answer (`timings`), by the kernel's clock, are from when the document was read, checked and compared with the \
one in force: it is compiled, written into the kernel's tables, kept in the store with its audit record, and flipped. The last one is the caller's and has \
all of it, from the request to the answer.";

/// The bar, s.
const BAR: f64 = 1.0;
const ROUTES: usize = 10;

/// Seconds from the beginning.
#[derive(Debug, Clone, Copy)]
struct Applied {
    prepared: f64,
    durable: f64,
    flipped: f64,
    answer: f64,
}

pub fn run(o: &Options) -> Result<Outcome> {
    let mut out = Outcome::new("apply", "A large policy");
    out.how = HOW.into();
    let (services, count) = if o.quick { (50, 4) } else { (1000, 20) };
    let world = World::build(WorldSpec::default())?;
    let agent = Agent::start(&world)?;
    let texts = ["2", "3"].map(|version| document(services, version));
    let mut ask = Ask::connect(agent.socket())?;
    // The first one has nothing before it.
    let first = apply(&mut ask, &texts[0])?;
    let rest = (1..=count).map(|n| apply(&mut ask, &texts[n % 2])).collect::<Result<Vec<_>>>()?;
    report(&mut out, services, &first, &rest);
    Ok(out)
}

/// Services of three versions with ten routes each: by lists, by shares, by both.
fn document(services: usize, version: &str) -> String {
    let mut out = String::from("services:\n");
    // Writing to a String cannot fail.
    for s in 0..services {
        let at = |host: usize| format!("198.18.2.{host}:{}", 10_000 + s);
        let _ = write!(out, "  s{s}:\n    listen: ['198.18.100.1:{}']\n    instances:\n", 10_000 + s);
        for v in 1..=3 {
            let _ = writeln!(out, "      - {{ address: '{}', version: '{v}' }}", at(v));
        }
        out += "    stable: { version: '1' }\n";
    }
    out += "cohorts:\n";
    for c in 0..ROUTES {
        let _ = writeln!(
            out,
            "  l{c}: {{ sources: ['198.18.{c}.0/24', '10.{c}.0.1'] }}\n  p{c}: {{ percent: {} }}",
            c + 1
        );
    }
    out += "routes:\n";
    for s in 0..services {
        for r in 0..ROUTES {
            let when = match r % 3 {
                0 => format!("l{r}"),
                1 => format!("p{r}"),
                _ => format!("{{ all: [l{r}, {{ not: p{} }}] }}", r - 1),
            };
            let _ = writeln!(out, "  - {{ service: s{s}, when: {when}, to: {{ version: '{version}' }} }}");
        }
    }
    out
}

fn apply(ask: &mut Ask, text: &str) -> Result<Applied> {
    let asked = monotonic_ns();
    let answer: Value = ask.post("/v1/apply", &json!({ "sources": [{ "name": "bench", "text": text }] }))?;
    let answered = monotonic_ns();
    ensure!(answer["unchanged"] == false, "nothing was changed: {answer}");
    let at = |key: &str| answer["timings"][key].as_u64().with_context(|| format!("no {key} in {answer}"));
    let begun = at("received_ns")?;
    let since = |key: &str| Ok::<_, anyhow::Error>(at(key)?.saturating_sub(begun) as f64 / 1e9);
    Ok(Applied {
        prepared: since("prepared_ns")?,
        durable: since("durable_ns")?,
        flipped: since("flipped_ns")?,
        answer: (answered - asked) as f64 / 1e9,
    })
}

fn report(out: &mut Outcome, services: usize, first: &Applied, rest: &[Applied]) {
    type Of = fn(&Applied) -> f64;
    let columns: [(&str, &str, Of); 4] = [
        ("in the tables, s", "prepared_s", |a| a.prepared),
        ("on disk, s", "durable_s", |a| a.durable),
        ("flipped, s", "flipped_s", |a| a.flipped),
        ("answered, s", "answer_s", |a| a.answer),
    ];
    let mut table =
        Table { title: format!("{services} services, {} routes", services * ROUTES), ..Table::default() };
    table.columns.push("policy".into());
    table.columns.extend(columns.map(|(head, ..)| head.to_owned()));
    let rows = [
        ("the first".to_owned(), std::slice::from_ref(first)),
        (format!("{} changes of it", rest.len()), rest),
    ];
    for (label, all) in rows {
        let mut row = Row { label, ..Row::default() };
        for (_, key, of) in columns {
            let m = stats::median(&all.iter().map(of).collect::<Vec<_>>());
            row.cells.push(format!("{:.3} ({:.3} .. {:.3})", m.median, m.low, m.high));
            row.values.extend(
                [("median", m.median), ("low", m.low), ("high", m.high)]
                    .map(|(p, v)| (format!("{key}_{p}"), v)),
            );
        }
        table.rows.push(row);
    }
    out.tables.push(table);
    let m = stats::median(&rest.iter().map(|a| a.flipped).collect::<Vec<_>>());
    out.bars.push(Bar {
        what: format!(
            "{services} services and {} routes, all changed: compiled to flipped",
            services * ROUTES
        ),
        bar: format!("<= {BAR} s"),
        measured: format!("{:.3} s ({:.3} .. {:.3})", m.median, m.low, m.high),
        met: m.median <= BAR,
    });
}

#[cfg(test)]
mod tests {
    use gray_userspace::{
        compile::{self, Circumstances},
        config::{self, Source},
    };

    use super::*;

    #[test]
    fn the_policies_compile_and_have_as_many_routes_as_they_say() {
        for version in ["2", "3"] {
            let text = document(1000, version);
            let policy =
                config::load(&[Source::new("bench", &text)]).unwrap_or_else(|e| panic!("{e}")).policy;
            assert_eq!((policy.services.len(), policy.routes.len()), (1000, 10_000));
            let compiled =
                compile::compile(&policy, &compile::Assigned::default(), &Circumstances::default());
            assert!(compiled.is_ok(), "{:?}", compiled.err());
        }
    }
}
