//! The policy tables read back from their pins, without an agent: what the kernel decides by, dead or alive.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData};
use gray_common::{
    abi::ABI,
    decide::mem::MemTables,
    limits, names, nets,
    slots::Slots,
    wire::{Class, Control, Fact, Instance, ListenerKey, PrefixKey, Rule, Service, Subset},
    wire::{Versioned, Weighted, Wire, Workload},
};

/// Indexes are dealt from the smallest on, and the policies of these tests are small.
const FEW: u32 = 256;

/// The networks that the lab has addresses of.
const NETS: [u32; 2] = [198 << 8 | 18, 198 << 8 | 19];

/// Every entry of the hash tables, and of the arrays what the active epoch sees.
pub fn read(bpffs: &Path) -> Result<MemTables> {
    let pins = Pins { dir: bpffs.join(format!("abi{ABI}/maps")) };
    let mut t =
        MemTables { control: pins.cells::<Control, 424>(names::CONTROL)?.at(0)?, ..MemTables::default() };
    t.listeners = pins.entries::<ListenerKey, Versioned, 20, 16>(names::LISTENERS)?.into_iter().collect();
    t.identities = pins.entries::<u64, Versioned, 8, 16>(names::IDENTITIES)?.into_iter().collect();
    t.lanes = pins.entries::<u32, Versioned, 4, 16>(names::LANES)?.into_iter().collect();
    t.prefixes = pins.prefixes()?.into_iter().collect();
    let classes = pins.cells::<Class, 32>(names::CLASSES)?;
    let mut used: BTreeSet<u32> = pins.nets(&mut t)?.into_iter().collect();
    used.extend(t.identities.values().chain(t.prefixes.values()).flat_map(|v| [v.old, v.new]));
    for i in used {
        let _ = t.classes.insert(i, classes.at(i)?);
    }
    let bank = (t.control.epoch & 1) as u32;
    let first = bank * limits::SERVICES;
    let services = pins.cells::<Service, 56>(names::SERVICES)?;
    let (rules, facts) = (pins.cells::<Rule, 32>(names::RULES)?, pins.cells::<Fact, 16>(names::FACTS)?);
    for i in first..first + FEW {
        let s = services.at(i)?;
        let (rule, fact) = (bank * limits::RULES + s.first_rule, bank * limits::FACTS + s.first_fact);
        for i in rule..rule + u32::from(s.rules) {
            let _ = t.rules.insert(i, rules.at(i)?);
        }
        for i in fact..fact + u32::from(s.facts) {
            let _ = t.facts.insert(i, facts.at(i)?);
        }
        let _ = t.services.insert(i, s);
    }
    let weighted = pins.cells::<Weighted, 10032>(names::WEIGHTED)?;
    for i in bank * limits::WEIGHTED..bank * limits::WEIGHTED + 8 {
        let _ = t.weighted.insert(i, Box::new(weighted.at(i)?));
    }
    let (subsets, arena) = (pins.cells::<Subset, 28>(names::SUBSETS)?, pins.cells::<u32, 4>(names::ARENA)?);
    for i in bank * limits::SUBSETS..bank * limits::SUBSETS + FEW {
        let s = subsets.at(i)?;
        for table in [s.v4, s.v6] {
            let slots = Slots::found(table, |at, n| (at..at + n).map(|i| arena.at(i)).collect())?;
            t.arena.extend((table.offset..).zip(slots.words().iter().copied()));
        }
        let _ = t.subsets.insert(i, s);
    }
    let instances = pins.cells::<Instance, 20>(names::INSTANCES)?;
    for i in 0..FEW {
        let instance = instances.at(i)?;
        if instance.live != 0 {
            let _ = t.instances.insert(i, instance);
        }
    }
    Ok(t)
}

