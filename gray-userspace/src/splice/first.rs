//! A client's first bytes, as a machine: bytes in, in any pieces, until it is known what they say. No clock and no I/O.

use std::net::IpAddr;

use gray_common::{
    decide::{
        Claims,
        claims::{ND_ENV, ND_MORE, ND_REGION, ND_VERSION},
    },
    hash::{CLAIM_MAX, HashKey},
    request::{
        preface, proxy2,
        reading::{self, Read},
        scan::{self, HEAD_MAX, Scan, Span},
        tls::{HELLO_MAX, Hello},
        watch::{MORE_AT, MORE_HEADERS, Watches},
    },
    wire::{Addr, Further, Reading},
};

use super::{
    http2::{Frames, PREFACE, Step},
    value,
};
use crate::asks::Asks;

/// What is read of a client before it is decided on, at most, and a read more. The longest is HTTP/2 behind a PROXY header.
pub const LONGEST: usize = proxy2::HEADER_MAX as usize + super::http2::LONGEST;

/// What was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    Tls,
}

/// Why it was not. What was read until then counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client said nothing.
    Silent,
    /// ... or not all of it in time.
    Slow,
    /// The client has said everything, and it was no head.
    Ended,
    TooLong,
    /// No head, hello or field block that everybody would read in the same way.
    Bad,
}

impl Why {
    pub const ALL: [Self; 5] = [Self::Silent, Self::Slow, Self::Ended, Self::TooLong, Self::Bad];

    /// As counters name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Ended => "ended",
            Self::TooLong => "too_long",
            Self::Bad => "bad",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    More,
    /// More; and a client of HTTP/2 may wait for a word of the server, which is `http2::GREETING`.
    Waits,
    Read(Protocol),
    Unread(Why),
}

#[derive(Debug)]
enum Phase {
    /// What it is.
    Begins,
    Proxy(proxy2::Header),
    Http1(Scan),
    Http2(Frames),
    Tls(Hello),
    Over(Said),
}

/// The first bytes of one connection to a service.
#[derive(Debug)]
pub struct First {
    reading: Reading,
    bytes: Vec<u8>,
    /// Behind a PROXY header.
    at: usize,
    phase: Phase,
    /// Claim kinds and what they are, and beginnings as the reading numbers them.
    values: Vec<(u8, Vec<u8>)>,
    beginnings: Vec<(u8, u8, Vec<u8>)>,
    /// Weights, addresses, blacklists: the place in `watch::MORE_HEADERS`, and what it says.
    more: Vec<(usize, Vec<u8>)>,
    /// What the service asks beyond its reading, and whether this client's PROXY header is believed.
    further: Further,
    believed: bool,
    proxied: Option<Proxied>,
}

/// Of a PROXY header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Proxied {
    source: Option<IpAddr>,
    values: Vec<(u8, Vec<u8>)>,
}

impl First {
    pub fn new(reading: Reading) -> Self {
        let (values, beginnings, more) = (Vec::new(), Vec::new(), Vec::new());
        let (further, phase) = (Further::default(), Phase::Begins);
        Self {
            reading,
            bytes: Vec::new(),
            at: 0,
            phase,
            values,
            beginnings,
            more,
            further,
            believed: false,
            proxied: None,
        }
    }

    /// Of a service that asks for more than that, and a client whose packets come from `from`.
    pub fn of(reading: Reading, further: Further, from: IpAddr) -> Self {
        let from = Addr::from(from.to_canonical());
        let believed = further.proxies.iter().any(|p| p.has(&from));
        Self { further, believed, ..Self::new(reading) }
    }

    /// The client's source, if a PROXY header says it that is believed.
    pub fn source(&self) -> Option<IpAddr> {
        self.told()?.source
    }

    /// What a PROXY header says that is believed.
    fn told(&self) -> Option<&Proxied> {
        self.proxied.as_ref().filter(|_| self.believed)
    }

    /// There is a PROXY header, and the service believes some, but not this one.
    pub fn is_disbelieved(&self) -> bool {
        self.proxied.is_some() && !self.believed && self.further.proxies != Further::default().proxies
    }

    /// What of `n-d-*` headers programs leave to others.
    pub fn asks(&self) -> Asks {
        let more = self.more.iter().map(|(i, value)| (*i, &value[..]));
        Asks::read(self.further.more, more).beside(self.values.iter().map(|(kind, v)| (*kind, &v[..])))
    }

    /// What it is read by.
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Takes more of what the client says.
    pub fn feed(&mut self, more: &[u8]) -> Said {
        self.bytes.extend_from_slice(more);
        loop {
            if let Some(said) = self.turn() {
                return said;
            }
        }
    }

