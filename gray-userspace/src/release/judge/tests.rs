use super::{
    super::{ArmCounts, Buckets},
    *,
};

fn arm(flows: u64, refused: u64) -> ArmCounts {
    let (packets, reply_packets) = (flows * 8, flows * 8);
    ArmCounts { connections: flows, flows, refused, packets, reply_packets, ..ArmCounts::default() }
}

fn asked(samples: u64) -> Asked {
    Asked { samples, whole: false, unmeasured: false, level: 0.05, least: FEW, times: true, exclude: None }
}

fn of(gray: ArmCounts, stable: ArmCounts, asked: &Asked) -> Verdict {
    judge(&[Counts { service: "shop".into(), gray, stable }], asked)
}

fn says(gray: ArmCounts, stable: ArmCounts, samples: u64) -> Says {
    of(gray, stable, &asked(samples)).says
}

#[test]
fn f9_so_many_connections_that_none_failed_of_are_enough() {
    for least in [20, 30, 50, 100, 500, 1000, 5000] {
        assert_eq!(says(arm(least, 0), arm(least, 0), least), Says::Pass, "{least}");
        assert_eq!(says(arm(least, 0), arm(least * 99, 0), least), Says::Pass, "{least}");
    }
    // Nor does a part of the level ask for more of them: for less to be ruled out.
    let part = |samples| Asked { level: 0.05 / 8.0, ..asked(samples) };
    for least in [20, 50, 100, 500, 1000, 2000, 5000] {
        assert_eq!(of(arm(least, 0), arm(least * 99, 0), &part(least)).says, Says::Pass, "{least}");
    }
    assert!(ruled_out(100, 0.05 / 8.0) > ruled_out(100, 0.05));
    assert_eq!(
        (ruled_out(1_000_000, 0.05), ruled_out(1, 0.05)),
        (0.01, ruled_out(FEW, 0.05)),
        "no less than a point"
    );
}

#[test]
fn f9_too_few_samples_are_inconclusive_however_few_were_asked_for() {
    let none = ArmCounts::default();
    for samples in [1, 5, 19, 20, 50, 1000] {
        for (gray, stable) in
            [(none, none), (none, arm(9900, 0)), (arm(19, 0), arm(9900, 0)), (arm(9900, 0), none)]
        {
            let v = of(gray, stable, &asked(samples));
            assert_eq!(v.says, Says::Inconclusive, "{samples}: {v:?}");
        }
    }
    // Fewer than twenty are no sample: twenty are asked for.
    assert_eq!(says(arm(20, 0), arm(20, 0), 1), Says::Pass);
    assert_eq!(of(arm(19, 0), arm(20, 0), &asked(1)).why, "shop: 19 of 20 connections of gray");
    // And as many as the document says.
    let more = Asked { least: 200, ..asked(50) };
    assert_eq!(of(arm(199, 0), arm(9900, 0), &more).says, Says::Inconclusive);
    assert_eq!(of(arm(200, 0), arm(9900, 0), &more).says, Says::Pass);
}

#[test]
fn f9_who_asks_for_nothing_is_told_that_nothing_was_judged() {
    let v = of(ArmCounts::default(), ArmCounts::default(), &asked(0));
    assert_eq!((v.says, Judged::from(&v).verdict.as_str()), (Says::Nothing, "not judged"));
    assert!(v.why.contains("samples: 0"), "{v:?}");
    assert_eq!(says(arm(5000, 0), arm(5000, 0), 0), Says::Nothing);
}

#[test]
fn f9_a_gray_arm_that_refuses_fails() {
    let v = of(arm(100, 30), arm(9900, 10), &asked(100));
    assert!(v.says == Says::Fail && v.why.starts_with("shop: failures"), "{v:?}");
    let all = &v.compared[0].comparisons;
    assert!(all.iter().any(|c| c.name == "failures.refused" && c.p < 1e-6 && c.gray.n == 100), "{all:?}");
    // Also where no sample is asked for.
    assert_eq!(says(arm(100, 30), arm(9900, 10), 0), Says::Fail);
    // Stable does the same: nobody is worse.
    assert_ne!(says(arm(100, 30), arm(9900, 2970), 100), Says::Fail);
    // A few may be chance.
    assert_ne!(says(arm(100, 1), arm(9900, 10), 100), Says::Fail);
}

#[test]
fn f9_f15_gray_whose_breaker_opened_fails_however_few_it_had() {
    let kept = ArmCounts { broken: 1, ..arm(9900, 0) };
    for samples in [0, 100] {
        let v = of(arm(5, 5), kept, &asked(samples));
        assert!(v.says == Says::Fail && v.why.contains("breaker"), "{v:?}");
    }
}

