//! The Internet checksum (RFC 1071) as a plain sum over big-endian words, and the check of whole frames. On purpose
//! not gray's arithmetic: it must be able to contradict it.

use super::frame::{ETH, TCP, UDP};

fn sum(bytes: &[u8], mut total: u64) -> u64 {
    for pair in bytes.chunks(2) {
        total += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    total
}

fn close(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// The checksum of a header whose checksum field is zero.
pub fn header(bytes: &[u8]) -> u16 {
    close(sum(bytes, 0))
}

/// The checksum of a transport segment whose checksum field is zero, with its pseudo header. `addresses`: source and
/// destination as they stand in the packet.
pub fn transport(addresses: &[u8], proto: u8, segment: &[u8]) -> u16 {
    let pseudo = sum(addresses, u64::from(proto) + segment.len() as u64);
    match close(sum(segment, pseudo)) {
        // UDP: 0 means "no checksum", so a sum of 0 is sent as its other spelling (RFC 768).
        0 if proto == UDP => 0xffff,
        other => other,
    }
}

/// The word that, in the place of a zero word, turns a checksum `from` into `to` (two spellings of one number count as
/// the same).
pub fn word(from: u16, to: u16) -> u16 {
    // The sum of the words is the complement of the checksum; one's complement subtraction adds the complement.
    let total = u32::from(!to) + u32::from(from);
    ((total & 0xffff) + (total >> 16)) as u16
}

/// What is wrong with the checksums of a well-formed frame; `None`: both are what a full computation gives.
/// `zero_udp`: a UDP checksum of 0 is meant.
pub fn wrong(frame: &[u8], zero_udp: bool) -> Option<String> {
    let ip = &frame[ETH..];
    let (proto, addresses, segment) = if ip[0] >> 4 == 4 {
        let mut head = ip[..20].to_vec();
        head[10..12].fill(0);
        let (want, got) = (header(&head), u16::from_be_bytes([ip[10], ip[11]]));
        if want != got {
            return Some(format!("IP checksum {got:#06x}, computed {want:#06x}"));
        }
        (ip[9], &ip[12..20], &ip[20..usize::from(u16::from_be_bytes([ip[2], ip[3]]))])
    } else {
        (ip[6], &ip[8..40], &ip[40..40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]))])
    };
    let at = if proto == TCP { 16 } else { 6 };
    let got = u16::from_be_bytes([segment[at], segment[at + 1]]);
    if zero_udp {
        return (got != 0).then(|| format!("UDP checksum {got:#06x}, 0 was sent"));
    }
    let mut segment = segment.to_vec();
    segment[at..at + 2].fill(0);
    let want = transport(addresses, proto, &segment);
    (want != got).then(|| format!("protocol {proto} checksum {got:#06x}, computed {want:#06x}"))
}