    /// No more will come, or it is not waited for.
    pub fn stop(&mut self, why: Why) -> Said {
        if let Phase::Over(said) = self.phase { said } else { self.over(Said::Unread(why)) }
    }

    /// Everything that the client said so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where HTTP/2's frames begin, of a client that [`Said::Waits`].
    pub fn frames_at(&self) -> usize {
        self.at + PREFACE
    }

    /// Whether nothing was read that makes a client known, where something is looked for.
    pub fn names_nobody(&self) -> bool {
        let named = |kind: &u8| {
            let mut kinds = self.reading.kinds.iter().enumerate();
            kinds.any(|(i, k)| k == kind && self.reading.named >> i & 1 != 0)
                || [self.reading.sni, self.reading.alpn].contains(kind)
        };
        let asks = self.reading.named != 0 || self.reading.sni | self.reading.alpn != 0;
        asks && !self.values().iter().any(|(kind, _)| named(kind))
    }

    /// What was read, as claims.
    pub fn claims(&self, key: HashKey, to: &mut Claims) {
        self.read().claims(key, to);
    }

    /// Claim kinds and what the client says of each, or its load balancer, which goes before it.
    pub fn values(&self) -> Vec<(u8, &[u8])> {
        let told = self.told().into_iter().flat_map(|p| &p.values);
        let told: Vec<(u8, &[u8])> = told.map(|(kind, value)| (*kind, &value[..])).collect();
        let own = self.values.iter().filter(|(kind, _)| told.iter().all(|(k, _)| k != kind));
        let own: Vec<(u8, &[u8])> = own.map(|(kind, value)| (*kind, &value[..])).collect();
        [told, own].concat()
    }

    fn read(&self) -> Read<'_> {
        let values = self.values();
        let of = |i: usize| {
            let slot = usize::from(self.reading.beginning_of[i]).checked_sub(1)?;
            let kind = *self.reading.kinds.get(slot)?;
            let (_, value) = self.told()?.values.iter().find(|(k, _)| *k == kind)?;
            let value = &value[..value.len().min(CLAIM_MAX)];
            Some((i as u8, kind, value.get(..usize::from(self.reading.beginning_len[i]))?))
        };
        let mut beginnings: Vec<(u8, u8, &[u8])> =
            (0..self.reading.beginning_of.len()).filter_map(of).collect();
        let own = self.beginnings.iter().filter(|(i, ..)| beginnings.iter().all(|(k, ..)| k != i));
        let own: Vec<(u8, u8, &[u8])> = own.map(|(i, kind, text)| (*i, *kind, &text[..])).collect();
        beginnings.extend(own);
        Read { values, beginnings, whole: matches!(self.phase, Phase::Over(Said::Read(_))) }
    }

    /// One phase further; `None`: there is another one.
    fn turn(&mut self) -> Option<Said> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bad = Said::Unread(Why::Bad);
        let too_long = |at, most| if at >= most { Said::Unread(Why::TooLong) } else { bad };
        let said = match &mut self.phase {
            Phase::Over(said) => return Some(*said),
            Phase::Begins => match begin(&self.reading, rest, self.at) {
                Some(phase) => {
                    self.phase = phase;
                    return None;
                }
                None => Said::More,
            },
            Phase::Proxy(header) => match header.run(rest, &self.further.tlvs) {
                scan::MORE => Said::More,
                scan::END => {
                    self.proxied = Some(proxied(header, rest, &self.further.tlv_kinds));
                    self.at = header.len as usize;
                    self.phase = Phase::Begins;
                    return None;
                }
                _ => bad,
            },
            Phase::Http1(scan) => match scan.run(rest, &self.reading.names) {
                scan::MORE => Said::More,
                scan::END => Said::Read(Protocol::Http1),
                _ => too_long(scan.at, HEAD_MAX),
            },
            Phase::Tls(hello) => match hello.run(rest) {
                scan::MORE => Said::More,
                scan::END => Said::Read(Protocol::Tls),
                _ => too_long(hello.at, HELLO_MAX),
            },
            Phase::Http2(frames) => match frames.run(rest) {
                Step::More => Said::More,
                Step::Waits => Said::Waits,
                Step::Unread(why) => Said::Unread(why),
                Step::Head(head) => self.decoded(&head),
            },
        };
        match said {
            Said::More | Said::Waits => Some(said),
            said => Some(self.over(said)),
        }
    }

    /// The first request of HTTP/2, as a head.
    fn decoded(&mut self, head: &[u8]) -> Said {
        let mut scan = Scan::request();
        if scan.run(head, &self.reading.names) != scan::END {
            return Said::Unread(Why::Bad);
        }
        self.take(&scan, head);
        Said::Read(Protocol::Http2)
    }

    fn over(&mut self, said: Said) -> Said {
        match std::mem::replace(&mut self.phase, Phase::Over(said)) {
            Phase::Http1(scan) => {
                let bytes = std::mem::take(&mut self.bytes);
                self.take(&scan, bytes.get(self.at..).unwrap_or_default());
                self.bytes = bytes;
            }
            // Of a hello that contradicts itself nothing counts.
            Phase::Tls(hello) if said != Said::Unread(Why::Bad) => self.take_hello(&hello),
            _ => {}
        }
        said
    }

    /// What a scan found in `head`.
    fn take(&mut self, scan: &Scan, head: &[u8]) {
        let found = reading::found(&self.reading, scan, head);
        for (kind, text) in found.values {
            let said = match kind {
                ND_VERSION | ND_REGION | ND_ENV => value::of(text, self.reading.name),
                _ => Some(text.to_vec()),
            };
            self.values.extend(said.map(|said| (kind, said)));
        }
        self.more = more(&self.reading, scan, head);
        let beginnings = found.beginnings.into_iter();
        self.beginnings = beginnings.map(|(i, kind, text)| (i, kind, text.to_vec())).collect();
    }

    fn take_hello(&mut self, hello: &Hello) {
        let text = |span: Span| {
            let at = self.at + usize::from(span.at);
            self.bytes.get(at..at + usize::from(span.len)).unwrap_or_default().to_vec()
        };
        // Names of servers have no case.
        let name = hello.has_name().then(|| (self.reading.sni, text(hello.name).to_ascii_lowercase()));
        let protocol = hello.has_protocol().then(|| (self.reading.alpn, text(hello.protocol)));
        self.values = [name, protocol].into_iter().flatten().filter(|(kind, _)| *kind != 0).collect();
    }
}

