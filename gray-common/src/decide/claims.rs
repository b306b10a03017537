//! What is known about a client: a small array of claims, indexed by kind.

use crate::{
    hash::{HashKey, claim_hash},
    limits,
    wire::{Addr, Workload},
};

/// Claim kinds: index of the array, part of the hash and of `Service::identify`. Never renumbered; 0 is none.
pub const SOURCE: u8 = 1;
pub const MARK: u8 = 2;
pub const DSCP: u8 = 3;
pub const WORKLOAD: u8 = 4;
/// Values of the client's first bytes: see `wire::Reading`.
pub const APP: u8 = 5;
pub const USER: u8 = 6;
pub const TENANT: u8 = 7;
pub const DEVICE: u8 = 8;
pub const PLATFORM: u8 = 9;
pub const CHANNEL: u8 = 10;
/// What a request asks to be served by: a header each, which makes nobody known.
pub const ND_VERSION: u8 = 11;
pub const ND_REGION: u8 = 12;
pub const ND_ENV: u8 = 13;
/// The identity that a tag says, of whatever kind it was at the node that said it. On no list: it is no value.
pub const TAG: u8 = 14;
/// No claim: a header that programs leave to the splice listener (`request::watch::MORE`).
pub const ND_MORE: u8 = 15;
/// With a kind: in hashes of the first bytes of its value, which wildcards list.
pub const BEGINNING: u8 = 0x80;

/// What a decision asks of a client's claims.
pub trait Known {
    /// The last kind that can be present.
    const LAST: u8;
    /// Beginnings of values that can be known.
    const BEGINNINGS: u8;

    /// The number of the lane that the connection is in; 0: none that the policy knows.
    fn lane(&self) -> u64;

    /// The hash of a kind's claim; 0: absent.
    fn of(&self, kind: u8) -> u64;

    /// What the value of a kind that is read ends with: see [`tail`](super::tail).
    fn tail(&self, kind: u8) -> u8;

    /// The hash of a beginning that the service asks for, by its number; 0: absent.
    fn beginning(&self, i: u8) -> u64;

    /// The identity: the first of the service's kinds that is present; 0: none is.
    #[inline(always)]
    fn identity(&self, identify: &[u8; limits::IDENTIFY]) -> u64 {
        let mut i = 0;
        while i < limits::IDENTIFY {
            let h = self.of(identify[i]);
            if h != 0 {
                return h;
            }
            i += 1;
        }
        0
    }
}

/// The claims of one connection: for each kind its keyed hash, which includes the kind; 0: absent. Values themselves
/// are not kept: what a decision asks of a claim, its hash answers, or its last digits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub hash: [u64; limits::CLAIMS],
    /// Of values that were read.
    pub tails: [u8; limits::CLAIMS],
    /// As the service's reading numbers them.
    pub beginnings: [u64; limits::BEGINNINGS],
    pub lane: u64,
}

const _: () =
    assert!(limits::CLAIMS.is_power_of_two() && (TAG as usize) < limits::CLAIMS && Claims::LAST < TAG);
const _: () = assert!(limits::BEGINNINGS.is_power_of_two());

impl Known for Claims {
    const LAST: u8 = ND_ENV;
    const BEGINNINGS: u8 = limits::BEGINNINGS as u8;

    #[inline(always)]
    fn lane(&self) -> u64 {
        self.lane
    }

    #[inline(always)]
    fn of(&self, kind: u8) -> u64 {
        self.hash[kind as usize & (limits::CLAIMS - 1)]
    }

    #[inline(always)]
    fn tail(&self, kind: u8) -> u8 {
        self.tails[kind as usize & (limits::CLAIMS - 1)]
    }

    #[inline(always)]
    fn beginning(&self, i: u8) -> u64 {
        self.beginnings[i as usize & (limits::BEGINNINGS - 1)]
    }
}

impl Claims {
    /// No claims. `absent` is 0; the data path passes a 0 that the verifier cannot see, so that "absent" and "present"
    /// are one path to verify and not two to the power of the kinds.
    #[inline(always)]
    pub fn none(absent: u64) -> Self {
        Self {
            hash: [absent; limits::CLAIMS],
            tails: [absent as u8; limits::CLAIMS],
            beginnings: [absent; limits::BEGINNINGS],
            lane: absent,
        }
    }

