//! The flow tables, and while they move to others the tables that they move from: what is not in the new one is fetched from
//! the old one, and what is made or removed is made or removed in both (docs/adr/0016-flow-tables-move.md). Whoever still runs over
//! the old table alone, or already over the new one alone, finds what programs over both have made.

use core::hint::cold_path;

use aya_ebpf::{bindings::BPF_NOEXIST, macros::map, maps::LruHashMap};
use gray_common::{
    limits,
    wire::{Flow4, Flow6, FlowKey4, FlowKey6, MOVING4, MOVING4_OTHER, MOVING6, MOVING6_OTHER},
};

/// Which tables move, as `MOVING_*` bits: set by the loader. The verifier knows its value and cuts off what it excludes.
#[unsafe(no_mangle)]
static MOVING: u32 = 0;

#[inline(always)]
pub fn moving(v4: bool) -> bool {
    moves(if v4 { MOVING4 | MOVING4_OTHER } else { MOVING6 | MOVING6_OTHER })
}

#[inline(always)]
fn moves(family: u32) -> bool {
    // SAFETY: a read of our own static; volatile, because the loader writes another value into the object.
    let bits = unsafe { core::ptr::read_volatile(&raw const MOVING) };
    bits & family != 0
}

#[map(name = "FLOWS4")]
static NOW4: LruHashMap<FlowKey4, Flow4> = LruHashMap::with_max_entries(limits::FLOWS, 0);
#[map(name = "FLOWS6")]
static NOW6: LruHashMap<FlowKey6, Flow6> = LruHashMap::with_max_entries(limits::FLOWS, 0);
/// The old tables; of one entry and unused where nothing moves. Not pinned under these names.
#[map]
static FLOWS4_BEFORE: LruHashMap<FlowKey4, Flow4> = LruHashMap::with_max_entries(1, 0);
#[map]
static FLOWS6_BEFORE: LruHashMap<FlowKey6, Flow6> = LruHashMap::with_max_entries(1, 0);

/// Tables of another ABI: entries go through `CONVERTED`, for there is no stack left for them.
#[cfg(feature = "abi-test")]
mod other {
    use aya_ebpf::{
        bindings::BPF_NOEXIST,
        macros::map,
        maps::{LruHashMap, PerCpuArray},
    };
    use gray_common::{
        layouts::{Other as _, OtherFlow4, OtherFlow6},
        wire::{Flow4, Flow6, FlowKey4, FlowKey6},
    };

    pub struct Converted {
        flow4: Flow4,
        flow6: Flow6,
        other4: OtherFlow4,
        other6: OtherFlow6,
    }
    #[map]
    static CONVERTED: PerCpuArray<Converted> = PerCpuArray::with_max_entries(1, 0);
    #[map]
    static FLOWS4_OTHER: LruHashMap<FlowKey4, OtherFlow4> = LruHashMap::with_max_entries(1, 0);
    #[map]
    static FLOWS6_OTHER: LruHashMap<FlowKey6, OtherFlow6> = LruHashMap::with_max_entries(1, 0);

    macro_rules! other {
        ($key:ty => $value:ty, $now:ident, $other:ident, $ours:ident, $theirs:ident, $fetch:ident, $put:ident, $forget:ident) => {
            /// 0: the other table does not know it either.
            #[inline(never)]
            pub fn $fetch(key: &$key) -> u32 {
                let Some(f) = $other.get_ptr_mut(key) else { return 0 };
                let Some(c) = CONVERTED.get_ptr_mut(0) else { return 0 };
                // SAFETY: an element that stays readable for the run, and this CPU's own slot.
                let (f, c) = unsafe { (&*f, &mut *c) };
                f.read(&mut c.$ours);
                let _ = super::$now.insert(key, &c.$ours, u64::from(BPF_NOEXIST));
                1
            }

            #[inline(never)]
            pub fn $put(key: &$key, f: &$value) -> u32 {
                let Some(c) = CONVERTED.get_ptr_mut(0) else { return 0 };
                // SAFETY: this CPU's own slot.
                let c = unsafe { &mut *c };
                c.$theirs.write(f);
                u32::from($other.insert(key, &c.$theirs, 0).is_ok())
            }

            #[inline(always)]
            pub fn $forget(key: &$key) {
                let _ = $other.remove(key);
            }
        };
    }

