//! A prefix on the command line: `198.18.1.0/24`, `fd00::/64`, or an address alone.

use std::{net::IpAddr, str::FromStr};

use gray_common::wire::{Addr, Trusted};
use serde::Deserialize;

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix {
    addr: IpAddr,
    bits: u8,
}

impl Prefix {
    /// As the data path compares it: host bits do not count.
    pub fn wire(&self) -> Trusted {
        // IPv4 is mapped: its bits come after 96 others.
        let bits = u32::from(self.bits) + if self.addr.is_ipv4() { 96 } else { 0 };
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let addr = u128::from_be_bytes(Addr::from(self.addr).0);
        Trusted { mask: Addr(mask.to_be_bytes()), addr: Addr((addr & mask).to_be_bytes()) }
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let addr: IpAddr =
            addr.parse().map_err(|_| format!("`{text}` is no prefix such as 198.18.1.0/24"))?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let bits = match bits.map(str::parse::<u8>) {
            None => most,
            Some(Ok(bits)) if bits <= most => bits,
            Some(_) => return Err(format!("`{text}` has no length from 1 to {most} behind its /")),
        };
        if bits == 0 {
            return Err(format!("`{text}` is everybody; name the nodes that are to be trusted"));
        }
        if addr.to_canonical() != addr {
            return Err(format!("`{text}` is IPv4 in IPv6; write it as IPv4"));
        }
        Ok(Self { addr, bits })
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(prefix: &str, addr: &str) -> bool {
        prefix.parse::<Prefix>().unwrap().wire().has(&Addr::from(addr.parse::<IpAddr>().unwrap()))
    }

    #[test]
    fn what_begins_alike_is_trusted_and_nothing_else() {
        assert!(has("198.18.1.7/24", "198.18.1.200") && !has("198.18.1.0/24", "198.18.2.1"));
        assert!(has("198.18.1.1", "198.18.1.1") && !has("198.18.1.1", "198.18.1.2"));
        assert!(has("0.0.0.0/1", "127.0.0.1") && !has("0.0.0.0/1", "::1") && !has("0.0.0.0/1", "198.18.1.1"));
        assert!(has("fd00::/64", "fd00::9") && !has("fd00::/64", "fd00:0:0:1::9"));
        assert!(has("fd00::/65", "fd00::9") && !has("fd00::/65", "fd00::8000:0:0:9"));
        assert!(has("::/1", "fd::1") && has("::/1", "198.18.1.1"), "mapped addresses begin with zeros");
        assert!(!Trusted::default().has(&Addr::default()), "what is not used trusts nobody");
    }

    #[test]
    fn what_is_no_prefix_is_refused_with_the_reason() {
        let why = |text: &str| text.parse::<Prefix>().unwrap_err();
        assert!(why("nodes").contains("no prefix") && why("").contains("no prefix"));
        assert!(why("198.18.1.0/33").contains("1 to 32") && why("fd00::/x").contains("1 to 128"));
        assert!(why("0.0.0.0/0").contains("everybody") && why("::/0").contains("everybody"));
        assert!(why("::ffff:198.18.1.1").contains("as IPv4"));
    }
}
