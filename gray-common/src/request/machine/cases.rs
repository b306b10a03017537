//! The machine's cases one by one: what goes out for what comes in.

use super::{
    model::{Edge, LISTENING, Pkt},
    *,
};
use crate::{
    packet::{TCP_ACK as ACK, TCP_FIN as FIN, TCP_RST as RST, TCP_SYN as SYN},
    request::options::NO_SCALE,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nX-App-Id: 2\r\n\r\n";
/// The client's first byte.
const FIRST: u32 = 100;

fn pkt(flags: u8, seq: u32, ack: u32, data: &[u8]) -> Pkt {
    let head = Segment {
        seq,
        ack,
        flags,
        len: data.len() as u32,
        window: 500,
        mss: 1460,
        scale: 8,
        sack: 1,
        time: 1,
        time_value: 5000,
        time_echo: 0,
    };
    Pkt { head, data: data.to_vec() }
}

/// Flags, place and payload of what goes out.
fn seen(out: &[(u32, Pkt)]) -> Vec<(u32, u8, u32, usize)> {
    out.iter().map(|(to, p)| (*to, p.head.flags, p.head.seq, p.data.len())).collect()
}

struct Lab {
    edge: Edge,
    /// Our number: the client acknowledges it plus 1.
    cookie: u32,
    echo: u32,
    now: u64,
}

impl Lab {
    /// After the client's SYN.
    fn new(flags: u8) -> Self {
        let mut edge = Edge::new(flags);
        let out = edge.client(&pkt(SYN, FIRST - 1, 0, b""), 1000);
        assert!(edge.splice.is_none(), "a SYN leaves nothing behind");
        let (to, p) = &out[0];
        assert_eq!((*to, p.head.flags, p.head.ack, out.len()), (0, SYN | ACK, FIRST, 1));
        Self { edge, cookie: p.head.seq, echo: p.head.time_value, now: 1000 }
    }

    /// ... where there is a listener.
    fn listened(flags: u8) -> Self {
        let mut lab = Self::new(flags);
        lab.edge.desk.listener = LISTENING;
        lab
    }

    fn client(&mut self, flags: u8, seq: u32, data: &[u8]) -> Vec<(u32, Pkt)> {
        let mut p = pkt(flags, seq, self.cookie.wrapping_add(1), data);
        p.head.time_echo = self.echo;
        self.edge.client(&p, self.now)
    }

    fn instance(&mut self, from: u32, flags: u8, seq: u32, ack: u32) -> Vec<(u32, Pkt)> {
        let mut p = pkt(flags, seq, ack, b"");
        p.head.time_value = 90_000;
        self.edge.instance(from, &p, self.now)
    }

    /// The request is there, instance 2 has a SYN.
    fn dialled(flags: u8) -> Self {
        let mut lab = Self::new(flags);
        let out = lab.client(ACK, FIRST, GET);
        assert_eq!(seen(&out), [(2, SYN, FIRST - 1, 0)]);
        lab
    }

    fn state(&self) -> u8 {
        self.edge.splice.unwrap().state
    }
}

#[test]
fn a1_the_request_follows_the_syn_ack() {
    let mut lab = Lab::dialled(0);
    let out = lab.instance(2, SYN | ACK, 7000, FIRST);
    assert_eq!(seen(&out), [(2, ACK, FIRST, GET.len())]);
    let h = &out[0].1.head;
    assert_eq!((h.ack, h.time_value, h.time_echo, h.window), (7001, 5000, 90_000, 500));
    // Its acknowledgement in the client's numbers, with a window in the scale that the client was told.
    let out = lab.instance(2, ACK, 7001, FIRST + GET.len() as u32);
    let h = &out[0].1.head;
    assert_eq!(
        (out[0].0, h.seq, h.ack, h.window),
        (0, lab.cookie.wrapping_add(1), FIRST + GET.len() as u32, 1000)
    );
    assert_eq!(h.time_value, lab.echo);
}

#[test]
fn a1_a_syn_offers_what_the_client_did() {
    let mut lab = Lab::new(0);
    let syn = lab.client(ACK, FIRST, GET)[0].1.head;
    assert_eq!((syn.scale, syn.sack, syn.time, syn.mss, syn.window), (8, 1, 1, 1460, 0xffff));
    // Without timestamps they are remembered, or not granted.
    let plain = |mut p: Pkt| {
        p.head.time = 0;
        p
    };
    for (full, told, offers) in
        [(false, (7, 1, 0), (8, 1, 0, 0xffff)), (true, (NO_SCALE, 0, 0), (NO_SCALE, 0, 0, 500))]
    {
        let mut edge = Edge::new(0);
        edge.full = full;
        let answer = edge.client(&plain(pkt(SYN, FIRST - 1, 0, b"")), 0)[0].1.head;
        assert_eq!((answer.scale, answer.sack, answer.time), told);
        let syn = edge.client(&plain(pkt(ACK, FIRST, answer.seq.wrapping_add(1), GET)), 0)[0].1.head;
        assert_eq!((syn.scale, syn.sack, syn.time, syn.window), offers);
    }
}

#[test]
fn a1_no_cookie_no_connection() {
    let mut lab = Lab::new(0);
    assert!(lab.edge.client(&pkt(ACK, FIRST, 4711, GET), 1000).is_empty());
    assert!(lab.edge.client(&pkt(ACK, FIRST + 1, lab.cookie + 1, GET), 1000).is_empty());
    assert!(lab.edge.client(&pkt(RST, FIRST, 0, b""), 1000).is_empty());
    lab.now += 200_000;
    assert!(lab.client(ACK, FIRST, GET).is_empty(), "an old one");
    assert!(lab.edge.splice.is_none());
}

#[test]
fn a1_minutes_before_the_first_byte() {
    let mut lab = Lab::new(0);
    lab.edge.terms.first_byte_ms = 600_000;
    assert!(lab.client(ACK, FIRST, b"").is_empty());
    lab.now += 300_000;
    assert!(lab.edge.tick(lab.now).is_empty());
    // Keep-alive probes, with and without a byte.
    for byte in [&b""[..], b"x"] {
        let out = lab.client(ACK, FIRST - 1, byte);
        assert_eq!((seen(&out), out[0].1.head.ack), (vec![(0, ACK, lab.cookie.wrapping_add(1), 0)], FIRST));
    }
    assert_eq!(seen(&lab.client(ACK, FIRST, GET)), [(2, SYN, FIRST - 1, 0)]);
}

#[test]
fn a1_a_server_that_speaks_first() {
    let mut lab = Lab::new(0);
    assert!(lab.client(ACK, FIRST, b"").is_empty());
    assert!(lab.edge.tick(3999).is_empty());
    lab.now = 3999;
    assert!(lab.client(ACK, FIRST, b"").is_empty(), "it may be about to speak");
    // Asked, it says that it has nothing to say.
    let out = lab.edge.tick(4000);
    assert_eq!((seen(&out), out[0].1.head.ack), (vec![(0, ACK, lab.cookie, 0)], FIRST));
    assert!(lab.edge.tick(4001).is_empty(), "asked already");
    lab.now = 4010;
    assert_eq!(seen(&lab.client(ACK, FIRST, b"")), [(1, SYN, FIRST - 1, 0)]);
    assert!(lab.edge.saw(NOTE_SILENT));
    assert_eq!(seen(&lab.instance(1, SYN | ACK, 7000, FIRST)), [(1, ACK, FIRST, 0)]);
    assert_eq!(lab.state(), EST);
    assert!(lab.edge.tick(60_000).is_empty());
}

#[test]
fn a1_a_server_that_speaks_first_and_whose_syn_is_lost() {
    let mut lab = Lab::new(0);
    assert!(lab.client(ACK, FIRST, b"").is_empty());
    lab.now = 4000;
    assert_eq!(lab.edge.tick(lab.now).len(), 1);
    assert_eq!(seen(&lab.client(ACK, FIRST, b"")), [(1, SYN, FIRST - 1, 0)]);
    // The client has nothing to send again: it is asked, and what it says sends the SYN again, then to another instance.
    lab.edge.desk.picks = vec![1, 3];
    assert!(lab.edge.tick(4999).is_empty());
    lab.now = 4999;
    assert_eq!(seen(&lab.client(ACK, FIRST, b"")), [(1, SYN, FIRST - 1, 0)]);
    lab.now = 5000;
    assert_eq!(seen(&lab.edge.tick(lab.now)), [(0, ACK, lab.cookie, 0)]);
    assert_eq!(seen(&lab.client(ACK, FIRST, b"")), [(1, RST, FIRST, 0), (3, SYN, FIRST - 1, 0)]);
}

#[test]
fn a4_a_silent_client_is_refused_where_nobody_unknown_is_served() {
    let mut lab = Lab::new(0);
    lab.edge.desk.deny = true;
    assert!(lab.client(ACK, FIRST, b"").is_empty());
    lab.now = 4000;
    let out = lab.client(ACK, FIRST, b"");
    assert_eq!(seen(&out), [(0, RST | ACK, lab.cookie.wrapping_add(1), 0)]);
    assert!(lab.edge.saw(NOTE_DENIED) && !lab.edge.saw(NOTE_SILENT));
}

#[test]
fn a1_a_silent_client_is_asked_ever_more_rarely() {
    let mut lab = Lab::new(0);
    assert!(lab.client(ACK, FIRST, b"").is_empty());
    let asked: Vec<u64> =
        (0..8000).map(|i| 1000 + i * 100).filter(|now| !lab.edge.tick(*now).is_empty()).collect();
    assert_eq!(asked, [4000, 7000, 13_000, 25_000, 49_000, 97_000, 193_000, 385_000]);
    // Of one that has begun to speak, or has ended, nothing is asked.
    let mut lab = Lab::new(0);
    assert!(lab.client(ACK, FIRST, b"GET / HT").is_empty() && lab.edge.tick(60_000).is_empty());
    let mut lab = Lab::new(0);
    assert!(!lab.client(FIN | ACK, FIRST, b"").is_empty() && lab.edge.tick(60_000).is_empty());
}

#[test]
fn a1_an_instance_refuses_or_is_silent() {
    let mut lab = Lab::new(0);
    lab.edge.desk.picks = vec![3, 2, 1];
    assert_eq!(seen(&lab.client(ACK, FIRST, GET)), [(3, SYN, FIRST - 1, 0)]);
    assert!(lab.instance(3, RST | ACK, 0, FIRST + 1).is_empty(), "a reset of something else");
    assert_eq!(seen(&lab.instance(3, RST | ACK, 0, FIRST)), [(2, SYN, FIRST - 1, 0)]);
    // Sent again for the client's retransmission, and after a second another one is tried.
    assert_eq!(seen(&lab.client(ACK, FIRST, GET)), [(2, SYN, FIRST - 1, 0)]);
    lab.now = 2000;
    assert_eq!(seen(&lab.client(ACK, FIRST, GET)), [(2, RST, FIRST, 0), (1, SYN, FIRST - 1, 0)]);
    // Who answers late hears that it is late.
    assert_eq!(seen(&lab.instance(2, SYN | ACK, 1, FIRST)), [(2, RST, FIRST, 0)]);
    lab.now = 3000;
    let out = lab.client(ACK, FIRST, GET);
    assert_eq!(seen(&out), [(1, RST, FIRST, 0), (0, RST | ACK, lab.cookie.wrapping_add(1), 0)]);
    assert_eq!((lab.state(), lab.edge.saw(NOTE_NO_INSTANCE)), (CLOSED, true));
    assert_eq!(
        seen(&lab.client(ACK, FIRST, GET)),
        [(0, RST | ACK, lab.cookie.wrapping_add(1), 0)],
        "the reset was lost"
    );
}

#[test]
fn a1_a_challenge_of_an_older_connection() {
    let mut lab = Lab::dialled(0);
    for _ in 0..3 {
        let out = lab.instance(2, ACK, 1, 4711);
        assert_eq!(seen(&out), [(2, RST, 4711, 0), (2, SYN, FIRST - 1, 0)]);
    }
    // Not for ever.
    assert_eq!(seen(&lab.instance(2, ACK, 1, 4711))[1..], [(2, SYN, FIRST - 1, 0)]);
    assert!(lab.edge.saw(NOTE_ANOTHER));
    assert!(lab.instance(2, ACK, 1, FIRST).is_empty(), "one that may be this connection's is left alone");
    assert_eq!(seen(&lab.instance(2, SYN | ACK, 1, 4711)), [(2, RST, 4711, 0)]);
}

#[test]
fn a1_a_client_that_leaves_early() {
    let mut lab = Lab::dialled(0);
    assert!(lab.client(RST, FIRST + 40_000, b"").is_empty());
    assert_eq!(lab.state(), SYN_SENT, "out of the window");
    assert_eq!(seen(&lab.client(RST, FIRST + GET.len() as u32, b"")), [(2, RST, FIRST, 0)]);
    assert_eq!(lab.state(), CLOSED);
    assert_eq!(seen(&lab.instance(2, SYN | ACK, 1, FIRST)), [(2, RST, FIRST, 0)]);
}

#[test]
fn a1_the_end_of_a_client_that_asked_for_nothing() {
    let mut lab = Lab::new(0);
    assert!(lab.client(ACK, FIRST, b"").is_empty());
    for _ in 0..2 {
        let out = lab.client(FIN | ACK, FIRST, b"");
        assert_eq!(
            (seen(&out), out[0].1.head.ack),
            (vec![(0, FIN | ACK, lab.cookie.wrapping_add(1), 0)], FIRST + 1)
        );
    }
    assert!(lab.edge.client(&pkt(ACK, FIRST + 1, lab.cookie.wrapping_add(2), b""), 1000).is_empty());
}

#[test]
fn a1_an_end_with_the_request() {
    let mut lab = Lab::new(0);
    assert_eq!(seen(&lab.client(FIN | ACK, FIRST, GET)), [(2, SYN, FIRST - 1, 0)]);
    assert_eq!(seen(&lab.instance(2, SYN | ACK, 1, FIRST)), [(2, FIN | ACK, FIRST, GET.len())]);
    // An unfinished head that will not go on is no identity.
    let mut lab = Lab::new(0);
    assert_eq!(seen(&lab.client(FIN | ACK, FIRST, b"GET / HT")), [(1, SYN, FIRST - 1, 0)]);
}

#[test]
fn a1_a_head_in_pieces() {
    let head = [b"GET / HTTP/1.1\r\nCookie: ", &[b'c'; 3000][..], b"\r\nX-App-Id: 2\r\n\r\n"].concat();
    let (a, rest) = head.split_at(1448);
    let (b, c) = rest.split_at(1448);
    let at = |n: usize| FIRST + n as u32;
    let mut lab = Lab::new(0);
    assert!(lab.client(ACK, FIRST, a).is_empty());
    assert!(lab.client(ACK, at(2896), c).is_empty(), "too early");
    assert!(lab.client(ACK, at(1000), &[&a[1000..], b].concat()).is_empty(), "overlapping");
    assert_eq!(seen(&lab.client(ACK, at(2896), c)), [(2, SYN, FIRST - 1, 0)]);
    let out = lab.instance(2, SYN | ACK, 1, FIRST);
    assert_eq!(seen(&out), [(2, ACK, FIRST, 1448), (2, ACK, at(1448), 1448), (2, ACK, at(2896), c.len())]);
    assert_eq!(out.iter().flat_map(|(_, p)| p.data.clone()).collect::<Vec<u8>>(), head);
}

#[test]
fn a1_what_only_the_listener_can_settle() {
    // Bytes that are no head; a client that waits for an acknowledgement; a head over the limit.
    let to_it = [(LISTENING, SYN, FIRST - 1, 0)];
    let mut lab = Lab::listened(0);
    assert_eq!(seen(&lab.client(ACK, FIRST, b"\x16\x03\x01")), to_it);
    let mut lab = Lab::listened(0);
    assert!(lab.client(ACK, FIRST, b"GET / HT").is_empty());
    assert_eq!(seen(&lab.client(ACK, FIRST, b"GET / HT")), to_it);
    let mut lab = Lab::listened(0);
    let long = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 60_000]].concat();
    assert_eq!(seen(&lab.client(ACK, FIRST, &long)), to_it);
    assert_eq!((lab.edge.splice.unwrap().held, lab.edge.saw(NOTE_LISTENER)), (HOLD, true));
    // Three segments of what is held, and then everything.
    let out = lab.instance(LISTENING, SYN | ACK, 7000, FIRST);
    assert_eq!(out.iter().map(|(_, p)| p.data.len()).collect::<Vec<_>>(), [1448; 3]);
    assert_eq!(seen(&lab.client(ACK, FIRST + HOLD, &long[..9])), [(LISTENING, ACK, FIRST + HOLD, 9)]);
}

