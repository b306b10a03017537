//! HTTP/2 with prior knowledge (RFC 9113): a client's frames up to its first field block, and that block as the HTTP/1 head that says the
//! same, for the scan that reads all heads. Of nothing is it known what the server will allow: what counts is what holds before
//! its settings.

use gray_common::request::scan::HEAD_MAX;

use super::{
    Why,
    hpack::{self, fields},
};

/// Bytes of the client's preface, behind which frames begin.
pub const PREFACE: usize = 24;
/// Bytes as far as the end of the first field block.
pub const LONGEST: usize = 32_768;
/// Of a frame (4.2).
const FRAME_MAX: usize = 16_384;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// Settings that change nothing, from a server (6.5).
pub const GREETING: [u8; HEADER] = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];

/// How far it came.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    More,
    /// More; and the client may be waiting for the server's settings.
    Waits,
    /// The head of the first request.
    Head(Vec<u8>),
    Unread(Why),
}

/// The frames of one connection.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Where the next one begins.
    at: usize,
    settings: bool,
    /// The first request's fields so far, and its stream; 0: there is none yet.
    block: Vec<u8>,
    stream: u32,
}

struct Frame {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    fn read(b: &[u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, s, t, u, v] = *b;
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Self { len, kind, flags, stream: u32::from_be_bytes([s & 0x7f, t, u, v]) }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self { at: PREFACE, settings: false, block: Vec::new(), stream: 0 }
    }
}

impl Frames {
    /// Takes what there is; `b` begins with the preface.
    pub fn run(&mut self, b: &[u8]) -> Step {
        loop {
            let Some(header) = b.get(self.at..).and_then(|rest| rest.first_chunk::<HEADER>()) else {
                let waits = self.settings && self.stream == 0 && self.at == b.len();
                return if waits { Step::Waits } else { Step::More };
            };
            let frame = Frame::read(header);
            let (from, to) = (self.at + HEADER, self.at + HEADER + frame.len);
            if !self.fits(&frame) {
                return Step::Unread(Why::Bad);
            }
            if to > LONGEST {
                return Step::Unread(Why::TooLong);
            }
            let Some(payload) = b.get(from..to) else { return Step::More };
            self.at = to;
            match self.take(&frame, payload) {
                Ok(false) => {}
                Ok(true) => return head(&self.block).map_or_else(Step::Unread, Step::Head),
                Err(why) => return Step::Unread(why),
            }
        }
    }

    /// Whether a client may send this now.
    fn fits(&self, f: &Frame) -> bool {
        if f.len > FRAME_MAX {
            return false;
        }
        if self.stream != 0 {
            return f.kind == CONTINUATION && f.stream == self.stream;
        }
        match f.kind {
            SETTINGS => {
                let ack = f.has(ACK);
                f.stream == 0 && f.len.is_multiple_of(6) && (self.settings || !ack) && !(ack && f.len != 0)
            }
            _ if !self.settings => false,
            HEADERS => f.stream & 1 != 0,
            DATA | RST_STREAM | PUSH_PROMISE | GOAWAY | CONTINUATION => false,
            // Windows, pings, priorities, and whatever nobody knows.
            _ => true,
        }
    }

    /// True: the block is whole.
    fn take(&mut self, f: &Frame, payload: &[u8]) -> Result<bool, Why> {
        match f.kind {
            SETTINGS => self.settings = true,
            HEADERS => {
                self.stream = f.stream;
                self.block.extend_from_slice(fragment(f, payload).ok_or(Why::Bad)?);
            }
            CONTINUATION => self.block.extend_from_slice(payload),
            _ => return Ok(false),
        }
        Ok(self.stream != 0 && f.has(END_HEADERS))
    }
}

/// A HEADERS frame's part of the block (6.2).
fn fragment<'a>(f: &Frame, mut payload: &'a [u8]) -> Option<&'a [u8]> {
    let mut padding = 0;
    if f.has(PADDED) {
        let (first, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*first), rest);
    }
    if f.has(PRIORITY) {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

impl From<hpack::Bad> for Why {
    fn from(_: hpack::Bad) -> Self {
        Self::Bad
    }
}

/// A request's pseudo-header fields (8.3.1).
#[derive(Default)]
struct Target {
    method: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    protocol: Option<Vec<u8>>,
}

impl Target {
    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Why> {
        let field = match name {
            b":method" => &mut self.method,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            b":scheme" => &mut self.scheme,
            b":protocol" => &mut self.protocol,
            _ => return Err(Why::Bad),
        };
        if field.replace(value.to_vec()).is_some() { Err(Why::Bad) } else { Ok(()) }
    }
}

/// A field block as an HTTP/1 head.
fn head(block: &[u8]) -> Result<Vec<u8>, Why> {
    let (mut target, mut lines) = (Target::default(), Vec::new());
    let mut left = HEAD_MAX as usize;
    fields(block, |name, value| {
        left = left.checked_sub(name.len() + value.len() + 4).ok_or(Why::TooLong)?;
        if value.iter().any(|c| b"\r\n\0".contains(c)) {
            return Err(Why::Bad);
        }
        if name.starts_with(b":") {
            return if lines.is_empty() { target.set(name, value) } else { Err(Why::Bad) };
        }
        if name.is_empty() || name.iter().any(|c| c.is_ascii_uppercase() || *c == b':') {
            return Err(Why::Bad);
        }
        lines.extend([name, b": ", value, b"\r\n"].concat());
        Ok(())
    })?;
    let Target { method: Some(method), path, authority, .. } = target else { return Err(Why::Bad) };
    // CONNECT has none.
    let path = path.or_else(|| authority.clone()).filter(|p| !p.contains(&b' ')).ok_or(Why::Bad)?;
    let mut out = [&method[..], b" ", &path[..], b" HTTP/1.1\r\n"].concat();
    if let Some(authority) = authority {
        out.extend([b"host: ", &authority[..], b"\r\n"].concat());
    }
    out.extend(lines);
    out.extend(b"\r\n");
    Ok(out)
}

/// Takes the acknowledgement of [`GREETING`] out of what the client says: the instance has not sent what it acknowledges. The first
/// one it is, as they come in order (6.5.3).
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// Bytes that are no matter: before the first frame, or of the one that began.
    skip: usize,
    header: Vec<u8>,
    done: bool,
}

impl Acknowledged {
    /// Frames begin behind the first `skip` bytes.
    pub fn behind(skip: usize) -> Self {
        Self { skip, header: Vec::with_capacity(HEADER), done: false }
    }

    /// It was taken out: everything goes on as it comes.
    pub fn done(&self) -> bool {
        self.done
    }

    /// What the client said, without it. Up to eight bytes are kept until more come.
    pub fn pass(&mut self, mut said: &[u8], out: &mut Vec<u8>) {
        while !said.is_empty() {
            if self.done {
                out.extend_from_slice(said);
                return;
            }
            if self.skip != 0 {
                let (through, rest) = said.split_at(self.skip.min(said.len()));
                out.extend_from_slice(through);
                (self.skip, said) = (self.skip - through.len(), rest);
                continue;
            }
            let (begins, rest) = said.split_at((HEADER - self.header.len()).min(said.len()));
            self.header.extend_from_slice(begins);
            said = rest;
            let Some(header) = self.header.first_chunk::<HEADER>() else { return };
            let f = Frame::read(header);
            self.done = f.kind == SETTINGS && f.has(ACK) && f.len == 0;
            self.skip = f.len;
            if !self.done {
                out.extend_from_slice(&self.header);
            }
            self.header.clear();
        }
    }

    /// What is left when the client has said everything.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.header)
    }
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
