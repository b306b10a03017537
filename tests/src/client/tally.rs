//! Counting of one worker, and the merge into a report. No sockets, no clock.

use super::exchange::{Answer, Fault};
use super::report::{Report, Sample, stall};

const MAX_DETAILS: usize = 10;

/// One worker's counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    report: Report,
}

impl Tally {
    pub fn opened(&mut self) {
        self.report.opened += 1;
    }

    pub fn sample(&mut self, sample: Sample) {
        self.report.samples.push(sample);
    }

    pub fn late(&mut self) {
        self.report.late += 1;
    }

    pub fn good(&mut self, answer: &Answer, source: &str, took_ns: u64) {
        let r = &mut self.report;
        let server = answer.server();
        r.requests += 1;
        r.ok += 1;
        r.peer_kept += u64::from(answer.peer_kept);
        r.stalls += u64::from(u128::from(took_ns) > stall().as_nanos());
        *r.by_source.entry(source.to_owned()).or_default().entry(server.clone()).or_default() += 1;
        *r.by_server.entry(server).or_default() += 1;
        r.latency.record(took_ns);
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

/// The sum of all workers; `full` adds latencies and samples.
pub(super) fn merge<'a>(tallies: impl Iterator<Item = &'a Tally>, elapsed_ms: u64, full: bool) -> Report {
    let mut sum = Report { elapsed_ms, ..Report::default() };
    for Tally { report: r } in tallies {
        sum.requests += r.requests;
        sum.ok += r.ok;
        sum.opened += r.opened;
        sum.peer_kept += r.peer_kept;
        sum.stalls += r.stalls;
        sum.late += r.late;
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
            sum.latency.merge(&r.latency);
        }
    }
    let us = |ns: u64| ns.div_ceil(1000);
    sum.p50_us = us(sum.latency.percentile(50.0));
    sum.p99_us = us(sum.latency.percentile(99.0));
    sum.max_us = us(sum.latency.max());
    sum
}
