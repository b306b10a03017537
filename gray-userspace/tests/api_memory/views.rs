//! What the core without a kernel shows.

use std::collections::BTreeSet;

use gray_userspace::{
    api::types::*,
    release::{ArmCounts, Compared, Counts, Judged},
    verdict::{Comparison, Interval, Measure, Outcome, Side},
};

use super::State;

pub fn status(s: &State) -> Status {
    let revision = s.revision;
    Status {
        version: "0.1.0".into(),
        abi: 1,
        kernel: "6.18.0".into(),
        pid: 4711,
        uptime_s: 7384,
        epoch: revision,
        revision: Some(revision),
        zone: Some("z1".into()),
        splice: Some(SpliceStatus { at: vec!["198.18.0.1:4011".into()] }),
        attachments: vec![AttachmentStatus {
            iface: "veth-edge".into(),
            ifindex: Some(7),
            role: "edge".into(),
            hook: Some("tcx".into()),
            xdp: None,
            xdp_note: Some("veth: native XDP would cost TCP 3 to 5 times; `:xdp` forces it".into()),
            trusts_tags: false,
            state: "attached".into(),
            since: "2026-01-02T03:04:05Z".into(),
            error: None,
        }],
        connect: None,
        policy: PolicySize {
            services: 1,
            cohorts: 2,
            routes: 3,
            identities: 1_000_000,
            prefixes: 4,
            rules: 5,
        },
        flows: FlowTable { v4: 12, v6: 3, capacity: 262_144 },
        counters: vec![Counter { reason: "steered".into(), count: 42, doc: "Sent to an instance.".into() }],
        events_lost: 0,
        services: vec![ServiceCounts {
            service: "shop".into(),
            gray: 10,
            stable: 990,
            shadow: None,
            agent_lost: None,
        }],
        alarms: Vec::new(),
        breakers: Vec::new(),
        health: vec![ServiceHealth {
            service: "shop".into(),
            check: "http /ready every 2s".into(),
            up: 1,
            down: 1,
            text: Some("shop-2a is down: status 503, not 200 to 399".into()),
            ..ServiceHealth::default()
        }],
        health_error: None,
        policy_dir: None,
        links: Vec::new(),
        state_dir_error: None,
        layers: vec![LayerStatus {
            cohort: "early".into(),
            tenants: 2,
            of: 3,
            basis_points: 1569,
            identities: 2,
            room: 250_000,
        }],
    }
}

pub fn services() -> Vec<ServiceView> {
    vec![ServiceView {
        name: "shop".into(),
        listen: vec!["198.18.1.100:80".into()],
        identify: vec!["source".into()],
        on_missing_identity: "stable".into(),
        breaker: None,
        on_agent_lost: "keep".into(),
        nat: "dnat".into(),
        encapsulation: None,
        balance: "maglev".into(),
        affinity: "connection".into(),
        zone_affinity: "prefer".into(),
        health: Some("http /ready every 2s".into()),
        shadow: false,
        stable: "version=1.0".into(),
        instances: 2,
        routes: vec!["shop-early".into()],
    }]
}

pub fn instances(s: &State) -> Vec<InstanceView> {
    let drained = &s.drained;
    let one = |id: &str, version: &str, stable| InstanceView {
        service: "shop".into(),
        id: id.into(),
        address: "198.18.2.2:8080".into(),
        meta: [("version".to_string(), version.to_string()), ("zone".into(), "z1".into())].into(),
        weight: 100,
        state: if drained.contains(&format!("shop/{id}")) { "draining" } else { "active" }.into(),
        deadline: None,
        stable,
        flows: Some(3),
        health: Some(InstanceHealth {
            state: if stable { "up" } else { "down" }.into(),
            share: if stable { 100 } else { 0 },
            since: "2026-01-02T03:04:05Z".into(),
            last: Some(if stable { "status 200" } else { "status 503, not 200 to 399" }.into()),
            took_us: Some(812),
            passed: 40,
            failed: 3,
            changes: 1,
            held_s: None,
        }),
    };
    vec![one("shop-1a", "1.0", true), one("shop-2a", "2.0", false)]
}

pub fn cohorts(s: &State) -> Vec<CohortView> {
    let list = |(name, ids): (&String, &BTreeSet<String>)| CohortView {
        name: name.clone(),
        kind: "list".into(),
        of: Some("source".into()),
        size: ids.len() as u64,
        ..Default::default()
    };
    let mut all: Vec<_> = s.cohorts.iter().map(list).collect();
    all.push(CohortView {
        name: "tenth".into(),
        kind: "percent".into(),
        basis_points: Some(1000),
        ..Default::default()
    });
    all
}

pub fn routes() -> Vec<RouteView> {
    vec![RouteView {
        name: "shop-early".into(),
        service: Some("shop".into()),
        when: Some("early-apps".into()),
        precedence: "explicit".into(),
        lane: None,
        to: vec![ArmView { subset: "version=2.0".into(), basis_points: 10_000 }],
        decisions: 10,
    }]
}