/// Where it refuses or is silent, what was read is decided on, as where there is none.
#[test]
fn a1_a_listener_that_takes_nothing() {
    let mut lab = Lab::listened(0);
    lab.edge.desk.picks = vec![3, 2, 1];
    let _ = lab.client(ACK, FIRST, b"\x16\x03\x01");
    assert_eq!(seen(&lab.instance(LISTENING, RST | ACK, 0, FIRST)), [(3, SYN, FIRST - 1, 0)]);
    assert!(lab.edge.saw(NOTE_ALONE) && !lab.edge.saw(NOTE_ANOTHER));
    let mut lab = Lab::listened(0);
    lab.edge.desk.picks = vec![3, 2, 1];
    let _ = lab.client(ACK, FIRST, b"\x16\x03\x01");
    lab.now += u64::from(lab.edge.terms.silent_ms);
    let out = lab.client(ACK, FIRST, b"\x16\x03\x01");
    assert_eq!(seen(&out), [(LISTENING, RST, FIRST, 0), (3, SYN, FIRST - 1, 0)]);
}

/// Where every request chooses, it chooses once.
#[test]
fn a1_a_connection_of_the_listener_stays_there() {
    let mut lab = Lab::listened(PER_REQUEST);
    let _ = lab.client(ACK, FIRST, b"\x16\x03\x01");
    let _ = lab.instance(LISTENING, SYN | ACK, 7000, FIRST);
    assert!(!lab.edge.splice.unwrap().has(PER_REQUEST));
    // Another one keeps choosing.
    let mut lab = Lab::listened(PER_REQUEST);
    let _ = lab.client(ACK, FIRST, b"\x16\x03\x01");
    let _ = lab.instance(LISTENING, RST | ACK, 0, FIRST);
    let _ = lab.instance(1, SYN | ACK, 7000, FIRST);
    assert!(lab.edge.splice.unwrap().has(PER_REQUEST));
}

