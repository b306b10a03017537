//! Random packets and random damage, repeatable, and what must hold for each whatever it is.

use gray_common::Reason;

use super::{
    frame::{ACK, ETH, FIN, Packet, RST, SYN, TCP, UDP},
    land::{
        BEHIND, BEHIND_AT, COND, DIRECT, DIRECT_GUE, HALF, HALF_AT, LANDS, LATE, Land, NONE, OLD, OWN, SAME,
        SHOP, SHOP_AT, SHOP_TOO, WEIGH,
    },
    pieces,
    random::Random,
    rig::MTU,
};

/// Counters that say "a packet was rewritten and given to the stack": the only ways to NEXT with other bytes.
pub const TO_STACK: [Reason; 2] = [Reason::NoRoute, Reason::Oversize];

/// A frame of the cases' policy, mostly one that would be steered, with up to four pieces of damage.
pub fn mutated(r: &mut Random) -> Vec<u8> {
    let mut frame = seed(r);
    for _ in 0..r.below(5) {
        damage(r, &mut frame);
    }
    frame
}

/// A frame to, from or near any service of the cases, of any size, every other one whole.
pub fn wide(r: &mut Random) -> Vec<u8> {
    const AT: [u16; 16] = [
        DIRECT, DIRECT_GUE, BEHIND, BEHIND_AT, SHOP, SHOP_TOO, SHOP_AT, HALF, HALF_AT, COND, WEIGH, NONE,
        SAME, OWN, OLD, LATE,
    ];
    let l: Land = LANDS[r.below(LANDS.len())];
    let port = AT[r.below(AT.len())];
    let place = [l.vip(port), l.vip(port), l.stable(port), l.gray(port)][r.below(4)];
    let p = packet(r, l, place);
    let mut frame = odd(r, l, p).frame();
    let pieces = if r.below(2) == 0 { 0 } else { 1 + r.below(4) };
    for _ in 0..pieces {
        damage(r, &mut frame);
    }
    frame
}

/// The model knows nothing of ICMP.
pub fn is_icmp(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x81, 0x00] | [0x88, 0xa8]) => {
            is_icmp(&[&frame[..12], frame.get(16..).unwrap_or_default()].concat())
        }
        Some([0x08, 0x00]) => frame.get(ETH + 9) == Some(&1),
        Some([0x86, 0xdd]) => frame.get(ETH + 6) == Some(&58),
        _ => false,
    }
}

fn seed(r: &mut Random) -> Vec<u8> {
    let l: Land = LANDS[r.below(LANDS.len())];
    let place = [l.vip(SHOP), l.stable(OWN), l.gray(SHOP_AT), l.stable(SHOP_AT)][r.below(4)];
    packet(r, l, place).frame()
}

/// Between a client and a place, in either direction.
fn packet(r: &mut Random, l: Land, place: std::net::SocketAddr) -> Packet {
    let client = [l.plain(0), l.early(0), l.office(0)][r.below(3)].ip();
    // Few client ports: many frames meet flows of earlier ones.
    let client = std::net::SocketAddr::new(client, 40_000 + r.below(64) as u16);
    let (src, dst) = if r.below(3) == 0 { (place, client) } else { (client, place) };
    let flags = [SYN, ACK, SYN | ACK, FIN | ACK, RST, 0][r.below(6)];
    // Now and then around what the next hop takes.
    let size = if r.below(32) == 0 { MTU as usize - 80 + r.below(80) } else { r.below(64) };
    let p = Packet { ttl: r.draw() as u8, tos: r.draw() as u8, ..Packet::new(l.proto, src, dst) };
    let p = Packet { no_check: r.below(4) == 0, frag: [0, 0x4000][r.below(2)], ..p };
    p.flags(flags).payload(r.bytes(size))
}

/// Now and then with a tag, options, extension headers, or in pieces.
fn odd(r: &mut Random, l: Land, p: Packet) -> Packet {
    match r.below(12) {
        0 => Packet { tags: vec![([0x8100, 0x88a8][r.below(2)], 5)], ..p },
        1 if l.v6 => Packet { extensions: Some(extensions(r, l.proto)), ..p },
        1 => {
            let words = r.below(11);
            Packet { ip_options: r.bytes(4 * words), ..p }
        }
        2 => {
            let (id, offset) = (r.below(64) as u16, [0, 0, 8, 16][r.below(4)]);
            pieces::piece(&p, id, offset, r.below(2) == 0)
        }
        _ => p,
    }
}

