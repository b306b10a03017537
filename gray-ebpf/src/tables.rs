//! The decision's lookups over the kernel's maps, at the epoch that the run read once.

use aya_ebpf::maps::lpm_trie::Key;
use gray_common::{
    decide::Tables,
    hash::HashKey,
    limits, nets,
    wire::{
        Addr, Class, Control, Fact, Instance, ListenerKey, ListenerValue, Rule, Service, Subset, Versioned,
    },
};

use crate::{
    ctx::{opaque, repeat, taken},
    hooks::breaker,
    maps,
};

/// The tables at one epoch. Made once per run.
pub struct Kernel {
    pub control: &'static Control,
    epoch: u64,
    bank: u32,
    /// No connection follows the decision: it takes no turn.
    pub asks: bool,
    /// The connection's end will be seen: a breaker may let it try.
    pub seen: bool,
}

impl Kernel {
    /// `None`: no policy was ever active.
    #[inline(always)]
    pub fn now() -> Option<Self> {
        let control: &'static Control = maps::CONTROL.get(0)?;
        // SAFETY: a plain aligned load; volatile so that the epoch is read exactly once per run.
        let epoch = unsafe { core::ptr::read_volatile(&control.epoch) };
        if epoch == 0 { None } else { Some(Self::of(control, epoch)) }
    }

    /// In a function of its own, at the epoch that the run began with.
    #[inline(always)]
    pub fn at(epoch: u64) -> Option<Self> {
        Some(Self::of(maps::CONTROL.get(0)?, epoch))
    }

    #[inline(always)]
    fn of(control: &'static Control, epoch: u64) -> Self {
        Self { control, epoch, bank: (epoch & 1) as u32, asks: false, seen: false }
    }

    #[inline(always)]
    pub fn key(&self) -> HashKey {
        if self.bank == 0 { self.control.key[0] } else { self.control.key[1] }
    }

    #[inline(always)]
    pub fn listener(&self, key: &ListenerKey) -> ListenerValue {
        // SAFETY: the value is copied out at once.
        ListenerValue(unsafe { maps::LISTENERS.get(key) }.map_or(0, |v| v.at(self.epoch)))
    }

    /// Not 0: the policy knows the lane of this number.
    #[inline(always)]
    pub fn lane(&self, number: u32) -> u32 {
        // SAFETY: the value is copied out at once.
        unsafe { maps::LANES.get(&number) }.map_or(0, |v| v.at(self.epoch))
    }
}

impl Tables for Kernel {
    #[inline(always)]
    fn each(n: u32, f: impl FnMut(u32) -> bool) {
        repeat(n, f);
    }

    #[inline(always)]
    fn epoch(&self) -> u64 {
        self.epoch
    }

    #[inline(always)]
    fn service(&self, index: u32) -> Option<&Service> {
        if index >= limits::SERVICES {
            return None;
        }
        maps::SERVICES.get(self.bank * limits::SERVICES + index)
    }

    #[inline(always)]
    fn fact(&self, index: u32) -> Option<&Fact> {
        if index >= limits::FACTS {
            return None;
        }
        maps::FACTS.get(self.bank * limits::FACTS + index)
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Option<&Rule> {
        if index >= limits::RULES {
            return None;
        }
        maps::RULES.get(self.bank * limits::RULES + index)
    }

    #[inline(always)]
    fn identity(&self, hash: u64) -> Option<Versioned> {
        // SAFETY: the value is copied out at once.
        unsafe { maps::IDENTITIES.get(&hash) }.copied()
    }

    #[inline(always)]
    fn prefix(&self, addr: &Addr) -> Option<u32> {
        if addr.is_v4() {
            return Some(net_class(self.epoch, addr.as_v4()));
        }
        // The verifier wants aligned stack writes: the address, behind the length, at a multiple of 8.
        #[repr(C, align(8))]
        struct Aligned {
            _pad: u32,
            key: Key<Addr>,
        }
        let k = Aligned { _pad: 0, key: Key::new(128, *addr) };
        maps::PREFIXES.get(&k.key).map(|v| v.at(self.epoch))
    }

    #[inline(always)]
    fn class(&self, index: u32) -> Option<&Class> {
        maps::CLASSES.get(index)
    }

    #[inline(always)]
    fn owner(&self, weighted: u32, bucket: u16) -> Option<u32> {
        if weighted >= limits::WEIGHTED {
            return None;
        }
        let w = maps::WEIGHTED.get(self.bank * limits::WEIGHTED + weighted)?;
        // The compiler knows that a bucket is below 10 000, the verifier does not.
        let b = opaque(u32::from(bucket)) as usize;
        if b >= limits::BUCKETS as usize {
            return None;
        }
        let arm = opaque(u32::from(w.owner[b])) as usize;
        if arm >= limits::ARMS {
            return None;
        }
        Some(w.arms[arm])
    }

    #[inline(always)]
    fn subset(&self, index: u32) -> Option<&Subset> {
        if index >= limits::SUBSETS {
            return None;
        }
        maps::SUBSETS.get(self.bank * limits::SUBSETS + index)
    }

    #[inline(always)]
    fn arena(&self, index: u32) -> Option<u32> {
        maps::ARENA.get(index).copied()
    }

    #[inline(always)]
    fn instance(&self, index: u32) -> Option<&Instance> {
        maps::INSTANCES.get(index)
    }

    #[inline(always)]
    fn turn(&self, at: u32) -> u32 {
        maps::TURNS.get_ptr_mut(at).map_or(0, |n| taken(n) as u32)
    }

    #[inline(always)]
    fn guard(&self, s: &Service) -> u32 {
        let b = &s.breaker;
        let of = u32::from(s.id) | u32::from(self.seen) << 16 | (b.retransmits & 7) << 17 | b.failures << 24;
        breaker::guard(of, s.flags, s.lease_ms, b.window_ms, b.open_ms)
    }
}

/// The class of an IPv4 address (network order); 0: of no list.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_net_class")]
#[inline(never)]
pub extern "C" fn net_class(epoch: u64, addr: u32) -> u32 {
    let addr = u32::from_be(addr);
    let bank = (epoch & 1) as u32;
    let Some(net) = maps::NETS.get(bank * limits::NETS + (addr >> 16)) else { return 0 };
    nets::class(*net, addr as u16, |i| maps::BOUNDS.get(i).copied()).unwrap_or(0)
}