    other!(FlowKey4 => Flow4, NOW4, FLOWS4_OTHER, flow4, other4, fetch4, put4, forget4);
    other!(FlowKey6 => Flow6, NOW6, FLOWS6_OTHER, flow6, other6, fetch6, put6, forget6);
}

macro_rules! table {
    (
        $name:ident, $table:ident, $key:ty => $value:ty, $now:ident, $before:ident, $family:ident, $other:ident,
        $fetch:ident, $put:ident, $forget:ident
    ) => {
        pub struct $table;
        pub static $name: $table = $table;

        impl $table {
            /// Of the new table alone, as are `remove`'s: for those whose stack is full. `packet::family` sees to the rest.
            #[inline(always)]
            pub fn get_ptr_mut(&self, key: &$key) -> Option<*mut $value> {
                $now.get_ptr_mut(key)
            }

            #[inline(always)]
            pub fn remove(&self, key: &$key) -> Result<(), i32> {
                $now.remove(key)
            }

            #[inline(always)]
            pub fn find(&self, key: &$key) -> Option<*mut $value> {
                let found = $now.get_ptr_mut(key);
                if found.is_some() || !moves($family | $other) {
                    return found;
                }
                cold_path();
                #[cfg(feature = "abi-test")]
                if moves($other) {
                    return if other::$fetch(key) == 0 { None } else { $now.get_ptr_mut(key) };
                }
                let f = $before.get_ptr_mut(key)?;
                // Whoever was faster has the same.
                // SAFETY: an element that stays readable for the run.
                let _ = $now.insert(key, unsafe { &*f }, u64::from(BPF_NOEXIST));
                $now.get_ptr_mut(key)
            }

            #[inline(always)]
            pub fn insert(&self, key: &$key, f: &$value, flags: u64) -> Result<(), i32> {
                if moves($family) {
                    cold_path();
                    let _ = $before.insert(key, f, flags);
                }
                #[cfg(feature = "abi-test")]
                if moves($other) {
                    cold_path();
                    let _ = other::$put(key, f);
                }
                $now.insert(key, f, flags)
            }

            /// From the old one first: else it could be fetched again in between.
            #[inline(always)]
            pub fn forget(&self, key: &$key) {
                let _ = $before.remove(key);
                #[cfg(feature = "abi-test")]
                other::$forget(key);
                let _ = $now.remove(key);
            }
        }
    };
}

table!(FLOWS4, Table4, FlowKey4 => Flow4, NOW4, FLOWS4_BEFORE, MOVING4, MOVING4_OTHER, fetch4, put4, forget4);
table!(FLOWS6, Table6, FlowKey6 => Flow6, NOW6, FLOWS6_BEFORE, MOVING6, MOVING6_OTHER, fetch6, put6, forget6);

/// Brings what the old table knows of `SCRATCH.arrival`'s flow into the new one. 0: nothing.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_fetch")]
#[inline(never)]
pub extern "C" fn fetch(v4: u32) -> u32 {
    let Some(scratch) = super::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    u32::from(if v4 != 0 {
        scratch.key4 = scratch.arrival.key4();
        FLOWS4.find(&scratch.key4).is_some()
    } else {
        scratch.key6 = scratch.arrival.key6();
        FLOWS6.find(&scratch.key6).is_some()
    })
}

/// Removes from both what [`fetch`] found.
///
/// Exported: see `fetch`.
#[unsafe(export_name = "gray_forget")]
#[inline(never)]
pub extern "C" fn forget(v4: u32) -> u32 {
    let Some(scratch) = super::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `fetch`.
    let scratch = unsafe { &mut *scratch };
    if v4 != 0 {
        FLOWS4.forget(&scratch.key4)
    } else {
        FLOWS6.forget(&scratch.key6)
    }
    1
}