#[test]
fn a1_without_a_listener_there_is_stable() {
    // Bytes that are no head; a client that waits for an acknowledgement; a head over the limit.
    let lab = || Lab::new(0);
    assert_eq!(seen(&lab().client(ACK, FIRST, b"\x16\x03\x01")), [(1, SYN, FIRST - 1, 0)]);
    let mut waits = lab();
    for _ in 0..2 {
        assert!(waits.client(ACK, FIRST, b"GET / HT").is_empty());
    }
    waits.now += u64::from(WHOLE_MS);
    assert_eq!(seen(&waits.client(ACK, FIRST, b"GET / HT")), [(1, SYN, FIRST - 1, 0)]);
    let long = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 60_000]].concat();
    assert_eq!(seen(&lab().client(ACK, FIRST, &long)), [(1, SYN, FIRST - 1, 0)]);
}

#[test]
fn a4_a_client_that_is_denied() {
    let mut lab = Lab::new(0);
    lab.edge.desk.deny = true;
    let out = lab.client(ACK, FIRST, GET);
    assert_eq!(seen(&out), [(0, RST | ACK, lab.cookie.wrapping_add(1), 0)]);
    assert_eq!(out[0].1.head.ack, FIRST + GET.len() as u32);
}

#[test]
fn a1_an_instance_without_timestamps() {
    let mut lab = Lab::dialled(0);
    let mut p = pkt(SYN | ACK, 7000, FIRST, b"");
    p.head.time = 0;
    let end = lab.cookie.wrapping_add(1);
    assert_eq!(seen(&lab.edge.instance(2, &p, 1000)), [(2, RST, FIRST, 0), (0, RST | ACK, end, 0)]);
    assert_eq!((lab.state(), lab.edge.saw(NOTE_NOT_FOLLOWED)), (CLOSED, true));
    // The listener's own socket has them. Once: it may have none either.
    let mut lab = Lab::dialled(0);
    lab.edge.desk.listener = LISTENING;
    lab.edge.desk.picks = vec![3];
    let to_it = [(2, RST, FIRST, 0), (LISTENING, SYN, FIRST - 1, 0)];
    assert_eq!(seen(&lab.edge.instance(2, &p, 1000)), to_it);
    let to_first = [(LISTENING, RST, FIRST, 0), (3, SYN, FIRST - 1, 0)];
    assert_eq!(seen(&lab.edge.instance(LISTENING, &p, 1000)), to_first);
    assert_eq!(seen(&lab.edge.instance(3, &p, 1000))[1], (0, RST | ACK, end, 0));
}

