//! What is read of a service's requests, and the connections that wait for it or are translated because of it.

use super::{Addr, Trusted, wire};
use crate::{
    decide::Decision,
    limits,
    request::{
        cookie::Tuple,
        machine::{Splice, Terms},
        proxy2::TLVS,
        watch::{WATCHES, Watches},
    },
};

/// Of one service of a bank: the names that are looked for, and the claim that each one's value makes; 0: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub names: Watches,
    pub kinds: [u8; WATCHES],
    /// Wildcards ask for so many first bytes of the value of a name, by its number plus 1; 0 ends.
    pub beginning_of: [u8; limits::BEGINNINGS],
    pub beginning_len: [u8; limits::BEGINNINGS],
    pub terms: Terms,
    /// The claim that a TLS ClientHello's server name makes, and the first protocol it offers.
    pub sni: u8,
    pub alpn: u8,
    /// The names of which one at least makes a client known, a bit each; 0: nobody needs to be.
    pub named: u8,
    pub _pad: u8,
    /// `hash::salt` of the service's name, for values that name services.
    pub name: u64,
}

/// What the splice listener asks of one service of a bank beyond what programs do. Programs do not touch it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Further {
    /// The subset of all instances plus 1, index in the bank; 0: there is none.
    pub all: u32,
    /// The first element of its instances in `METADATA`, index in the bank, and how many there are.
    pub first: u32,
    pub count: u32,
    /// `MORE_*` bits: headers that count.
    pub more: u32,
    /// PROXY headers: types of TLVs, 0 ends, and the claim that each one's value makes.
    pub tlvs: [u8; TLVS],
    pub tlv_kinds: [u8; TLVS],
    /// Whose PROXY headers are believed; unused ones are all zero.
    pub proxies: [Trusted; limits::PROXIES],
}

/// Of [`Further::more`], in the order of `watch::MORE_HEADERS`.
pub const MORE_ADDRESS: u32 = 1;
pub const MORE_VERSION_WEIGHT: u32 = 2;
pub const MORE_REGION_WEIGHT: u32 = 4;
pub const MORE_ID_BLACKLIST: u32 = 8;
pub const MORE_ADDRESS_BLACKLIST: u32 = 16;

/// One instance of a service as `n-d-*` headers ask about it; each text by its `hash::salt`, 0: none. Of the listener alone, too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub id: u64,
    pub version: u64,
    pub region: u64,
    pub addr: Addr,
    /// In network order.
    pub port: u16,
    /// Not 0: it is one of stable's.
    pub stable: u16,
    pub _pad: u32,
}

/// What the tag of a connection's SYN said, until its first bytes are read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tagged {
    pub identity: u64,
    /// The lane's number; 0: none.
    pub lane: u64,
}

/// Where the splice listener of a node is, one element for IPv4 and one for IPv6. It writes this each second, and the filter's bits with
/// it. Not the policy's: it is there without an agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    pub addr: Addr,
    /// Until when it is so: the kernel's monotonic clock, in ns.
    pub until_ns: u64,
    /// In network order.
    pub port: u16,
    /// Not 0: it can tell whose the connections of this node's callers are.
    pub callers: u8,
    pub _pad: [u8; 5],
}

/// A local caller whose connection the listener has, by its socket's cookie: what it dialled, and what is known of it beside what it says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub service: Addr,
    /// The address that its socket is bound to; all zero: none.
    pub source: Addr,
    /// The labelled cgroup that it is in; 0: none.
    pub label: u64,
    /// The number of the lane that its calls are in; 0: none that the policy knows.
    pub lane: u32,
    pub mark: u32,
    /// In network order.
    pub service_port: u32,
    pub _pad: u32,
}

/// What the listener has decided on, of one service: added to what programs count. Only listeners write it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenCount {
    pub read: u64,
    /// Of these: that name nobody.
    pub missing: u64,
    /// Connections by arm.
    pub stable: u64,
    pub gray: u64,
    pub refused: u64,
    /// Whose first bytes could not be read to their end: decided on what was.
    pub unread: u64,
    /// Attempts that an instance refused, or did not answer, by arm.
    pub failed_stable: u64,
    pub failed_gray: u64,
    pub no_instance: u64,
    /// Of connections that an end broke.
    pub broken: u64,
}

