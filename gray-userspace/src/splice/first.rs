//! A client's first bytes, as a machine: bytes in, in any pieces, until it is known what they say. No clock and no I/O.

use gray_common::{
    decide::{
        Claims,
        claims::{ND_ENV, ND_REGION, ND_VERSION},
    },
    hash::HashKey,
    request::{
        preface, proxy2,
        reading::{self, Read},
        scan::{self, HEAD_MAX, Scan, Span},
        tls::{HELLO_MAX, Hello},
    },
    wire::Reading,
};

use super::{
    http2::{Frames, PREFACE, Step},
    value,
};

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
}

impl First {
    pub fn new(reading: Reading) -> Self {
        let (values, beginnings) = (Vec::new(), Vec::new());
        Self { reading, bytes: Vec::new(), at: 0, phase: Phase::Begins, values, beginnings }
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
        asks && !self.values.iter().any(|(kind, _)| named(kind))
    }

    /// What was read, as claims.
    pub fn claims(&self, key: HashKey, to: &mut Claims) {
        self.read().claims(key, to);
    }

    /// Claim kinds and what the client says of each.
    pub fn values(&self) -> &[(u8, Vec<u8>)] {
        &self.values
    }

    fn read(&self) -> Read<'_> {
        Read {
            values: self.values.iter().map(|(kind, value)| (*kind, &value[..])).collect(),
            beginnings: self.beginnings.iter().map(|(i, kind, text)| (*i, *kind, &text[..])).collect(),
            whole: matches!(self.phase, Phase::Over(Said::Read(_))),
        }
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
            Phase::Proxy(header) => match header.run(rest, &[0; proxy2::TLVS]) {
                scan::MORE => Said::More,
                scan::END => {
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
