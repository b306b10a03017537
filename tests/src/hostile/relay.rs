//! The detour: a thread that takes frames from the TAP devices, corrupts or delays them, and sends them on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::tap::{Tap, sender};
use super::wire::{EGRESS, INGRESS, RETURNED, draw};
use super::{Harm, HostileSpec};
use crate::netns::Netns;

/// Larger than any frame.
const FRAME: usize = 70_000;

/// One direction's counts.
#[derive(Debug, Default)]
struct Counters {
    corrupted: AtomicU64,
    reordered: AtomicU64,
    failed: AtomicU64,
}

/// The same, read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    pub corrupted: u64,
    pub reordered: u64,
    pub failed: u64,
}

/// The running thread; a drop sends what is held, and ends it.
pub(super) struct Relay {
    /// Of ingress and egress.
    pub taps: [Arc<Tap>; 2],
    counters: [Arc<Counters>; 2],
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    pub fn start(ns: &Arc<Netns>, ifname: &str, ifindex: u32, spec: &HostileSpec) -> Result<Self> {
        let tap =
            |way: &str| Ok::<_, anyhow::Error>(Arc::new(Tap::create(ns, &format!("lab{ifindex}{way}"))?));
        let taps = [tap("in")?, tap("out")?];
        let counters = [Arc::default(), Arc::default()];
        let out =
            sender(ns, ifindex, RETURNED).with_context(|| format!("open a packet socket on {ifname}"))?;
        let (stopped, stop) = std::io::pipe().context("make a pipe")?;
        let lane = |index: u32, harm: Harm, out: File| Lane {
            tap: Arc::clone(&taps[index as usize]),
            out,
            counters: Arc::clone(&counters[index as usize]),
            seed: !spec.seed.wrapping_add(u64::from(index) << 32),
            harm,
            hold: spec.hold,
            drawn: 0,
            held: VecDeque::new(),
        };
        // What is written to the TAP device of ingress, the program there moves to the interface.
        let back = taps[0].file.try_clone().context("share the TAP device")?;
        let mut lanes = [lane(INGRESS, spec.ingress, back), lane(EGRESS, spec.egress, out)];
        let thread = std::thread::Builder::new()
            .name("hostile relay".into())
            .spawn(move || run(&mut lanes, &stopped))
            .context("start the relay")?;
        Ok(Self { taps, counters, stop: Some(stop), thread: Some(thread) })
    }

    pub fn tally(&self, index: usize) -> Tally {
        let c = &self.counters[index];
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Tally { corrupted: read(&c.corrupted), reordered: read(&c.reordered), failed: read(&c.failed) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the relay shows as packets that stay away.
            let _ = thread.join();
        }
    }
}

/// One direction of the detour.
struct Lane {
    tap: Arc<Tap>,
    out: File,
    counters: Arc<Counters>,
    seed: u64,
    harm: Harm,
    hold: Duration,
    drawn: u64,
    held: VecDeque<(Instant, Vec<u8>)>,
}

fn run(lanes: &mut [Lane; 2], stopped: &PipeReader) {
    loop {
        let due = lanes.iter().filter_map(|l| l.held.front()).map(|(at, _)| *at).min();
        let fds = [lanes[0].tap.file.as_raw_fd(), lanes[1].tap.file.as_raw_fd(), stopped.as_raw_fd()];
        let ended = wait(fds, due.map(|at| at.saturating_duration_since(Instant::now())));
        let now = Instant::now();
        for lane in lanes.iter_mut() {
            lane.take(now);
            // At the end nothing is held any more: nothing is lost that was to be late.
            lane.release(if ended { None } else { Some(now) });
        }
        if ended {
            return;
        }
    }
}

/// Waits for frames, the end of the pipe (true), or the time.
fn wait(fds: [RawFd; 3], patience: Option<Duration>) -> bool {
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let time =
        patience.map(|p| libc::timespec { tv_sec: p.as_secs() as i64, tv_nsec: i64::from(p.subsec_nanos()) });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: three live pollfd, a live timespec or none, no signal mask. An interrupted call is simply repeated.
    let _ = unsafe { libc::ppoll(polled.as_mut_ptr(), 3, time, std::ptr::null()) };
    polled[2].revents != 0
}

impl Lane {
    /// Decides on every frame that waits in the TAP device.
    fn take(&mut self, now: Instant) {
        let mut buffer = vec![0; FRAME];
        while let Ok(n) = (&self.tap.file).read(&mut buffer) {
            let mut frame = buffer[..n].to_vec();
            let r = draw(self.seed, self.drawn);
            self.drawn += 1;
            let all = u64::from(self.harm.corrupt + self.harm.reorder).max(1);
            if r % all < u64::from(self.harm.corrupt) {
                let done = u64::from(flip(&mut frame, r >> 32));
                let _ = self.counters.corrupted.fetch_add(done, Ordering::Relaxed);
                self.send(&frame);
            } else {
                let _ = self.counters.reordered.fetch_add(1, Ordering::Relaxed);
                self.held.push_back((now + self.hold, frame));
            }
        }
    }

    /// Sends what is due; `None`: everything.
    fn release(&mut self, now: Option<Instant>) {
        while self.held.front().is_some_and(|(at, _)| now.is_none_or(|now| *at <= now)) {
            if let Some((_, frame)) = self.held.pop_front() {
                self.send(&frame);
            }
        }
    }

    fn send(&mut self, frame: &[u8]) {
        if !self.out.write(frame).is_ok_and(|n| n == frame.len()) {
            let _ = self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Turns one bit that the transport's checksum covers and that nothing before the checksum looks at: of the payload, or
/// (an empty TCP segment) of the sequence and acknowledgement numbers. False: there is none.
fn flip(frame: &mut [u8], random: u64) -> bool {
    let Some((start, end)) = covered(frame) else { return false };
    let bit = random as usize % ((end - start) * 8);
    frame[start + bit / 8] ^= 1 << (bit % 8);
    true
}

/// The bytes that may be damaged.
fn covered(frame: &[u8]) -> Option<(usize, usize)> {
    const ETH: usize = 14;
    let (l4, proto, end) = match frame.get(ETH)? >> 4 {
        4 => {
            let total = usize::from(u16::from_be_bytes([*frame.get(ETH + 2)?, *frame.get(ETH + 3)?]));
            (ETH + usize::from(frame[ETH] & 15) * 4, *frame.get(ETH + 9)?, ETH + total)
        }
        6 => {
            let payload = usize::from(u16::from_be_bytes([*frame.get(ETH + 4)?, *frame.get(ETH + 5)?]));
            (ETH + 40, *frame.get(ETH + 6)?, ETH + 40 + payload)
        }
        _ => return None,
    };
    let end = end.min(frame.len());
    let payload = match i32::from(proto) {
        libc::IPPROTO_TCP => l4 + usize::from(*frame.get(l4 + 12)? >> 4) * 4,
        _ => l4 + 8,
    };
    if payload < end {
        Some((payload, end))
    } else if i32::from(proto) == libc::IPPROTO_TCP && l4 + 12 <= end {
        Some((l4 + 4, l4 + 12))
    } else {
        None
    }
}
