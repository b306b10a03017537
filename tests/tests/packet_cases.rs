//! The data path, packet by packet, on the real kernel (BPF_PROG_TEST_RUN): the case tables with every way out, broken
//! packets, the next hop's limits, and a policy change between two packets.

use gray_common::{
    Reason,
    wire::{FLOW_ESTABLISHED, FLOW_FORWARD},
};
use gray_tests::packets::{
    case::{Case, Flow, NEXT, run_all},
    frame::{ACK, Packet, SYN, TCP},
    land::{LANDS, Land, OWN, SHOP, SHOP_AT},
    rig::{MTU, Rig, Routes, with},
    tables,
};
use gray_userspace::kernel::Direction;

fn every_table(rig: &mut Rig) {
    rig.apply_land(true);
    run_all(rig, &tables::steered());
}

/// A5, A11, H1, H3: the rewritten packet goes to the stack (`no_route`).
#[test]
fn the_case_tables_without_a_route() {
    with(Routes::None, every_table);
}

/// A5, A11, H1, H3: the rewritten packet is redirected with the next hop's link addresses.
#[test]
fn the_case_tables_with_known_neighbours() {
    with(Routes::Neighbours, every_table);
}

/// A5, A11, H1, H3: the kernel resolves the link address (`no_neighbour`), and every packet asks again.
#[test]
fn the_case_tables_with_unknown_neighbours() {
    with(Routes::Unresolved, every_table);
}

/// Fail open: nothing that is wrong with a packet makes it lost or changed, and one counter says what it was.
#[test]
fn every_error_path_passes_the_packet_unchanged() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        run_all(rig, &tables::broken());
    });
}

/// A5: how long a flow may be silent, by its state.
#[test]
fn an_idle_flow_is_over_when_its_state_says_so() {
    with(Routes::None, |rig| {
        rig.apply_land(true);
        run_all(rig, &tables::idle());
    });
}

/// Before the first policy nothing is even counted.
#[test]
fn without_a_policy_every_packet_passes() {
    with(Routes::Neighbours, |rig| {
        for l in LANDS {
            let p = l.open(l.early(999), l.vip(SHOP));
            run_all(rig, &[Case::new(l.name(), p.frame()).flow(Flow::None(p))]);
        }
    });
}

/// What is larger than the next hop takes, and may be fragmented, goes to the stack, rewritten. (What may not: `icmp.rs`.)
#[test]
fn an_oversize_packet_goes_to_the_stack() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            let headers = if l.v6 { 40 } else { 20 } + if l.proto == TCP { 20 } else { 8 };
            let p = l.open(l.early(5_000), l.vip(SHOP)).payload(vec![7; MTU as usize - headers]);
            let to = p.rewritten(p.src, l.gray(SHOP_AT));
            let fits = Case::new("exactly the MTU", p.frame()).sent(to).moves(&[Reason::Explicit]);
            if l.v6 {
                run_all(rig, &[fits]);
                continue;
            }
            let q = l.open(l.early(5_001), l.vip(SHOP)).payload(vec![7; MTU as usize - headers + 1]);
            let q = Packet { frag: 0, ..q };
            let to = q.rewritten(q.src, l.gray(SHOP_AT));
            let over =
                Case::new("one byte more", q.frame()).passed(to).moves(&[Reason::Explicit, Reason::Oversize]);
            run_all(rig, &[fits, over]);
        }
    });
}

/// D1: rules change online: an established connection keeps its instance, the next one follows the new policy.
#[test]
fn d1_a_policy_change_keeps_established_flows() {
    with(Routes::None, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            change(rig, l);
        }
    });
}

fn change(rig: &mut Rig, l: Land) {
    let tcp = l.proto == TCP;
    let open = |port| l.open(l.early(port), l.vip(SHOP)).flags(SYN);
    let (old, quiet, own) = (open(6_000), open(6_001), l.open(l.plain(6_002), l.stable(OWN)).flags(SYN));
    let later = |p: &Packet| p.clone().flags(ACK);
    for p in [&old, &later(&old), &quiet, &own, &later(&own)] {
        let (verdict, _) = rig.run(Direction::Ingress, &p.frame());
        assert_eq!(verdict, NEXT);
    }
    rig.apply_land(false);
    let flow = Flow::Flags(old.clone(), FLOW_FORWARD | if tcp { FLOW_ESTABLISHED } else { 0 });
    let (p, q) = (later(&old), later(&quiet));
    let answer = old.answer(l.gray(SHOP_AT), ACK);
    let new = open(6_003);
    let mut rows = vec![
        Case::new("established: stays on gray", p.frame())
            .sent(p.rewritten(p.src, l.gray(SHOP_AT)))
            .flow(flow),
        Case::new("its replies too", answer.frame()).sent(answer.rewritten(l.vip(SHOP), old.src)),
        Case::new("decided before the change: stays too", q.frame())
            .sent(q.rewritten(q.src, l.gray(SHOP_AT))),
        Case::new("stable on its own address: stays", later(&own).frame()),
        Case::new("a new flow follows the new policy", new.frame())
            .sent(new.rewritten(new.src, l.stable(SHOP_AT)))
            .moves(&[Reason::Default]),
    ];
    if tcp {
        let again = Case::new("the same port, connecting anew, too", old.frame());
        rows.push(again.sent(old.rewritten(old.src, l.stable(SHOP_AT))).moves(&[Reason::Default]));
    }
    run_all(rig, &rows);
    // And back: the flow made under the second policy keeps its instance under the third.
    rig.apply_land(true);
    let p = later(&new);
    run_all(rig, &[Case::new("the third policy", p.frame()).sent(p.rewritten(p.src, l.stable(SHOP_AT)))]);
}
