//! Hellos of OpenSSL, made-up ones in any records and segments, and broken ones.

use proptest::prelude::*;

use super::*;

fn read(b: &[u8]) -> (u32, Option<String>, Option<String>) {
    let mut h = Hello::default();
    let r = h.run(b);
    let text =
        |s: Span| String::from_utf8_lossy(&b[usize::from(s.at)..usize::from(s.at + s.len)]).into_owned();
    (r, (h.name.len != 0).then(|| text(h.name)), (h.protocol.len != 0).then(|| text(h.protocol)))
}

#[test]
fn a9_lower_case_of_every_byte() {
    for b in 0..=255u8 {
        for other in [0u8, b'A', b'z', 0xff] {
            let word = [b, other, b, b, other, other, b, other];
            let want = word.map(|c| c.to_ascii_lowercase());
            assert_eq!(lower(u64::from_le_bytes(word)), u64::from_le_bytes(want), "{b:#x} {other:#x}");
        }
    }
}

#[test]
fn a9_hellos_of_openssl() {
    let some = |s: &str| Some(s.to_string());
    for (raw, name, protocol) in [
        (
            &include_bytes!("../../../tests/fuzz/corpus/hello/seed-openssl")[..],
            some("shop.example"),
            some("h2"),
        ),
        (include_bytes!("../../../tests/fuzz/corpus/hello/seed-nameless"), None, None),
        (
            include_bytes!("../../../tests/fuzz/corpus/hello/seed-tls12"),
            some("shop.example"),
            some("http/1.1"),
        ),
    ] {
        // The first byte says where the fuzz target cuts.
        assert_eq!(read(&raw[1..]), (END, name, protocol));
    }
}

fn len16(b: &[u8]) -> Vec<u8> {
    let mut out = (b.len() as u16).to_be_bytes().to_vec();
    out.extend(b);
    out
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend(len16(body));
    out
}

fn name(n: &str) -> Vec<u8> {
    let mut entry = vec![0];
    entry.extend(len16(n.as_bytes()));
    extension(0, &len16(&entry))
}

fn protocols(all: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = all.iter().flat_map(|p| [&[p.len() as u8], p.as_bytes()].concat()).collect();
    extension(16, &len16(&list))
}

/// The handshake message.
fn hello(session: usize, extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(session as u8);
    body.extend(vec![9; session]);
    body.extend(len16(&[0x13, 1, 0x13, 2]));
    body.extend([1, 0]);
    if !extensions.is_empty() {
        body.extend(len16(&extensions.concat()));
    }
    let mut out = vec![1, 0];
    out.extend(len16(&body));
    out
}

fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut out, mut at, mut i) = (Vec::new(), 0, 0);
    while at < message.len() {
        let end = message.len().min(at + sizes[i % sizes.len()]);
        out.extend([22, 3, 1]);
        out.extend(len16(&message[at..end]));
        at = end;
        i += 1;
    }
    out
}

#[test]
fn a9_hellos_as_a_table() {
    let other = extension(43, &[2, 3, 4]);
    let empty = extension(23, &[]);
    let one = |e: &[Vec<u8>]| records(&hello(32, e), &[1 << 14]);
    let some = |s: &str| Some(s.to_string());
    for (what, raw, want) in [
        ("no extensions", one(&[]), (END, None, None)),
        ("others", one(&[other.clone(), empty.clone()]), (END, None, None)),
        ("name", one(&[empty.clone(), name("A.b"), other.clone()]), (END, some("A.b"), None)),
        ("both", one(&[protocols(&["h2", "http/1.1"]), name("a"), empty]), (END, some("a"), some("h2"))),
        ("no record of a handshake", vec![23, 3, 1, 0, 5], (BAD, None, None)),
        ("no TLS", b"GET / HTTP/1.1".to_vec(), (BAD, None, None)),
        ("SSL 2", vec![22, 2, 0, 0, 5], (BAD, None, None)),
        ("an empty record", vec![22, 3, 1, 0, 0], (BAD, None, None)),
        ("a server's", vec![22, 3, 1, 0, 4, 2, 0, 0, 9], (BAD, None, None)),
        ("a name of no characters", one(&[extension(0, &[0, 3, 0, 0, 0])]), (BAD, None, None)),
        ("a name with a space", one(&[name("a b")]), (BAD, some("a"), None)),
        ("two names", one(&[name("a"), name("b")]), (BAD, some("a"), None)),
        ("a list longer than its extension", one(&[extension(0, &[0, 9, 0, 0, 1, 65])]), (BAD, None, None)),
        ("a protocol longer than its list", one(&[extension(16, &[0, 2, 5, 65])]), (BAD, None, None)),
        ("a name over 255", one(&[name(&"a".repeat(256))]), (BAD, None, None)),
    ] {
        assert_eq!(read(&raw), want, "{what}");
    }
    let mut long = one(&[other]);
    long[8] += 1;
    assert_eq!(read(&long).0, BAD, "a hello longer than its parts");
    let message = hello(0, &[name("shop.example")]);
    assert_eq!(read(&records(&message, &[message.len() - 3])).0, BAD, "a name over two records");
}

proptest! {
    /// In any records, as far as it has come: the same answer, or more is needed.
    #[test]
    fn a9_records_and_segments_change_nothing(
        sizes in prop::collection::vec(1usize..90, 1..6), n in "[a-z.]{1,40}", session in 0usize..33, cut in any::<prop::sample::Index>(), pad in 0usize..300,
    ) {
        let message = hello(session, &[extension(21, &vec![0; pad]), protocols(&["h2"]), name(&n), extension(43, &[2, 3, 4])]);
        let raw = records(&message, &sizes);
        let (r, got, protocol) = read(&raw);
        // A value over two records is none that can be pointed at.
        let ends: Vec<usize> = sizes.iter().cycle().scan(0, |at, n| { *at += n; Some(*at) }).take_while(|at| *at < message.len()).collect();
        let name_end = message.len() - extension(43, &[2, 3, 4]).len();
        let protocol_end = name_end - name(&n).len();
        let cut_in = |end: usize, len: usize| ends.iter().any(|at| end - len < *at && *at < end);
        if cut_in(name_end, n.len()) || cut_in(protocol_end, 2) {
            prop_assert_eq!(r, BAD);
        } else {
            prop_assert_eq!((r, got, protocol.as_deref()), (END, Some(n), Some("h2")));
        }
        let mut h = Hello::default();
        let first = h.run(&raw[..cut.index(raw.len())]);
        let second = h.run(&raw[..]);
        let mut whole = Hello::default();
        prop_assert_eq!((second, h.name), (whole.run(&raw[..]), whole.name));
        prop_assert!(first == MORE || first == second);
    }

    #[test]
    fn a9_any_bytes_are_taken_well(mut b in prop::collection::vec(any::<u8>(), 6..300), real: bool) {
        if real {
            b[..6].copy_from_slice(&[22, 3, 1, 1, 0, 1]);
        }
        let mut h = Hello::default();
        let r = h.run(&b[..]);
        prop_assert!(matches!(r, MORE | END | BAD));
        for s in [h.name, h.protocol] {
            prop_assert!(usize::from(s.at + s.len) <= b.len());
        }
    }
}
