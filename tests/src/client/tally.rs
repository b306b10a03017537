//! Counting of one worker, and the merge into a report. No sockets, no clock.

use super::exchange::{Answer, Fault};
use super::report::{Report, STALL, Sample};

const MAX_DETAILS: usize = 10;

/// One worker's counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    report: Report,
    latencies_us: Vec<u32>,
}

impl Tally {
    pub fn opened(&mut self) {
        self.report.opened += 1;
    }

    pub fn sample(&mut self, sample: Sample) {
        self.report.samples.push(sample);
    }

    pub fn good(&mut self, answer: &Answer, source: &str, took_us: u64) {
        let r = &mut self.report;
        let server = answer.server();
        r.requests += 1;
        r.ok += 1;
        r.peer_kept += u64::from(answer.peer_kept);
        r.stalls += u64::from(u128::from(took_us) > STALL.as_micros());
        *r.by_source.entry(source.to_owned()).or_default().entry(server.clone()).or_default() += 1;
        *r.by_server.entry(server).or_default() += 1;
        self.latencies_us.push(u32::try_from(took_us).unwrap_or(u32::MAX));
    }

    pub fn bad(&mut self, fault: &Fault, source: &str) {
        let r = &mut self.report;
        r.requests += 1;
        *r.failures.entry(fault.kind).or_default() += 1;
        if r.details.len() < MAX_DETAILS {
            r.details.push(format!("from {source}: {:?}: {}", fault.kind, fault.what));
        }
    }
}

/// The sum of all workers; `full` adds percentiles and samples.
pub(super) fn merge<'a>(tallies: impl Iterator<Item = &'a Tally>, elapsed_ms: u64, full: bool) -> Report {
    let mut sum = Report { elapsed_ms, ..Report::default() };
    let mut latencies = Vec::new();
    for Tally { report: r, latencies_us } in tallies {
        sum.requests += r.requests;
        sum.ok += r.ok;
        sum.opened += r.opened;
        sum.peer_kept += r.peer_kept;
        sum.stalls += r.stalls;
        for (server, n) in &r.by_server {
            *sum.by_server.entry(server.clone()).or_default() += n;
        }
        for (kind, n) in &r.failures {
            *sum.failures.entry(*kind).or_default() += n;
        }
        for (source, servers) in &r.by_source {
            let into = sum.by_source.entry(source.clone()).or_default();
            for (server, n) in servers {
                *into.entry(server.clone()).or_default() += n;
            }
        }
        let room = MAX_DETAILS - sum.details.len();
        sum.details.extend(r.details.iter().take(room).cloned());
        if full {
            sum.samples.extend(r.samples.iter().cloned());
            latencies.extend(latencies_us);
        }
    }
    latencies.sort_unstable();
    sum.p50_us = percentile(&latencies, 50);
    sum.p99_us = percentile(&latencies, 99);
    sum.max_us = percentile(&latencies, 100);
    sum
}

/// Nearest rank; 0 for no values.
fn percentile(sorted: &[u32], p: usize) -> u64 {
    let rank = (sorted.len() * p).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().map_or(0, u64::from)
}
