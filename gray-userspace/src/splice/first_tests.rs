use gray_common::{
    decide::claims::{APP, CHANNEL, TENANT, USER},
    request::watch::Watches,
};
use proptest::prelude::*;

use super::*;

fn reading() -> Reading {
    let reading = super::super::fuzz::reading();
    assert!(reading.names.names.contains(&Watches::header("x-app-id")) && reading.sni == TENANT);
    reading
}

fn read(parts: &[&[u8]]) -> (Said, Vec<(u8, String)>) {
    let mut first = First::new(reading());
    let said = parts.iter().fold(Said::More, |_, p| first.feed(p));
    (said, shown(&first))
}

fn shown(first: &First) -> Vec<(u8, String)> {
    let mut out: Vec<_> =
        first.values().iter().map(|(k, v)| (*k, String::from_utf8_lossy(v).into_owned())).collect();
    out.sort();
    out
}

fn values(list: &[(u8, &str)]) -> Vec<(u8, String)> {
    list.iter().map(|(k, v)| (*k, (*v).to_owned())).collect()
}

const HTTP1: Said = Said::Read(Protocol::Http1);
const PROXY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x12\x01\x03\xc6\x12\x01\x64\x9c\x40\0\x50";
const GET: &str =
    "GET /?ch=beta HTTP/1.1\r\nCookie: uid=u7\r\nn-d-version: {\"shop\":\"2\"}\r\nX-App-Id: 7\r\n\r\n";

fn http2(fields: &[(&str, &str)]) -> Vec<u8> {
    let block = loona_hpack::Encoder::new().encode(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    out.extend(&(block.len() as u32).to_be_bytes()[1..]);
    out.extend([1, 4, 0, 0, 0, 1]);
    out.extend(block);
    out
}

fn hello() -> Vec<u8> {
    let name = b"Shop.Example";
    let n = name.len() as u8;
    let ext = [&[0, 0, 0, n + 5, 0, n + 3, 0, 0, n][..], name].concat();
    let body = [&[3, 3][..], &[9; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, ext.len() as u8], &ext].concat();
    let shake = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    // In two records.
    let (a, b) = shake.split_at(20);
    [&[22, 3, 1, 0, a.len() as u8][..], a, &[22, 3, 3, 0, b.len() as u8], b].concat()
}

#[test]
fn a1_what_clients_say() {
    let all = values(&[(APP, "7"), (USER, "u7"), (CHANNEL, "beta"), (ND_VERSION, "2")]);
    assert_eq!(read(&[GET.as_bytes()]), (HTTP1, all.clone()));
    assert_eq!(read(&[PROXY, GET.as_bytes()]), (HTTP1, all.clone()), "behind a PROXY header");
    let request = http2(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/?ch=beta"),
        ("cookie", "a=b"),
        ("cookie", "uid=u7"),
        ("n-d-version", "{\"shop\":\"2\"}"),
        ("x-app-id", "7"),
    ]);
    assert_eq!(read(&[&request]), (Said::Read(Protocol::Http2), all.clone()));
    assert_eq!(read(&[PROXY, &request]), (Said::Read(Protocol::Http2), all));
    assert_eq!(read(&[&request[..33]]), (Said::Waits, vec![]));
    assert_eq!(read(&[&hello()]), (Said::Read(Protocol::Tls), values(&[(TENANT, "shop.example")])));
}

/// A head of more than programs hold.
#[test]
fn a1_an_identity_far_behind_is_found() {
    let head = format!("GET / HTTP/1.1\r\nCookie: x={}\r\nX-App-Id: 7\r\n\r\n", "c".repeat(15_000));
    assert_eq!(read(&[head.as_bytes()]), (HTTP1, values(&[(APP, "7")])));
    let head = format!("GET / HTTP/1.1\r\nX-App-Id: 7\r\nCookie: x={}\r\n\r\n", "c".repeat(17_000));
    assert_eq!(read(&[head.as_bytes()]), (Said::Unread(Why::TooLong), values(&[(APP, "7")])));
}

#[test]
fn c8_json_of_another_service_is_no_header() {
    for (value, want) in [("{\"cart\":\"2\"}", None), ("{\"shop\":", None), ("2", Some("2"))] {
        let head = format!("GET / HTTP/1.1\r\nn-d-version: {value}\r\n\r\n");
        let want: Vec<(u8, &str)> = want.map(|w| (ND_VERSION, w)).into_iter().collect();
        assert_eq!(read(&[head.as_bytes()]), (HTTP1, values(&want)), "{value}");
    }
}

