//! Rows about broken packets: each error path passes the packet unchanged and says so in one counter.

use gray_common::Reason::{self, Explicit, Malformed};

use super::{
    case::Case,
    frame::{ETH, Packet, SYN, TCP, UDP},
    land::{Land, SHOP, SHOP_AT},
};

/// A packet that would be steered were it whole.
fn whole(l: Land, port: u16) -> Packet {
    l.open(l.early(port), l.vip(SHOP)).flags(SYN)
}

fn ip_header(l: Land) -> usize {
    if l.v6 { 40 } else { 20 }
}

/// Rows of one family and transport. `port`: as for the other tables.
pub fn rows(l: Land, port: u16) -> Vec<Case> {
    let mut out = cut(l, port);
    out.extend(ip_fields(l, port));
    out.extend(transport_fields(l, port));
    for c in &mut out {
        c.name = format!("{}: {}", l.name(), c.name);
    }
    out
}

/// What a frame cut at `len` bytes is counted as: nothing before its transport header can be seen (a short frame of
/// another protocol looks the same), malformed from then on.
fn cut_reason(l: Land, len: usize) -> &'static [Reason] {
    if len < ETH + ip_header(l) + 8 { &[] } else { &[Malformed] }
}

/// The same frame cut at every length from the Ethernet header to the last byte but one.
fn cut(l: Land, port: u16) -> Vec<Case> {
    let frame = whole(l, port).frame();
    assert!(frame.len() > 60);
    (ETH..frame.len())
        .map(|len| Case {
            may_be_refused: len < ETH + ip_header(l),
            ..Case::new(format!("cut at {len} bytes"), frame[..len].to_vec()).moves(cut_reason(l, len))
        })
        .collect()
}

fn with(p: &Packet, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut f = p.frame();
    f[at..at + bytes.len()].copy_from_slice(bytes);
    f
}

fn ip_fields(l: Land, port: u16) -> Vec<Case> {
    let p = whole(l, port);
    let len = p.frame().len();
    let row = |name: &str, at, bytes: &[u8], why: Reason| Case::new(name, with(&p, at, bytes)).moves(&[why]);
    if l.v6 {
        let total = (len - ETH - 40) as u16;
        let mut out: Vec<Case> = [0x00, 0x10, 0x45, 0x50, 0x70, 0xf0]
            .iter()
            .map(|v| row(&format!("first byte {v:#04x}"), ETH, &[*v], Malformed))
            .collect();
        for (name, total) in [
            ("one beyond the frame", total + 1),
            ("far beyond the frame", 0xffff),
            ("below the header", 7),
            ("1", 1),
        ] {
            out.push(row(&format!("payload length {name}"), ETH + 4, &total.to_be_bytes(), Malformed));
        }
        return out;
    }
    let total = (len - ETH) as u16;
    let headers = if l.proto == TCP { 40 } else { 28 };
    let mut out: Vec<Case> = [0x00, 0x05, 0x15, 0x35, 0x55, 0x65, 0xf5, 0x40, 0x41, 0x42, 0x43, 0x44]
        .iter()
        .map(|v| row(&format!("first byte {v:#04x}"), ETH, &[*v], Malformed))
        .collect();
    // Forty bytes of options: the payload, so what stands for the transport header is none of ours.
    out.push(Case::new("header length beyond the header", with(&p, ETH, &[0x4f])));
    for (name, total) in [
        ("one beyond the frame", total + 1),
        ("far beyond the frame", 0xffff),
        ("below the headers", headers - 1),
        ("below the IP header", 19),
        ("1", 1),
    ] {
        out.push(row(&format!("total length {name}"), ETH + 2, &total.to_be_bytes(), Malformed));
    }
    out
}

fn transport_fields(l: Land, port: u16) -> Vec<Case> {
    let p = whole(l, port);
    let at = ETH + ip_header(l);
    let row = |name: String, at, bytes: &[u8]| Case::new(name, with(&p, at, bytes)).moves(&[Malformed]);
    let mut out = Vec::new();
    if l.proto == TCP {
        for doff in 0..5_u8 {
            out.push(row(format!("data offset {doff}"), at + 12, &[doff << 4]));
        }
        // 40 bytes of payload after 20 of header: 15 words are within the packet, so the payload must go.
        let short = Packet { payload: vec![0; 3], ..p.clone() };
        for doff in 6..=15_u8 {
            let f = with(&short, at + 12, &[doff << 4]);
            out.push(Case::new(format!("data offset {doff} beyond the packet"), f).moves(&[Malformed]));
        }
        return out;
    }
    for len in 0..8_u16 {
        out.push(row(format!("UDP length {len}"), at + 4, &len.to_be_bytes()));
    }
    out
}

/// What looks broken and is not, or not ours to judge: steered.
pub fn tolerated(l: Land, port: u16) -> Vec<Case> {
    let p = whole(l, port);
    let to = p.rewritten(p.src, l.gray(SHOP_AT));
    // Ethernet pads to 60 bytes; what follows the packet stays as it is.
    let padded = |p: &Packet| Packet { trailer: vec![0xaa; 9], ..p.clone() };
    let mut out =
        vec![Case::new("bytes after the packet", padded(&p).frame()).sent(padded(&to)).moves(&[Explicit])];
    if l.proto == UDP {
        // A GSO packet's UDP length is of one segment: tc cannot hold it against the packet.
        let p = Packet { src: l.early(port + 1), udp_length: Some(2000), no_check: true, ..p };
        let to = p.rewritten(p.src, l.gray(SHOP_AT));
        out.push(Case::new("UDP length beyond the packet", p.frame()).sent(to).moves(&[Explicit]));
        let p = Packet { src: l.early(port + 2), ip_length: Some(0), ..p };
        out.push(Case::new("IP length 0", p.frame()).moves(&[Malformed]));
    } else {
        // Length 0 is how a BIG TCP super-packet looks; a small packet with it is no such thing, but goes the same way
        // and is dropped by whoever receives it.
        let p = Packet { src: l.early(port + 2), ip_length: Some(0), ..p };
        let to = p.rewritten(p.src, l.gray(SHOP_AT));
        out.push(Case::new("IP length 0", p.frame()).sent(to).moves(&[Explicit]));
    }
    for c in &mut out {
        c.name = format!("{}: {}", l.name(), c.name);
    }
    out
}