#[test]
fn a1_a_new_connection_of_the_same_ports() {
    let mut lab = Lab::dialled(0);
    assert!(lab.client(SYN, FIRST - 1, b"").is_empty(), "its own SYN, late");
    let out = lab.client(SYN, 900_000, b"");
    assert_eq!(seen(&out)[0], (2, RST, FIRST, 0));
    assert_eq!((out[1].1.head.flags, out[1].1.head.ack), (SYN | ACK, 900_001));
    // While both sides talk it is the instance's matter; after both ends it is a new one.
    let mut lab = Lab::dialled(0);
    let _ = lab.instance(2, SYN | ACK, 7000, FIRST);
    assert_eq!(seen(&lab.client(SYN, 900_000, b"")), [(2, SYN, 900_000, 0)]);
    let end = FIRST + GET.len() as u32;
    let _ = (lab.client(FIN | ACK, end, b""), lab.instance(2, FIN | ACK, 7001, end + 1));
    assert_eq!(seen(&lab.client(SYN, FIRST - 1, b"")), [(2, SYN, FIRST - 1, 0)], "its own SYN, late");
    assert_eq!(seen(&lab.client(SYN, 900_000, b""))[0].1, SYN | ACK);
}

/// A client's numbers come round, and those behind NAT follow no clock.
#[test]
fn a1_a_new_connection_of_the_same_ports_whose_number_is_less() {
    // Both ends are over: late for two seconds only.
    let mut lab = Lab::dialled(0);
    let _ = lab.instance(2, SYN | ACK, 7000, FIRST);
    let end = FIRST + GET.len() as u32;
    let _ = (lab.client(FIN | ACK, end, b""), lab.instance(2, FIN | ACK, 7001, end + 1));
    lab.now += u64::from(LATE_MS);
    assert_eq!(seen(&lab.client(SYN, FIRST - 50, b""))[0].1, SYN, "late");
    lab.now += 1;
    assert_eq!(seen(&lab.client(SYN, FIRST - 50, b""))[0].1, SYN | ACK);
    // One end is over, and nobody speaks.
    let mut lab = Lab::dialled(0);
    let _ = lab.instance(2, SYN | ACK, 7000, FIRST);
    let _ = lab.instance(2, FIN | ACK, 7001, end);
    lab.now += u64::from(SILENT_MS);
    assert_eq!(seen(&lab.client(SYN, FIRST - 50, b""))[0].1, SYN);
    lab.now += 1;
    assert_eq!(seen(&lab.client(SYN, FIRST - 50, b""))[0].1, SYN | ACK);
    // The instance has forgotten the connection, and takes the SYN as a new one: it is reset, the next SYN is answered by us.
    let mut lab = Lab::dialled(0);
    let _ = lab.instance(2, SYN | ACK, 7000, FIRST);
    let _ = lab.client(SYN, FIRST - 50, b"");
    assert_eq!(seen(&lab.instance(2, SYN | ACK, 99_000, FIRST - 49)), [(2, RST, FIRST - 49, 0)]);
    assert_eq!(seen(&lab.client(SYN, FIRST - 50, b""))[0].1, SYN | ACK);
}

