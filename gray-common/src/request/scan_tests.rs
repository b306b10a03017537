//! Heads as a table; the same answer however they are cut and read; and against httparse.

use proptest::prelude::*;

use super::*;
use crate::request::Bytes;

const W: Watches = Watches {
    names: [
        Watches::header("X-App-Id"),
        Watches::cookie("app"),
        Watches::query("app"),
        Watches::header("x-user-id"),
        0,
        0,
        0,
        0,
    ],
};

/// The bytes that have come so far, without words.
struct Slow<'a>(&'a [u8]);

impl Bytes for Slow<'_> {
    fn at(&self, i: u32) -> Option<u8> {
        self.0.at(i)
    }
}

fn scan(b: &[u8]) -> (u32, Scan) {
    let mut s = Scan::request();
    (s.run(b, &W), s)
}

fn answer(b: &[u8]) -> (u32, Scan) {
    let mut s = Scan::response();
    (s.run(b, &W), s)
}

fn value(s: &Scan, b: &[u8], i: usize) -> Option<String> {
    let v = s.values[i];
    let text = || String::from_utf8_lossy(&b[usize::from(v.at)..usize::from(v.at + v.len)]).into_owned();
    (s.found & 1 << i != 0).then(text)
}

/// The value of watch `i` in this head, which must be whole.
fn found(i: usize, head: &str) -> Option<String> {
    let (r, s) = scan(head.as_bytes());
    assert_eq!((r, s.at as usize), (END, head.len()), "{head:?}");
    value(&s, head.as_bytes(), i)
}

#[test]
fn a1_the_app_id_is_found() {
    for (head, want) in [
        ("GET / HTTP/1.1\r\nX-App-Id: app7\r\n\r\n", Some("app7")),
        ("GET / HTTP/1.1\r\nx-aPP-iD:app7\r\n\r\n", Some("app7")),
        ("GET / HTTP/1.0\r\nHost: a\r\nX-APP-ID: \t app 7 \t\r\nA: b\r\n\r\n", Some("app 7")),
        ("GET / HTTP/1.1\nX-App-Id: 7\n\n", Some("7")),
        ("\r\n\r\nGET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n", Some("7")),
        ("GET / HTTP/1.1\r\nX-App-Id: a\r\nX-App-Id: b\r\n\r\n", Some("a")),
        ("GET / HTTP/1.1\r\nX-App-Id:\r\nX-App-Id: b\r\n\r\n", Some("b")),
        ("GET / HTTP/1.1\r\nX-App-Id:  \r\n\r\n", None),
        ("GET / HTTP/1.1\r\nX-App-Idx: 1\r\nXX-App-Id: 1\r\nA: X-App-Id: 1\r\n\r\n", None),
        ("POST http://h:80/p HTTP/1.1\r\nX-App-Id: {\"a\": 1}\r\n\r\n", Some("{\"a\": 1}")),
        ("OPTIONS * HTTP/1.1\r\nX-App-Id: \u{e9}\r\n\r\n", Some("\u{e9}")),
        ("CONNECT h:443 HTTP/1.1\r\nX-App-Id: 1\r\n\r\n", Some("1")),
        ("GET / HTTP/1.1\r\n\r\n", None),
    ] {
        assert_eq!(found(0, head).as_deref(), want, "{head:?}");
    }
    let (_, s) = scan(b"GET / HTTP/1.1\r\nX-App-Id: a\r\nX-App-Id: a\r\n\r\n");
    assert!(s.has(TWICE));
}

