//! What the kernel has timed, as histograms: of instances, by service and arm.

use std::fmt;

use gray_common::wire::{ARM_GRAY, ARM_STABLE, LIFE, LIFE_UNIT_NS, TIME_BUCKETS, TIME_UNIT_NS, Times};
use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

use super::Labels;
use crate::{agent::core::Inner, kernel::KernelError};

/// One histogram: counts by power of two of `unit_ns`.
#[derive(Debug)]
pub struct Buckets {
    unit_ns: u64,
    counts: [u64; TIME_BUCKETS],
}

/// A family of histograms: name without prefix, help, and of each label set its counts.
#[derive(Debug)]
pub struct Timed {
    pub name: &'static str,
    pub help: &'static str,
    pub samples: Vec<(Labels, Buckets)>,
}

/// Name and help.
type Named = (&'static str, &'static str);

const fn histogram(name: &'static str, help: &'static str) -> Named {
    (name, help)
}

/// In the order of `Times::kinds`.
const KINDS: [Named; 4] = [
    histogram("handshake_seconds", "From a client's SYN to the instance's answer to it."),
    histogram("first_byte_seconds", "From the first byte of a client to the first one of its instance."),
    histogram("connection_seconds", "From a client's SYN to the first FIN or RST."),
    histogram(
        "rtt_seconds",
        "Smoothed round-trip time of callers' sockets on this node when they begin to close.",
    ),
];

impl Buckets {
    /// The upper bound of a bucket, seconds.
    fn bound(&self, bucket: usize) -> f64 {
        (self.unit_ns << (bucket + 1)) as f64 / 1e9
    }

    /// The kernel keeps no sum: each time counts as the middle of its bucket.
    pub fn encode(&self, mut metric: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let middle = |bucket: usize| self.bound(bucket) * 0.75;
        let sum = self.counts.iter().enumerate().map(|(i, n)| *n as f64 * middle(i)).sum();
        let count = self.counts.iter().sum();
        let last = TIME_BUCKETS - 1;
        let bounds = self.counts.iter().enumerate();
        let bounds = bounds.map(|(i, n)| (if i == last { f64::MAX } else { self.bound(i) }, *n));
        metric.encode_histogram::<NoLabelSet>(sum, count, &bounds.collect::<Vec<_>>(), None)
    }
}

impl Inner {
    /// Of arms of which a time is known.
    pub(super) fn timed(&self) -> Result<Vec<Timed>, KernelError> {
        let mut all: Vec<Timed> =
            KINDS.iter().map(|(name, help)| Timed { name, help, samples: Vec::new() }).collect();
        for (service, id) in self.compiled.assigned.services.iter() {
            for (arm, number) in [("gray", ARM_GRAY), ("stable", ARM_STABLE)] {
                let times: Times = self.live.times(id, number)?;
                for (kind, (family, counts)) in all.iter_mut().zip(times.kinds()).enumerate() {
                    if counts.iter().all(|n| *n == 0) {
                        continue;
                    }
                    let unit_ns = if kind == LIFE { LIFE_UNIT_NS } else { TIME_UNIT_NS };
                    let labels = vec![("service", service.to_string()), ("arm", arm.to_string())];
                    family.samples.push((labels, Buckets { unit_ns, counts: *counts }));
                }
            }
        }
        Ok(all)
    }
}
