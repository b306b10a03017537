//! The crowd's process: all connections in one thread.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd as _;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::answer::{Script, Seen};
use super::poll::Poll;
use super::{CrowdReport, CrowdSpec, Member};
use crate::sys::{self, monotonic_ns};

/// How often is looked for answers that are late.
const TICK_MS: u64 = 20;
/// After a failure: a refused client that spins would only measure how fast it is refused.
const PAUSE_NS: u64 = 10_000_000;
/// Longer than any answer.
const BUFFER: usize = 4096;
/// Faults that are told in words.
const TOLD: usize = 5;

pub fn main() -> Result<()> {
    let mut input = io::stdin().lines();
    let spec = input.next().context("no spec on stdin")??;
    let spec: CrowdSpec = serde_json::from_str(&spec).context("read the spec")?;
    if !spec.cores.is_empty() {
        sys::stay_on(0, &spec.cores).context("stay on the cores")?;
    }
    let mut crowd = Crowd::new(spec)?;
    say("\"ready\"")?;
    if input.next().is_some() {
        crowd.run()?;
        say(&serde_json::to_string(&crowd.report)?)?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Until then, if there is an "until": it dials.
    Rests,
    Dials,
    Asked,
    /// Answered, with nothing to follow but the end.
    Ends,
}

struct Connection {
    stream: Option<TcpStream>,
    state: State,
    member: usize,
    nonce: u64,
    dialled_ns: u64,
    /// When the request was sent; of a connection that rests: until when.
    since_ns: u64,
    bytes: Box<[u8; BUFFER]>,
    filled: usize,
}

struct Crowd {
    spec: CrowdSpec,
    scripts: Vec<Script>,
    connections: Vec<Connection>,
    poll: Poll,
    next_member: usize,
    next_nonce: u64,
    end_ns: u64,
    report: CrowdReport,
}

/// Why a request has no answer.
type Fault = String;

impl Crowd {
    fn new(spec: CrowdSpec) -> Result<Self> {
        let scripts = spec.members.iter().map(|m| Script::new(m, spec.close)).collect();
        let rests = |_| Connection {
            stream: None,
            state: State::Rests,
            member: 0,
            nonce: 0,
            dialled_ns: 0,
            since_ns: 0,
            bytes: Box::new([0; BUFFER]),
            filled: 0,
        };
        let connections = (0..spec.connections).map(rests).collect();
        let report = CrowdReport { time_ms: spec.time_ms, ..CrowdReport::default() };
        let poll = Poll::new().context("epoll")?;
        Ok(Self { spec, scripts, connections, poll, next_member: 0, next_nonce: 1, end_ns: 0, report })
    }

    fn run(&mut self) -> Result<()> {
        let begun = monotonic_ns();
        self.end_ns = begun + self.spec.time_ms * 1_000_000;
        let mut looked = 0;
        loop {
            let now = monotonic_ns();
            if now - looked > TICK_MS * 1_000_000 {
                looked = now;
                self.look(now);
                if now >= self.end_ns && self.connections.iter().all(|c| c.stream.is_none()) {
                    return Ok(());
                }
            }
            for i in self.poll.wait(TICK_MS)? {
                self.advance(i);
            }
        }
    }

    /// Dials for those that have rested, and gives up what is late.
    fn look(&mut self, now: u64) {
        for i in 0..self.connections.len() {
            let c = &self.connections[i];
            match c.state {
                State::Rests if now >= c.since_ns && now < self.end_ns => self.dial(i),
                State::Rests => {}
                _ if now.saturating_sub(c.since_ns) > self.spec.patience_ms * 1_000_000 => {
                    self.fail(i, "no answer in time".into());
                }
                _ => {}
            }
        }
    }

    fn dial(&mut self, i: usize) {
        let member = self.next_member % self.spec.members.len();
        self.next_member += 1;
        let now = monotonic_ns();
        let c = &mut self.connections[i];
        (c.member, c.state, c.dialled_ns, c.since_ns, c.filled) = (member, State::Dials, now, now, 0);
        match open(&self.spec.members[member]) {
            Ok(stream) => {
                let added = self.poll.add(stream.as_fd(), i);
                c.stream = Some(stream);
                if let Err(e) = added {
                    self.fail(i, format!("epoll: {e}"));
                }
            }
            Err(e) => self.fail(i, format!("dial: {e}")),
        }
    }

    /// Something has happened to the connection.
    fn advance(&mut self, i: usize) {
        let done = match self.connections[i].state {
            State::Rests => Ok(()),
            State::Dials => self.ask(i),
            State::Asked => self.read(i),
            State::Ends => self.ended(i),
        };
        if let Err(fault) = done {
            self.fail(i, fault);
        }
    }

    fn ask(&mut self, i: usize) -> Result<(), Fault> {
        let c = &mut self.connections[i];
        let dials = c.state == State::Dials;
        c.nonce = self.next_nonce;
        self.next_nonce += 1;
        (c.state, c.filled, c.since_ns) = (State::Asked, 0, monotonic_ns());
        let request = self.scripts[c.member].request(c.nonce);
        let Some(stream) = &mut c.stream else { return Ok(()) };
        match stream.write(request) {
            Ok(n) if n == request.len() => Ok(()),
            Ok(n) => Err(format!("{n} bytes of a request were taken")),
            // Not connected yet.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && dials => {
                c.state = State::Dials;
                Ok(())
            }
            Err(e) => Err(format!("ask: {e}")),
        }
    }

    fn read(&mut self, i: usize) -> Result<(), Fault> {
        let c = &mut self.connections[i];
        let Some(stream) = &mut c.stream else { return Ok(()) };
        match stream.read(&mut c.bytes[c.filled..]) {
            Ok(0) => return Err(format!("ended after {} bytes of an answer", c.filled)),
            Ok(n) => c.filled += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(format!("read: {e}")),
        }
        match self.scripts[c.member].check(&c.bytes[..c.filled], c.nonce) {
            Seen::Part if c.filled < BUFFER => Ok(()),
            Seen::Part | Seen::Wrong => {
                self.report.corrupted += 1;
                let text = format!("wrong: {}", self.text(i));
                self.tell(text);
                self.close(i, PAUSE_NS);
                Ok(())
            }
            seen => self.answered(i, seen == Seen::Another),
        }
    }

    fn answered(&mut self, i: usize, another: bool) -> Result<(), Fault> {
        let now = monotonic_ns();
        let c = &self.connections[i];
        self.report.answered += 1;
        if now < self.end_ns {
            self.report.in_time += 1;
            self.report.answer.record(now - c.since_ns);
            if self.spec.close {
                self.report.whole.record(now - c.dialled_ns);
            }
        }
        if another {
            self.report.misrouted += 1;
            let text = format!("{} was answered: {}", self.spec.members[c.member].app, self.text(i));
            self.tell(text);
        }
        if self.spec.close {
            self.connections[i].state = State::Ends;
            return self.ended(i);
        }
        if now < self.end_ns {
            return self.ask(i);
        }
        self.close(i, u64::MAX / 2);
        Ok(())
    }

    /// Nothing may follow the answer but the server's end.
    fn ended(&mut self, i: usize) -> Result<(), Fault> {
        let c = &mut self.connections[i];
        let Some(stream) = &mut c.stream else { return Ok(()) };
        match stream.read(&mut c.bytes[..]) {
            Ok(0) => {}
            Ok(_) => {
                self.report.corrupted += 1;
                self.tell("bytes behind the answer".into());
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(format!("the end: {e}")),
        }
        self.close(i, 0);
        if monotonic_ns() < self.end_ns {
            self.dial(i);
        }
        Ok(())
    }

    fn fail(&mut self, i: usize, fault: Fault) {
        self.report.lost += 1;
        let c = &self.connections[i];
        let ms = monotonic_ns().saturating_sub(c.dialled_ns) / 1_000_000;
        let text = format!("{:?}, {ms} ms after it was dialled: {fault}", c.state);
        self.tell(text);
        self.close(i, PAUSE_NS);
    }

    fn close(&mut self, i: usize, rest_ns: u64) {
        let c = &mut self.connections[i];
        c.stream = None;
        (c.state, c.since_ns) = (State::Rests, monotonic_ns() + rest_ns);
    }

    fn text(&self, i: usize) -> String {
        let c = &self.connections[i];
        String::from_utf8_lossy(&c.bytes[..c.filled]).into_owned()
    }

    fn tell(&mut self, fault: String) {
        if self.report.faults.len() < TOLD {
            self.report.faults.push(fault);
        }
    }
}

/// On its way.
fn open(m: &Member) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(m.dial), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    match socket.connect(&m.dial.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(socket.into()),
    }
}