#[test]
fn a8_cookies_and_parameters_are_found() {
    for (line, want) in [
        ("Cookie: app=7", Some("7")),
        ("cookie:a=b;app=7;c=d", Some("7")),
        ("COOKIE: a=b;  app= 7 ;c", Some("7")),
        ("Cookie: app=\"7\"", Some("\"7\"")),
        ("Cookie: app=; app=7", Some("7")),
        ("Cookie: app=a=b", Some("a=b")),
        ("Cookie: a=1\r\nCookie: app=2", Some("2")),
        ("Cookie: App=7; xapp=7; app7=1; app", None),
        ("Cookie:", None),
        ("X: app=7", None),
    ] {
        assert_eq!(found(1, &format!("GET / HTTP/1.1\r\n{line}\r\n\r\n")).as_deref(), want, "{line:?}");
    }
    for (target, want) in [
        ("/?app=7", Some("7")),
        ("/p?a=b&app=7&c=d", Some("7")),
        ("http://h/p?app=7#app=8", Some("7")),
        ("/?app=%37+7", Some("%37+7")),
        ("/?app=&app=7", Some("7")),
        ("/?app=1&app=2", Some("1")),
        ("/?a?app=7&app=x?y=z", Some("x?y=z")),
        ("/?App=7&xapp=7&app", None),
        ("/app=7", None),
        ("/#?app=7", None),
        ("/?%61pp=7", None),
    ] {
        assert_eq!(found(2, &format!("GET {target} HTTP/1.1\r\n\r\n")).as_deref(), want, "{target:?}");
    }
}

#[test]
fn a1_what_frames_the_body_is_read() {
    for (head, flags, length) in [
        ("GET / HTTP/1.1\r\n\r\n", 0, 0),
        ("HEAD / HTTP/1.1\r\n\r\n", HEAD, 0),
        ("HEADER / HTTP/1.1\r\n\r\n", 0, 0),
        ("CONNECT h:1 HTTP/1.1\r\n\r\n", CONNECT, 0),
        ("GET / HTTP/1.0\r\n\r\n", HTTP_10, 0),
        ("PUT / HTTP/1.1\r\ncontent-LENGTH: 00123 \t\r\n\r\n", LENGTH, 123),
        ("PUT / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length:5\r\n\r\n", LENGTH, 5),
        ("PUT / HTTP/1.1\r\nContent-Length: 99999999999999999\r\n\r\n", LENGTH, 99_999_999_999_999_999),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: Chunked \r\n\r\n", CHUNKED, 0),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", CODED, 0),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked x\r\n\r\n", CODED, 0),
        (
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            CHUNKED | CODED,
            0,
        ),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding:\r\nContent-Length: 3\r\n\r\n", CODED | LENGTH, 3),
        ("GET / HTTP/1.1\r\nUpgrade: websocket\r\nExpect: 100-continue\r\n\r\n", UPGRADE | EXPECT, 0),
    ] {
        let (r, s) = scan(head.as_bytes());
        assert_eq!((r, s.flags, s.length), (END, flags, length), "{head:?}");
    }
}

#[test]
fn a1_heads_that_are_none() {
    for head in [
        "GET /\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n X: folded\r\n\r\n",
        "GET / HTTP/1.1\r\nX-App-Id: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nX-App-Id : a\r\n\r\n",
        "GET / HTTP/1.1\r\nX-App-Id\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: 12345678\x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: \r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01",
    ] {
        assert_eq!(scan(head.as_bytes()).0, BAD, "{head:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(HEAD_MAX as usize));
    assert_eq!(scan(long.as_bytes()).0, BAD);
    for line in [
        "HTTP/1.1 20\r\n",
        "HTTP/1.1 2000\r\n",
        "HTTP/2 200\r\n",
        "\r\nHTTP/1.1 200\r\n",
        "HTTP/1.1 099 x\r\n",
    ] {
        assert_eq!(answer(format!("{line}\r\n").as_bytes()).0, BAD, "{line:?}");
    }
}

#[test]
fn a1_heads_of_responses() {
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.0 304 ", 304),
        ("HTTP/1.1 101", 101),
        ("HTTP/1.1 999 \u{e9}", 999),
    ] {
        let (r, s) = answer(format!("{line}\r\nContent-Length: 7\r\n\r\nbody").as_bytes());
        assert_eq!((r, s.status, s.length), (END, status, 7), "{line:?}");
    }
}

/// Heads, good and nearly good.
fn head() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("X-App-Id".to_string()),
        Just("x-app-id".to_string()),
        Just("Cookie".to_string()),
        Just("Host".to_string()),
        Just("X-User-Id".to_string()),
        "[A-Za-z-]{1,12}",
    ];
    let value =
        prop_oneof!["[ \t]{0,2}[a-z0-9=; ]{0,40}[ \t]{0,2}", "app=[a-z]{0,9}; x=1", Just(String::new())];
    let target = prop_oneof![
        "/[a-z/]{0,20}",
        "/\\?app=[a-z]{0,9}&b=c",
        "/[a-z]{0,5}\\?x=1&app=[a-z&=?]{0,9}(#f)?",
        "http://h/[a-z?]{0,9}"
    ];
    let lines = prop::collection::vec((name, value), 0..8);
    let method = prop_oneof![Just("GET"), Just("HEAD"), Just("POST"), Just("CONNECT"), Just("Get!")];
    (method, target, lines, any::<bool>()).prop_map(|(m, t, lines, crlf)| {
        let eol = if crlf { "\r\n" } else { "\n" };
        let lines: String = lines.iter().map(|(n, v)| format!("{n}:{v}{eol}")).collect();
        format!("{m} {t} HTTP/1.1{eol}{lines}{eol}").into_bytes()
    })
}

fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(b"\r\n\t :;=?&#\0\x7f".to_vec()), any::<u8>()];
    (head(), prop::collection::vec((any::<prop::sample::Index>(), byte), 0..3)).prop_map(|(mut h, edits)| {
        for (at, b) in edits {
            let i = at.index(h.len());
            h[i] = b;
        }
        h
    })
}

/// What httparse says: the head's length and its first value of a name.
fn reference(b: &[u8], name: &str) -> Option<(usize, Option<Vec<u8>>)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut r = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(n) = r.parse(b).ok()? else { return None };
    let values = r.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.trim_ascii());
    let first = values.map(<[u8]>::to_vec).find(|v| !v.is_empty());
    Some((n, first))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Words or bytes, whole or in three pieces: the same answer at the same place.
    #[test]
    fn a1_pieces_and_words_change_nothing(h in spoilt(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..3)) {
        let whole = scan(&h);
        let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(h.len() + 1)).collect();
        cuts.sort();
        cuts.push(h.len());
        let (mut s, mut fast) = (Scan::request(), Scan::request());
        let (mut r, mut f) = (MORE, MORE);
        for c in cuts {
            r = s.run(&Slow(&h[..c]), &W);
            f = fast.run(&h[..c], &W);
        }
        prop_assert_eq!((r, s), whole);
        prop_assert_eq!((f, fast), whole);
    }

    /// Whatever we call a head, httparse does, with the same end and the same values. Targets that are no UTF-8 it refuses.
    #[test]
    fn a1_heads_equal_those_of_httparse(h in spoilt()) {
        let (r, s) = scan(&h);
        if r == END && (h.is_ascii() || std::str::from_utf8(&h).is_ok()) {
            for (i, name) in [(0, "X-App-Id"), (3, "X-User-Id")] {
                let Some((n, want)) = reference(&h, name) else {
                    return Err(TestCaseError::fail("httparse refuses it"));
                };
                prop_assert_eq!(n, s.at as usize);
                let v = s.values[i];
                let got = (s.found & 1 << i != 0).then(|| h[usize::from(v.at)..usize::from(v.at + v.len)].to_vec());
                prop_assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn a1_good_heads_are_taken(h in head()) {
        prop_assert_eq!(scan(&h).0, END);
        for n in 0..h.len() {
            prop_assert_eq!(scan(&h[..n]).0, MORE);
        }
    }

    #[test]
    fn a1_any_bytes_are_taken_well(b in prop::collection::vec(any::<u8>(), 0..200)) {
        let (r, s) = scan(&b);
        prop_assert!(matches!(r, MORE | END | BAD) && s.at as usize <= b.len());
    }
}
