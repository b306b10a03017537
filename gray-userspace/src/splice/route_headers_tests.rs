//! C8, C9, A6, A10: what headers, tags and PROXY headers lead to, over tables in memory.

use super::{
    First, Goes, Whose,
    decide::tests::{Memory, memory, whose},
};

const DOCUMENT: &str = "services:
  shop:
    listen: ['198.18.1.100:80', '198.18.1.101:80']
    identify: [app, source]
    claims: { app: { header: X-App-Id } }
    instances:
      - { address: '198.18.2.1:8080', id: one, version: '1', region: east }
      - { address: '198.18.2.2:8080', id: two-a, version: '2', region: east }
      - { address: '198.18.2.3:8081', id: two-b, version: '2', region: west }
    stable: { version: '1' }
    route-headers: { read: [READ], SWITCHES }
cohorts:
  early: { apps: ['7'] }
routes:
  - { service: shop, when: early, to: { version: '2' } }
";

const ALL: &str = "version, region, address, version-weight, region-weight, id-blacklist, address-blacklist";

fn tables(switches: &str) -> Memory {
    memory(&DOCUMENT.replace("READ", ALL).replace("SWITCHES", switches))
}

fn first(on: &Memory, who: &Whose, head: &str) -> First {
    use super::Tables as _;
    let served = who.served(on).unwrap().unwrap();
    assert!(on.control().is_ok());
    let mut first = First::of(served.reading, served.further, who.client.ip());
    let _ = first.feed(head.as_bytes());
    first
}

