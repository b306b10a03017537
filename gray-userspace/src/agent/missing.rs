//! What a request was that names none of the claims of its service, in words that may be kept: method, path and the names of
//! headers. The query and all values stay here. Pure.

use gray_common::{
    request::{
        preface,
        scan::{BAD, END},
        tls::Hello,
    },
    wire::{self, SAID},
};

use super::{
    names::{Names, socket_addr},
    quota::Quota,
    time,
};
use crate::api::types::MissingEvent;

/// Characters of a path, and header names, that are kept.
const PATH: usize = 128;
const HEADERS: usize = 32;

/// A record of the ring as its event, and what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub event: wire::Event,
    pub read: u8,
    pub bytes: Vec<u8>,
}

pub fn event(said: &Said, names: &Names, to_unix: u64) -> MissingEvent {
    let e = &said.event;
    let what = what(said);
    let http = what != "tls" && what != "http2" && what != "other" && what != "proxy";
    MissingEvent {
        at: time::rfc3339_micros(e.at_ns.wrapping_add(to_unix)),
        service: names.service(u32::from(e.service)).into_owned(),
        client: socket_addr(e.client, e.client_port).to_string(),
        missing: what.into(),
        request: if http { request(&said.bytes) } else { None },
        headers: if http { headers(&said.bytes) } else { Vec::new() },
        server_name: if what == "tls" { server_name(&said.bytes) } else { None },
    }
}

/// What it is, and what was wrong with it.
fn what(said: &Said) -> &'static str {
    match preface::kind(said.bytes.as_slice(), 0) {
        preface::TLS => "tls",
        preface::HTTP2 => "http2",
        preface::PROXY2 => "proxy",
        preface::OTHER => "other",
        _ if u32::from(said.read) == END => "http",
        _ if u32::from(said.read) == BAD => "bad-head",
        // Over what a client may send before it is answered, or its rest did not come in time.
        _ => "part-of-a-head",
    }
}

/// `GET /path`: up to the query. `None`: there is no such line.
fn request(bytes: &[u8]) -> Option<String> {
    let line = lines(bytes).find(|l| !l.is_empty())?;
    let mut words = line.splitn(3, |b| *b == b' ');
    let (method, target) = (words.next()?, words.next()?);
    if method.is_empty() || !method.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    let path = target.split(|b| b"?#".contains(b)).next().unwrap_or_default();
    // A target may be a whole URL, with a name and a password in it.
    let path = match path.iter().rposition(|b| *b == b'@') {
        Some(at) if !path.starts_with(b"/") => &path[at + 1..],
        _ => path,
    };
    let hidden = if target.len() > path.len() && target.contains(&b'?') { "?..." } else { "" };
    Some(format!("{} {}{hidden}", clean(method, 16), clean(path, PATH)))
}

/// The names of the headers that can be seen; a name that is cut off is left out.
fn headers(bytes: &[u8]) -> Vec<String> {
    let rest = lines(bytes).skip_while(|l| l.is_empty()).skip(1);
    let names = rest.take_while(|l| !l.is_empty()).filter_map(|l| {
        let name = l.split(|b| *b == b':').next()?;
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        (name.len() < l.len() && !name.is_empty() && name.iter().all(token)).then(|| clean(name, 64))
    });
    names.take(HEADERS).collect()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l))
}

fn server_name(bytes: &[u8]) -> Option<String> {
    let mut hello = Hello::default();
    let _ = hello.run(bytes);
    let (at, len) = (usize::from(hello.name.at), usize::from(hello.name.len));
    (len > 0).then(|| bytes.get(at..at + len).map(|name| clean(name, 255)))?
}

fn clean(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown: String = text.chars().take(most).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().count() > most { shown + "..." } else { shown }
}

/// Says it in the agent's log, if there is room.
pub fn log(e: &MissingEvent, quota: &mut Quota) {
    quota.settle();
    if !quota.admits(&e.service) {
        return;
    }
    tracing::info!(
        service = e.service,
        client = e.client,
        missing = e.missing,
        request = e.request,
        headers = e.headers.join(" "),
        server_name = e.server_name,
        "a request without any of the claims of its service"
    );
}