impl ListenCount {
    pub fn add(&mut self, more: &Self) {
        self.read += more.read;
        self.missing += more.missing;
        self.stable += more.stable;
        self.gray += more.gray;
        self.refused += more.refused;
        self.unread += more.unread;
        self.failed_stable += more.failed_stable;
        self.failed_gray += more.failed_gray;
        self.no_instance += more.no_instance;
        self.broken += more.broken;
    }
}

/// A connection that is answered by us, or was: its numbers, and where it went.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub decision: Decision,
    pub splice: Splice,
    /// An attempt plus 1, whose instance is yet to be chosen.
    pub picked: u32,
    /// Of the client's packets: what else is decided by.
    pub mark: u32,
    /// Not 0: since then, in ms, a CPU has it. Both directions change it, on two CPUs.
    pub lock: u64,
    pub dscp: u8,
    /// TTL or hop limit of the client's last packet: what the instance gets that it has not sent itself has it, too. 0: none was seen.
    pub hops: u8,
    /// Where in `HELD` its bytes are, while that place is its own: see `since`.
    pub place: u16,
    /// By which the client's packets come.
    pub ifindex: u32,
    /// Since when it has the place, as that says ([`Held::since`]); 0: it has none.
    pub since: u64,
}

/// Longer by a segment than what is held: for verifiers.
pub const HELD: usize = 6144;

/// A place for bytes of a client that no instance has yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// CLOCK_MONOTONIC in ns when it was taken, which tells its owner from all earlier ones; 0: nobody has it.
    pub since: u64,
    /// What is behind the owner's bytes is some earlier one's.
    pub bytes: [u8; HELD],
}

wire!(Caller, size 56, {
    service @ 0: Addr, source @ 16: Addr, label @ 32: u64, lane @ 40: u32, mark @ 44: u32, service_port @ 48: u32, _pad @ 52: u32,
});
wire!(Tuple, size 40, {
    client @ 0: [u64; 2], service @ 16: [u64; 2], client_port @ 32: u16, service_port @ 34: u16, number @ 36: u32,
});
wire!(Further, size 280, {
    all @ 0: u32, first @ 4: u32, count @ 8: u32, more @ 12: u32, tlvs @ 16: [u8; 4], tlv_kinds @ 20: [u8; 4],
    proxies @ 24: [Trusted; 8],
});
wire!(Metadata, size 48, {
    id @ 0: u64, version @ 8: u64, region @ 16: u64, addr @ 24: Addr, port @ 40: u16, stable @ 42: u16, _pad @ 44: u32,
});
wire!(Tagged, size 16, { identity @ 0: u64, lane @ 8: u64 });
wire!(Listening, size 32, { addr @ 0: Addr, until_ns @ 16: u64, port @ 24: u16, callers @ 26: u8, _pad @ 27: [u8; 5] });
wire!(ListenCount, size 80, {
    read @ 0: u64, missing @ 8: u64, stable @ 16: u64, gray @ 24: u64, refused @ 32: u64, unread @ 40: u64,
    failed_stable @ 48: u64, failed_gray @ 56: u64, no_instance @ 64: u64, broken @ 72: u64,
});
wire!(Reading, size 112, {
    names @ 0: Watches, kinds @ 64: [u8; 8], beginning_of @ 72: [u8; 8], beginning_len @ 80: [u8; 8], terms @ 88: Terms,
    sni @ 100: u8, alpn @ 101: u8, named @ 102: u8, _pad @ 103: u8, name @ 104: u64,
});
wire!(Bound, size 152, {
    decision @ 0: Decision, splice @ 48: Splice, picked @ 120: u32, mark @ 124: u32, lock @ 128: u64, dscp @ 136: u8,
    hops @ 137: u8, place @ 138: u16, ifindex @ 140: u32, since @ 144: u64,
});
wire!(Held, size 6152, { since @ 0: u64, bytes @ 8: [u8; HELD] });
