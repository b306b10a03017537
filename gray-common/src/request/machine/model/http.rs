//! What is said: requests with the application's number, and answers with the request's and the instance's.

use super::Dice;

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub request: Vec<u8>,
    /// Of the instance that must get it, from 1 on.
    pub instance: u32,
    pub answer: Vec<u8>,
}

/// All of one client.
#[derive(Clone, Debug)]
pub struct Plan {
    pub all: Vec<Exchange>,
    /// Requests are said before earlier ones are answered.
    pub pipelined: bool,
}

impl Plan {
    /// So many requests, of `apps` identities.
    pub fn new(dice: &mut Dice, requests: u64, apps: u64, pipelined: bool) -> Self {
        let all = (0..requests).map(|n| {
            let app = 1 + dice.below(apps);
            exchange(dice, n, app)
        });
        let all = all.collect();
        Self { all, pipelined }
    }
}

fn exchange(dice: &mut Dice, n: u64, app: u64) -> Exchange {
    let pad = if dice.percent(25) { dice.below(2600) } else { dice.below(60) };
    let mut request =
        format!("POST /{n} HTTP/1.1\r\nX-Pad: {}\r\nX-App-Id: {app}\r\n", "p".repeat(pad as usize))
            .into_bytes();
    let size = if dice.percent(30) { 6000 } else { 90 };
    // A body full of requests.
    let body = body(dice, size, b"GET / HTTP/1.1\r\nX-App-Id: 9\r\n\r\n");
    framed(&mut request, &body, dice.percent(40));
    let mut answer = Vec::new();
    if dice.percent(20) {
        answer.extend(b"HTTP/1.1 103 x\r\n\r\n");
    }
    answer.extend(format!("HTTP/1.1 200 {n}/{app}\r\n").bytes());
    let size = if dice.percent(30) { 9000 } else { 50 };
    let body = self::body(dice, size, b"HTTP/1.1 200 OK\r\n\r\n");
    framed(&mut answer, &body, dice.percent(40));
    Exchange { request, instance: app as u32, answer }
}

fn body(dice: &mut Dice, max: u64, of: &[u8]) -> Vec<u8> {
    let n = dice.below(max) as usize;
    let at = dice.below(of.len() as u64) as usize;
    of.iter().copied().cycle().skip(at).take(n).collect()
}

fn framed(out: &mut Vec<u8>, body: &[u8], chunks: bool) {
    if !chunks {
        out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        out.extend(body);
        return;
    }
    out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    for c in body.chunks(700) {
        out.extend(format!("{:x}\r\n", c.len()).bytes());
        out.extend(c);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
}
