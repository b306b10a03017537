//! `/metrics`: counters of the data path as OpenMetrics text. Reads only; what cannot be read is left out.

mod times;

use std::{convert::Infallible, fmt, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use gray_common::{
    abi,
    wire::{ARM_GRAY, ARM_STABLE},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};

use super::{
    alarm,
    core::{AttachState, Core, Inner},
    health,
};
use crate::kernel::KernelError;

type Labels = Vec<(&'static str, String)>;

/// One label set and its value.
type Sample = (Labels, u64);

/// A family: name without prefix and suffix, help, samples.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    /// Else a gauge.
    counter: bool,
    samples: Vec<Sample>,
}

/// What one scrape read.
#[derive(Debug, Default)]
struct Scrape {
    families: Vec<Family>,
    timed: Vec<times::Timed>,
}

/// However many scrape at once, it is read once.
pub fn metrics(core: &Core) -> Bytes {
    let read = core.metrics.get(|| Ok::<_, Infallible>(Bytes::from(read(core))));
    read.unwrap_or_default()
}

fn read(core: &Core) -> String {
    let scrape = {
        let flows = core.flow_entries();
        let inner = core.lock();
        match flows
            .and_then(|flows| inner.families(flows))
            .and_then(|families| Ok(Scrape { families, timed: inner.timed()? }))
        {
            Ok(scrape) => scrape,
            Err(error) => {
                tracing::warn!(%error, "metrics: the kernel's counters cannot be read");
                Scrape::default()
            }
        }
    };
    render(scrape)
}

fn render(scrape: Scrape) -> String {
    let mut registry = Registry::with_prefix("gray");
    let version = [("version", env!("CARGO_PKG_VERSION").to_string()), ("abi", abi::ABI.to_string())];
    registry.register("build", "Version of the agent and number of the kernel contract", Info::new(version));
    registry.register_collector(Box::new(scrape));
    let mut out = String::new();
    // Writing to a String does not fail; a half-written text would lack its end mark, which readers notice.
    if let Err(error) = text::encode(&mut out, &registry) {
        tracing::error!(%error, "metrics: encoding failed");
    }
    out
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for f in &self.families {
            let kind = if f.counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(f.name, f.help, None, kind)?;
            match f.samples.as_slice() {
                [(none, value)] if none.is_empty() => f.value(metric, *value)?,
                samples => {
                    for (labels, value) in samples {
                        let labels: Vec<_> = labels.iter().map(|(k, v)| (*k, escaped(v))).collect();
                        f.value(metric.encode_family(&labels)?, *value)?;
                    }
                }
            }
        }
        for f in self.timed.iter().filter(|f| !f.samples.is_empty()) {
            let mut metric = encoder.encode_descriptor(f.name, f.help, None, MetricType::Histogram)?;
            for (labels, buckets) in &f.samples {
                let labels: Vec<_> = labels.iter().map(|(k, v)| (*k, escaped(v))).collect();
                buckets.encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// The encoder writes label values as they are; names of interfaces and routes may hold quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Family {
    fn value(&self, metric: MetricEncoder<'_>, value: u64) -> Result<(), fmt::Error> {
        match self.counter {
            true => ConstCounter::new(value).encode(metric),
            false => ConstGauge::new(value as i64).encode(metric),
        }
    }
}

fn counter(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, counter: true, samples }
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, counter: false, samples }
}

fn plain(value: u64) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

impl Inner {
    fn families(&self, flows: [u64; 2]) -> Result<Vec<Family>, KernelError> {
        let reasons =
            self.live.reasons()?.into_iter().map(|(r, n)| (vec![("reason", r.label().into())], n)).collect();
        let control = self.live.control();
        let flows = self.flow_table(flows);
        let family = |name: &str, n| (vec![("family", name.to_string())], n);
        let attached = self.attachments.iter().map(|a| {
            let labels = vec![("iface", a.iface.clone()), ("role", a.role.name().to_string())];
            (labels, u64::from(a.state == AttachState::Attached))
        });
        let mut out = vec![
            counter("decisions", "Decisions and other outcomes of packets and calls, by reason.", reasons),
            counter("rule_hits", "Decisions by rule; `default` is no rule.", self.rule_samples()?),
        ];
        out.extend(self.arm_families()?);
        out.push(self.requests()?);
        out.push(self.spliced()?);
        out.extend(self.alarm_families());
        out.extend(self.breaker_families()?);
        out.extend(self.link_families()?);
        out.extend(self.health_families());
        out.push(gauge("release", "1 for the state that a release is in.", self.release_samples()));
        out.extend([
            gauge("epoch", "Number of the policy in force; 0 is none.", plain(control.epoch)),
            gauge("revision", "Revision in force; 0 is none.", plain(self.revision)),
            gauge(
                "flows",
                "Entries of the flow tables.",
                vec![family("v4", flows.v4), family("v6", flows.v6)],
            ),
            gauge("flow_capacity", "Entries that each flow table can hold.", plain(flows.capacity)),
            gauge("identities", "Exact list entries in force.", plain(self.have.identities.len() as u64)),
            gauge("prefixes", "Address prefixes in force.", plain(self.prefixes.len() as u64)),
            gauge("attached", "1 while the interface is attached.", attached.collect()),
        ]);
        Ok(out)
    }

    fn alarm_families(&self) -> [Family; 3] {
        let alarms = alarm::lock(&self.alarms);
        let (mut up, mut raised, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
        for (service, a) in alarms.iter() {
            let labels = || vec![("service", service.clone())];
            up.push((labels(), u64::from(a.is_up())));
            raised.push((labels(), a.raised));
            let d = a.deliveries();
            for (result, n) in [("pass", &d.delivered), ("fail", &d.failed)] {
                deliveries.push(([labels(), vec![("result", result.to_string())]].concat(), n.load(Relaxed)));
            }
        }
        [
            gauge("alarm", "1 while too many requests of the service name none of its claims.", up),
            counter("alarms", "Times that the alarm was raised.", raised),
            counter("alarm_deliveries", "Notices to webhooks and programs, by result.", deliveries),
        ]
    }

    fn link_families(&self) -> Result<[Family; 2], KernelError> {
        let (mut calls, mut others) = (Vec::new(), Vec::new());
        for l in self.links_status()? {
            let labels = || vec![("workload", l.workload.clone())];
            calls.push((labels(), l.calls));
            others.push((labels(), l.other_lane));
        }
        let help = "Calls by connections that were made in another lane than that of the request at hand.";
        Ok([
            counter("link_calls", "Calls to services by workloads with a link.", calls),
            counter("link_other_lane", help, others),
        ])
    }

    fn breaker_families(&self) -> Result<[Family; 4], KernelError> {
        let (mut open, mut opened, mut failures, mut kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for b in self.breaker_status()? {
            let labels = || vec![("service", b.service.clone())];
            open.push((labels(), u64::from(b.state != "closed")));
            opened.push((labels(), b.opens));
            failures.push((labels(), b.failures));
            kept.push((labels(), b.kept));
        }
        Ok([
            gauge("breaker_open", "1 while the breaker of the service's gray arm is open.", open),
            counter("breaker_opened", "Times that the breaker opened.", opened),
            counter("breaker_failures", "Failures of gray that the breaker counted.", failures),
            counter(
                "breaker_kept",
                "Connections that a route would have sent to gray, kept with stable by the breaker.",
                kept,
            ),
        ])
    }

    fn health_families(&self) -> [Family; 6] {
        let board = health::lock(&self.board);
        let now = health::now();
        let (mut up, mut share, mut probes, mut changes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (_, t) in board.targets() {
            let labels = || vec![("service", t.service.clone()), ("instance", t.instance.clone())];
            up.push((labels(), u64::from(t.machine.is_up())));
            share.push((labels(), u64::from(t.machine.share(&t.check, now))));
            changes.push((labels(), t.changes));
            for (result, n) in [("pass", t.passed), ("fail", t.failed)] {
                probes.push(([labels(), vec![("result", result.to_string())]].concat(), n));
            }
        }
        let all_down = board.services(now).into_iter();
        let all_down = all_down.map(|s| (vec![("service", s.service)], u64::from(s.kept))).collect();
        [
            gauge("instance_up", "1 while an instance with a health check is up.", up),
            gauge("instance_share", "Per cent of its weight that an instance gets by its health.", share),
            gauge(
                "health_all_down",
                "1 while some subset of the service is all down and sent to all the same.",
                all_down,
            ),
            counter(
                "health_probes",
                "Probes since the agent began to probe the instance, by result.",
                probes,
            ),
            counter("health_changes", "Times that an instance came up or went down.", changes),
            gauge(
                "health_late_ms",
                "Milliseconds by which the latest probe began late.",
                plain(board.late_ms),
            ),
        ]
    }

    /// Of services whose requests are read.
    fn requests(&self) -> Result<Family, KernelError> {
        let mut samples = Vec::new();
        for s in self.policy.services.iter().filter(|s| s.reads()) {
            let Some(id) = self.compiled.assigned.services.get(&s.name) else { continue };
            let n = self.live.requests(id)?;
            for (claims, n) in [("named", n.read.saturating_sub(n.missing)), ("missing", n.missing)] {
                samples.push((vec![("service", s.name.clone()), ("claims", claims.to_string())], n));
            }
        }
        Ok(counter(
            "requests",
            "Requests that were read, by whether they name a claim of their service.",
            samples,
        ))
    }

    /// Of services whose requests are read: what the splice listener did.
    fn spliced(&self) -> Result<Family, KernelError> {
        let mut samples = Vec::new();
        for s in self.policy.services.iter().filter(|s| s.reads()) {
            let Some(id) = self.compiled.assigned.services.get(&s.name) else { continue };
            let n = self.live.listened(id)?;
            for (what, n) in [
                ("gray", n.gray),
                ("stable", n.stable),
                ("refused", n.refused),
                ("unread", n.unread),
                ("failed_gray", n.failed_gray),
                ("failed_stable", n.failed_stable),
                ("no_instance", n.no_instance),
                ("broken", n.broken),
            ] {
                samples.push((vec![("service", s.name.clone()), ("what", what.to_string())], n));
            }
        }
        Ok(counter("spliced", "What the splice listener made of connections, and met with.", samples))
    }

    fn rule_samples(&self) -> Result<Vec<Sample>, KernelError> {
        let rules = self.compiled.assigned.rules.iter();
        std::iter::once(("default", 0))
            .chain(rules)
            .map(|(name, n)| Ok((vec![("rule", name.to_string())], self.live.rule_hits(n)?)))
            .collect()
    }

    fn arm_families(&self) -> Result<[Family; 8], KernelError> {
        let (mut connections, mut packets, mut bytes, mut failures) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut shadowed, mut lost) = (Vec::new(), Vec::new());
        let (mut answers, mut retransmits) = (Vec::new(), Vec::new());
        for (service, id) in self.compiled.assigned.services.iter() {
            for (arm, number) in [("gray", ARM_GRAY), ("stable", ARM_STABLE)] {
                let c = self.live.arm(id, number)?;
                let labels = |key, value: &str| {
                    vec![("service", service.to_string()), ("arm", arm.to_string()), (key, value.to_string())]
                };
                connections.push((labels("path", "packet"), c.packet_flows));
                connections.push((labels("path", "connect"), c.connects));
                packets.push((labels("direction", "request"), c.packets));
                packets.push((labels("direction", "reply"), c.reply_packets));
                bytes.push((labels("direction", "request"), c.bytes));
                bytes.push((labels("direction", "reply"), c.reply_bytes));
                let kinds = [
                    ("refused", c.refused),
                    ("reset", c.resets),
                    ("client-reset", c.client_resets),
                    ("unanswered", c.unanswered),
                ];
                failures.extend(kinds.map(|(kind, n)| (labels("kind", kind), n)));
                const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
                answers.extend(CLASSES.iter().zip(c.answers).map(|(class, n)| (labels("status", class), n)));
                retransmits.push((labels("path", "connect"), c.retransmits));
                if number == ARM_STABLE {
                    let labels = || vec![("service", service.to_string())];
                    shadowed.push((labels(), c.shadowed));
                    lost.push((labels(), c.lost));
                }
            }
        }
        Ok([
            counter(
                "connections",
                "Decided connections and UDP flows, by the path that decided.",
                connections,
            ),
            counter("packets", "Packets of steered connections on the packet path.", packets),
            counter(
                "bytes",
                "Bytes of these packets, link headers included, and of the streams of callers on this node.",
                bytes,
            ),
            counter(
                "failures",
                "TCP connections that were refused or reset, or whose SYN was not answered within a second.",
                failures,
            ),
            counter(
                "answers",
                "TCP connections on the packet path by what their instance said first: the class of an HTTP/1 status, or other.",
                answers,
            ),
            counter("retransmits", "Segments that callers on this node sent once more.", retransmits),
            counter(
                "shadowed",
                "Connections that a route would have sent to gray, of services in shadow.",
                shadowed,
            ),
            counter(
                "agent_lost",
                "Connections that a route would have sent to gray, while no agent had renewed its lease.",
                lost,
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_become_openmetrics_text() {
        let hits = vec![(vec![("rule", "a\"b".to_string())], 3), (vec![("rule", "default".into())], 0)];
        let families = vec![counter("rule_hits", "Hits.", hits), gauge("epoch", "Epoch.", plain(7))];
        let text = render(Scrape { families, ..Scrape::default() });
        let want = [
            "# TYPE gray_rule_hits counter",
            "gray_rule_hits_total{rule=\"a\\\"b\"} 3",
            "gray_rule_hits_total{rule=\"default\"} 0",
            "# TYPE gray_epoch gauge",
            "gray_epoch 7",
        ];
        let lines: Vec<&str> = text.lines().collect();
        for line in want {
            assert!(lines.contains(&line), "{line} is missing in:\n{text}");
        }
        assert!(
            text.contains(concat!("gray_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\",abi=\"")),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