#[test]
fn a1_what_is_bad_counts_as_far_as_it_is_read() {
    let bad = Said::Unread(Why::Bad);
    assert_eq!(read(&[b"GET / HTTP/1.1\r\nX-App-Id: 7\r\nX A: 1\r\n\r\n"]), (bad, values(&[(APP, "7")])));
    assert_eq!(read(&[b"\x80\x01"]).0, bad);
    assert_eq!(read(&[PROXY, PROXY]).0, bad, "one PROXY header");
    assert_eq!(read(&[&PROXY[..12], &[0x31, 0x11, 0, 0]]).0, bad);
    let mut first = First::new(reading());
    assert_eq!(first.feed(b"GET / HTTP/1.1\r\nX-App-Id: 7\r\nX-"), Said::More);
    assert_eq!(first.stop(Why::Slow), Said::Unread(Why::Slow));
    assert_eq!(
        (shown(&first), first.feed(b"A: 1\r\n\r\n")),
        (values(&[(APP, "7")]), Said::Unread(Why::Slow))
    );
    assert_eq!(First::new(reading()).stop(Why::Silent), Said::Unread(Why::Silent));
}

#[test]
fn a1_claims_are_those_of_programs() {
    let key = HashKey { k0: 1, k1: 2 };
    let mut first = First::new(reading());
    let head = GET.replace("{\"shop\":\"2\"}", "2");
    assert_eq!(first.feed(head.as_bytes()), HTTP1);
    let (mut ours, mut theirs) = (Claims::none(0), Claims::none(0));
    first.claims(key, &mut ours);
    reading::read(&reading(), head.as_bytes()).claims(key, &mut theirs);
    assert_eq!(ours, theirs);
}

/// Something that a client may say, broken here and there.
fn said() -> impl Strategy<Value = Vec<u8>> {
    let line = "[a-zA-Z-]{1,9}: [ -~]{0,12}\r\n";
    let head = prop::collection::vec(line, 0..6).prop_map(|lines| {
        format!("GET /?ch=a&x HTTP/1.1\r\n{}X-App-Id: 12\r\n\r\nbody", lines.concat()).into_bytes()
    });
    let fields = prop::collection::vec(("[a-z-]{1,9}", "[ -~]{0,12}"), 0..6).prop_map(|list| {
        let mut fields = vec![(":method", "GET"), (":path", "/"), ("x-app-id", "12")];
        fields.extend(list.iter().map(|(n, v)| (&n[..], &v[..])));
        http2(&fields)
    });
    let noise = prop::collection::vec(any::<u8>(), 0..80);
    let text = prop_oneof![4 => head, 3 => fields, 1 => Just(hello()), 1 => noise];
    (any::<bool>(), text, prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(proxied, text, broken)| {
            let mut said = if proxied { [PROXY, &text].concat() } else { text };
            if let Some((at, byte)) = broken.filter(|_| !said.is_empty()) {
                let at = at.index(said.len());
                said[at] = byte;
            }
            said
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// In any pieces the same answer, and never one before it is clear.
    #[test]
    fn a1_any_pieces_say_the_same(said in said(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let whole = read(&[&said]);
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(said.len() + 1)).collect();
        at.extend([0, said.len()]);
        at.sort_unstable();
        let parts: Vec<&[u8]> = at.windows(2).map(|w| &said[w[0]..w[1]]).collect();
        prop_assert_eq!(&read(&parts), &whole);
        let bytes: Vec<&[u8]> = said.chunks(1).collect();
        prop_assert_eq!(&read(&bytes), &whole);
    }

    /// A head that is read to its end is one for httparse, and its value is the same.
    #[test]
    fn a1_as_another_parser_reads_it(lines in prop::collection::vec("[a-zA-Z-]{1,9}:[ \t]?[ -~\u{e9}]{0,12}\r\n", 0..6), value in "[!-~]{1,9}") {
        let head = format!("POST /x HTTP/1.1\r\n{}X-App-Id: {value}\r\n\r\n", lines.concat());
        let (said, values) = read(&[head.as_bytes()]);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut other = httparse::Request::new(&mut headers);
        let parsed = other.parse(head.as_bytes());
        if said == HTTP1 {
            prop_assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
            let app = other.headers.iter().find(|h| h.name.eq_ignore_ascii_case("x-app-id") && !h.value.is_empty());
            let want = app.map(|h| String::from_utf8_lossy(h.value).into_owned());
            prop_assert_eq!(values.iter().find(|v| v.0 == APP).map(|v| v.1.clone()), want);
        }
    }
}
