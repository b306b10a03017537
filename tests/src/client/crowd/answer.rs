//! One answer of the lab's nginx, as bytes that come bit by bit. Pure.

use super::Member;

/// Digits of a nonce: requests and answers have the same length, always.
pub const NONCE: usize = 12;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The beginning of an answer.
    Part,
    Whole,
    /// The answer of another version to this request.
    Another,
    Wrong,
}

/// What a member asks, and how the answer's body begins and ends.
#[derive(Debug)]
pub struct Script {
    request: Vec<u8>,
    nonce_at: usize,
    who: Vec<u8>,
    end: Vec<u8>,
}

impl Script {
    pub fn new(m: &Member, close: bool) -> Self {
        let begin = b"GET /?nonce=";
        let close = if close { "Connection: close\r\n" } else { "" };
        let rest = format!(" HTTP/1.1\r\nHost: {}\r\nX-App-Id: {}\r\n{close}\r\n", m.dial.ip(), m.app);
        Self {
            request: [&begin[..], &[b'0'; NONCE], rest.as_bytes()].concat(),
            nonce_at: begin.len(),
            who: format!(r#"{{"name":"{}","version":"{}","nonce":""#, m.name, m.version).into(),
            end: format!("\"server\":\"{}\"}}\n", m.server).into(),
        }
    }

    /// The request with this nonce.
    pub fn request(&mut self, nonce: u64) -> &[u8] {
        let digits = &mut self.request[self.nonce_at..][..NONCE];
        write(nonce, digits);
        &self.request
    }

    /// What `bytes` are, in answer to the request with this nonce.
    pub fn check(&self, bytes: &[u8], nonce: u64) -> Seen {
        let Some(head) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else { return Seen::Part };
        let Some(length) = length(&bytes[..head]) else { return Seen::Wrong };
        if !bytes.starts_with(b"HTTP/1.1 200 ") {
            return Seen::Wrong;
        }
        if bytes.len() < head + length {
            return Seen::Part;
        }
        let body = &bytes[head..];
        let mut digits = [0; NONCE];
        write(nonce, &mut digits);
        let asked = find(body, b"\"nonce\":\"").is_some_and(|at| body[at + 9..].starts_with(&digits));
        if body.len() != length || !asked || !body.ends_with(b"\"}\n") {
            return Seen::Wrong;
        }
        let ours = body.starts_with(&self.who)
            && body[self.who.len() + NONCE..].starts_with(b"\",\"peer\":\"")
            && body.ends_with(&self.end);
        if ours { Seen::Whole } else { Seen::Another }
    }
}

fn write(mut n: u64, digits: &mut [u8]) {
    for d in digits.iter_mut().rev() {
        *d = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// `Content-Length`, whatever the letters' case.
fn length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|b| *b == b'\n')
        .find(|l| l.len() > NAME.len() && l[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            dial: "198.18.100.100:80".parse().unwrap(),
            app: "app7".into(),
            name: "gray".into(),
            version: "2.0".into(),
            server: "198.18.201.2".parse().unwrap(),
        }
    }

    fn answer(name: &str, nonce: &str, server: &str) -> Vec<u8> {
        let body = format!(
            "{{\"name\":\"{name}\",\"version\":\"2.0\",\"nonce\":\"{nonce}\",\"peer\":\"198.18.10.2\",\"peer_port\":5,\"server\":\"{server}\"}}\n"
        );
        format!("HTTP/1.1 200 OK\r\ncontent-LENGTH: {}\r\nX: y\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        let script = Script::new(&member(), false);
        let whole = answer("gray", "000000000042", "198.18.201.2");
        for n in 0..whole.len() {
            assert_eq!(script.check(&whole[..n], 42), Seen::Part, "{n} bytes");
        }
        assert_eq!(script.check(&whole, 42), Seen::Whole);
        let more = [&whole[..], b"H"].concat();
        assert_eq!(script.check(&more, 42), Seen::Wrong, "a byte too many");
    }

    #[test]
    fn what_is_not_the_answer_is_told_from_it() {
        let script = Script::new(&member(), false);
        let of = |bytes: Vec<u8>, nonce| script.check(&bytes, nonce);
        assert_eq!(of(answer("stable", "000000000042", "198.18.200.2"), 42), Seen::Another);
        assert_eq!(of(answer("gray", "000000000042", "198.18.200.2"), 42), Seen::Another);
        assert_eq!(of(answer("gray", "000000000041", "198.18.201.2"), 42), Seen::Wrong);
        let mut bent = answer("gray", "000000000042", "198.18.201.2");
        let at = bent.len() - 2;
        bent[at] ^= 1;
        assert_eq!(of(bent, 42), Seen::Wrong);
        let failed = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
        assert_eq!(of(failed, 42), Seen::Wrong);
    }

    #[test]
    fn a_request_names_its_app_and_nonce() {
        let text = String::from_utf8(Script::new(&member(), true).request(7).to_vec()).unwrap();
        assert_eq!(
            text,
            "GET /?nonce=000000000007 HTTP/1.1\r\nHost: 198.18.100.100\r\nX-App-Id: app7\r\nConnection: close\r\n\r\n"
        );
    }
}
