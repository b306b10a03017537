//! Framing as a table of conversations, and any conversation in any pieces.

use proptest::prelude::*;

use super::*;

const NONE: Watches = Watches { names: [0; 8] };

/// Bytes of the client (`>`) or the instance (`<`), one after the other; what is known then.
#[derive(Debug, PartialEq)]
enum Now {
    /// All is answered.
    Idle,
    /// Something is under way.
    Busy,
    Tunnel,
    Lost,
}

struct Talk {
    frames: Frames,
    /// Where requests began, in the client's bytes.
    begins: Vec<u32>,
    waited: bool,
}

/// The wrap is in the middle of the first message.
const C0: u32 = u32::MAX - 20;
const S0: u32 = u32::MAX - 30;

impl Talk {
    fn new() -> Self {
        Self { frames: Frames::begin(C0, S0), begins: Vec::new(), waited: false }
    }

    /// A segment at an offset of the client's bytes; false: refused, or in part.
    fn client(&mut self, at: u32, b: &[u8]) -> bool {
        let mut whole = false;
        loop {
            match self.frames.request(C0.wrapping_add(at), b, b.len() as u32, whole, &NONE) {
                Taken::All => return true,
                Taken::Request(i) => {
                    assert_eq!(self.frames.requests.next, C0.wrapping_add(at + i));
                    self.begins.push(at + i);
                    whole = true;
                }
                Taken::Wait(_) => {
                    self.waited = true;
                    return false;
                }
                Taken::Gap => return false,
            }
        }
    }

    fn instance(&mut self, at: u32, b: &[u8]) -> bool {
        self.frames.answer(S0.wrapping_add(at), b, b.len() as u32) == Taken::All
    }

    fn now(&self) -> Now {
        match &self.frames {
            f if f.lost() => Now::Lost,
            f if f.opaque() => Now::Tunnel,
            f if f.idle() => Now::Idle,
            _ => Now::Busy,
        }
    }
}

/// How a conversation stands in the end, said byte for byte.
fn talk(script: &[&str]) -> (Now, usize) {
    let mut t = Talk::new();
    let (mut c, mut s) = (0, 0);
    for line in script {
        let (who, text) = line.split_at(1);
        for b in text.as_bytes().chunks(1) {
            let at = if who == ">" { &mut c } else { &mut s };
            let _ = if who == ">" { t.client(*at, b) } else { t.instance(*at, b) };
            *at += 1;
        }
    }
    (t.now(), t.begins.len())
}

