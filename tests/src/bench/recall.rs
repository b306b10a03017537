//! How long it takes until every established connection of gray has heard of a recall.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::ask::Ask;
use super::outcome::{Bar, Row, Table};
use super::turn::Turn;
use super::{Options, Outcome, stats};
use crate::agent::Agent;
use crate::client::crowd::poll::Poll;
use crate::command::wait_for;
use crate::policy::PolicyText;
use crate::server::{Server, ServerSpec};
use crate::{World, WorldSpec, sys};

const HOW: &str = "A client has opened connections to a service over the edge, and says nothing on any of them: all from one address \
that a release has on gray, 200 more from another one that is stable's. `recall` with `mode: reset`; the client's kernel tells by epoll of each \
connection that was reset. The time is from the audit record on disk (`durable_ns`) to the last of them, and beside it to the last that the instance's \
kernel knew of. After that every stable connection serves.";

/// The bar.
const BAR: Duration = Duration::from_secs(1);
const STABLE: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(o: &Options) -> Result<Outcome> {
    let (n, rounds) = if o.quick { (500, 2) } else { (10_000, 5) };
    let mut out = Outcome::new("recall", "A recall of established connections");
    out.how = HOW.into();
    sys::allow_open_files(n as u64 + 1000)?;
    let world = World::build(WorldSpec::default())?;
    let start = |j: usize, name: &str, version: &str| {
        let b = &world.backends[j];
        Server::start(&b.place(), ServerSpec::on(b, name, version))
    };
    let servers = [start(0, "stable", "1.0")?, start(1, "gray", "2.0")?];
    let agent = Agent::start(&world)?;
    let sources = world.clients[0].sources(false);
    let policy = PolicyText::moved(&world).sources("beta", [sources[0]]);
    let _ = agent.apply(&policy.to_string())?;
    let mut ask = Ask::connect(agent.socket())?;
    let stable = open(&world, sources[1], STABLE, "1.0")?;
    let _turn = Turn::wait()?;
    let mut all = Vec::with_capacity(rounds);
    for round in 1..=rounds {
        all.push(recall(&mut ask, &world, sources[0], n, round)?);
    }
    for mut stream in stable {
        stream.set_nonblocking(true)?;
        let still = stream.read(&mut [0; 1]).map_err(|e| e.kind());
        ensure!(still == Err(ErrorKind::WouldBlock), "a stable connection was touched: {still:?}");
    }
    report(&mut out, n, &all);
    drop(servers);
    Ok(out)
}

/// Of one recall, ms since its record was durable.
struct Recall {
    clients: f64,
    gray: f64,
    answer: f64,
}

