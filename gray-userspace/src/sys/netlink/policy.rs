//! What routes or encrypts packets by more than their destination: rules with a mark (rtnetlink(7)), and IPsec's policies. Counts
//! them in the thread's network namespace, and changes nothing.

use std::io;

use rustix::net::{SocketFlags, netlink::XFRM, sockopt, sockopt::Timeout};

use super::{
    DATAGRAM, Datagram, F_DUMP, F_REQUEST, REPLY_LIMIT, Socket, attributes, frame, message::Message, messages,
};

const NEW_RULE: u16 = 32;
const GET_RULE: u16 = 34;
/// `struct fib_rule_hdr`.
const RULE: usize = 12;
const FRA_FWMARK: u16 = 10;
const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

const NEW_POLICY: u16 = 0x13;
const GET_POLICY: u16 = 0x15;
/// `struct xfrm_userpolicy_id`.
const POLICY_ID: usize = 64;

/// Rules of IPv4 and IPv6 that ask for a packet's mark.
pub fn marked_rules() -> io::Result<usize> {
    count(
        &Socket::open(0, SocketFlags::empty())?,
        &frame(GET_RULE, F_REQUEST | F_DUMP, SEQ, &[0; RULE]),
        |m| m.body_of(NEW_RULE).is_some_and(asks_for_mark),
    )
}

/// Policies of IPsec; none where the kernel has no IPsec. Needs CAP_NET_ADMIN.
pub fn ipsec_policies() -> io::Result<usize> {
    let socket = match Socket::of(Some(XFRM), 0, SocketFlags::empty()) {
        Err(e) if e.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(0),
        socket => socket?,
    };
    count(&socket, &frame(GET_POLICY, F_REQUEST | F_DUMP, SEQ, &[0; POLICY_ID]), |m| {
        m.body_of(NEW_POLICY).is_some()
    })
}

const SEQ: u32 = 1;

fn count(socket: &Socket, ask: &[u8], counts: impl Fn(&Message<'_>) -> bool) -> io::Result<usize> {
    sockopt::set_socket_timeout(socket, Timeout::Recv, Some(REPLY_LIMIT))?;
    socket.send(ask)?;
    let (mut buffer, mut n) = (vec![0; DATAGRAM], 0);
    loop {
        let len = match socket.receive(&mut buffer)? {
            Datagram::Kernel(len) => len,
            Datagram::Foreign => continue,
            Datagram::Overrun => return Err(io::Error::other("the kernel's list does not fit")),
        };
        for m in messages(&buffer[..len]).filter(|m| m.seq == SEQ) {
            if m.is_done() {
                return Ok(n);
            }
            if let Some(e) = m.error() {
                return Err(e);
            }
            n += usize::from(counts(&m));
        }
    }
}

fn asks_for_mark(rule: &[u8]) -> bool {
    let family = rule.first().is_some_and(|f| FAMILIES.contains(f));
    let marks = |attrs| attributes(attrs).any(|(kind, _)| kind == FRA_FWMARK);
    family && rule.get(RULE..).is_some_and(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_ask_for_a_mark_are_told_from_others() {
        let rule = |family: u8, attrs: &[(u16, u32)]| {
            let mut body = vec![0; RULE];
            body[0] = family;
            for (kind, value) in attrs {
                body.extend(8u16.to_ne_bytes());
                body.extend(kind.to_ne_bytes());
                body.extend(value.to_ne_bytes());
            }
            body
        };
        assert!(asks_for_mark(&rule(2, &[(15, 100), (FRA_FWMARK, 1)])));
        assert!(asks_for_mark(&rule(10, &[(FRA_FWMARK, 1)])));
        assert!(!asks_for_mark(&rule(2, &[(15, 254), (6, 32_766)])));
        assert!(!asks_for_mark(&rule(129, &[(FRA_FWMARK, 1)])), "multicast routing");
        for n in 0..RULE {
            assert!(!asks_for_mark(&rule(2, &[(FRA_FWMARK, 1)])[..n]));
        }
    }

    /// The kernel understands the questions.
    #[test]
    fn this_machine_answers() {
        let _ = marked_rules().unwrap();
        match ipsec_policies() {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{e}"),
        }
    }
}
