//! Rows about fragments: all of a packet go the same way, whichever comes first.

use gray_common::Reason::{Explicit, Fragment};

use super::{
    case::Case,
    frame::{Packet, SYN},
    land::{LANDS, Land, SHOP, SHOP_AT},
};

/// The IPv4 flag and the IPv6 flag that say that more follow.
const MORE: u16 = 0x2000;

/// A piece at `offset` (in eighths) of the packet with this identification.
pub fn piece(p: &Packet, id: u16, offset: u16, more: bool) -> Packet {
    let mut out = Packet { id, middle: offset != 0, ..p.clone() };
    if p.src.is_ipv4() {
        out.frag = offset | if more { MORE } else { 0 };
    } else {
        let [a, b] = (offset << 3 | u16::from(more)).to_be_bytes();
        let [c, d] = id.to_be_bytes();
        out.extensions = Some((44, vec![p.proto, 0, a, b, 0, 0, c, d]));
    }
    out
}

/// Rows of one family and transport.
fn of(l: Land) -> Vec<Case> {
    let open = |n: u16| l.open(l.early(60 + n), l.vip(SHOP)).flags(SYN);
    let to = |p: &Packet| p.rewritten(p.src, l.gray(SHOP_AT));
    let (a, b, c, d) = (open(0), open(1), open(2), open(3));
    let answer = a.answer(l.gray(SHOP_AT), SYN);
    let back = |p: &Packet| p.rewritten(l.vip(SHOP), a.src);
    let far = |p: &Packet, id| piece(p, id, 0x1ff0, false);
    let (first, middle, last) = (piece(&a, 1, 0, true), piece(&a, 1, 8, true), piece(&a, 1, 16, false));
    let other = piece(&a, 2, 8, true);
    let mut out = vec![
        Case::new("the first fragment", first.frame()).sent(to(&first)).moves(&[Explicit]),
        Case::new("the second", middle.frame()).after(&[&first]).sent(to(&middle)),
        Case::new("the last", last.frame()).after(&[&first]).sent(to(&last)),
        Case::new("one that overlaps", middle.frame()).after(&[&first, &middle]).sent(to(&middle)),
        Case::new("the last of another packet", other.frame()).moves(&[Fragment]),
        Case::new("far behind the first", far(&b, 3).frame())
            .after(&[&piece(&b, 3, 0, true)])
            .sent(to(&far(&b, 3))),
    ];
    // The second before the first: whoever puts them together gets both.
    let (first, second) = (piece(&c, 4, 0, true), piece(&c, 4, 8, false));
    out.push(Case::new("the second alone", second.frame()).moves(&[Fragment]));
    out.push(Case::new("the first after the second", first.frame()).after(&[&second]).moves(&[Fragment]));
    out.push(Case::new("the second again", second.frame()).after(&[&second, &first]).moves(&[Fragment]));
    let stranger = l.open(l.early(64), l.vip(SHOP)).flags(SYN);
    let stranger = Packet { dst: std::net::SocketAddr::new(stranger.dst.ip(), 9), ..stranger };
    out.push(Case::new("the first of a stranger", piece(&stranger, 5, 0, true).frame()));
    let second = piece(&stranger, 5, 8, false);
    out.push(Case::new("the second of a stranger", second.frame()).after(&[&piece(&stranger, 5, 0, true)]));
    // Of nobody's addresses a fragment leaves no trace, and no counter.
    let foreign = Packet { dst: l.early(65), ..stranger.clone() };
    out.push(Case::new("a second between strangers", piece(&foreign, 9, 8, false).frame()));
    let (first, second) = (piece(&answer, 6, 0, true), piece(&answer, 6, 8, false));
    out.push(Case::new("an answer's first", first.frame()).after(&[&a]).sent(back(&first)));
    out.push(Case::new("an answer's second", second.frame()).after(&[&a, &first]).sent(back(&second)));
    // Without ports in sight the frame is opened all the same.
    let tagged = |p: &Packet| Packet { tags: vec![(0x8100, 5)], ..p.clone() };
    let (first, second) = (piece(&b, 8, 0, true), piece(&b, 8, 8, false));
    out.push(
        Case::new("a second with a tag", tagged(&second).frame()).after(&[&tagged(&first)]).sent(to(&second)),
    );
    let spent = piece(&d, 7, 8, false).ttl(1);
    out.push(
        Case::new("a second that has come too far", spent.frame())
            .after(&[&piece(&d, 7, 0, true)])
            .moves(&[gray_common::Reason::TtlExpired]),
    );
    for c in &mut out {
        c.name = format!("{} fragments: {}", l.name(), c.name);
    }
    out
}

pub fn rows() -> Vec<Case> {
    LANDS.into_iter().flat_map(of).collect()
}