fn recall(ask: &mut Ask, world: &World, source: IpAddr, n: usize, round: usize) -> Result<Recall> {
    let document = format!(
        "release: bench\nversion: 2.0.0-gray.{round}\nservices: {{ echo: {{ gray: {{ version: '2.0' }} }} }}\nstages: [{{ cohort: beta, samples: 0, approval: true }}, {{ percent: 100 }}]\n"
    );
    let _ = ask.post("/v1/releases", &json!({ "source": { "name": "bench", "text": document } }))?;
    let began = Instant::now();
    while ask.get("/v1/releases/bench")?["phase"] != "ramp" {
        ensure!(began.elapsed() < PATIENCE, "the release does not come to its ramp");
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut gray: Vec<Option<TcpStream>> = open(world, source, n, "2.0")?.into_iter().map(Some).collect();
    let mut poll = Poll::new()?;
    for (i, stream) in gray.iter().flatten().enumerate() {
        stream.set_nonblocking(true)?;
        poll.add(stream.as_fd(), i)?;
    }
    let (answered, clients) = std::thread::scope(|s| {
        let answered = s.spawn(move || -> Result<(u64, u64)> {
            let answer =
                ask.post("/v1/releases/bench/command", &json!({ "verb": "recall", "mode": "reset" }))?;
            let at = sys::monotonic_ns();
            ensure!(answer["phase"] == "abnormal", "not taken back: {answer}");
            let history = ask.get("/v1/history?limit=1")?;
            let durable = history[0]["timings"]["durable_ns"].as_u64();
            let durable = durable.with_context(|| format!("no durable_ns in {history}"))?;
            let _ = ask.post("/v1/releases/bench/command", &json!({ "verb": "close" }))?;
            Ok((at, durable))
        });
        let last = until_reset(&mut poll, &mut gray);
        let answered = answered.join().unwrap_or_else(|_| bail!("the thread that asks panicked"));
        Ok::<_, anyhow::Error>((answered?, last?))
    })?;
    let mut left = 0;
    wait_for("gray to hear of it", PATIENCE, || {
        left = at_gray(world)?;
        Ok(left == 0)
    })
    .with_context(|| format!("{left} are left"))?;
    let heard = sys::monotonic_ns();
    let (answer, durable) = answered;
    let since = |ns: u64| ns.saturating_sub(durable) as f64 / 1e6;
    Ok(Recall { clients: since(clients), gray: since(heard), answer: since(answer) })
}

/// When the last of them was reset.
fn until_reset(poll: &mut Poll, all: &mut [Option<TcpStream>]) -> Result<u64> {
    let (mut left, began) = (all.len(), Instant::now());
    while left > 0 {
        ensure!(began.elapsed() < PATIENCE, "{left} of {} were not reset", all.len());
        for i in poll.wait(100)? {
            let Some(slot) = all.get_mut(i) else { continue };
            let said = slot.as_mut().map(|s| s.read(&mut [0; 1]).map_err(|e| e.kind()));
            match said {
                None | Some(Err(ErrorKind::WouldBlock)) => {}
                Some(Err(ErrorKind::ConnectionReset)) => {
                    *slot = None;
                    left -= 1;
                }
                Some(other) => bail!("neither open nor reset: {other:?}"),
            }
        }
    }
    Ok(sys::monotonic_ns())
}

/// Connections of the gray instance's echo.
fn at_gray(world: &World) -> Result<usize> {
    let asked = ["-Htn", "state", "established", "sport = :9000"];
    let found = world.backends[1].ns.command("ss").args(asked).output()?;
    Ok(String::from_utf8_lossy(&found.stdout).lines().count())
}

/// From one address; what serves them has this version.
fn open(world: &World, source: IpAddr, n: usize, version: &str) -> Result<Vec<TcpStream>> {
    use socket2::{Domain, Socket, Type};
    // `linux/in.h`: the port is chosen at connect.
    const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
    let service = crate::scene::vip(false, 9000);
    let one = || -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        sys::set_int_option(socket.as_fd(), libc::SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&service.into(), PATIENCE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut banner = [0; 100];
        let len = stream.read(&mut banner)?;
        let banner = String::from_utf8_lossy(&banner[..len]).into_owned();
        ensure!(banner.split(' ').nth(1) == Some(version), "not on {version}: {banner}");
        Ok(stream)
    };
    world.clients[0].ns.enter(|| (0..n).map(|_| one()).collect())
}

fn report(out: &mut Outcome, n: usize, all: &[Recall]) {
    let of = |f: fn(&Recall) -> f64| all.iter().map(f).collect::<Vec<_>>();
    let rows = [
        ("durable to the last client's reset, ms", "clients_ms", of(|r| r.clients)),
        ("durable to the last of gray's, ms (seen by `ss`)", "gray_ms", of(|r| r.gray)),
        ("durable to the answer, ms", "answer_ms", of(|r| r.answer)),
    ];
    let mut table = Table {
        title: format!("{n} connections, {} times", all.len()),
        columns: ["", "p50", "max"].map(String::from).into(),
        rows: Vec::new(),
    };
    for (label, key, values) in &rows {
        let p = [50.0, 100.0].map(|p| stats::percentile(values, p));
        let names = ["p50", "max"].map(|n| format!("{key}_{n}"));
        table.rows.push(Row {
            label: (*label).into(),
            cells: p.iter().map(|v| format!("{v:.0}")).collect(),
            values: BTreeMap::from_iter(names.into_iter().zip(p)),
        });
    }
    let worst = stats::percentile(&rows[0].2, 100.0);
    out.bars.push(Bar {
        what: format!("recall: {n} established connections of gray reset, the slowest of {}", all.len()),
        bar: format!("<= {} s", BAR.as_secs()),
        measured: format!("{:.3} s", worst / 1e3),
        met: worst <= BAR.as_secs_f64() * 1e3,
    });
    out.tables.push(table);
}