/// What a full table has lost is sent again: it was acknowledged by nobody.
#[test]
fn a1_what_is_held_may_be_lost() {
    let (a, b) = GET.split_at(10);
    let mut lab = Lab::new(0);
    assert!(lab.client(ACK, FIRST, a).is_empty());
    lab.edge.forgets = 100;
    let gap = lab.client(ACK, FIRST + 10, b);
    assert!(gap.is_empty(), "nothing goes on without what was before it");
    lab.edge.forgets = 0;
    assert!(lab.client(ACK, FIRST, a).is_empty());
    assert_eq!(seen(&lab.client(ACK, FIRST + 10, b)), [(2, SYN, FIRST - 1, 0)]);
    // After the SYN: the instance gets what the client sends again.
    lab.edge.forgets = 100;
    assert_eq!(seen(&lab.instance(2, SYN | ACK, 7000, FIRST)), [(2, ACK, FIRST, 0)]);
    assert_eq!(seen(&lab.client(ACK, FIRST, GET)), [(2, ACK, FIRST, GET.len())]);
}

#[test]
fn a1_an_instance_that_scales_no_window() {
    let mut lab = Lab::dialled(0);
    let mut p = pkt(SYN | ACK, 7000, FIRST, b"");
    (p.head.scale, p.head.time_value) = (NO_SCALE, 90_000);
    // The client's 500 is 128 000 bytes.
    assert_eq!(lab.edge.instance(2, &p, lab.now)[0].1.head.window, 0xffff);
    let mut p = pkt(ACK, FIRST + GET.len() as u32, lab.cookie.wrapping_add(1), b"");
    p.head.window = 20;
    assert_eq!(lab.edge.client(&p, lab.now)[0].1.head.window, 20 << 8);
}

