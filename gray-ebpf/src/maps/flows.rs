//! The flow tables, and while they move to others the tables that they move from: what is not in the new one is fetched from
//! the old one, and what is made or removed is made or removed in both (docs/adr/0016-flow-tables-move.md). Whoever still runs over
//! the old table alone, or already over the new one alone, finds what programs over both have made.

use core::{hint::cold_path, mem::offset_of};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use gray_common::{
    limits,
    packet::{TCP, TCP_RST, TCP_SYN},
    wire::{
        FLOW_CLOSING, FLOW_DSR, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_GONE, FLOW_PASS, Flow4, Flow6, FlowKey4,
        FlowKey6, FlowState, MOVING4, MOVING4_OTHER, MOVING6, MOVING6_OTHER,
    },
};

use super::keep;
use crate::ctx::{exchange, jiffies};

/// What the kernel answers where there is an entry already.
pub const EEXIST: i32 = -17;

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

/// Of connections that open during a flood, until both of their ends have spoken (docs/adr/0020-floods-open-elsewhere.md).
#[map(name = "OPENING4")]
static APART4: LruHashMap<FlowKey4, Flow4> = LruHashMap::with_max_entries(limits::OPENING, 0);
#[map(name = "OPENING6")]
static APART6: LruHashMap<FlowKey6, Flow6> = LruHashMap::with_max_entries(limits::OPENING, 0);
/// Timer ticks when the last one was put there; 0: none ever was.
#[map]
static FLOOD: Array<u64> = Array::with_max_entries(1, 0);
/// Connections of a second that are no flood, for each CPU: set by the loader.
#[unsafe(no_mangle)]
static FLOOD_AT: u32 = u32::MAX;

/// Connections that opened in a second on one CPU, and whether those of the second before it were too many.
pub struct Rate {
    since: u64,
    count: u32,
    before: u32,
}
#[map]
static RATE: PerCpuArray<Rate> = PerCpuArray::with_max_entries(1, 0);

/// Counts a connection that opens: whether it is one of a flood, as all are until the second after one without.
#[inline(always)]
pub fn flood(hz: u32) -> bool {
    let (Some(rate), Some(last)) = (RATE.get_ptr_mut(0), FLOOD.get_ptr_mut(0)) else { return false };
    let now = jiffies();
    // SAFETY: this CPU's own slot; and a plain store, of which any CPU's will do. The loader writes the limit into the object.
    unsafe {
        let (rate, limit) = (&mut *rate, core::ptr::read_volatile(&raw const FLOOD_AT));
        let age = now.wrapping_sub(rate.since);
        if age >= u64::from(hz) {
            let before = u32::from(age < 2 * u64::from(hz) && rate.count > limit);
            *rate = Rate { since: now, count: 0, before };
        }
        rate.count = rate.count.wrapping_add(1);
        if rate.before == 0 && rate.count <= limit {
            return false;
        }
        // All CPUs share it: once a tick is enough.
        if core::ptr::read_volatile(last) != now {
            core::ptr::write_volatile(last, now);
        }
    }
    true
}

