//! Rows about frames that are not, or not yet, TCP or UDP to steer: other protocols, tags, fragments, options and
//! extension headers. All pass unchanged; the ones that hide a transport header are counted.

use gray_common::Reason::{Explicit, Fragment, HeaderUnsupported};

use super::{
    case::Case,
    frame::{ETH, Packet, SYN, TCP, UDP},
    land::{Land, SHOP},
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

/// The frame with a tag between the addresses and the ethertype.
fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    [&frame[..12], &tag.to_be_bytes(), &[0, 5], &frame[12..]].concat()
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
    // A tag that the NIC or the kernel did not take off; one that it did is in the skb's own field and no matter here.
    for l in [V4, V6] {
        for (name, tag) in [("802.1Q", 0x8100), ("802.1ad", 0x88a8)] {
            let f = tagged(&syn(l, 2).frame(), tag);
            out.push(Case::new(format!("{} with a tag {name}", l.name()), f).moves(&[HeaderUnsupported]));
        }
    }
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
        for (name, frag) in
            [("first", 0x2000_u16), ("middle", 0x2010), ("last", 0x0010), ("last, far", 0x1fff)]
        {
            let f = patched(&syn(l, 4), 6, &frag.to_be_bytes());
            out.push(Case::new(format!("{} {name} fragment", l.name()), f).moves(&[Fragment]));
        }
        // The reserved bit (RFC 3514 aside) is no fragment.
        let p = Packet { frag: 0xc000, ..syn(l, 5) };
        let to = p.rewritten(p.src, l.gray(super::land::SHOP_AT));
        out.push(Case::new(format!("{} reserved bit set", l.name()), p.frame()).sent(to).moves(&[Explicit]));
        for (name, option) in [
            ("no-op options", [1_u8; 4]),
            ("router alert", [0x94, 4, 0, 0]),
            ("an option of length 0", [0x94, 0, 0, 0]),
            ("an option beyond the header", [0x94, 40, 0, 0]),
        ] {
            let f = syn(l, 6).frame();
            let mut f = [&f[..ETH + 20], &option[..], &f[ETH + 20..]].concat();
            f[ETH] = 0x46;
            out.push(Case::new(format!("{} {name}", l.name()), f).moves(&[HeaderUnsupported]));
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
    let extensions = [
        ("hop-by-hop", 0),
        ("routing", 43),
        ("ESP", 50),
        ("AH", 51),
        ("destination options", 60),
        ("mobility", 135),
        ("HIP", 139),
        ("shim6", 140),
    ];
    for proto in [TCP, UDP] {
        let l = Land { proto, ..V6 };
        for (name, kind) in extensions {
            let f = extended(&syn(l, 8), kind, [proto, 0, 1, 4, 0, 0, 0, 0]);
            out.push(Case::new(format!("{} behind {name}", l.name()), f).moves(&[HeaderUnsupported]));
        }
        let zero = extended(&syn(l, 8), 60, [proto, 0, 0x1e, 0, 0, 0, 0, 0]);
        out.push(
            Case::new(format!("{} behind an option of length 0", l.name()), zero).moves(&[HeaderUnsupported]),
        );
        for (name, offset) in [("first", 1_u16), ("later", 0x00b9), ("atomic", 0)] {
            let [a, b] = offset.to_be_bytes();
            let f = extended(&syn(l, 9), 44, [proto, 0, a, b, 0, 0, 0, 1]);
            out.push(Case::new(format!("{} {name} fragment", l.name()), f).moves(&[Fragment]));
        }
    }
    out
}

/// An IPv6 packet with one extension header of eight bytes.
fn extended(p: &Packet, kind: u8, header: [u8; 8]) -> Vec<u8> {
    let f = p.frame();
    let mut out = [&f[..ETH + 40], &header[..], &f[ETH + 40..]].concat();
    let len = (out.len() - ETH - 40) as u16;
    out[ETH + 4..ETH + 6].copy_from_slice(&len.to_be_bytes());
    out[ETH + 6] = kind;
    out
}