const GET: &str = ">GET / HTTP/1.1\r\n\r\n";
const OK: &str = "<HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn a1_conversations_as_a_table() {
    for (name, script, now, requests) in [
        ("a request", &[GET][..], Now::Busy, 1),
        ("and its answer", &[GET, OK], Now::Idle, 1),
        ("two", &[GET, OK, GET, OK], Now::Idle, 2),
        ("pipelined", &[GET, GET, OK, OK], Now::Idle, 2),
        ("one answer of two", &[GET, GET, OK], Now::Busy, 2),
        (
            "an answer without its body",
            &[GET, "<HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh"],
            Now::Busy,
            1,
        ),
        (
            "HEAD",
            &[">HEAD / HTTP/1.1\r\n\r\n", "<HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"],
            Now::Idle,
            1,
        ),
        (
            "HEAD before GET",
            &[">HEAD / HTTP/1.1\r\n\r\n", GET, "<HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", OK],
            Now::Idle,
            2,
        ),
        ("204", &[GET, "<HTTP/1.1 204 x\r\nContent-Length: 9\r\n\r\n"], Now::Idle, 1),
        ("304", &[GET, "<HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n"], Now::Idle, 1),
        ("length 0", &[GET, "<HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"], Now::Idle, 1),
        (
            "until the end",
            &[GET, "<HTTP/1.0 200 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
            Now::Busy,
            1,
        ),
        ("a body", &[">POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde", OK], Now::Idle, 1),
        (
            "a body is no request",
            &[">POST / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n", OK],
            Now::Idle,
            1,
        ),
        (
            "chunks",
            &[
                ">POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nabcde\r\nA\r\n0123456789\r\n0\r\n\r\n",
                OK,
            ],
            Now::Idle,
            1,
        ),
        (
            "trailers",
            &[
                GET,
                "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n00\r\nX: y\r\nZ:\r\n\r\n",
            ],
            Now::Idle,
            1,
        ),
        (
            "chunks in a chunk",
            &[GET, "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n"],
            Now::Idle,
            1,
        ),
        (
            "a chunk that is not over",
            &[GET, "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde"],
            Now::Busy,
            1,
        ),
        (
            "100",
            &[
                ">POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
                "<HTTP/1.1 100 x\r\n\r\n",
                ">a",
                OK,
            ],
            Now::Idle,
            1,
        ),
        (
            "100 not awaited",
            &[">POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\na", OK],
            Now::Idle,
            1,
        ),
        ("103", &[GET, "<HTTP/1.1 103 x\r\nLink: a\r\n\r\n", OK], Now::Idle, 1),
        (
            "417",
            &[
                ">POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
                "<HTTP/1.1 417 x\r\nContent-Length: 0\r\n\r\n",
            ],
            Now::Lost,
            1,
        ),
        (
            "an early answer",
            &[">POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na", OK, ">b", GET, OK],
            Now::Idle,
            2,
        ),
        (
            "101",
            &[">GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n", "<HTTP/1.1 101 x\r\n\r\nany", GET],
            Now::Tunnel,
            1,
        ),
        ("no 101", &[">GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n", OK, GET, OK], Now::Idle, 2),
        (
            "HEAD, no 101",
            &[
                ">HEAD / HTTP/1.1\r\nUpgrade: x\r\n\r\n",
                "<HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n",
                GET,
                OK,
            ],
            Now::Idle,
            2,
        ),
        ("101 unasked", &[GET, "<HTTP/1.1 101 x\r\n\r\n"], Now::Lost, 1),
        ("CONNECT", &[">CONNECT a:1 HTTP/1.1\r\n\r\n", "<HTTP/1.1 200 x\r\n\r\n"], Now::Tunnel, 1),
        (
            "CONNECT refused",
            &[">CONNECT a:1 HTTP/1.1\r\n\r\n", "<HTTP/1.1 407 x\r\nContent-Length: 0\r\n\r\n", GET, OK],
            Now::Idle,
            2,
        ),
        (
            "length and chunks",
            &[">POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"],
            Now::Lost,
            1,
        ),
        ("chunks in 1.0", &[">POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"], Now::Lost, 1),
        ("another coding", &[">POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"], Now::Lost, 1),
        ("an answer that nobody asked for", &["<HTTP/1.1 408 x\r\n\r\n"], Now::Lost, 0),
        ("no head", &[">\x16\x03\x01"], Now::Lost, 1),
        ("an answer that is none", &[GET, "<SSH-2.0"], Now::Lost, 1),
        (
            "a size without digits",
            &[GET, "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\n"],
            Now::Lost,
            1,
        ),
        (
            "a size too long",
            &[GET, "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000001\r\n"],
            Now::Lost,
            1,
        ),
        (
            "a size's LF alone",
            &[GET, "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n"],
            Now::Lost,
            1,
        ),
        (
            "an extension's LF alone",
            &[GET, "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1;\na\r\n"],
            Now::Lost,
            1,
        ),
        (
            "an extension's CR alone",
            &[GET, "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1;\ra\r\n"],
            Now::Lost,
            1,
        ),
        (
            "a chunk too long",
            &[GET, "<HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"],
            Now::Lost,
            1,
        ),
    ] {
        assert_eq!(talk(script), (now, requests), "{name}");
    }
}

#[test]
fn a1_too_many_requests_without_an_answer() {
    let many = vec![GET; WAITING as usize];
    assert_eq!(talk(&many), (Now::Busy, 32));
    assert_eq!(talk(&vec![GET; WAITING as usize + 1]), (Now::Lost, 33));
    let answered: Vec<_> = many.iter().copied().chain(vec![OK; 32]).collect();
    assert_eq!(talk(&answered), (Now::Idle, 32));
}