/// The service is gone: who has an instance keeps it, everybody else hears so.
#[test]
fn a1_a_service_that_is_no_more() {
    let gone = |lab: &mut Lab| {
        let mut s = lab.edge.splice.unwrap();
        let mut out = Outs::default();
        let g = pkt(ACK, FIRST, 1, GET).head;
        (goes_on(&mut s, &g, &mut out), s.state, out.n, out.out[0].flags, out.out[0].ack)
    };
    let mut lab = Lab::dialled(0);
    assert_eq!(gone(&mut lab), (false, CLOSED, 1, RST | ACK, FIRST + GET.len() as u32));
    let _ = lab.instance(2, SYN | ACK, 7000, FIRST);
    assert!(gone(&mut lab).0);
}

#[test]
fn a1_a_syn_ack_again() {
    let mut lab = Lab::dialled(0);
    let _ = lab.instance(2, SYN | ACK, 7000, FIRST);
    let out = lab.instance(2, SYN | ACK, 7000, FIRST);
    assert_eq!((seen(&out), out[0].1.head.ack), (vec![(2, ACK, FIRST, 0)], 7001));
    assert!(lab.instance(2, SYN | ACK, 9000, FIRST).is_empty(), "of another number");
    assert!(lab.instance(2, ACK, 1, FIRST - 1).is_empty(), "of an older connection");
}

