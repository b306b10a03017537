//! What is known about a client: a small array of claims.

use crate::{
    hash::{CLAIM_RAW, HashKey, claim_hash},
    limits,
    wire::{Addr, Workload},
};

/// Claim kinds. Part of the hash and of `Service::identify`: never renumbered. 0: an empty slot.
pub const SOURCE: u8 = 1;
pub const MARK: u8 = 2;
pub const DSCP: u8 = 3;
pub const WORKLOAD: u8 = 4;

/// One claim: its kind, its keyed hash (which includes the kind) and the value, cut to 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub hash: u64,
    pub kind: u8,
    pub len: u8,
    pub raw: [u8; CLAIM_RAW],
}

/// The claims of one connection, in no order; empty slots have kind 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub items: [Claim; limits::CLAIMS],
}

impl Claims {
    /// The identity: the first of the service's kinds that is present.
    #[inline(always)]
    pub fn identity(&self, identify: &[u8; limits::IDENTIFY]) -> Option<u64> {
        let mut i = 0;
        while i < limits::IDENTIFY {
            if identify[i] == 0 {
                return None;
            }
            if let Some(hash) = self.hash(identify[i]) {
                return Some(hash);
            }
            i += 1;
        }
        None
    }

    /// The hash of a kind's claim.
    #[inline(always)]
    pub fn hash(&self, kind: u8) -> Option<u64> {
        let mut i = 0;
        while i < limits::CLAIMS {
            if self.items[i].kind == kind {
                return Some(self.items[i].hash);
            }
            i += 1;
        }
        None
    }

    #[inline(always)]
    pub fn set_source(&mut self, key: HashKey, addr: &Addr) {
        let mut raw = [0; CLAIM_RAW];
        raw[..16].copy_from_slice(&addr.0);
        self.items[0] = Claim { hash: claim_hash(key, SOURCE, 16, &addr.words()), kind: SOURCE, len: 16, raw };
    }

    /// A mark of 0 is no mark.
    #[inline(always)]
    pub fn set_mark(&mut self, key: HashKey, mark: u32) {
        if mark != 0 {
            self.items[1] = number(key, MARK, mark);
        }
    }

    /// A DSCP of 0 is no DSCP.
    #[inline(always)]
    pub fn set_dscp(&mut self, key: HashKey, dscp: u8) {
        if dscp != 0 {
            self.items[2] = number(key, DSCP, u32::from(dscp));
        }
    }

    /// The workload's hash was made by the agent under both keys.
    #[inline(always)]
    pub fn set_workload(&mut self, epoch: u64, w: &Workload) {
        self.items[3] =
            Claim { hash: w.hash[(epoch & 1) as usize], kind: WORKLOAD, len: w.len as u8, raw: w.name };
    }
}

#[inline(always)]
fn number(key: HashKey, kind: u8, value: u32) -> Claim {
    let mut raw = [0; CLAIM_RAW];
    raw[..4].copy_from_slice(&value.to_le_bytes());
    Claim { hash: claim_hash(key, kind, 4, &[u64::from(value)]), kind, len: 4, raw }
}