#[test]
fn f9_what_is_not_seen_of_one_arm_is_not_compared_and_holds() {
    let silent = ArmCounts { reply_packets: 0, ..arm(9900, 0) };
    let resets = ArmCounts { resets: 30, ..arm(100, 0) };
    let v = of(resets, silent, &asked(100));
    assert!(
        v.says == Says::Inconclusive && v.why.contains("what stable answers does not pass here"),
        "{v:?}"
    );
    // Of some connections they pass here, of most elsewhere.
    let half = ArmCounts { reply_packets: 99, ..arm(9900, 0) };
    assert_eq!(says(resets, half, 100), Says::Inconclusive);
    assert_eq!(says(resets, arm(9900, 0), 100), Says::Fail);
    // A few refusals may be the service's own way.
    assert_ne!(says(arm(100, 5), silent, 100), Says::Fail);
    let unanswered = ArmCounts { unanswered: 30, ..arm(100, 0) };
    assert_eq!(says(unanswered, silent, 100), Says::Fail);
    // Many are not, whatever stable does.
    let v = of(arm(100, 30), silent, &asked(100));
    assert!(v.says == Says::Fail && v.why.contains("gray refuses 30.0 % of 100"), "{v:?}");
    // Nor where everybody is on gray.
    let whole = Asked { whole: true, ..asked(100) };
    assert_eq!(of(arm(100, 30), ArmCounts::default(), &whole).says, Says::Fail);
    assert_eq!(of(arm(100, 2), ArmCounts::default(), &whole).says, Says::Pass);
}

/// Callers of this node, and UDP: counted, and not followed.
#[test]
fn f9_a_service_whose_failures_are_not_seen_holds_unless_the_stage_lets_it_pass() {
    let calls = ArmCounts { connections: 100, ..ArmCounts::default() };
    let allow = Asked { unmeasured: true, ..asked(100) };
    let v = of(calls, calls, &asked(100));
    assert!(v.says == Says::Inconclusive && v.why.contains("unmeasured: allow"), "{v:?}");
    assert_eq!(of(calls, calls, &allow).says, Says::Nothing, "nobody says that it is good");
    // A handful of connections among them does not make it one that is measured.
    let few = ArmCounts { connections: 100, ..arm(3, 0) };
    assert_eq!(of(few, few, &asked(100)).says, Says::Inconclusive);
    assert_eq!(of(few, few, &allow).says, Says::Nothing);
    // What is seen of them is judged all the same, and the samples are counted.
    assert_eq!(of(ArmCounts { connections: 100, ..arm(90, 60) }, arm(9900, 0), &allow).says, Says::Fail);
    assert_eq!(of(arm(19, 0), calls, &allow).says, Says::Inconclusive);
    // Gray alone is asked where everybody is on it.
    for (whole, want) in [(calls, Says::Inconclusive), (arm(100, 0), Says::Pass)] {
        assert_eq!(of(whole, ArmCounts::default(), &Asked { whole: true, ..asked(100) }).says, want);
    }
    // Another service is measured, and said to be.
    let both = |second| {
        let one = |service: &str, n| Counts { service: service.into(), gray: n, stable: n };
        judge(&[one("shop", arm(1000, 0)), one("dns", second)], &allow)
    };
    let v = both(ArmCounts { connections: 1000, ..ArmCounts::default() });
    assert!(v.says == Says::Pass && v.why.contains("but for dns: not measured"), "{v:?}");
    assert_eq!(v.compared.len(), 1);
}

/// Of a service with TCP and UDP the flows of UDP, which cannot fail here, make no failure rare.
#[test]
fn f9_udp_flows_are_no_attempts() {
    let mixed = |n, refused| ArmCounts { connections: n + 100_000, ..arm(n, refused) };
    assert_eq!(says(mixed(100, 30), mixed(9900, 10), 100), Says::Fail);
    let v = of(mixed(100, 0), mixed(9900, 0), &asked(100));
    assert_eq!(v.compared[0].comparisons[0].gray.n, 100);
}

#[test]
fn f9_what_must_be_ruled_out_may_be_said() {
    let strict = Asked { exclude: Some(0.005), ..asked(100) };
    assert_eq!(of(arm(1000, 0), arm(9000, 0), &strict).says, Says::Inconclusive);
    assert_eq!(of(arm(4000, 0), arm(9000, 0), &strict).says, Says::Pass);
    // A service that fails often.
    let rough = |n: u64| ArmCounts { refused: n / 20, ..arm(n, 0) };
    assert_eq!(says(rough(1000), rough(9000), 1000), Says::Inconclusive);
    let loose = Asked { exclude: Some(0.1), ..asked(1000) };
    assert_eq!(of(rough(1000), rough(9000), &loose).says, Says::Pass);
}

