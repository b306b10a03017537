//! Percentages in the kernel (BPF_PROG_TEST_RUN), identity by identity, against an oracle that shares nothing with the product: the
//! reference SipHash-1-3 and the words of docs/adr/0005-hashes.md. `GRAY_IDENTITIES=1000000` for all of a million.

use std::hash::Hasher as _;

use gray_common::{
    decide::{Claims, Verdict, claims::APP},
    hash::claim_hash_bytes,
};
use gray_tests::{
    cases::{
        Kernel,
        reader::{Asked, Decides as _, KEY},
    },
    command::note,
    pace::asked,
    packets::rig::{Routes, with},
};
use siphasher::sip::SipHasher13;

/// As a policy writes them, and in buckets of 10 000.
const PERCENT: [(&str, u64); 6] =
    [("0.01", 1), ("0.1", 10), ("1", 100), ("5", 500), ("10", 1000), ("50", 5000)];

/// A service for each percentage.
fn policy() -> String {
    let [mut services, mut cohorts, mut routes] = [const { String::new() }; 3];
    for (i, (percent, _)) in PERCENT.iter().enumerate() {
        let port = 8000 + i;
        let instance = |n: u32| format!("{{ address: '198.18.2.{n}:{port}', version: '{n}.0' }}");
        services += &format!(
            "  s{i}: {{ listen: ['198.18.1.100:{port}'], instances: [{}, {}], stable: {{ version: '1.0' }},\n    identify: [app], claims: {{ app: {{ header: X-App-Id }} }} }}\n",
            instance(1),
            instance(2)
        );
        cohorts += &format!("  c{i}: {{ percent: {percent} }}\n");
        routes += &format!("  - {{ service: s{i}, when: c{i}, to: {{ version: '2.0' }} }}\n");
    }
    format!("services:\n{services}cohorts:\n{cohorts}routes:\n{routes}")
}

/// A claim's identity: kind and length in eight bytes, then the value up to a multiple of eight, under the fleet's key.
fn identity(value: &str) -> u64 {
    let mut text = vec![APP, value.len() as u8, 0, 0, 0, 0, 0, 0];
    text.extend(value.bytes());
    text.resize(text.len().next_multiple_of(8), 0);
    let mut sip = SipHasher13::new_with_keys(KEY.k0, KEY.k1);
    sip.write(&text);
    sip.finish()
}

/// Its bucket under a cohort's name: MurmurHash3's finaliser, as its author wrote it, modulo 10 000.
fn bucket(identity: u64, cohort: &str) -> u64 {
    let mut sip = SipHasher13::new_with_keys(0, 0);
    sip.write(cohort.as_bytes());
    let mut k = identity ^ sip.finish();
    k = (k ^ k >> 33).wrapping_mul(0xff51afd7ed558ccd);
    k = (k ^ k >> 33).wrapping_mul(0xc4ceb9fe1a85ec53);
    (k ^ k >> 33) % 10_000
}

#[test]
fn b2_each_identity_is_on_the_side_that_the_oracle_says() {
    let identities = asked("GRAY_IDENTITIES", "identities", 50_000, 2000);
    with(Routes::None, |rig| {
        let mut kernel = Kernel::new(rig).unwrap();
        let mut keys = kernel.put(&policy()).unwrap();
        // Beside them is one for what comes to no port.
        keys.retain(|k| k.port != 0);
        keys.sort_by_key(|k| u16::from_be(k.port));
        assert_eq!(keys.len(), PERCENT.len());
        let mut gray = [0usize; PERCENT.len()];
        for n in 0..identities {
            let name = format!("app-{n:06}");
            let by_oracle = identity(&name);
            let hash = claim_hash_bytes(KEY, APP, name.as_bytes());
            let mut claims = Claims::none(0);
            claims.set_read(APP, hash, 0);
            for (i, (percent, buckets)) in PERCENT.iter().enumerate() {
                let asked = Asked { key: keys[i], claims, source: None, is_v4: true, seed: n as u64 };
                let want = bucket(by_oracle, &format!("c{i}")) < *buckets;
                match kernel.decide(&asked).unwrap() {
                    Verdict::Steer(d) => assert_eq!(d.rule != 0, want, "{name} at {percent} %: {d:?}"),
                    other => panic!("{name} at {percent} %: {other:?}"),
                }
                gray[i] += usize::from(want);
            }
        }
        note(&format!("{identities} identities, 0 mismatches; of gray at {PERCENT:?}: {gray:?}"));
        // The oracle has both sides at each percentage.
        assert!(gray.iter().skip(2).all(|n| (1..identities).contains(n)), "{gray:?}");
    });
}
