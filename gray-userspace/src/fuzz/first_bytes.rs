//! Fuzz targets of what the request path reads out of packets. Each is read whole and in pieces, by words and by bytes,
//! and must say the same; what it points at lies in what was read.

use gray_common::{
    decide::tag::{self, Said},
    hash::HashKey,
    request::{
        Bytes,
        frame::{Frames, Taken},
        options::{OPTIONS_MAX, Options},
        proxy2, scan,
        scan::{Scan, Span, Watches},
        tls::Hello,
    },
};

/// Without words.
struct Slow<'a>(&'a [u8]);

impl Bytes for Slow<'_> {
    fn at(&self, i: u32) -> Option<u8> {
        self.0.at(i)
    }
}

fn watches() -> Watches {
    Watches {
        names: [Watches::header("X-App-Id"), Watches::cookie("app"), Watches::query("app"), 0, 0, 0, 0, 0],
    }
}

fn inside(spans: &[Span], len: usize) {
    for s in spans {
        assert!(usize::from(s.at) + usize::from(s.len) <= len, "{s:?} of {len}");
    }
}

/// Where the input is cut, by its first byte.
fn cut(data: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((usize::from(*first) % (rest.len() + 1), rest))
}

/// Heads of requests and of responses.
pub fn head(data: &[u8]) {
    let Some((cut, data)) = cut(data) else { return };
    for begin in [Scan::request(), Scan::response()] {
        let (mut fast, mut slow) = (begin, begin);
        let said = fast.run(data, &watches());
        let first = slow.run(&Slow(&data[..cut]), &watches());
        assert_eq!((slow.run(&Slow(data), &watches()), slow), (said, fast));
        assert!(first == scan::MORE || first == said);
        assert!(fast.at as usize <= data.len());
        inside(&fast.values, fast.at as usize);
        if said == scan::END {
            assert_eq!(data[fast.at as usize - 1], b'\n');
        }
    }
}

/// A connection's bytes: the client's as far as the first line of `|`, then the instance's.
pub fn frames(data: &[u8]) {
    let Some((size, data)) = cut(data) else { return };
    let at = data.iter().position(|b| *b == b'|').unwrap_or(data.len());
    let (client, instance) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let mut seen = Vec::new();
    for size in [data.len().max(1), size.max(1), 1] {
        let mut f = Frames::begin(u32::MAX - 9, u32::MAX - 99);
        let mut begins = Vec::new();
        for (i, part) in client.chunks(size).enumerate() {
            let seq = (u32::MAX - 9).wrapping_add((i * size) as u32);
            let mut whole = false;
            while let Taken::Request(at) = f.request(seq, part, part.len() as u32, whole, &watches()) {
                begins.push(i * size + at as usize);
                whole = true;
            }
        }
        for (i, part) in instance.chunks(size).enumerate() {
            let seq = (u32::MAX - 99).wrapping_add((i * size) as u32);
            let _ = f.answer(seq, part, part.len() as u32);
        }
        seen.push((begins, f.lost(), f.opaque(), f.idle()));
    }
    assert!(seen.windows(2).all(|w| w[0] == w[1]), "{seen:?}");
}

/// A ClientHello.
pub fn hello(data: &[u8]) {
    let Some((cut, data)) = cut(data) else { return };
    let (mut whole, mut parts) = (Hello::default(), Hello::default());
    let said = whole.run(data);
    let first = parts.run(&data[..cut]);
    assert_eq!((parts.run(data), parts), (said, whole));
    assert!(first == scan::MORE || first == said);
    inside(&[whole.name, whole.protocol], data.len());
}

/// A PROXY protocol header.
pub fn proxy2(data: &[u8]) {
    let Some((cut, data)) = cut(data) else { return };
    let wanted = [1, 2, 5, 0xe0];
    let (mut whole, mut parts) = (proxy2::Header::default(), proxy2::Header::default());
    let said = whole.run(data, &wanted);
    let first = parts.run(&data[..cut], &wanted);
    assert_eq!((parts.run(data, &wanted), parts), (said, whole));
    assert!(first == scan::MORE || first == said);
    if said == scan::END {
        assert!(whole.len as usize <= data.len());
        inside(&whole.tlvs, whole.len as usize);
    }
}

/// A TCP header's options.
pub fn tcp_options(data: &[u8]) {
    let len = data.len().min(OPTIONS_MAX as usize);
    let o = Options::read(data, len as u32);
    inside(&[Span { at: o.time_at.into(), len: if o.time_at == 0 { 0 } else { 8 } }], len);
    inside(&[Span { at: o.sack_at.into(), len: u16::from(o.sack_blocks) * 8 }], len);
    assert!(o.scale <= 15 && o.sack_blocks <= 4 && o.mss != 0);
}

/// A TCP header's options and the tag among them: what is taken for good is what this fleet says.
pub fn tag(data: &[u8]) {
    let Some((number, data)) = data.split_first() else { return };
    let (key, number) = (HashKey { k0: 1, k1: 2 }, u32::from(*number));
    let check = |lane: u16| if lane < 8 { u32::from(lane) } else { 0 };
    let Some(at) = tag::find(data, data.len().min(OPTIONS_MAX as usize) as u32) else { return };
    let (said, tag) = tag::decode(key, data, at, number, check);
    match said {
        Said::Good => {
            assert!(tag.lane < 8, "a lane that is not known: {tag:?}");
            let bytes = tag::encode(key, &tag, check(tag.lane), number).bytes();
            assert_eq!(data[at as usize..][..tag::LEN], bytes);
        }
        _ => assert_eq!((said == Said::Other, tag), (false, tag::Tag::default())),
    }
}
