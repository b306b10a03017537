//! Names of the pins of links: what they are, and the interface. A bpf file system refuses names with a dot (EPERM), which the usual
//! name of a VLAN's interface has. Pure.

/// `xdp-eth0%2e100`. An interface without a dot stands as it is: links that an older gray pinned keep their names. The kernel lets no
/// interface have a `%`, but an option may name one.
pub fn of(prefix: &str, iface: &str) -> String {
    format!("{prefix}{}", iface.replace('%', "%25").replace('.', "%2e"))
}

/// The interface of a name with this prefix.
pub fn iface(prefix: &str, name: &str) -> Option<String> {
    name.strip_prefix(prefix).map(|iface| iface.replace("%2e", ".").replace("%25", "%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_dot_and_lead_back() {
        for (given, want) in [
            ("eth0", "xdp-eth0"),
            ("eth0.100", "xdp-eth0%2e100"),
            ("a%2e", "xdp-a%252e"),
            ("..x-", "xdp-%2e%2ex-"),
        ] {
            assert_eq!(of("xdp-", given), want);
            assert_eq!(iface("xdp-", want).as_deref(), Some(given));
        }
        assert_eq!(iface("xdp-", "tc-ingress-eth0"), None);
    }
}