/// Releases of two services and four stages whose versions are alike, looked at all the time: the level is that of the whole release.
#[test]
fn f9_a_release_of_equal_versions_fails_within_its_level() {
    const RELEASES: u64 = 200;
    let (mut failed, mut random) = (0, fastrand(7));
    for _ in 0..RELEASES {
        let mut bad = false;
        for _ in 0..4 {
            let mut all = vec![
                Counts { service: "a".into(), ..Counts::default() },
                Counts { service: "b".into(), ..Counts::default() },
            ];
            for _ in 0..20 {
                for s in &mut all {
                    for (n, gray) in [(40, true), (120, false)] {
                        let refused = (0..n).filter(|_| random() < 0.02).count() as u64;
                        let side = if gray { &mut s.gray } else { &mut s.stable };
                        let before = *side;
                        *side = arm(before.flows + n, before.refused + refused);
                    }
                }
                let asked = Asked { level: 0.05 / 4.0, ..asked(200) };
                bad |= judge(&all, &asked).says == Says::Fail;
            }
        }
        failed += u64::from(bad);
    }
    assert!(failed * 20 <= RELEASES, "{failed} of {RELEASES}");
}

/// Numbers from 0 to 1 (splitmix64).
fn fastrand(mut at: u64) -> impl FnMut() -> f64 {
    move || {
        at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = at;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

/// Times of `n` connections, spread over the buckets around one of so many milliseconds.
fn around(ms: f64, n: u64) -> Buckets {
    let at = (ms * 1e6 / 1024.0).log2() as usize;
    let mut b = Buckets::default();
    for (bucket, share) in [(at - 1, 25), (at, 50), (at + 1, 25)] {
        b.0[bucket] = n * share / 100;
    }
    b
}

fn timed(n: u64, ms: f64) -> ArmCounts {
    ArmCounts { first_byte: around(ms, n), handshake: around(0.2, n), ..arm(n, 0) }
}

/// Gray that answers everybody, and takes twice as long, is worse; a document may say that it is not.
#[test]
fn f9_gray_that_is_slower_fails() {
    let v = of(timed(500, 80.0), timed(4500, 20.0), &asked(500));
    assert_eq!(v.says, Says::Fail);
    assert!(v.why.contains("first_byte"), "{}", v.why);
    assert_eq!(says(timed(500, 20.0), timed(4500, 20.0), 500), Says::Pass);
    assert_eq!(says(timed(500, 20.0), timed(4500, 80.0), 500), Says::Pass, "faster is no fault");
    let ignored = Asked { times: false, ..asked(500) };
    assert_eq!(of(timed(500, 80.0), timed(4500, 20.0), &ignored).says, Says::Pass);
}

/// Below some milliseconds nobody waits.
#[test]
fn f9_what_is_short_is_not_compared() {
    let quick = |n, ms| ArmCounts { handshake: around(ms, n), ..arm(n, 0) };
    assert_eq!(says(quick(500, 1.5), quick(4500, 0.05), 500), Says::Pass);
    assert_eq!(says(quick(500, 40.0), quick(4500, 0.05), 500), Says::Fail);
}

/// Times that nobody has (UDP, another way back) hold nothing up; gray that takes connections and is silent passes by nothing.
#[test]
fn f9_who_is_silent_is_not_timed_and_does_not_pass() {
    assert_eq!(says(arm(500, 0), arm(4500, 0), 500), Says::Pass);
    let few = ArmCounts { first_byte: around(20.0, 100), ..arm(500, 0) };
    let v = of(few, timed(4500, 20.0), &asked(500));
    assert_eq!(v.says, Says::Inconclusive);
    assert!(v.why.contains("answered on 100 of 500"), "{}", v.why);
}

/// What one service leaves open another one, that is not seen, does not close.
#[test]
fn f9_a_service_that_is_not_seen_hides_no_other() {
    let service = |name: &str, gray, stable| Counts { service: name.into(), gray, stable };
    let dns = service(
        "dns",
        ArmCounts { connections: 500, ..arm(3, 0) },
        ArmCounts { connections: 900, ..arm(3, 0) },
    );
    let shop = service("shop", arm(500, 9), arm(500, 9));
    let v = judge(&[dns, shop], &Asked { unmeasured: true, exclude: Some(0.001), ..asked(50) });
    assert_eq!(v.says, Says::Inconclusive, "{}", v.why);
}

/// Answers of a status of 500 and more are failures, where answers can be read.
#[test]
fn f9_server_errors_are_failures() {
    let plain = |n, server_errors| ArmCounts { answers: n, server_errors, ..arm(n, 0) };
    let v = of(plain(500, 50), plain(4500, 20), &asked(500));
    assert_eq!(v.says, Says::Fail);
    assert!(v.compared[0].comparisons.iter().any(|c| c.name == "server_error"), "{v:?}");
    assert_eq!(says(plain(500, 0), plain(4500, 0), 500), Says::Pass);
    assert_eq!(
        says(ArmCounts { answers: 0, ..plain(500, 0) }, plain(4500, 20), 500),
        Says::Pass,
        "encrypted"
    );
}

/// Callers of the node are attempts like others.
#[test]
fn f9_callers_are_compared() {
    let calls = |n, refused| ArmCounts { connections: n, calls: n, refused, ..ArmCounts::default() };
    assert_eq!(says(calls(500, 50), calls(4500, 0), 500), Says::Fail);
    assert_eq!(says(calls(500, 0), calls(4500, 0), 500), Says::Pass);
}
