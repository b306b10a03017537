//! HTTP/1 message framing (RFC 9112, 6): follows the bytes of both directions of one connection, in order, and says
//! where the next request begins. A body is skipped by its length and never looked at, so it cannot look like a request.
//!
//! Both directions are numbered as the client sees them. A segment that leaves a gap is refused, unless the gap lies in a
//! body whose length is known: its sender sends again. What cannot be followed is `lost`, for good: two ways to frame
//! one body, a coding other than `chunked`, an answer nobody asked for, more than [`WAITING`] requests without an answer,
//! a final answer to `Expect` before the body, a head over the limit or that is none.

pub use super::direction::{Direction, Walk};
use super::{
    Bytes,
    direction::{P_ASKED, P_HEAD, P_REST, WALK_ON, WALK_REQUEST, WALK_WAIT, arrive},
    scan::{self, Scan, Watches},
};
use crate::wire::wire;

/// Requests that may wait for their answers.
pub const WAITING: u32 = 32;

/// What a request's answer looks like, 2 bits each.
const Q_PLAIN: u64 = 0;
const Q_HEAD: u64 = 1;
/// CONNECT, or with Upgrade.
const Q_TUNNEL: u64 = 2;
const Q_EXPECT: u64 = 3;

/// Both directions of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    pub requests: Direction,
    pub answers: Direction,
    /// Kinds of the requests that wait, the oldest lowest.
    queue: u64,
    waiting: u32,
    /// Not 0: another protocol, or not to be followed; all further bytes belong to this instance.
    tunnel: u16,
    lost: u16,
}

wire!(Frames, size 176, {
    requests @ 0: Direction, answers @ 80: Direction, queue @ 160: u64, waiting @ 168: u32, tunnel @ 172: u16, lost @ 174: u16,
});

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All of it was taken, or was there before, or does not matter.
    All,
    /// A request begins at this offset, and was not taken; all before it was.
    Request(u32),
    /// A request for another protocol has no answer yet: what follows from this offset on is neither.
    Wait(u32),
    /// Bytes before it are missing that have to be read.
    Gap,
}

impl Frames {
    /// A connection whose first request will begin at `request` and whose first answer at `answer`.
    pub fn begin(request: u32, answer: u32) -> Self {
        Self {
            requests: Direction::begin(Scan::request(), request),
            answers: Direction::begin(Scan::response(), answer),
            queue: 0,
            waiting: 0,
            tunnel: 0,
            lost: 0,
        }
    }

    /// Not to be followed any more: where the next request begins is unknown.
    pub fn lost(&self) -> bool {
        self.lost != 0
    }

    /// Whatever comes belongs to the instance that has the connection.
    pub fn opaque(&self) -> bool {
        self.lost != 0 || self.tunnel != 0
    }

    /// Every request is complete, and answered completely: another instance may take the next one.
    pub fn idle(&self) -> bool {
        self.waiting == 0 && self.requests.idle() && self.answers.idle() && !self.opaque()
    }

    pub fn lose(&mut self) {
        self.lost = 1;
    }

    /// The head that begins at number `first`, as a scan of it has read it; `read` is what the scan answered last.
    pub fn head(&mut self, first: u32, scan: &Scan, read: u32) {
        let d = &mut self.requests;
        d.take_head(first, scan);
        match read {
            scan::END => self.requested(),
            scan::BAD => self.lost = 1,
            _ => {}
        }
    }

    /// Bytes of the client, up to where a request begins; with `whole` the one that begins at `requests.next`, too.
    #[inline(always)]
    pub fn request<B: Bytes + ?Sized>(
        &mut self,
        seq: u32,
        bytes: &B,
        len: u32,
        whole: bool,
        w: &Watches,
    ) -> Taken {
        let Some(at) = self.arrived(true, seq, len) else { return Taken::Gap };
        let mut walk = Walk { seq, at, len, whole: whole.into(), stop: WALK_ON };
        let mut i = 0;
        while i <= len && self.request_turn(&mut walk, bytes, w) {
            i += 1;
        }
        match walk.stop {
            WALK_REQUEST => Taken::Request(walk.at),
            WALK_WAIT => Taken::Wait(walk.at),
            _ => Taken::All,
        }
    }

    /// Bytes of the instance.
    #[inline(always)]
    pub fn answer<B: Bytes + ?Sized>(&mut self, seq: u32, bytes: &B, len: u32) -> Taken {
        let Some(at) = self.arrived(false, seq, len) else { return Taken::Gap };
        let mut walk = Walk { seq, at, len, whole: 0, stop: WALK_ON };
        let mut i = 0;
        while i <= len && self.answer_turn(&mut walk, bytes) {
            i += 1;
        }
        Taken::All
    }

    /// Offset of a segment's first byte that counts; `None`: bytes before it are missing.
    #[inline(always)]
    pub fn arrived(&mut self, of_client: bool, seq: u32, len: u32) -> Option<u32> {
        if self.opaque() {
            return Some(len);
        }
        arrive(if of_client { &mut self.requests } else { &mut self.answers }, seq, len)
    }

