//! End to end over an edge, side by side: what gray's packet path costs, and what users would run instead.

mod path;

use anyhow::Result;

use super::compare::{Compared, Load, point};
use super::outcome::{Plot, Series};
use super::rounds::abba;
use super::{Options, Outcome, slice};
use path::{Kind, Path};

const HOW: &str = "A client, an edge and a server (nginx, one worker; `iperf3 -s`), each a network namespace, joined by veth. Each path \
has three of its own: only the machine is shared. The load is `wrk -t1 -c64`, with `Connection: close` for a connection per request, and \
`iperf3 -R` (the server sends on one connection). A round measures each path for a second, then each again in reverse order; each round \
begins with another path. Ratios are taken within a round; what is shown is their median with its 95 % interval (sign test). \
CPU time is that of the whole machine (`/proc/stat`), load generator and server included. A round in which other programs took \
more than 3 % of the CPUs is measured again; where it is never quiet, the quietest rounds of three times as many count. gray rewrites address and port of every packet.";

pub fn run(o: &Options) -> Result<Outcome> {
    let mut out = Outcome::new("http", "Over the edge, side by side");
    out.how = HOW.into();
    let rounds = if o.quick { 1 } else { 30 };
    let paths = Kind::ALL.into_iter().map(Path::build).collect::<Result<Vec<_>>>()?;
    let compared = [
        compare(rounds, &paths, slice::KEEP_ALIVE, |p| request(o, p, false))?,
        compare(rounds, &paths, slice::PER_REQUEST, |p| request(o, p, true))?,
        compare(rounds, &paths, slice::BULK, |p| slice::bulk(o, &p.world.clients[0].place(), p.bulk()))?,
    ];
    out.tables = compared.iter().map(|c| c.table("routed")).collect();
    let gray = Kind::ALL.iter().position(|k| *k == Kind::Gray).unwrap_or_default();
    let [alive, each, bulk] = &compared;
    out.bars = vec![alive.bar(gray, 0.97), each.bar(gray, 0.93), bulk.bar(gray, 0.95)];
    out.plots = plots(&compared);
    out.notes = compared.iter().map(|c| c.rounds.quiet(c.load.title)).collect();
    Ok(out)
}

fn request(o: &Options, path: &Path, close: bool) -> Result<super::compare::Sample> {
    slice::requests(o, &path.world.clients[0].place(), path.world.temp(), &path.url(), close)
}

fn compare(
    rounds: usize,
    paths: &[Path],
    load: Load,
    measure: impl Fn(&Path) -> Result<super::compare::Sample>,
) -> Result<Compared> {
    crate::command::note(&format!("  {}", load.title));
    let found = abba(rounds, paths.len(), |p| measure(&paths[p]))?;
    Ok(Compared { load, paths: paths.iter().map(|p| p.kind.name()).collect(), rounds: found })
}

/// A group of bars for each load, a bar for each path.
fn plots(compared: &[Compared]) -> Vec<Plot> {
    let drawn =
        |name: &str, title: &str, y: &str, ratio: fn(&Compared, usize) -> super::stats::Median| Plot {
            name: name.into(),
            title: title.into(),
            y: y.into(),
            categories: compared.iter().map(|c| c.load.title.into()).collect(),
            series: (0..compared[0].paths.len())
                .map(|p| Series {
                    name: compared[0].paths[p].into(),
                    points: compared.iter().enumerate().map(|(x, c)| point(x, ratio(c, p))).collect(),
                })
                .collect(),
            ..Plot::default()
        };
    vec![
        drawn(
            "http-rate",
            "Throughput over the edge",
            "times that of routed (more is better)",
            Compared::rate_ratio,
        ),
        drawn(
            "http-cpu",
            "CPU time per request or byte",
            "times that of routed (less is better)",
            Compared::cpu_ratio,
        ),
    ]
}