/// The longer record; `None`: it is none.
pub fn parse(record: &[u8], event: wire::Event) -> Option<Said> {
    let at = std::mem::offset_of!(wire::Missing, held);
    let (tail, said) = record.get(at..)?.split_at_checked(std::mem::offset_of!(wire::Missing, said) - at)?;
    let (_held, rest) = tail.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_ne_bytes(*len));
    let bytes = said.get(..SAID)?.get(..len)?.to_vec();
    Some(Said { event, read: *rest.first()?, bytes })
}

#[cfg(test)]
mod tests {
    use gray_common::request::scan::MORE;

    use super::*;
    use crate::agent::testing;

    const DOCUMENT: &str = "services:
  shop: { listen: ['198.18.1.100:80'], instances: [{ address: '198.18.2.3:8080', version: '2.0' }], stable: { version: '2.0' } }
";

    fn shown(bytes: &[u8], read: u32) -> MissingEvent {
        let (policy, compiled) = testing::compiled(DOCUMENT);
        let names = Names::new(&policy, &compiled.assigned);
        let service = compiled.assigned.services.get("shop").unwrap() as u16;
        let client = wire::Addr::v4(u32::from_ne_bytes([198, 18, 1, 3]));
        let event = wire::Event { service, client, client_port: 4000u16.to_be(), ..wire::Event::default() };
        super::event(&Said { event, read: read as u8, bytes: bytes.to_vec() }, &names, 0)
    }

    /// The query, every value, a password in a URL: nothing of them is in what is kept.
    #[test]
    fn a2_what_is_shown_has_no_secret() {
        let head = b"GET /cart/7?token=SECRET HTTP/1.1\r\nHost: SECRET\r\nX-Appid: SECRET\r\nCookie: a=SECRET\r\n\r\nSECRET: 1\r\n";
        let e = shown(head, END);
        assert_eq!(
            (e.service.as_str(), e.client.as_str(), e.missing.as_str()),
            ("shop", "198.18.1.3:4000", "http")
        );
        assert_eq!(e.request.as_deref(), Some("GET /cart/7?..."));
        assert_eq!(e.headers, ["Host", "X-Appid", "Cookie"]);
        assert!(!serde_json::to_string(&e).unwrap().contains("SECRET"), "{e:?}");
        let url = shown(b"GET http://me:SECRET@shop/a?b HTTP/1.1\r\n\r\n", END);
        assert_eq!(url.request.as_deref(), Some("GET shop/a?..."));
        // Cut in the middle of a header: its name is not there, and nothing of its value.
        let cut = shown(b"GET / HTTP/1.1\r\nHost: x\r\nSECR", MORE);
        assert_eq!((cut.missing.as_str(), cut.headers.len()), ("part-of-a-head", 1));
    }

    #[test]
    fn a2_what_cannot_be_read_is_named() {
        for (bytes, read, want) in [
            (&b"\x16\x03\x01"[..], BAD, "tls"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD, "http2"),
            (b"\r\n\r\n\0\r\nQUIT\n", BAD, "proxy"),
            (b"\0\0\0\x08", BAD, "other"),
            (b"GET /\x1b[31m HTTP/1.1\r\n", BAD, "bad-head"),
            (b"GET / HTTP/1.1\r\nHo", MORE, "part-of-a-head"),
        ] {
            let e = shown(bytes, read);
            assert_eq!(e.missing, want, "{bytes:?}");
            assert!(!format!("{e:?}").contains('\x1b'));
        }
    }

    #[test]
    fn a2_no_record_is_too_short_or_too_odd() {
        let e = wire::Event::default();
        for n in 0..700 {
            for fill in [0, 0xff] {
                let said = parse(&vec![fill; n], e);
                assert_eq!(
                    said.is_some(),
                    n >= size_of::<wire::Missing>() && fill == 0,
                    "{n} bytes of {fill}"
                );
            }
        }
    }
}
