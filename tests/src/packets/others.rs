//! Rows about frames that are not TCP or UDP to steer, or not plainly: other protocols, which pass unchanged; tags, options
//! and extension headers.

use gray_common::Reason::{Explicit, HeaderUnsupported};

use super::{
    case::Case,
    frame::{ETH, Packet, SYN, TCP, UDP},
    land::{Land, SHOP, SHOP_AT},
    sum,
};

const V4: Land = Land { v6: false, proto: TCP };
const V6: Land = Land { v6: true, proto: TCP };

/// A SYN that would be steered were it not for what a row does to it.
fn syn(l: Land, port: u16) -> Packet {
    l.open(l.early(port), l.vip(SHOP)).flags(SYN)
}

/// All rows.
pub fn rows() -> Vec<Case> {
    let mut out = ethernet();
    out.extend(v4());
    out.extend(v6());
    out
}

fn ethertype(kind: u16, rest: &[u8]) -> Vec<u8> {
    let mut f = vec![0xff; 6];
    f.extend([2, 0, 0, 0, 0, 2]);
    f.extend(kind.to_be_bytes());
    f.extend(rest);
    f
}

/// Steered, and rewritten as it would be without what is odd about it.
fn steered(name: String, l: Land, p: &Packet) -> Case {
    let to = Packet { tags: p.tags.get(1..).unwrap_or_default().to_vec(), ..p.clone() };
    let to = to.rewritten(p.src, l.gray(SHOP_AT));
    Case::new(name, p.frame()).sent(to).moves(&[Explicit])
}

fn ethernet() -> Vec<Case> {
    let arp =
        [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2][..], &[198, 18, 1, 9], &[0; 6], &[198, 18, 100, 1]]
            .concat();
    let mut out = vec![
        Case::new("ARP", ethertype(0x0806, &arp)),
        Case::new("LLDP", ethertype(0x88cc, &[0; 46])),
        Case::new("MPLS", ethertype(0x8847, &[0; 46])),
        Case::new("PPPoE", ethertype(0x8864, &[0; 46])),
        Case::new("an 802.3 length in the place of the type", ethertype(46, &[0; 46])),
        Case::new("Ethernet header and nothing else", ethertype(0x88cc, &[])),
        Case::new("type IPv4, IPv6 inside", swap_type(syn(V6, 1).frame(), 0x0800))
            .moves(&[gray_common::Reason::Malformed]),
        Case::new("type IPv6, IPv4 inside", swap_type(syn(V4, 1).frame(), 0x86dd))
            .moves(&[gray_common::Reason::Malformed]),
    ];
    // A tag that the kernel did not take off, as it does with the first of two; one that it did is beside the frame.
    for (k, l) in [V4, V6].into_iter().enumerate() {
        for (n, (name, tag)) in [("802.1Q", 0x8100), ("802.1ad", 0x88a8)].into_iter().enumerate() {
            let p = Packet { tags: vec![(tag, 5)], ..syn(l, 20 + (2 * k + n) as u16) };
            out.push(steered(format!("{} with a tag {name}", l.name()), l, &p));
            let mut foreign = p.clone();
            foreign.dst.set_port(9);
            foreign.src.set_port(9);
            out.push(Case::new(format!("{} not ours with a tag {name}", l.name()), foreign.frame()));
            let twice = Packet { tags: vec![(tag, 5), (0x8100, 6)], ..p };
            out.push(Case::new(format!("{} with two tags in the frame", l.name()), twice.frame()));
        }
    }
    out.push(
        Case::new("a tag and nothing else", ethertype(0x8100, &[0, 5, 8]))
            .moves(&[gray_common::Reason::Malformed]),
    );
    out
}

fn swap_type(mut frame: Vec<u8>, kind: u16) -> Vec<u8> {
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    frame
}

/// Changes an IPv4 header and makes its checksum right again.
fn patched(p: &Packet, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut f = p.frame();
    f[ETH + at..ETH + at + bytes.len()].copy_from_slice(bytes);
    f[ETH + 10..ETH + 12].fill(0);
    let check = sum::header(&f[ETH..ETH + 20]);
    f[ETH + 10..ETH + 12].copy_from_slice(&check.to_be_bytes());
    f
}