/// Last digit of the instances that clients get, each once.
fn got(on: &Memory, service: &str, head: &str) -> String {
    let mut out = std::collections::BTreeSet::new();
    for port in 1..60 {
        let who = Whose { service: service.parse().unwrap(), ..whose(&format!("198.18.1.3:{port}")) };
        let first = first(on, &who, head);
        match who.goes(on, &first, (0, 0), None).unwrap() {
            Goes::To(at, _) => {
                let _ = out.insert(at.ip().to_string().chars().last().unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    out.into_iter().collect()
}

/// Switches, app, header, who serves: plain and as JSON the same.
#[test]
fn c8_c9_what_is_left_is_filtered() {
    for (switches, app, name, value, want) in [
        // What the route chose, less what the header does not want.
        ("", "7", "address", "198.18.2.3:8081", "3"),
        ("", "7", "address", "198.18.2.2", "2"),
        ("", "7", "address", "8081", "3"),
        ("", "7", "address", "198.18.*.3", "3"),
        ("", "7", "address", "198.18.2.2;198.18.2.3", "23"),
        ("", "7", "id-blacklist", "two-a", "3"),
        ("", "7", "id-blacklist", "two-a;one", "3"),
        ("", "7", "address-blacklist", "198.18.2.3:8081;192.168.*.102;1301", "2"),
        ("", "7", "region-weight", "east=0;west=5", "3"),
        ("", "7", "region-weight", "east=50;west=50", "23"),
        ("", "7", "region-weight", "east=50;north=50", "2"),
        // Nobody is left: the policy's value goes first ..
        ("", "7", "address", "198.18.2.1", "23"),
        ("", "7", "id-blacklist", "two-a;two-b", "23"),
        ("", "7", "version-weight", "1=100", "23"),
        ("", "7", "address", "203.0.113.1", "23"),
        ("", "7", "address", "nonsense!", "23"),
        // .. or the client's.
        ("over-routes: true", "7", "address", "198.18.2.1", "1"),
        ("over-routes: true", "7", "id-blacklist", "two-a;two-b", "1"),
        ("over-routes: true", "7", "version-weight", "1=100", "1"),
        ("over-routes: true", "7", "address", "203.0.113.1", "23"),
        // No route: ignored ..
        ("", "8", "address", "198.18.2.2", "1"),
        ("", "8", "version-weight", "2=100", "1"),
        ("", "8", "id-blacklist", "one", "1"),
        // .. or chosen by among all.
        ("without-route: true", "8", "address", "198.18.2.2", "2"),
        ("without-route: true", "8", "address", "8080", "12"),
        ("without-route: true", "8", "version-weight", "2=100", "23"),
        ("without-route: true", "8", "version-weight", "1=50;2=50", "1"),
        ("without-route: true", "8", "id-blacklist", "one", "23"),
        ("without-route: true", "8", "id-blacklist", "two-a", "1"),
    ] {
        let on = tables(if switches.is_empty() { "over-routes: false" } else { switches });
        let head = |value: &str| format!("GET / HTTP/1.1\r\nX-App-Id: {app}\r\nN-D-{name}: {value}\r\n\r\n");
        let at = "198.18.1.100:80";
        let what = format!("{switches} {app} {name} {value}");
        let plain = got(&on, at, &head(value));
        // One identity has one bucket: which of both is the bucket's matter.
        if name == "version-weight" && value == "1=50;2=50"
            || name == "region-weight" && value == "east=50;west=50"
        {
            assert!(["1", "2", "3", "23"].contains(&&*plain), "{what}: {plain}");
        } else {
            assert_eq!(plain, want, "{what}");
        }
        assert_eq!(got(&on, at, &head(&format!("{{\"shop\":\"{value}\"}}"))), plain, "JSON: {what}");
        assert_eq!(
            got(&on, at, &head("{\"cart\":\"x\"}")),
            if app == "7" { "23" } else { "1" },
            "another's: {what}"
        );
    }
}

/// Several headers at once: what excludes another one goes before it.
#[test]
fn c8_headers_together() {
    let on = tables("without-route: true, over-routes: true");
    for (headers, want) in [
        ("N-D-Version: 2\r\nN-D-Address: 8081", "3"),
        ("N-D-Version: 2\r\nN-D-Version-Weight: 1=100", "23"),
        ("N-D-Version: 9\r\nN-D-Version-Weight: 1=100", "1"),
        ("N-D-Version: 2\r\nN-D-Id-Blacklist: two-b", "2"),
        ("N-D-Address: 198.18.2.2\r\nN-D-Id-Blacklist: two-a", "1"),
        ("N-D-Version-Weight: 2=1\r\nN-D-Region-Weight: west=1", "3"),
    ] {
        let head = format!("GET / HTTP/1.1\r\nX-App-Id: 8\r\n{headers}\r\n\r\n");
        assert_eq!(got(&on, "198.18.1.100:80", &head), want, "{headers}");
    }
}

/// Each listener has switches of its own, for plain headers as for others.
#[test]
fn c9_listeners_have_their_switches() {
    let on = tables("listeners: [{ address: '198.18.1.101:80', over-routes: true, without-route: true }]");
    for (app, header, usual, own) in [
        ("8", "N-D-Version: 2", "1", "23"),
        ("8", "N-D-Address: 198.18.2.3", "1", "3"),
        ("8", "N-D-Version-Weight: 2=1", "1", "23"),
        ("7", "N-D-Version: 1", "23", "1"),
        ("7", "N-D-Region: west", "3", "3"),
        ("7", "N-D-Id-Blacklist: two-a;two-b", "23", "1"),
    ] {
        let head = format!("GET / HTTP/1.1\r\nX-App-Id: {app}\r\n{header}\r\n\r\n");
        assert_eq!(got(&on, "198.18.1.100:80", &head), usual, "{app} {header}");
        assert_eq!(got(&on, "198.18.1.101:80", &head), own, "{app} {header}");
    }
}

/// An instance that fails is left for another one that the request wants.
#[test]
fn c8_another_instance_is_one_that_is_asked_for() {
    let on = tables("over-routes: false");
    for port in 1..40 {
        let who = whose(&format!("198.18.1.3:{port}"));
        let head = "GET / HTTP/1.1\r\nX-App-Id: 7\r\nN-D-Address-Blacklist: 198.18.2.9\r\n\r\n";
        let first = first(&on, &who, head);
        let Goes::To(a, d) = who.goes(&on, &first, (0, 0), None).unwrap() else { panic!() };
        let Goes::To(b, _) = who.goes(&on, &first, (1, 1), Some(&d)).unwrap() else { panic!() };
        assert!(a != b && b.ip().to_string() != "198.18.2.1", "{a}, then {b}");
    }
}

const PROXIED: &str = "services:
  shop:
    listen: ['198.18.1.100:80']
    identify: [app, source]
    claims: { app: { header: X-App-Id, proxy-tlv: 0xE0 }, user: { proxy-tlv: 0xEA } }
    trusted-proxies: ['198.18.1.0/24']
    instances:
      - { address: '198.18.2.1:8080', version: '1' }
      - { address: '198.18.2.2:8080', version: '2' }
    stable: { version: '1' }
cohorts:
  office: { sources: ['203.0.113.7', '2001:db8::/32'] }
  early: { apps: ['7*'] }
  people: { users: [u1] }
routes:
  - { service: shop, when: { any: [office, early, people] }, to: { version: '2' } }
";

fn header(family: u8, body: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21", &[family][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

fn v4(source: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
    header(0x11, &[&source[..], &[198, 18, 1, 100, 0x9c, 0x40, 0, 80], tlvs].concat())
}

#[test]
fn a10_a_load_balancer_says_source_and_tlv() {
    let on = memory(PROXIED);
    let v6 = |source: &str| {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        header(0x21, &[&source.octets()[..], &[1; 16], &[0, 1, 0, 80]].concat())
    };
    let get = |app: &str| format!("GET / HTTP/1.1\r\n{app}\r\n").into_bytes();
    for (name, from, begin, head, want) in [
        ("the office", "198.18.1.3", v4([203, 0, 113, 7], &[]), get(""), "2"),
        ("somebody else", "198.18.1.3", v4([203, 0, 113, 8], &[]), get(""), "1"),
        ("the office, IPv6", "198.18.1.3", v6("2001:db8::7"), get(""), "2"),
        ("no trusted proxy", "198.18.7.3", v4([203, 0, 113, 7], &[]), get(""), "1"),
        ("no header", "198.18.1.3", vec![], get(""), "1"),
        ("a TLV", "198.18.1.3", v4([203, 0, 113, 8], &[0xe0, 0, 2, b'7', b'1']), get(""), "2"),
        (
            "a TLV before the header",
            "198.18.1.3",
            v4([203, 0, 113, 8], &[0xe0, 0, 1, b'9']),
            get("X-App-Id: 7\r\n"),
            "1",
        ),
        ("a TLV of nobody", "198.18.7.3", v4([203, 0, 113, 8], &[0xe0, 0, 1, b'7']), get(""), "1"),
        ("another TLV", "198.18.1.3", v4([203, 0, 113, 8], &[0xea, 0, 2, b'u', b'1']), get(""), "2"),
        ("an empty TLV", "198.18.1.3", v4([203, 0, 113, 8], &[0xe0, 0, 0]), get("X-App-Id: 7\r\n"), "2"),
        ("a header only", "198.18.1.3", v4([203, 0, 113, 8], &[]), get("X-App-Id: 7\r\n"), "2"),
        ("no HTTP behind it", "198.18.1.3", v4([203, 0, 113, 7], &[]), b"\x01\x02binary".to_vec(), "2"),
    ] {
        let who = whose(&format!("{from}:40000"));
        let served = who.served(&on).unwrap().unwrap();
        let said = [begin, head].concat();
        for size in [1, 7, said.len()] {
            let mut first = First::of(served.reading, served.further, who.client.ip());
            for part in said.chunks(size) {
                let _ = first.feed(part);
            }
            let Goes::To(at, _) = who.goes(&on, &first, (0, 0), None).unwrap() else { panic!("{name}") };
            assert_eq!(at.ip().to_string(), format!("198.18.2.{want}"), "{name}");
            assert_eq!(first.bytes(), said, "the instance gets all of it: {name}");
            assert_eq!(first.is_disbelieved(), from == "198.18.7.3", "{name}");
        }
    }
}

/// A tag and what is read on one service: the order of `identify` says who it is, and the tag's lane is the connection's.
#[test]
fn a6_a_tag_beside_what_is_read() {
    use gray_common::{decide::claims::APP, hash::claim_hash_bytes, wire::Tagged};
    let document = |identify: &str| {
        format!(
            "services:
  shop:
    listen: ['198.18.1.100:80']
    identify: [{identify}]
    claims: {{ app: {{ header: X-App-Id }} }}
    instances:
      - {{ address: '198.18.2.1:8080', version: '1' }}
      - {{ address: '198.18.2.2:8080', version: '2' }}
      - {{ address: '198.18.2.3:8080', version: '3' }}
    stable: {{ version: '1' }}
cohorts:
  early: {{ apps: ['7'] }}
lanes:
  blue: {{ shop: {{ version: '3' }} }}
  green: {{ shop: {{ version: '2' }} }}
routes:
  - {{ service: shop, when: early, to: {{ version: '2' }} }}
  - {{ when: {{ app: '9' }}, lane: green }}
"
        )
    };
    let key = super::decide::tests::KEY;
    let of = |app: &str| claim_hash_bytes(key, APP, app.as_bytes());
    for (name, identify, tag, app, identity, want) in [
        ("no tag", "tag, app", Tagged::default(), "7", of("7"), "2"),
        ("the tag's identity first", "tag, app", Tagged { identity: 77, lane: 0 }, "7", 77, "2"),
        ("the request's first", "app, tag", Tagged { identity: 77, lane: 0 }, "8", of("8"), "1"),
        ("a tag alone", "app, tag", Tagged { identity: 77, lane: 0 }, "", 77, "1"),
        ("a lane before a list", "tag, app", Tagged { identity: 0, lane: 1 }, "7", of("7"), "3"),
        (
            "a lane before a route into another one",
            "tag, app",
            Tagged { identity: 0, lane: 1 },
            "9",
            of("9"),
            "3",
        ),
        ("a route into a lane", "tag, app", Tagged::default(), "9", of("9"), "2"),
    ] {
        let on = memory(&document(identify));
        let who = Whose { tag, ..whose("198.18.1.3:40000") };
        let line = if app.is_empty() { String::new() } else { format!("X-App-Id: {app}\r\n") };
        let first = first(&on, &who, &format!("GET / HTTP/1.1\r\n{line}\r\n"));
        let Goes::To(at, d) = who.goes(&on, &first, (0, 0), None).unwrap() else { panic!("{name}") };
        assert_eq!((at.ip().to_string(), d.identity), (format!("198.18.2.{want}"), identity), "{name}");
    }
}
