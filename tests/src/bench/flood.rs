//! Handshakes that are completed beside a flood of SYNs: of a service whose requests are read, against a server that is dialled itself.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::compare::{Compared, Load, Sample, at_least};
use super::outcome::Bar;
use super::request::{
    answers::{self, Answers},
    path::{Kind, Path},
};
use super::rounds::abba;
use super::{Options, Outcome, slice};
use crate::client::crowd::CrowdSpec;
use crate::client::fetch;
use crate::command::note;
use crate::flood::{Flood, FloodSpec};
use crate::packets::frame::SYN;

const HOW: &str = "Worlds as of `request`: a client, an edge, a server (nginx). A program of the lab lays SYNs of 65 536 addresses that nobody has, 2^20 flows, out of \
the client's interface as fast as the kernel takes them, while the lab's own client asks, a connection for each request, on the same machine of two cores. Kernel: the server itself \
is dialled, routed by the edge, and its kernel answers with its own SYN cookies (`tcp_syncookies`, the default). gray: a service with `claims`, whose SYNs the edge answers with cookies of ours; the server \
never sees the flood. 100 connections that were open before ask again after every slice.";

const FLOODED: Load = Load { title: "A connection per request, beside a flood", ..slice::PER_REQUEST };
const PATHS: [Kind; 2] = [Kind::Routed, Kind::Gray];
const KEPT: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(o: &Options) -> Result<Outcome> {
    let mut out = Outcome::new("flood", "Beside a flood of SYNs");
    out.how = HOW.into();
    let bench = Bench::build(o)?;
    let rounds = abba(if o.quick { 1 } else { 15 }, PATHS.len(), |p| bench.measure(p))?;
    let compared =
        Compared { load: FLOODED, paths: vec!["kernel's SYN cookies", "gray, by a header"], rounds };
    let answers = bench.answers.into_inner();
    out.tables = vec![compared.table("the kernel's"), answers::table(&answers)];
    let ratio = compared.rate_ratio(1);
    let lost = bench.lost.get();
    out.bars = vec![
        at_least("gray, beside a flood: completed handshakes, to the kernel's own SYN cookies", ratio, 0.5),
        Bar {
            what: format!("gray, beside a flood: of {KEPT} established connections reset or silent"),
            bar: "0".into(),
            measured: lost.to_string(),
            met: lost == 0,
        },
    ];
    out.notes = vec![compared.rounds.quiet(FLOODED.title)];
    out.notes.extend(bench.rates.iter().zip(&compared.paths).map(|(r, path)| {
        let (sent, seconds) = r.get();
        format!("{path}: {:.0} 000 SYNs a second.", sent as f64 / seconds / 1e3)
    }));
    out.notes.extend(answers.iter().filter_map(Answers::note));
    Ok(out)
}

struct Bench {
    quick: bool,
    paths: Vec<Path>,
    answers: RefCell<Vec<Answers>>,
    /// SYNs and seconds.
    rates: Vec<Cell<(u64, f64)>>,
    kept: RefCell<Vec<TcpStream>>,
    lost: Cell<usize>,
}

impl Bench {
    fn build(o: &Options) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a directory for what is served")?;
        let file = dir.path().join("bulk");
        fetch::make(&file, 1000)?;
        let paths = PATHS.into_iter().map(|k| Path::build(k, &file)).collect::<Result<Vec<_>>>()?;
        let answers = RefCell::new(paths.iter().map(|p| Answers::new(p.kind.name())).collect());
        let to = &paths[1].members()[0];
        let open = |_| {
            let stream = TcpStream::connect_timeout(&to.dial, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok::<_, anyhow::Error>(stream)
        };
        let kept = paths[1].world.clients[0].ns.enter(|| (0..KEPT).map(open).collect::<Result<Vec<_>>>())?;
        let bench = Self {
            quick: o.quick,
            rates: paths.iter().map(|_| Cell::new((0, 0.0))).collect(),
            paths,
            answers,
            kept: RefCell::new(kept),
            lost: Cell::new(0),
        };
        bench.ask_kept();
        ensure!(bench.lost.get() == 0, "the connections that are to be kept do not serve");
        Ok(bench)
    }

    fn measure(&self, path: usize) -> Result<Sample> {
        let p = &self.paths[path];
        // Of one version: where the server itself is dialled, the other one has a port of its own.
        let members: Vec<_> = p.members().into_iter().step_by(2).collect();
        let flood = FloodSpec {
            target: members[0].dial,
            tcp_flags: SYN,
            hosts: 65_536,
            flows: 1 << 20,
            pause: Duration::ZERO,
        };
        let spec = CrowdSpec {
            members,
            connections: slice::CONNECTIONS,
            close: true,
            time_ms: if self.quick { 300 } else { 1000 },
            patience_ms: 10_000,
            cores: Vec::new(),
        };
        let (flood, began) = (Flood::start(&p.world, flood)?, Instant::now());
        let found = slice::crowd(&spec, &p.world.clients[0].place(), None);
        let seconds = began.elapsed().as_secs_f64();
        let sent = flood.stop()?;
        let (sample, report) = found.with_context(|| p.kind.name())?;
        let (all, time) = self.rates[path].get();
        self.rates[path].set((all + sent, time + seconds));
        self.answers.borrow_mut()[path].add(&report);
        self.ask_kept();
        Ok(sample)
    }

    /// Each once; who does not answer is counted, and asked no more.
    fn ask_kept(&self) {
        let dial = self.paths[1].members()[0].clone();
        let head = format!("GET / HTTP/1.1\r\nHost: web\r\nX-App-Id: {}\r\n\r\n", dial.app);
        self.kept.borrow_mut().retain_mut(|stream| {
            let answered = stream.write_all(head.as_bytes()).and_then(|()| answer(stream));
            if let Err(e) = &answered {
                note(&format!("  an established connection: {e}"));
                self.lost.set(self.lost.get() + 1);
            }
            answered.is_ok()
        });
    }
}

/// One answer, which is short.
fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.extend_from_slice(&part[..n]);
        // A line of JSON ends it.
        if text.starts_with(b"HTTP/1.1 200") && text.ends_with(b"}\n") {
            return Ok(());
        }
    }
}