    /// The body of the loop in [`Frames::request`]; false: the walk is over.
    #[inline(always)]
    pub fn request_turn<B: Bytes + ?Sized>(&mut self, k: &mut Walk, bytes: &B, w: &Watches) -> bool {
        if !self.request_skip(k) {
            return false;
        }
        let r = self.requests.read(k, bytes, w, Scan::request());
        if r == scan::END {
            self.requested();
        } else if r == scan::BAD {
            self.lost = 1;
        }
        true
    }

    /// The same where heads are read elsewhere: see [`Frames::head`].
    #[inline(always)]
    pub fn request_chunk<B: Bytes + ?Sized>(&mut self, k: &mut Walk, bytes: &B) -> bool {
        let good = self.requests.phase != P_HEAD && self.requests.read_chunk(k, bytes);
        self.lost |= u16::from(!good);
        good
    }

    /// Goes over what need not be read; true: byte `k.at` has to be.
    #[inline(always)]
    pub fn request_skip(&mut self, k: &mut Walk) -> bool {
        if self.opaque() || k.at >= k.len {
            return false;
        }
        let d = &mut self.requests;
        k.at += d.skip(k.len - k.at);
        d.next = k.seq.wrapping_add(k.at);
        if k.at >= k.len {
            return false;
        }
        if d.phase == P_ASKED {
            k.stop = WALK_WAIT;
            return false;
        }
        if d.idle() {
            if k.whole == 0 {
                k.stop = WALK_REQUEST;
                return false;
            }
            k.whole = 0;
        }
        true
    }

    /// The body of the loop in [`Frames::answer`]; false: the walk is over.
    #[inline(always)]
    pub fn answer_turn<B: Bytes + ?Sized>(&mut self, k: &mut Walk, bytes: &B) -> bool {
        self.answer_skip(k) && self.answer_read(k, bytes)
    }

    /// As [`Frames::request_skip`].
    #[inline(always)]
    pub fn answer_skip(&mut self, k: &mut Walk) -> bool {
        if self.opaque() || k.at >= k.len {
            return false;
        }
        let d = &mut self.answers;
        k.at += d.skip(k.len - k.at);
        d.next = k.seq.wrapping_add(k.at);
        k.at < k.len
    }

    /// Reads at byte `k.at`.
    #[inline(always)]
    pub fn answer_read<B: Bytes + ?Sized>(&mut self, k: &mut Walk, bytes: &B) -> bool {
        let d = &mut self.answers;
        let none = Watches { names: [0; super::watch::WATCHES] };
        let r = d.read(k, bytes, &none, Scan::response());
        if r == scan::END {
            self.answered();
        } else if r == scan::BAD {
            self.lost = 1;
        }
        true
    }

    /// A request's head is complete.
    #[inline(always)]
    fn requested(&mut self) {
        let d = &mut self.requests;
        let kind = if d.scan.has(scan::CONNECT | scan::UPGRADE) {
            Q_TUNNEL
        } else if d.scan.has(scan::HEAD) {
            Q_HEAD
        } else if d.scan.has(scan::EXPECT) {
            Q_EXPECT
        } else {
            Q_PLAIN
        };
        if self.waiting >= WAITING || !d.body() {
            self.lost = 1;
            return;
        }
        self.queue |= kind << ((2 * self.waiting) & 63);
        self.waiting += 1;
        if kind == Q_TUNNEL {
            // A body before the other protocol: nobody does that.
            self.lost |= u16::from(d.phase != P_HEAD);
            d.phase = P_ASKED;
        }
    }

    /// An answer's head is complete (RFC 9112, 6.3).
    #[inline(always)]
    fn answered(&mut self) {
        let d = &mut self.answers;
        let status = d.scan.status;
        let kind = self.queue & 3;
        if self.waiting == 0 {
            self.lost = 1;
            return;
        }
        if status < 200 && status != 101 {
            // Another one follows.
            d.over();
            return;
        }
        let tunnel = if self.requests.scan.has(scan::CONNECT) { status < 300 } else { status == 101 };
        if kind == Q_TUNNEL && tunnel {
            self.tunnel = 1;
            return;
        }
        // The client may have been told to keep its body.
        let early = kind == Q_EXPECT && self.waiting == 1 && !self.requests.idle();
        if status == 101 || early {
            self.lost = 1;
            return;
        }
        self.queue >>= 2;
        self.waiting -= 1;
        if kind == Q_TUNNEL {
            self.requests.over();
        }
        let headless = kind == Q_HEAD || kind == Q_TUNNEL && self.requests.scan.has(scan::HEAD);
        if headless || status == 204 || status == 304 {
            d.over();
        } else if !d.body() {
            self.lost = 1;
        } else if d.phase == P_HEAD && !d.scan.has(scan::LENGTH) {
            d.phase = P_REST;
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
