//! The tables of cases in the kernel: `decide` over the data path's own maps, through BPF_PROG_TEST_RUN. What each case expects is read by the
//! same reader as on the host, and of every single decision the kernel says what the tables in memory say.

use std::{fs, net::IpAddr};

use gray_common::{
    decide::{Claims, Verdict},
    wire::ListenerKey,
};
use gray_tests::{
    cases::{
        Kernel,
        kernel::Caller,
        reader::{self, Asked, Decides as _, KEY},
    },
    command::note,
    pace::many,
    packets::{
        claims,
        random::Random,
        rig::{Routes, with},
    },
};

const SEED: u64 = 20_28;
const POLICIES: usize = 40;
const ASKED: usize = 300;

/// All rows that the host runs: none asks for what the kernel cannot be asked.
#[test]
fn c7_every_case_of_the_tables_is_decided_by_the_kernel_as_it_says() {
    with(Routes::None, |rig| {
        let mut kernel = Kernel::new(rig).unwrap();
        let (cases, wrong) = reader::run_all(&mut kernel);
        assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
        assert!(cases >= 150, "{cases} cases");
        note(&format!("{cases} cases, {} decisions, each the same in memory", kernel.asked));
    });
}

/// A13, B6, C7: whatever is known of a client, or of a caller on this node, the kernel decides as the tables in memory: random policies and
/// those of the cases, random claims, lanes and seeds.
#[test]
fn a13_the_kernel_and_the_tables_in_memory_decide_the_same_of_any_claims() {
    with(Routes::None, |rig| {
        let mut kernel = Kernel::new(rig).unwrap();
        let mut r = Random(SEED);
        let mut texts: Vec<String> =
            (0..many("policies", POLICIES, POLICIES / 4)).map(|_| claims::document(&mut r)).collect();
        texts.extend(documents());
        let (mut policies, mut ruled) = (0, 0);
        for text in &texts {
            let Some(keys) = kernel.put(text) else { continue };
            policies += 1;
            for _ in 0..ASKED {
                let key = keys[r.below(keys.len())];
                let is_v4 = key.addr.is_v4();
                let got = if r.below(3) == 0 {
                    let who = caller(&mut r, &kernel);
                    kernel.decide_local(key, is_v4, &who).map_err(|e| format!("{e:#}\n{who:?}"))
                } else {
                    let asked = anybody(&mut r, &kernel, key);
                    kernel.decide(&asked).map_err(|e| format!("{e}\n{asked:?}"))
                };
                let verdict = got.unwrap_or_else(|e| panic!("{e}\n{text}"));
                ruled += u64::from(
                    matches!(verdict, Verdict::Steer(d) | Verdict::Stay(d) | Verdict::Deny(d) if d.rule != 0),
                );
            }
        }
        note(&format!("{policies} policies, {} decisions, {ruled} by a rule, 0 mismatches", kernel.asked));
        assert!(
            policies > 20 && ruled > kernel.asked / 10 && ruled < kernel.asked,
            "{ruled} of {}",
            kernel.asked
        );
    });
}

/// The policies of the cases.
fn documents() -> Vec<String> {
    let mut out = Vec::new();
    for file in reader::files() {
        let text = fs::read_to_string(file).unwrap();
        let mut inside: Option<String> = None;
        for line in text.lines() {
            match inside.take() {
                Some(document) if line == "--" => out.push(document),
                Some(document) => inside = Some(document + line + "\n"),
                None if line.starts_with("policy") || line.starts_with("next") => {
                    inside = Some(String::new())
                }
                None => {}
            }
        }
    }
    out
}

fn one<T: Copy>(r: &mut Random, of: &[T]) -> Option<T> {
    (!of.is_empty()).then(|| of[r.below(of.len())])
}

fn source(r: &mut Random) -> Option<IpAddr> {
    const SOURCES: [&str; 8] = [
        "198.18.1.3",
        "198.18.1.9",
        "198.18.7.9",
        "198.18.9.9",
        "10.0.0.1",
        "fd00:1::9",
        "fd00:7::1",
        "fd00:9::9",
    ];
    one(r, &SOURCES).filter(|_| r.below(5) != 0).map(|s| s.parse().unwrap())
}

/// A lane that the policy has, another number, or none.
fn lane(r: &mut Random, kernel: &Kernel<'_>) -> u64 {
    let known: Vec<u32> = kernel.memory.lanes.keys().copied().collect();
    match r.below(4) {
        0 => 0,
        1 => r.below(7) as u64,
        _ => one(r, &known).unwrap_or(0).into(),
    }
}

/// Of a list, nobody's, or none.
fn hash(r: &mut Random, listed: &[u64]) -> u64 {
    match r.below(4) {
        0 => 0,
        1 => (r.below(1 << 30) as u64) << 33 | 1,
        _ => one(r, listed).unwrap_or(0),
    }
}

fn anybody(r: &mut Random, kernel: &Kernel<'_>, key: ListenerKey) -> Asked {
    let listed: Vec<u64> = kernel.memory.identities.keys().copied().collect();
    let source = source(r).map(Into::into);
    let mut claims = Claims::none(0);
    for h in &mut claims.hash[1..] {
        *h = hash(r, &listed);
    }
    claims.tails.iter_mut().for_each(|t| *t = r.below(256) as u8);
    claims.beginnings.iter_mut().for_each(|b| *b = hash(r, &listed));
    claims.lane = lane(r, kernel);
    if let Some(source) = &source {
        claims.set_source(KEY, source);
    }
    claims.set_mark(KEY, [0, 7, 8, 16][r.below(4)]);
    claims.set_dscp(KEY, [0, 46, 10][r.below(3)]);
    Asked { key, claims, source, is_v4: key.addr.is_v4(), seed: r.below(1 << 40) as u64 }
}

fn caller(r: &mut Random, kernel: &Kernel<'_>) -> Caller {
    let listed: Vec<u64> = kernel.memory.identities.keys().copied().collect();
    Caller {
        source: source(r),
        mark: [0, 7, 8, 16][r.below(4)],
        workload: hash(r, &listed),
        lane: lane(r, kernel),
        seed: r.below(1 << 40) as u64,
    }
}