/// Whether there was a flood not long ago: flows may be apart.
#[inline(always)]
pub fn flooded() -> bool {
    // SAFETY: a plain aligned load.
    FLOOD.get_ptr(0).is_some_and(|last| match unsafe { core::ptr::read_volatile(last) } {
        0 => false,
        last => jiffies().wrapping_sub(last) < limits::FLOOD_MEMORY,
    })
}

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
            pub fn $put(key: &$key, f: &$value, flags: u64) -> u32 {
                let Some(c) = CONVERTED.get_ptr_mut(0) else { return 0 };
                // SAFETY: this CPU's own slot.
                let c = unsafe { &mut *c };
                c.$theirs.write(f);
                u32::from($other.insert(key, &c.$theirs, flags).is_ok())
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
        $name:ident, $table:ident, $key:ty => $value:ty, $now:ident, $before:ident, $apart:ident, $family:ident,
        $other:ident, $fetch:ident, $put:ident, $forget:ident
    ) => {
        pub struct $table;
        pub static $name: $table = $table;

        impl $table {
            /// The aligned word that has an entry's flags, and their mark in it.
            const WORD: usize = (offset_of!($value, state) + offset_of!(FlowState, flags)) & !7;
            const GONE: u64 =
                (FLOW_GONE as u64) << (8 * ((offset_of!($value, state) + offset_of!(FlowState, flags)) & 7));

            /// Of the new table alone, as are `remove`'s: for those whose stack is full. `packet::family` sees to the rest.
            #[inline(always)]
            pub fn get_ptr_mut(&self, key: &$key) -> Option<*mut $value> {
                $now.get_ptr_mut(key)
            }

            /// The same; `late`: what is apart, too.
            #[inline(always)]
            pub fn any(&self, key: &$key, late: bool) -> Option<*mut $value> {
                let found = $now.get_ptr_mut(key);
                if found.is_some() || !late { found } else { $apart.get_ptr_mut(key) }
            }

            #[inline(always)]
            pub fn remove(&self, key: &$key, late: bool) {
                let _ = $now.remove(key);
                if late {
                    let _ = $apart.remove(key);
                }
            }

            #[inline(always)]
            pub fn find(&self, key: &$key, late: bool) -> Option<*mut $value> {
                let found = self.any(key, late);
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

            /// `apart`: of a connection of a flood. `late`: there are such, and one of an earlier connection goes.
            #[inline(always)]
            pub fn put(&self, key: &$key, f: &$value, apart: bool, late: bool) -> Result<(), i32> {
                if apart {
                    cold_path();
                    return keep(&$apart, key, f, 0);
                }
                if late {
                    cold_path();
                    let _ = $apart.remove(key);
                }
                self.insert(key, f, 0)
            }

            /// Puts an entry where none is: of two CPUs one does. [`EEXIST`]: there is one, wherever programs look for it.
            #[inline(always)]
            pub fn claim(&self, key: &$key, f: &$value, apart: bool) -> Result<(), i32> {
                const NEW: u64 = BPF_NOEXIST as u64;
                if apart {
                    cold_path();
                    keep(&$apart, key, f, NEW)?;
                    // One CPU may see a flood and another not: each looks at the other's table when its own entry is there.
                    if self.find(key, false).is_some() {
                        let _ = $apart.remove(key);
                        return Err(EEXIST);
                    }
                    return Ok(());
                }
                if moves($family) {
                    cold_path();
                    // First: it is all that programs over the old table alone look at.
                    $before.insert(key, f, NEW)?;
                }
                #[cfg(feature = "abi-test")]
                if moves($other) && other::$put(key, f, NEW) == 0 {
                    return Err(EEXIST);
                }
                keep(&$now, key, f, NEW)?;
                if flooded() && $apart.get_ptr(key).is_some() {
                    cold_path();
                    self.clear(key, false);
                    return Err(EEXIST);
                }
                Ok(())
            }

            /// What [`Self::seize`] compares.
            #[inline(always)]
            pub fn word(&self, f: *mut $value) -> u64 {
                // SAFETY: an element that stays readable for the run, of which this is an aligned word.
                unsafe { f.byte_add(Self::WORD).cast::<u64>().read_volatile() }
            }

            /// Marks an entry that is to be replaced, and whose [`Self::word`] was `was` when it was looked at. False: another CPU was
            /// quicker, or it has changed.
            #[inline(always)]
            pub fn seize(&self, f: *mut $value, was: u64) -> bool {
                // SAFETY: within the element.
                let at = unsafe { f.byte_add(Self::WORD).cast::<u64>() };
                was & Self::GONE == 0 && exchange(at, was, was | Self::GONE) == was
            }

            /// Removes an entry wherever programs look for it.
            #[inline(always)]
            pub fn clear(&self, key: &$key, late: bool) {
                if moves($family | $other) {
                    cold_path();
                    self.forget(key);
                } else {
                    let _ = $now.remove(key);
                }
                if late {
                    cold_path();
                    let _ = $apart.remove(key);
                }
            }

            /// From those apart to the others.
            #[inline(always)]
            fn settle(&self, key: &$key, f: &$value) {
                let _ = self.insert(key, f, u64::from(BPF_NOEXIST));
                let _ = $apart.remove(key);
            }

            #[inline(always)]
            fn insert(&self, key: &$key, f: &$value, flags: u64) -> Result<(), i32> {
                if moves($family) {
                    cold_path();
                    let _ = $before.insert(key, f, flags);
                }
                #[cfg(feature = "abi-test")]
                if moves($other) {
                    cold_path();
                    let _ = other::$put(key, f, flags);
                }
                keep(&$now, key, f, flags)
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

table!(FLOWS4, Table4, FlowKey4 => Flow4, NOW4, FLOWS4_BEFORE, APART4, MOVING4, MOVING4_OTHER, fetch4, put4, forget4);
table!(FLOWS6, Table6, FlowKey6 => Flow6, NOW6, FLOWS6_BEFORE, APART6, MOVING6, MOVING6_OTHER, fetch6, put6, forget6);

/// Sees to a flow that is not among the others: 0: nor is it apart. What is there and both of whose ends have spoken joins the
/// others: TCP when its client goes on after an answer, UDP with its client's second packet. Answers of `nat: dsr` and of stable on
/// its own address may pass elsewhere: there it is the client's second packet that is no SYN.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_settle")]
#[inline(never)]
pub extern "C" fn settle(v4: u32) -> u32 {
    let Some(scratch) = super::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    let a = &scratch.arrival;
    let tcp = a.proto == TCP;
    let goes_on = !tcp || a.tcp_flags & (TCP_SYN | TCP_RST) == 0;
    macro_rules! family {
        ($flows:ident, $apart:ident, $key:ident, $back:ident, $arrival:ident, $tuple:ident) => {{
            scratch.$key = a.$arrival();
            let Some(f) = $apart.get_ptr_mut(&scratch.$key) else { return 0 };
            // SAFETY: elements that stay readable for the run.
            let f = unsafe { &*f };
            if !goes_on || f.state.flags & FLOW_FORWARD == 0 {
                return 1;
            }
            if f.state.flags & FLOW_DSR == 0 {
                let key = &scratch.$key;
                scratch.$back = $tuple {
                    saddr: f.daddr,
                    daddr: f.saddr,
                    sport: f.dport,
                    dport: f.sport,
                    proto: key.proto,
                };
                let stays = f.state.flags & FLOW_PASS;
                // SAFETY: as above.
                let reply = $apart.get_ptr_mut(&scratch.$back).map(|r| unsafe { &*r });
                const SPOKE: u16 = FLOW_ESTABLISHED | FLOW_CLOSING;
                let answered = |r: &FlowState| !tcp || r.flags & SPOKE == FLOW_ESTABLISHED;
                match reply {
                    Some(reply) if reply.state.flags & FLOW_PASS == stays && answered(&reply.state) => {
                        $flows.settle(&scratch.$back, reply);
                    }
                    _ if stays == 0 => return 1,
                    _ => {}
                }
            }
            $flows.settle(&scratch.$key, f);
            1
        }};
    }
    if v4 != 0 {
        family!(FLOWS4, APART4, key4, back4, key4, FlowKey4)
    } else {
        family!(FLOWS6, APART6, key6, back6, key6, FlowKey6)
    }
}

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
        FLOWS4.find(&scratch.key4, false).is_some()
    } else {
        scratch.key6 = scratch.arrival.key6();
        FLOWS6.find(&scratch.key6, false).is_some()
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

/// Whether there is an entry of `SCRATCH.back4`, or `.back6`. 0: no. While tables move, for whose entries there is no stack left: yes.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_answers")]
#[inline(never)]
pub extern "C" fn answers(v4: u32) -> u32 {
    let Some(scratch) = super::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `fetch`.
    let scratch = unsafe { &mut *scratch };
    let late = flooded();
    u32::from(if v4 != 0 {
        moving(true) || FLOWS4.any(&scratch.back4, late).is_some()
    } else {
        moving(false) || FLOWS6.any(&scratch.back6, late).is_some()
    })
}
