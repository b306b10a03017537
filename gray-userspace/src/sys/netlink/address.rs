//! The addresses of this network namespace, as rtnetlink tells them (rtnetlink(7), if_addr.h). Parsing only, but for the question.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    dumped,
    message::{F_DUMP, F_REQUEST, attributes, frame, u32_at},
};

const NEW_ADDR: u16 = 20;
const GET_ADDR: u16 = 22;
/// `struct ifaddrmsg`.
const INFO: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Not to be used yet, or found to be another node's (RFC 4862).
const UNUSABLE: u32 = 0x40 | 0x08;

/// Addresses that other nodes may dial, in the kernel's order.
///
/// # Errors
/// The kernel's; `Interrupted` when they kept changing.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let request = |seq| frame(GET_ADDR, F_REQUEST | F_DUMP, seq, &[0; INFO]);
    let mut own = dumped(request, |m| m.body_of(NEW_ADDR).and_then(parse))?;
    own.retain(is_dialled);
    Ok(own)
}

/// `None`: it is to be used by nobody.
fn parse(body: &[u8]) -> Option<IpAddr> {
    let mut flags = u32::from(*body.get(2)?);
    let (mut address, mut local) = (None, None);
    for (kind, value) in attributes(body.get(INFO..)?) {
        match kind {
            IFA_ADDRESS => address = ip(value),
            // Of a link with two ends its own one; the other attribute is the other end's.
            IFA_LOCAL => local = ip(value),
            IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    local.or(address).filter(|_| flags & UNUSABLE == 0)
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

/// Not of one link, nor of this host only.
pub fn is_dialled(a: &IpAddr) -> bool {
    let of_link = match a {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local() || a.to_ipv4_mapped().is_some(),
    };
    !of_link && !a.is_loopback() && !a.is_unspecified() && !a.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        [&(value.len() as u16 + 4).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    }

    #[test]
    fn reads_what_the_kernel_says() {
        let of = |attrs: &[Vec<u8>]| parse(&[&[2, 24, 0x80, 0, 5, 0, 0, 0][..], &attrs.concat()].concat());
        let (own, other) = (attr(IFA_LOCAL, &[198, 18, 0, 1]), attr(IFA_ADDRESS, &[198, 18, 0, 2]));
        assert_eq!(of(&[other.clone(), own]), Some("198.18.0.1".parse().unwrap()));
        assert_eq!(of(std::slice::from_ref(&other)), Some("198.18.0.2".parse().unwrap()));
        assert_eq!(of(&[other, attr(IFA_FLAGS, &0x40u32.to_ne_bytes())]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(parse(&[2, 24]), None);
    }

    #[test]
    fn usable_addresses_as_a_table() {
        for (a, is) in [
            ("198.18.0.1", true),
            ("fd00:18::1", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("::1", false),
            ("fe80::1", false),
            ("::ffff:198.18.0.1", false),
        ] {
            assert_eq!(is_dialled(&a.parse().unwrap()), is, "{a}");
        }
        assert!(own_addresses().unwrap().iter().all(is_dialled));
    }
}