    #[inline(always)]
    fn set(&mut self, kind: u8, hash: u64) {
        self.hash[kind as usize & (limits::CLAIMS - 1)] = present(hash);
    }

    /// A value that was read; its hash is of its first bytes, at most [`CLAIM_MAX`](crate::hash::CLAIM_MAX).
    #[inline(always)]
    pub fn set_read(&mut self, kind: u8, hash: u64, tail: u8) {
        self.set(kind, hash);
        self.tails[kind as usize & (limits::CLAIMS - 1)] = tail;
    }

    /// Of the service's beginnings number `i`: its hash with [`BEGINNING`].
    #[inline(always)]
    pub fn set_beginning(&mut self, i: u8, hash: u64) {
        self.beginnings[i as usize & (limits::BEGINNINGS - 1)] = present(hash);
    }

    #[inline(always)]
    pub fn set_source(&mut self, key: HashKey, addr: &Addr) {
        self.set(SOURCE, source(key, addr));
    }

    /// A mark of 0 is no mark.
    #[inline(always)]
    pub fn set_mark(&mut self, key: HashKey, mark: u32) {
        if mark != 0 {
            self.set(MARK, number(key, MARK, mark));
        }
    }

    /// A DSCP of 0 is no DSCP.
    #[inline(always)]
    pub fn set_dscp(&mut self, key: HashKey, dscp: u8) {
        if dscp != 0 {
            self.set(DSCP, number(key, DSCP, u32::from(dscp)));
        }
    }

    /// What a good tag says; all 0: there is none.
    #[inline(always)]
    pub fn set_tag(&mut self, identity: u64, lane: u64) {
        (self.hash[TAG as usize], self.lane) = (identity, lane);
    }

    /// The workload's hash was made by the agent under both keys.
    #[inline(always)]
    pub fn set_workload(&mut self, epoch: u64, w: &Workload) {
        self.set(WORKLOAD, workload(epoch, w));
    }
}

/// The claims of a caller on this node, whose requests are not read. The programs of the connect path have them on the stack,
/// where there is no room for [`Claims`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    hash: [u64; LOCAL],
    pub lane: u64,
}

const LOCAL: usize = 8;
const _: () = assert!(LOCAL.is_power_of_two() && (Local::LAST as usize) < LOCAL);

impl Known for Local {
    const LAST: u8 = WORKLOAD;
    const BEGINNINGS: u8 = 0;

    #[inline(always)]
    fn lane(&self) -> u64 {
        self.lane
    }

    #[inline(always)]
    fn of(&self, kind: u8) -> u64 {
        if kind as usize >= LOCAL {
            return 0;
        }
        self.hash[kind as usize & (LOCAL - 1)]
    }

    /// Nothing of a caller on this node is read.
    #[inline(always)]
    fn tail(&self, _kind: u8) -> u8 {
        0
    }

    #[inline(always)]
    fn beginning(&self, _i: u8) -> u64 {
        0
    }
}

impl Local {
    /// As [`Claims::none`].
    #[inline(always)]
    pub fn none(absent: u64) -> Self {
        Self { hash: [absent; LOCAL], lane: absent }
    }

    #[inline(always)]
    pub fn set_source(&mut self, key: HashKey, addr: &Addr) {
        self.hash[SOURCE as usize] = present(source(key, addr));
    }

    /// A mark of 0 is no mark.
    #[inline(always)]
    pub fn set_mark(&mut self, key: HashKey, mark: u32) {
        if mark != 0 {
            self.hash[MARK as usize] = present(number(key, MARK, mark));
        }
    }

    /// As [`Claims::set_workload`].
    #[inline(always)]
    pub fn set_workload(&mut self, epoch: u64, w: &Workload) {
        self.hash[WORKLOAD as usize] = present(workload(epoch, w));
    }
}

/// A hash of 0 would read as absent.
#[inline(always)]
fn present(hash: u64) -> u64 {
    hash | u64::from(hash == 0)
}

#[inline(always)]
fn source(key: HashKey, addr: &Addr) -> u64 {
    claim_hash(key, SOURCE, 16, &addr.words())
}

#[inline(always)]
fn number(key: HashKey, kind: u8, n: u32) -> u64 {
    claim_hash(key, kind, 4, &[u64::from(n)])
}

#[inline(always)]
fn workload(epoch: u64, w: &Workload) -> u64 {
    if epoch & 1 == 0 { w.hash[0] } else { w.hash[1] }
}