#[test]
fn a1_nothing_begins_while_another_protocol_is_asked_for() {
    let mut t = Talk::new();
    let ask = b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n";
    assert!(t.client(0, ask));
    assert!(!t.client(ask.len() as u32, b"GET / HTTP/1.1\r\n\r\n"));
    assert!(t.waited && t.begins == [0]);
}

/// One exchange: what the client says, what the instance does.
fn exchange() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let body = prop::collection::vec(
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'G'), any::<u8>()],
        0..60,
    );
    let method = prop::sample::select(vec!["GET", "POST", "HEAD"]);
    (
        method,
        body.clone(),
        any::<bool>(),
        body,
        any::<bool>(),
        prop::sample::select(vec![200, 204, 304, 404]),
        any::<bool>(),
    )
        .prop_map(|(method, up, up_chunks, down, down_chunks, status, interim)| {
            let mut c =
                format!("{method} /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(up.len() % 7)).into_bytes();
            framed(&mut c, &up, up_chunks, true);
            let mut s = if interim { b"HTTP/1.1 103 x\r\nA: b\r\n\r\n".to_vec() } else { Vec::new() };
            s.extend(format!("HTTP/1.1 {status} x\r\n").bytes());
            framed(&mut s, &down, down_chunks, method != "HEAD" && status != 204 && status != 304);
            (c, s)
        })
}

fn framed(out: &mut Vec<u8>, body: &[u8], chunks: bool, sent: bool) {
    if !chunks {
        out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        out.extend(if sent { body } else { &[] });
        return;
    }
    out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    if sent {
        for c in body.chunks(13) {
            out.extend(format!("{:x}\r\n", c.len()).bytes());
            out.extend(c);
            out.extend(b"\r\n");
        }
        out.extend(b"0\r\nT: r\r\n\r\n");
    }
}

/// Both directions' bytes, and where requests begin.
fn conversation() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Vec<u32>)> {
    prop::collection::vec(exchange(), 1..6).prop_map(|all| {
        let (mut c, mut s, mut begins) = (Vec::new(), Vec::new(), Vec::new());
        for (up, down) in all {
            begins.push(c.len() as u32);
            c.extend(up);
            s.extend(down);
        }
        (c, s, begins)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Segments of any size, some twice, some too early (and then again): the same boundaries.
    #[test]
    fn a1_boundaries_do_not_depend_on_segments(
        (c, s, begins) in conversation(), sizes in prop::collection::vec(1usize..40, 1..20), late in prop::collection::vec(any::<bool>(), 1..9),
    ) {
        let mut t = Talk::new();
        for (bytes, of_client) in [(&c, true), (&s, false)] {
            let (mut at, mut i) = (0, 0);
            let mut known = Vec::new();
            while at < bytes.len() {
                let end = bytes.len().min(at + sizes[i % sizes.len()]);
                let next_end = bytes.len().min(end + sizes[(i + 1) % sizes.len()]);
                let mut take = |from: usize, to: usize| {
                    let b = &bytes[from..to];
                    if of_client { t.client(from as u32, b) } else { t.instance(from as u32, b) }
                };
                if late[i % late.len()] {
                    // Refused, or in the midst of a body; either way what is missing comes behind it.
                    let _ = take(end, next_end);
                }
                prop_assert!(take(at, end));
                known.push((at, end));
                if late[(i + 3) % late.len()] {
                    let (from, to) = known[i / 2];
                    prop_assert!(take(from, to));
                }
                at = end;
                i += 1;
            }
        }
        prop_assert_eq!(t.now(), Now::Idle);
        prop_assert_eq!(t.begins, begins);
    }

    #[test]
    fn a1_any_segments_are_taken_well(parts in prop::collection::vec((any::<bool>(), 0u32..200, prop::collection::vec(any::<u8>(), 0..60)), 0..12)) {
        let mut t = Talk::new();
        for (client, at, b) in parts {
            let _ = if client { t.client(at, &b) } else { t.instance(at, &b) };
        }
    }
}