/// Up to seven headers, of lengths and kinds that mostly fit.
fn extensions(r: &mut Random, proto: u8) -> (u8, Vec<u8>) {
    const KINDS: [u8; 8] = [0, 60, 43, 60, 0, 44, 51, 60];
    let kinds: Vec<u8> = (0..1 + r.below(7)).map(|_| KINDS[r.below(KINDS.len())]).collect();
    let mut bytes = Vec::new();
    for k in 0..kinds.len() {
        let long = if kinds[k] == 44 { 0 } else { r.below(3) };
        let at = bytes.len();
        bytes.extend(r.bytes(8 + 8 * long));
        bytes[at] = *kinds.get(k + 1).unwrap_or(&proto);
        bytes[at + 1] = long as u8;
        // Mostly the first of its packet, and a routing header with nothing to visit.
        if r.below(4) != 0 {
            bytes[at + 2..at + 4].copy_from_slice(&[0, 0]);
        }
    }
    (kinds[0], bytes)
}

fn damage(r: &mut Random, frame: &mut Vec<u8>) {
    // Most of the damage where the headers are.
    let reach = if r.below(4) == 0 { frame.len() } else { frame.len().min(ETH + 60) };
    let at = r.below(reach);
    match r.below(7) {
        0 => frame[at] ^= 1 << r.below(8),
        1 => frame[at] = r.draw() as u8,
        2 => frame[at] = [0, 1, 0x7f, 0x80, 0xff][r.below(5)],
        3 => frame.truncate(ETH.max(at)),
        4 => frame.insert(at, r.draw() as u8),
        5 => {
            let n = r.below(32);
            frame.extend(r.bytes(n));
        }
        _ => {
            let n = r.below(8).min(frame.len() - at);
            let junk = r.bytes(n);
            frame[at..at + n].copy_from_slice(&junk);
        }
    }
}

/// What comes in front of a packet that goes in another one: IPv4 and IPv6, without and with GUE.
pub const ROOMS: [u32; 4] = [20, 32, 40, 52];

/// What a rewrite of `before` may have touched: link addresses, TTL, addresses, ports and checksums. `Some`: the
/// first byte that differs and must not.
pub fn touched_too_much(before: &[u8], after: &[u8]) -> Option<usize> {
    let v4 = before[ETH] >> 4 == 4;
    let (ihl, proto) = (usize::from(before[ETH] & 15) * 4, before[ETH + if v4 { 9 } else { 6 }]);
    let (header, ttl, addresses) = if v4 { (ihl, 8, 10..20) } else { (40, 7, 8..40) };
    let tcp = proto == TCP;
    if before[12] & 0x80 != 0 && before[13] != 0xdd || !v4 && !tcp && proto != UDP {
        // Tags come off, and behind extension headers ports may be anywhere: the model says what is right there.
        return None;
    }
    if before.len() != after.len() {
        // In another packet, it is there whole.
        let room = after.len().saturating_sub(before.len());
        if !ROOMS.contains(&(room as u32)) {
            return Some(before.len().min(after.len()));
        }
        let inner = [&before[..ETH], &after[ETH + room..]].concat();
        return touched_too_much(before, &inner);
    }
    let check = if tcp { 16..18 } else { 6..8 };
    before.iter().zip(after).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i).find(|i| {
        let Some(ip) = i.checked_sub(ETH) else { return *i >= 12 };
        let Some(transport) = ip.checked_sub(header) else { return ip != ttl && !addresses.contains(&ip) };
        !(0..4).contains(&transport) && !check.contains(&transport)
    })
}

/// One service with random places, and who is on its list.
#[derive(Clone, Debug)]
pub struct Spot {
    pub land: Land,
    pub service: std::net::SocketAddr,
    pub instance: std::net::SocketAddr,
}

/// Services at random addresses and ports, one instance each; the text is their policy.
pub fn spots(r: &mut Random, n: usize) -> (String, Vec<Spot>) {
    let mut text = String::from("services:\n");
    let mut out = Vec::new();
    for i in 0..n {
        let land = LANDS[i % LANDS.len()];
        // The first number keeps the addresses of two services apart, and service and instance.
        let (service, instance) = (place(r, land.v6, 2 * i), place(r, land.v6, 2 * i + 1));
        let proto = if land.proto == TCP { "" } else { "/udp" };
        text += &format!(
            "  s{i}:\n    listen: [\"{service}{proto}\"]\n    instances: [{{ address: \"{instance}\", version: \"1\" }}]\n    \
             stable: {{ version: \"1\" }}\n"
        );
        out.push(Spot { land, service, instance });
    }
    (text, out)
}

/// A random address that belongs to number `i`, with a random port.
pub fn place(r: &mut Random, v6: bool, i: usize) -> std::net::SocketAddr {
    let ip = if v6 {
        let mut a = r.bytes(16);
        a[0] = 0xfd;
        a[1] = i as u8;
        std::net::IpAddr::from(<[u8; 16]>::try_from(a).unwrap_or_default())
    } else {
        std::net::IpAddr::from([20 + i as u8, r.draw() as u8, r.draw() as u8, 1 + r.below(250) as u8])
    };
    std::net::SocketAddr::new(ip, r.port())
}