/// The same of a whole head.
pub fn more_of(reading: &Reading, head: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut scan = Scan::request();
    let _ = scan.run(head, &reading.names);
    more(reading, &scan, head)
}

/// What headers say of the service that have one name for programs.
fn more(reading: &Reading, scan: &Scan, head: &[u8]) -> Vec<(usize, Vec<u8>)> {
    if reading.kinds[MORE_AT] != ND_MORE || scan.found & 1 << MORE_AT == 0 {
        return Vec::new();
    }
    let mut names = Watches::default();
    for (slot, name) in names.names.iter_mut().zip(MORE_HEADERS) {
        *slot = Watches::header(name);
    }
    let mut again = Scan::request();
    let _ = again.run(head, &names);
    let value = |i: usize| {
        let span = again.values.get(i).filter(|_| again.found & 1 << i != 0)?;
        let at = usize::from(span.at);
        let text = head.get(at..at + usize::from(span.len))?;
        Some((i, value::of(text, reading.name)?))
    };
    (0..MORE_HEADERS.len()).filter_map(value).collect()
}

/// What a PROXY header at the beginning of `bytes` says.
fn proxied(header: &proxy2::Header, bytes: &[u8], kinds: &[u8; proxy2::TLVS]) -> Proxied {
    let [a, b, c, d] = header.source.map(u128::from);
    let source = match header.family {
        4 => Some(IpAddr::from(header.source[0].to_be_bytes())),
        6 => Some(IpAddr::from((a << 96 | b << 64 | c << 32 | d).to_be_bytes()).to_canonical()),
        _ => None,
    };
    let value = |(i, kind): (usize, &u8)| {
        let span = header.tlvs.get(i).filter(|s| header.found & 1 << i != 0 && s.len != 0)?;
        let at = usize::from(span.at);
        Some((*kind, bytes.get(at..at + usize::from(span.len))?.to_vec()))
    };
    Proxied { source, values: kinds.iter().enumerate().filter(|(_, k)| **k != 0).filter_map(value).collect() }
}

/// What the stream behind `at` bytes of a PROXY header is; `None`: not to be told yet. As programs tell it.
fn begin(reading: &Reading, stream: &[u8], at: usize) -> Option<Phase> {
    match preface::kind(stream, 0) {
        preface::MORE => None,
        preface::PROXY2 if at == 0 => Some(Phase::Proxy(proxy2::Header::default())),
        preface::HTTP2 => Some(Phase::Http2(Frames::default())),
        preface::TLS if reading.sni | reading.alpn != 0 => Some(Phase::Tls(Hello::default())),
        _ => Some(Phase::Http1(Scan::request())),
    }
}

#[cfg(test)]
#[path = "first_tests.rs"]
mod tests;