/// Classes that are interned, used or not.
pub fn classes(bpffs: &Path) -> Result<usize> {
    let pins = Pins { dir: bpffs.join(format!("abi{ABI}/maps")) };
    let classes = pins.cells::<Class, 32>(names::CLASSES)?;
    (0..FEW).try_fold(0, |n, i| Ok(n + usize::from(classes.at(i)? != Class::default())))
}

/// The label of the one cgroup that has one.
pub fn label(bpffs: &Path) -> Result<Option<Workload>> {
    let pins = Pins { dir: bpffs.join(format!("abi{ABI}/maps")) };
    let all = pins.entries::<u64, Workload, 8, 24>(names::WORKLOADS)?;
    Ok(all.first().map(|(_, w)| *w))
}

/// Names of everything pinned, sorted.
pub fn names(bpffs: &Path) -> Vec<String> {
    let dirs = ["maps", "links"].map(|kind| std::fs::read_dir(bpffs.join(format!("abi{ABI}/{kind}"))));
    let entries = dirs.into_iter().flatten().flatten().flatten();
    let mut all: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

struct Pins {
    dir: PathBuf,
}

impl Pins {
    fn data(&self, name: &str) -> Result<MapData> {
        MapData::from_pin(self.dir.join(name)).with_context(|| format!("open the pin {name}"))
    }

    fn cells<V: Wire, const N: usize>(&self, name: &str) -> Result<Cells<V, N>> {
        Ok(Cells { array: Array::try_from(Map::Array(self.data(name)?))?, of: PhantomData })
    }

    fn entries<K: Wire, V: Wire, const A: usize, const B: usize>(&self, name: &str) -> Result<Vec<(K, V)>> {
        let map: HashMap<MapData, [u8; A], [u8; B]> = HashMap::try_from(Map::HashMap(self.data(name)?))?;
        map.iter().map(|e| e.map(|(k, v)| (wire(&k), wire(&v))).map_err(Into::into)).collect()
    }

    /// What is said of the lab's networks; the classes that it refers to.
    fn nets(&self, t: &mut MemTables) -> Result<Vec<u32>> {
        let (elements, bounds) = (self.cells::<u32, 4>(names::NETS)?, self.cells::<u32, 4>(names::BOUNDS)?);
        let bank = (t.control.epoch & 1) as u32;
        let mut classes = Vec::new();
        for net in NETS.map(|net| bank * limits::NETS + net) {
            let element = elements.at(net)?;
            let _ = t.nets.insert(net, element);
            let Some(at) = nets::offset(element) else {
                classes.push(element & 0xffff);
                continue;
            };
            for i in at..=at + bounds.at(at)? {
                let _ = t.bounds.insert(i, bounds.at(i)?);
            }
            classes.extend(t.bounds.range(at + 1..=at + t.bounds[&at]).map(|(_, word)| word & 0xffff));
        }
        Ok(classes)
    }

    fn prefixes(&self) -> Result<Vec<(PrefixKey, Versioned)>> {
        let data = Map::LpmTrie(self.data(names::PREFIXES)?);
        let map: LpmTrie<MapData, [u8; 16], [u8; 16]> = LpmTrie::try_from(data)?;
        let key = |k: &aya::maps::lpm_trie::Key<[u8; 16]>| PrefixKey {
            bits: k.prefix_len(),
            addr: wire(&k.data()),
        };
        map.iter().map(|e| e.map(|(k, v)| (key(&k), wire(&v))).map_err(Into::into)).collect()
    }
}

struct Cells<V, const N: usize> {
    array: Array<MapData, [u8; N]>,
    of: PhantomData<V>,
}

impl<V: Wire, const N: usize> Cells<V, N> {
    fn at(&self, i: u32) -> Result<V> {
        Ok(wire(&self.array.get(&i, 0)?))
    }
}

fn wire<T: Wire, const N: usize>(bytes: &[u8; N]) -> T {
    const { assert!(size_of::<T>() == N) };
    // SAFETY: as many bytes as T has, and every bit pattern is a wire type's.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}
