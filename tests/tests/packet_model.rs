//! The model of the packet path against the case tables. No kernel and no root: a part of the host tier.

use gray_tests::packets::{
    case::{Case, run_all},
    claims::{self, Ruled},
    frame::{ACK, SYN},
    land::{LANDS, SHOP, SHOP_AT, around, policy},
    model::Model,
    pcap,
    random::Random,
    rig::Way,
    tables,
};

fn model(way: Way) -> Model {
    let mut m = Model::new(way);
    m.apply(&policy(true), &around());
    m
}

/// A5, A11, H1, H3: every row, every way out.
#[test]
fn the_model_agrees_with_every_row() {
    for way in [Way::Stack, Way::Resolve, Way::Redirect([2, 0, 0, 0, 0, 7])] {
        run_all(&mut model(way.clone()), &tables::steered());
        run_all(&mut model(way.clone()), &tables::broken());
        run_all(&mut model(way), &tables::idle());
    }
}

/// A8, B3, B4, B6: what the tables decide is what the policy's words mean, for any policy and any request.
#[test]
fn a8_the_tables_decide_as_the_words_mean() {
    let (mut seen, mut gray) = (0, 0);
    for seed in 0..400 {
        let mut r = Random(seed);
        let text = claims::document(&mut r);
        let Some(ruled) = Ruled::new(&text) else { continue };
        for n in 0..30 {
            let asking = claims::request(&mut r, &ruled.policy, n % 2 == 1);
            let (got, want) = (ruled.decided(&asking), ruled.meant(&asking));
            assert_eq!(got, want, "seed {seed}, request {n}: {asking:?}\n{text}");
            seen += 1;
            gray += usize::from(want.1 != 0);
        }
    }
    // It must have been where it matters.
    assert!(seen > 10_000 && gray > seen / 4 && gray < seen, "{gray} of {seen} by a rule");
}

/// Before the first policy nothing is even counted.
#[test]
fn without_a_policy_every_packet_passes() {
    let rows: Vec<Case> =
        LANDS.iter().map(|l| Case::new(l.name(), l.open(l.early(999), l.vip(SHOP)).frame())).collect();
    run_all(&mut Model::new(Way::Stack), &rows);
}

/// A row that expects something else than what is true fails, says what differs, and leaves its frames in a file.
#[test]
fn a_wrong_row_fails_and_leaves_its_frames() {
    let l = LANDS[0];
    let p = l.open(l.early(1), l.vip(SHOP)).flags(SYN);
    let ack = p.clone().flags(ACK);
    let wrong =
        Case::new("wrong on purpose", ack.frame()).after(&[&p]).sent(ack.rewritten(p.src, l.stable(SHOP_AT)));
    let said = wrong.check(&mut model(Way::Stack)).unwrap_err();
    for part in ["out:", "expected:", "frame in:"] {
        assert!(said.contains(part), "{said}");
    }
    let path = said.lines().find_map(|line| line.strip_prefix("pcap: ")?.split(" (").next()).unwrap();
    let saved = std::fs::read(path).unwrap();
    let out = ack.rewritten(p.src, l.gray(SHOP_AT)).frame();
    let expected = ack.rewritten(p.src, l.stable(SHOP_AT)).frame();
    assert_eq!(saved, pcap::bytes(&[&p.frame(), &ack.frame(), &out, &expected]));
    // The layout of the file by hand: its head, and the head of the second frame.
    assert_eq!(saved[..8], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
    let second = 24 + 16 + p.frame().len();
    let len = ack.frame().len() as u8;
    assert_eq!(saved[second..second + 16], [1, 0, 0, 0, 0, 0, 0, 0, len, 0, 0, 0, len, 0, 0, 0]);
    std::fs::remove_file(path).unwrap();
}