pub fn lanes() -> Vec<LaneView> {
    vec![LaneView {
        name: "gray-2.0".into(),
        number: 7,
        services: [("cart", "version=2.0"), ("shop", "version=2.0")]
            .map(|(s, v)| (s.to_string(), v.to_string()))
            .into(),
        routes: vec!["*/office/lane=gray-2.0".into()],
        workloads: vec!["cart-2".into()],
        decisions: 12,
    }]
}

pub fn release(name: &str) -> ReleaseView {
    let arm = |connections| ArmCounts {
        connections,
        packets: connections * 10,
        bytes: connections * 1000,
        reply_packets: connections * 8,
        flows: connections,
        reply_bytes: connections * 9000,
        ..ArmCounts::default()
    };
    let of = |service: &str, gray, stable| Counts {
        service: service.into(),
        gray: arm(gray),
        stable: arm(stable),
    };
    ReleaseView {
        name: name.into(),
        version: "2.0.0-gray.3".into(),
        formal: "2.0.0".into(),
        state: "ramp 2".into(),
        phase: "ramp".into(),
        held: None,
        stage: Some(2),
        stages: 3,
        ramp: ["1 %", "25 % and beta", "100 % and beta"].map(str::to_owned).into(),
        reason: "the stage passed".into(),
        since: "2026-01-02T03:04:05Z".into(),
        traffic: "25 % and beta to gray".into(),
        services: ["shop", "cart"]
            .map(|s| ReleasedView { service: s.into(), gray: "version=2.0".into() })
            .into(),
        measured: vec![of("shop", 812, 2450), of("cart", 7, 31)],
        judged: Some(Judged {
            verdict: "inconclusive".into(),
            why: "cart: 7 of 100 connections of gray".into(),
        }),
        compared: Vec::new(),
        waits_for: vec!["time: 9m of 10m left".into(), "evidence: cart: 7 of 100 connections of gray".into()],
        started: "2026-01-02T02:00:00Z".into(),
        who: "uid:ann".into(),
        over: false,
    }
}

/// One that moves clients, one that only its policy could take back, one that has moved nobody, one that is over.
pub fn releases() -> Vec<ReleaseView> {
    let other = |name: &str, phase: &str, over| ReleaseView {
        state: phase.into(),
        phase: phase.into(),
        stage: None,
        services: vec![ReleasedView { service: "pay".into(), gray: "version=3.0".into() }],
        waits_for: Vec::new(),
        over,
        ..release(name)
    };
    let over = ReleaseView { services: release("").services, ..other("shop-1.9", "closed", true) };
    vec![release("shop-2.0"), other("pay-3.0", "done", false), other("pay-2.9", "stopped", false), over]
}

pub fn release_history() -> Vec<ReleaseEvent> {
    let event = |what: &str, from: &str, to: &str, text: &str| ReleaseEvent {
        at: "2026-01-02T03:04:05Z".into(),
        run: "2026-01-02T02:00:00Z".into(),
        what: what.into(),
        from: from.into(),
        to: to.into(),
        text: text.into(),
        evidence: None,
    };
    let mut counts = release("shop-2.0").measured;
    counts[0].gray.refused = 2;
    let side = |n: u64, value| Side { n, value };
    let comparison = Comparison {
        name: "failures".into(),
        outcome: Outcome::Pass,
        why: "+0.25 points; a regression of +5.00 points is excluded".into(),
        measure: Measure::Difference,
        stable: side(2450, 0.0),
        gray: side(812, 0.0025),
        estimate: 0.0025,
        interval: Interval { low: Some(-0.003), high: Some(0.02) },
        interval_level: 0.01,
        p: 0.125,
        level: 0.005,
    };
    let compared =
        vec![Compared { service: "shop".into(), outcome: Outcome::Pass, comparisons: vec![comparison] }];
    let judged = Judged { verdict: "pass".into(), why: String::new() };
    vec![
        event("unknown", "ramp 2", "ramp 2", "check 1 of 1 (command check): the agent died"),
        ReleaseEvent {
            evidence: Some(ReleaseEvidence { time_ms: 600_000, judged, counts, compared }),
            ..event("transition", "ramp 1", "ramp 2", "the stage passed")
        },
        event("traffic", "ramp 1", "ramp 1", "1 % to gray: revision 7, epoch 9"),
    ]
}

pub fn audit() -> Vec<AuditEntry> {
    let entry = |seq: u64, who: &str, action: &str, revision, detail: &str| AuditEntry {
        seq,
        at: "2026-01-02T03:04:05Z".into(),
        who: who.into(),
        action: action.into(),
        revision,
        detail: detail.into(),
        hash: format!("{seq:02x}").repeat(32),
    };
    vec![
        entry(4, "uid:root", "key export", None, ""),
        entry(3, "uid:ann", "fail", Some(2), r#"{"reason":"no space left on device"}"#),
        entry(2, "uid:ann", "activate", Some(1), ""),
        entry(
            1,
            "uid:ann",
            "begin",
            Some(1),
            r#"{"kind":"apply","summary":"3 changes","why":"because","digest":"00"}"#,
        ),
    ]
}