fn v4() -> Vec<Case> {
    let mut out = Vec::new();
    for (name, proto) in
        [("ICMP", 1), ("IP in IP", 4), ("GRE", 47), ("ESP", 50), ("SCTP", 132), ("UDP-Lite", 136)]
    {
        out.push(Case::new(format!("v4 {name}"), patched(&syn(V4, 3), 9, &[proto])));
    }
    for proto in [TCP, UDP] {
        let l = Land { proto, ..V4 };
        // The reserved bit (RFC 3514 aside) is no fragment.
        let p = Packet { frag: 0xc000, ..syn(l, 5) };
        let to = p.rewritten(p.src, l.gray(SHOP_AT));
        out.push(Case::new(format!("{} reserved bit set", l.name()), p.frame()).sent(to).moves(&[Explicit]));
        for (n, (name, option)) in [
            ("no-op options", vec![1_u8; 4]),
            ("router alert", vec![0x94, 4, 0, 0]),
            // Whether they make sense is the receiver's matter.
            ("an option of length 0", vec![0x94, 0, 0, 0]),
            ("an option beyond the header", vec![0x94, 40, 0, 0]),
            ("forty bytes of options", vec![1; 40]),
        ]
        .into_iter()
        .enumerate()
        {
            let p = Packet { ip_options: option, ..syn(l, 30 + n as u16) };
            out.push(steered(format!("{} {name}", l.name()), l, &p));
        }
    }
    out
}

fn v6() -> Vec<Case> {
    let mut out = Vec::new();
    let next = |p: &Packet, proto: u8| {
        let mut f = p.frame();
        f[ETH + 6] = proto;
        f
    };
    for (name, proto) in
        [("ICMPv6", 58), ("IPv6 in IPv6", 41), ("no next header", 59), ("SCTP", 132), ("GRE", 47)]
    {
        out.push(Case::new(format!("v6 {name}"), next(&syn(V6, 7), proto)));
    }
    for proto in [TCP, UDP] {
        let l = Land { proto, ..V6 };
        for (name, kind) in [("ESP", 50), ("AH", 51), ("mobility", 135), ("HIP", 139), ("shim6", 140)] {
            let p = Packet { extensions: Some((kind, vec![proto, 0, 1, 4, 0, 0, 0, 0])), ..syn(l, 8) };
            out.push(Case::new(format!("{} behind {name}", l.name()), p.frame()).moves(&[HeaderUnsupported]));
        }
        let behind = [
            ("hop-by-hop", 0, vec![proto, 0, 1, 4, 0, 0, 0, 0]),
            ("destination options", 60, vec![proto, 0, 1, 4, 0, 0, 0, 0]),
            ("an option of length 0", 60, vec![proto, 0, 0x1e, 0, 0, 0, 0, 0]),
            ("a routing header that is done", 43, vec![proto, 0, 4, 0, 0, 0, 0, 0]),
            ("a long header", 60, [&[proto, 3, 1, 28][..], &[0; 28]].concat()),
            (
                "three headers",
                0,
                [[60, 0, 1, 4, 0, 0, 0, 0], [43, 0, 1, 4, 0, 0, 0, 0], [proto, 0, 4, 0, 0, 0, 0, 0]].concat(),
            ),
            ("a fragment header of a whole packet", 44, vec![proto, 0, 0, 0, 0, 0, 0, 1]),
        ];
        for (n, (name, kind, bytes)) in behind.into_iter().enumerate() {
            let p = Packet { extensions: Some((kind, bytes)), ..syn(l, 40 + n as u16) };
            out.push(steered(format!("{} behind {name}", l.name()), l, &p));
        }
        let unsupported = [
            ("a routing header with more to visit", 43, vec![proto, 0, 4, 1, 0, 0, 0, 0]),
            (
                "seven headers",
                60,
                [[60, 0, 1, 4, 0, 0, 0, 0]; 6]
                    .concat()
                    .into_iter()
                    .chain([proto, 0, 1, 4, 0, 0, 0, 0])
                    .collect(),
            ),
            ("a header beyond the frame", 60, vec![60, 200, 1, 4, 0, 0, 0, 0]),
        ];
        for (name, kind, bytes) in unsupported {
            let p = Packet { extensions: Some((kind, bytes)), ..syn(l, 8) };
            out.push(Case::new(format!("{} behind {name}", l.name()), p.frame()).moves(&[HeaderUnsupported]));
        }
    }
    out
}
