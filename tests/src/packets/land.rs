//! The addresses and the policy that the packet cases are about.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use gray_userspace::compile::Circumstances;

use super::frame::Packet;

/// One address family and transport of the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Land {
    pub v6: bool,
    pub proto: u8,
}

impl Land {
    fn at(self, v4: [u8; 4], v6: &str, port: u16) -> SocketAddr {
        let ip = if self.v6 { v6.parse().unwrap_or_else(|e| panic!("{v6}: {e}")) } else { IpAddr::from(v4) };
        SocketAddr::new(ip, port)
    }

    /// On no list.
    pub fn plain(self, port: u16) -> SocketAddr {
        self.at([198, 18, 1, 3], "fd00:1::3", port)
    }

    /// On the list `early`.
    pub fn early(self, port: u16) -> SocketAddr {
        self.at([198, 18, 1, 9], "fd00:1::9", port)
    }

    /// In the prefix on the list `early`.
    pub fn office(self, port: u16) -> SocketAddr {
        self.at([198, 18, 7, 77], "fd00:7::77", port)
    }

    /// The service address of all services but those on stable's own address.
    pub fn vip(self, port: u16) -> SocketAddr {
        self.at([198, 18, 100, 1], "fd00:100::1", port)
    }

    pub fn stable(self, port: u16) -> SocketAddr {
        self.at([198, 18, 2, 1], "fd00:2::1", port)
    }

    pub fn gray(self, port: u16) -> SocketAddr {
        self.at([198, 18, 2, 2], "fd00:2::2", port)
    }

    /// The node that steers, as instances of `behind` see it.
    pub fn node(self, port: u16) -> SocketAddr {
        self.at([198, 18, 4, 4], "fd00:4::4", port)
    }

    /// A host that nobody manages.
    pub fn stranger(self, port: u16) -> SocketAddr {
        self.at([198, 18, 3, 3], "fd00:3::3", port)
    }

    /// An opening packet.
    pub fn open(self, from: SocketAddr, to: SocketAddr) -> Packet {
        Packet::new(self.proto, from, to)
    }

    /// Who appears on the instance and client side, for neighbour entries.
    pub fn hosts(self) -> [IpAddr; 5] {
        [self.plain(0), self.early(0), self.office(0), self.stable(0), self.gray(0)].map(|a| a.ip())
    }
}

/// All four.
pub const LANDS: [Land; 4] = [
    Land { v6: false, proto: 6 },
    Land { v6: false, proto: 17 },
    Land { v6: true, proto: 6 },
    Land { v6: true, proto: 17 },
];

/// `shop`: listens beside its instances, on two ports.
pub const SHOP: u16 = 80;
pub const SHOP_TOO: u16 = 81;
/// Instances of `shop`.
pub const SHOP_AT: u16 = 8080;
/// Its 2.0 is drained.
pub const HALF: u16 = 82;
pub const HALF_AT: u16 = 8082;
/// A percentage of 100.
pub const COND: u16 = 83;
pub const COND_AT: u16 = 8083;
/// Nearly all weight on 2.0.
pub const WEIGH: u16 = 84;
pub const WEIGH_AT: u16 = 8084;
/// All drained.
pub const NONE: u16 = 85;
/// Same port on the service address and the instances. The only one that asks for marks.
pub const SAME: u16 = 8086;
/// `nat: snat`.
pub const BEHIND: u16 = 87;
pub const BEHIND_AT: u16 = 8087;
/// `nat: dsr`, by IP in IP and by GUE.
pub const DIRECT: u16 = 88;
pub const DIRECT_GUE: u16 = 89;
/// On stable's own address, and on one that it does not have.
pub const OWN: u16 = 9000;
/// The same, taking connections in mid-stream as stable's.
pub const OLD: u16 = 9001;
/// The same, its time for that is over.
pub const LATE: u16 = 9002;

fn service(name: &str, listen: &[(bool, u16)], instances: u16) -> String {
    let l = |v6| Land { v6, proto: 6 };
    let listen: Vec<String> = listen
        .iter()
        .flat_map(|(own, port)| [(false, *own, *port), (true, *own, *port)])
        .map(|(v6, own, port)| if own { l(v6).stable(port) } else { l(v6).vip(port) })
        .flat_map(|a| [format!("\"{a}\""), format!("\"{a}/udp\"")])
        .collect();
    let mut out =
        format!("  {name}:\n    listen: [{}]\n    identify: [source]\n    instances:\n", listen.join(", "));
    for (family, v6) in [("v4", false), ("v6", true)] {
        let (one, two) = (l(v6).stable(instances), l(v6).gray(instances));
        out += &format!("      - {{ address: \"{one}\", version: \"1.0\", id: {name}-1-{family} }}\n");
        out += &format!("      - {{ address: \"{two}\", version: \"2.0\", id: {name}-2-{family} }}\n");
    }
    out + "    stable: { version: \"1.0\" }\n"
}

/// What [`policy`] has drained, as `service/instance`.
pub const DRAINED: [&str; 6] = [
    "half/half-2-v4",
    "half/half-2-v6",
    "none/none-1-v4",
    "none/none-1-v6",
    "none/none-2-v4",
    "none/none-2-v6",
];

/// What [`policy`] is in force with: drained instances, and times until which `old` and `late` adopt connections, one
/// that never comes and one that is over.
pub fn around() -> Circumstances {
    Circumstances {
        drained: DRAINED.iter().map(|d| (*d).to_owned()).collect(),
        adopt_until_ns: BTreeMap::from([("old".to_owned(), u64::MAX), ("late".to_owned(), 1)]),
        zone: None,
    }
}

/// The policy of the cases. `early`: whether its list leads to 2.0.
pub fn policy(early: bool) -> String {
    let mut out = String::from("services:\n");
    out += &service("shop", &[(false, SHOP), (false, SHOP_TOO)], SHOP_AT);
    out += &service("half", &[(false, HALF)], HALF_AT);
    out += &service("cond", &[(false, COND)], COND_AT);
    out += &service("weigh", &[(false, WEIGH)], WEIGH_AT);
    out += &service("none", &[(false, NONE)], NONE);
    out += &service("same", &[(false, SAME)], SAME);
    out += &service("behind", &[(false, BEHIND)], BEHIND_AT)
        .replace("    instances:", "    nat: snat\n    instances:");
    out += &service("direct", &[(false, DIRECT)], DIRECT)
        .replace("    instances:", "    nat: dsr\n    instances:");
    out += &service("tunnel", &[(false, DIRECT_GUE)], DIRECT_GUE)
        .replace("    instances:", "    nat: dsr\n    encapsulation: gue\n    instances:");
    out += &service("own", &[(true, OWN), (false, OWN)], OWN);
    for (name, port) in [("old", OLD), ("late", LATE)] {
        out += &service(name, &[(true, port)], port);
    }
    out += "cohorts:\n  early: { sources: [\"198.18.1.9\", \"fd00:1::9\", \"198.18.7.0/24\", \"fd00:7::/64\"] }\n";
    out += "  testers: { marks: [\"0x7\"] }\n  lab: { dscps: [46] }\n  everyone: { percent: 100 }\n";
    out += "routes:\n  - { service: same, when: testers, to: { version: \"2.0\" } }\n  - { when: lab, to: { version: \"2.0\" } }\n";
    if early {
        out += "  - { when: early, to: { version: \"2.0\" } }\n";
    }
    out += "  - { service: cond, when: everyone, to: { version: \"2.0\" } }\n";
    out += "  - { service: weigh, to: [ { version: \"2.0\", weight: 99.99 }, { version: \"1.0\", weight: 0.01 } ] }\n";
    out
}
