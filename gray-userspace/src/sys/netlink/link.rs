//! One network interface as rtnetlink describes it (rtnetlink(7), if_link.h). Parsing only.

use super::message::{attributes, u32_at};

/// `struct ifinfomsg`.
pub(super) const INFO: usize = 16;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_WIRELESS: u16 = 11;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub ifindex: u32,
    pub name: String,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// There is a carrier; for a veth: the other end is up too.
    pub carrier: bool,
    pub mtu: u32,
    /// `veth`, `bridge`, `vlan` ..; `None` for hardware and loopback.
    pub kind: Option<String>,
    /// Ethernet address; `None` for links of another kind.
    pub mac: Option<[u8; 6]>,
    pub xdp: Xdp,
}

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xdp {
    #[default]
    None,
    Native,
    Generic,
    Offloaded,
    /// More than one mode at once.
    Several,
}

impl Link {
    /// `None` for a message that is about something else: AF_BRIDGE ones tell of a port that joins or leaves a bridge
    /// (the deletion of which is not the deletion of the link), wireless ones carry an event only.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (family, ifindex, flags) = (*body.first()?, u32_at(body, 4)?, u32_at(body, 8)?);
        if family != 0 || ifindex == 0 {
            return None;
        }
        let mut link = Self {
            ifindex,
            name: String::new(),
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            mtu: 0,
            kind: None,
            mac: None,
            xdp: Xdp::None,
        };
        for (kind, value) in attributes(body.get(INFO..)?) {
            match kind {
                IFLA_IFNAME => link.name = text(value)?,
                IFLA_MTU => link.mtu = u32_at(value, 0)?,
                IFLA_ADDRESS => link.mac = value.try_into().ok(),
                IFLA_LINKINFO => link.kind = attribute(value, IFLA_INFO_KIND).and_then(text),
                IFLA_XDP => link.xdp = xdp(attribute(value, IFLA_XDP_ATTACHED)),
                IFLA_WIRELESS => return None,
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }
}

fn attribute(nest: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(nest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn text(value: &[u8]) -> Option<String> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8(value[..end].to_vec()).ok()
}

fn xdp(attached: Option<&[u8]>) -> Xdp {
    match attached.and_then(|v| v.first()) {
        None | Some(0) => Xdp::None,
        Some(1) => Xdp::Native,
        Some(2) => Xdp::Generic,
        Some(3) => Xdp::Offloaded,
        Some(_) => Xdp::Several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut a = [&(value.len() as u16 + 4).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        a.resize(a.len().next_multiple_of(4), 0);
        a
    }

    fn body(family: u8, index: u32, flags: u32, attrs: &[Vec<u8>]) -> Vec<u8> {
        let head = [&[family, 0, 1, 0][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]].concat();
        [head, attrs.concat()].concat()
    }

    #[test]
    fn reads_what_a_veth_says() {
        let nested = IFLA_LINKINFO | 0x8000;
        let attrs = [
            attr(IFLA_IFNAME, b"veth0\0"),
            attr(IFLA_MTU, &1400u32.to_ne_bytes()),
            attr(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9]),
            attr(nested, &[attr(2, &[0; 8]), attr(IFLA_INFO_KIND, b"veth\0")].concat()),
            attr(IFLA_XDP, &attr(IFLA_XDP_ATTACHED, &[1])),
        ];
        let link = Link::parse(&body(0, 5, IFF_UP, &attrs)).unwrap();
        assert_eq!(
            (link.ifindex, &*link.name, link.up, link.carrier, link.mtu),
            (5, "veth0", true, false, 1400)
        );
        assert_eq!(
            (link.kind.as_deref(), link.mac, link.xdp),
            (Some("veth"), Some([2, 0, 0, 0, 0, 9]), Xdp::Native)
        );
        assert!(Link::parse(&body(0, 5, IFF_LOWER_UP, &attrs)).unwrap().carrier);
        assert_eq!(Link::parse(&body(7, 5, IFF_UP, &attrs)), None, "a bridge port, not a link");
        assert_eq!(Link::parse(&body(0, 0, IFF_UP, &attrs)), None);
        assert_eq!(Link::parse(&body(0, 5, IFF_UP, &attrs[1..])), None, "no name");
        let event = [attrs[0].clone(), attr(IFLA_WIRELESS, &[])];
        assert_eq!(Link::parse(&body(0, 5, IFF_UP, &event)), None, "a wireless event");
    }
}
