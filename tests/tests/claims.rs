//! What requests say, in the kernel (BPF_PROG_TEST_RUN): a client's SYN and its request, frame by frame, for policies and requests by
//! chance.

use gray_tests::{
    command::note,
    pace::many,
    packets::{
        claims::{self, Ruled},
        random::Random,
        rig::{Routes, with},
    },
};

const SEED: u64 = 20_27;
const POLICIES: usize = 60;
const REQUESTS: usize = 24;

/// A8, B3, B4, B6: the kernel, the tables in memory and the policy's words agree on every request, in both families.
#[test]
fn a8_b3_b4_the_kernel_decides_as_the_words_mean() {
    with(Routes::Neighbours, |rig| {
        let (mut seen, mut ruled_ones, mut port) = (0, 0, 1024);
        for n in 0..many("policies", POLICIES, POLICIES / 4) as u64 {
            let mut r = Random(SEED + n);
            let text = claims::document(&mut r);
            let Some(ruled) = Ruled::new(&text) else { continue };
            rig.apply(&text);
            for i in 0..REQUESTS {
                let asking = claims::request(&mut r, &ruled.policy, i % 2 == 1);
                port += 1;
                let want = ruled.meant(&asking);
                let got = [ruled.decided(&asking), claims::ask(rig, &asking, port)];
                assert_eq!(got, [want; 2], "policy {n}, request {i}: {asking:?}\n{text}");
                seen += 1;
                ruled_ones += usize::from(want.1 != 0);
            }
        }
        note(&format!("{seen} requests, {ruled_ones} by a rule, 0 mismatches"));
        assert!(ruled_ones > seen / 4 && ruled_ones < seen, "{ruled_ones} of {seen} by a rule");
    });
}