#[test]
fn a1_one_connection_two_identities() {
    let mut lab = Lab::dialled(PER_REQUEST);
    let _ = lab.instance(2, SYN | ACK, 7000, FIRST);
    let end = FIRST + GET.len() as u32;
    let mut answer = pkt(ACK, 7001, end, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    answer.head.time_value = 90_500;
    let n = answer.data.len() as u32;
    assert_eq!(lab.edge.instance(2, &answer, 1000).len(), 1);
    let mut again = pkt(ACK, end, lab.cookie.wrapping_add(1), GET);
    assert_eq!(seen(&lab.edge.client(&again, 1000)), [(2, ACK, end, GET.len())], "the same one stays");
    let _ = lab.edge.instance(
        2,
        &Pkt {
            head: Segment { seq: 7001 + n, ack: end + GET.len() as u32, ..answer.head },
            ..answer.clone()
        },
        1000,
    );
    // Another one: not before everything is acknowledged.
    let begin = end + GET.len() as u32;
    again = pkt(ACK, begin, lab.cookie.wrapping_add(1 + n), &GET.to_ascii_uppercase().replace_app(b'3'));
    assert_eq!(seen(&lab.edge.client(&again, 1000)), [(2, ACK, begin, 0)]);
    assert!(lab.edge.saw(NOTE_WAITS));
    // Acknowledgements behind it stand before it: outside of its window the instance would not look at them.
    let bare = pkt(FIN | ACK, begin + 30, lab.cookie.wrapping_add(1 + n), b"");
    assert_eq!(seen(&lab.edge.client(&bare, 1000)), [(2, ACK, begin, 0)]);
    again.head.ack = lab.cookie.wrapping_add(1 + 2 * n);
    assert_eq!(seen(&lab.edge.client(&again, 1000)), [(2, RST, begin, 0), (3, SYN, begin - 1, 0)]);
    // What the new one says goes on where the old one stopped, its clock, too.
    assert_eq!(seen(&lab.instance(3, SYN | ACK, 55, begin)), [(3, ACK, begin, GET.len())]);
    let out = lab.instance(3, ACK, 56, begin + 1);
    assert_eq!(out[0].1.head.seq, lab.cookie.wrapping_add(1 + 2 * n));
    assert_eq!(out[0].1.head.time_value, lab.echo.wrapping_add(500));
}

trait Replace {
    fn replace_app(self, app: u8) -> Vec<u8>;
}

impl Replace for Vec<u8> {
    /// Another identity in the same request.
    fn replace_app(mut self, app: u8) -> Vec<u8> {
        let at = self.len() - 5;
        self[at] = app;
        self
    }
}

/// Who knows no number of a connection ends nothing of it.
#[test]
fn a1_a_blind_reset_and_a_blind_syn_end_nothing() {
    let mut lab = Lab::dialled(0);
    let _ = lab.instance(2, SYN | ACK, 7000, FIRST);
    let end = FIRST + GET.len() as u32;
    let _ = lab.instance(2, ACK, 7001, end);
    let _ = lab.edge.client(&pkt(RST, end.wrapping_add(0x4000_0000), 0, b""), lab.now);
    let out = lab.edge.client(&pkt(SYN, 0x1234_5678, 0, b""), lab.now);
    assert!(!lab.edge.saw(NOTE_RESTART), "{:?}", seen(&out));
    // The client's own.
    let _ = lab.edge.client(&pkt(RST, end, 0, b""), lab.now);
    let _ = lab.edge.client(&pkt(SYN, 0x1234_5678, 0, b""), lab.now);
    assert!(lab.edge.saw(NOTE_RESTART));
}
