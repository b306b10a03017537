//! What an interface's driver can do with XDP: the generic netlink family `netdev` (Linux 6.3; netlink/specs/netdev.yaml).

use std::{io, time::Duration};

use rustix::net::{
    SocketFlags,
    netlink::GENERIC,
    sockopt::{self, Timeout},
};

use super::{
    DATAGRAM, Datagram, Socket,
    message::{F_REQUEST, attributes, frame, messages, u16_at},
};

/// `struct genlmsghdr`: command, version, reserved.
const HEADER: usize = 4;
/// `GENL_ID_CTRL`, and its `CTRL_CMD_GETFAMILY`, `CTRL_CMD_NEWFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME`.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES`.
const DEV_GET: u8 = 1;
const DEV_IFINDEX: u16 = 1;
const DEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_BASIC`, `NETDEV_XDP_ACT_REDIRECT`, `NETDEV_XDP_ACT_NDO_XMIT`.
const BASIC: u64 = 1;
const REDIRECT: u64 = 1 << 1;
const NDO_XMIT: u64 = 1 << 2;
const LIMIT: Duration = Duration::from_secs(5);

/// `enum netdev_xdp_act`, as a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    #[cfg(test)]
    pub fn of(mask: u64) -> Self {
        Self(mask)
    }

    /// A program may run in the driver, and redirect from there.
    pub fn runs(self) -> bool {
        self.0 & (BASIC | REDIRECT) == BASIC | REDIRECT
    }

    /// Frames may be redirected to it, at present.
    pub fn takes_frames(self) -> bool {
        self.0 & NDO_XMIT != 0
    }
}

/// Of an interface of this thread's network namespace.
///
/// # Errors
/// The kernel's; `NotFound` where it does not tell (before Linux 6.3).
pub fn xdp_features(ifindex: u32) -> io::Result<XdpFeatures> {
    let socket = Socket::of(Some(GENERIC), 0, SocketFlags::empty())?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT))?;
    let family = ask(&socket, CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, b"netdev\0"), |body| {
        u16_at(value(body, FAMILY_ID)?, 0)
    })?;
    ask(&socket, family, DEV_GET, &attribute(DEV_IFINDEX, &ifindex.to_ne_bytes()), features)
}

fn features(body: &[u8]) -> Option<XdpFeatures> {
    Some(XdpFeatures(u64::from_ne_bytes(value(body, DEV_XDP_FEATURES)?.try_into().ok()?)))
}

/// Sends a command and reads its one answer.
fn ask<T>(
    socket: &Socket,
    family: u16,
    command: u8,
    attributes: &[u8],
    read: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let body = [&[command, 1, 0, 0][..], attributes].concat();
    socket.send(&frame(family, F_REQUEST, 1, &body))?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let len = match socket.receive(&mut buffer)? {
            Datagram::Kernel(len) => len,
            Datagram::Foreign => continue,
            Datagram::Overrun => return Err(io::Error::other("an answer of netlink was lost")),
        };
        for m in messages(&buffer[..len]).filter(|m| m.seq == 1) {
            if let Some(e) = m.error() {
                return Err(e);
            }
            if let Some(body) = m.body_of(family) {
                return read(body).ok_or_else(|| io::Error::other("netlink answered something else"));
            }
        }
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut a = [&(value.len() as u16 + 4).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    a.resize(a.len().next_multiple_of(4), 0);
    a
}

fn value(body: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(body.get(HEADER..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_mask_whatever_stands_before_it() {
        let all = BASIC | REDIRECT | NDO_XMIT;
        let body = |mask: u64| {
            let attrs = [attribute(1, &[7, 0, 0, 0]), attribute(3, &mask.to_ne_bytes())].concat();
            [&[1, 1, 0, 0][..], &attrs].concat()
        };
        let seen = features(&body(all)).unwrap();
        assert!(seen.runs() && seen.takes_frames());
        let seen = features(&body(BASIC | REDIRECT)).unwrap();
        assert!(seen.runs() && !seen.takes_frames());
        assert!(!features(&body(BASIC | NDO_XMIT)).unwrap().runs());
        assert_eq!(features(&body(all)[..12]), None);
        assert_eq!(features(&[]), None);
    }

    #[test]
    fn the_loopback_interface_has_no_native_xdp() {
        match xdp_features(1) {
            Ok(lo) => assert_eq!(lo, XdpFeatures::default()),
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::NotFound, "{e}"),
        }
    }
}
