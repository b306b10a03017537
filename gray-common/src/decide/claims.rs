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

/// The claims of one connection: for each kind its keyed hash, which includes the kind; 0: absent. Values themselves
/// are not kept: what a decision asks of a claim today, its hash answers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub hash: [u64; limits::CLAIMS],
    /// The number of the lane that the connection is in; 0: none that the policy knows.
    pub lane: u64,
}

const _: () = assert!(limits::CLAIMS.is_power_of_two());

impl Claims {
    /// No claims. `absent` is 0; the data path passes a 0 that the verifier cannot see, so that "absent" and "present"
    /// are one path to verify and not two to the power of the kinds.
    #[inline(always)]
    pub fn none(absent: u64) -> Self {
        Self { hash: [absent; limits::CLAIMS], lane: absent }
    }

    /// The identity: the first of the service's kinds that is present; 0: none is.
    #[inline(always)]
    pub fn identity(&self, identify: &[u8; limits::IDENTIFY]) -> u64 {
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

    /// The hash of a kind's claim; 0: absent.
    #[inline(always)]
    pub fn of(&self, kind: u8) -> u64 {
        self.hash[kind as usize & (limits::CLAIMS - 1)]
    }

    #[inline(always)]
    fn set(&mut self, kind: u8, hash: u64) {
        // A hash of 0 would read as absent.
        self.hash[kind as usize] = hash | u64::from(hash == 0);
    }

    #[inline(always)]
    pub fn set_source(&mut self, key: HashKey, addr: &Addr) {
        self.set(SOURCE, claim_hash(key, SOURCE, 16, &addr.words()));
    }

    /// A mark of 0 is no mark.
    #[inline(always)]
    pub fn set_mark(&mut self, key: HashKey, mark: u32) {
        if mark != 0 {
            self.set(MARK, claim_hash(key, MARK, 4, &[u64::from(mark)]));
        }
    }

    /// A DSCP of 0 is no DSCP.
    #[inline(always)]
    pub fn set_dscp(&mut self, key: HashKey, dscp: u8) {
        if dscp != 0 {
            self.set(DSCP, claim_hash(key, DSCP, 4, &[u64::from(dscp)]));
        }
    }

    /// The workload's hash was made by the agent under both keys.
    #[inline(always)]
    pub fn set_workload(&mut self, epoch: u64, w: &Workload) {
        self.set(WORKLOAD, if epoch & 1 == 0 { w.hash[0] } else { w.hash[1] });
    }
}
