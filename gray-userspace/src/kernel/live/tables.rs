//! The live tables as a data path: what they hold, and one step of a plan written into them.

use std::io;

use gray_common::{
    limits,
    slots::Slots,
    wire::{Instance, Subset, Wire},
};

use super::{Live, failed};
use crate::{
    compile::{have::Have, nets::Nets, plan::Write},
    datapath::Datapath,
    fail::{self, Point},
    kernel::{
        KernelError,
        bpf::{self, Map},
    },
};

pub(super) fn write_array<V: Wire>(map: &Map<u32, V>, at: u32, items: &[V]) -> io::Result<()> {
    let keys: Vec<u32> = (at..at + items.len() as u32).collect();
    write_all(map, &keys, items)
}

fn write_entries<K: Wire, V: Wire>(map: &Map<K, V>, entries: &[(K, V)]) -> io::Result<()> {
    // A part at a time: a list of a million is not copied as a whole. The fail point wants it in one.
    let part = if fail::watched(Point::KernelHalf) { entries.len().max(1) } else { 16 * bpf::BATCH };
    entries.chunks(part).try_for_each(|part| {
        let (keys, values): (Vec<K>, Vec<V>) = part.iter().copied().unzip();
        write_all(map, &keys, &values)
    })
}

fn write_all<K: Wire, V: Wire>(map: &Map<K, V>, keys: &[K], values: &[V]) -> io::Result<()> {
    if fail::watched(Point::KernelHalf) && keys.len() > 1 {
        let half = keys.len() / 2;
        map.update_all(&keys[..half], &values[..half])?;
        fail::point(Point::KernelHalf)?;
    }
    map.update_all(keys, values)
}

impl Datapath for Live {
    fn read(&mut self) -> Result<Have, KernelError> {
        let control = self.control.read();
        let bank = (control.epoch & 1) as usize;
        let mut have = Have {
            epoch: control.epoch,
            revision: control.revision[bank],
            key: control.key[bank],
            ..Have::default()
        };
        let why = failed("what the tables hold");
        let m = &self.maps;
        (|| {
            m.listeners.for_each(|k, v| {
                let _ = have.listeners.insert(k, v);
            })?;
            m.lanes.for_each(|k, v| {
                let _ = have.lanes.insert(k, v);
            })?;
            m.identities.for_each(|k, v| have.identities.found(k, v, control.epoch))?;
            m.prefixes.for_each(|k, v| {
                let _ = have.prefixes.insert(k, v);
            })?;
            let mut nets = Vec::new();
            m.nets.for_each(|k, v| nets.push((k, v)))?;
            have.nets = Nets::found(nets, |at, n| m.bounds.read(at, n))?;
            m.instances.for_each(|k, v| {
                if v.live != 0 {
                    let _ = have.instances.insert(k, v);
                }
            })?;
            m.classes.for_each(|k, v| have.classes.insert(k, v))?;
            have.filter = m.filter.lookup(&0)?.map(Box::new).unwrap_or_default();
            let first = bank as u32 * limits::SUBSETS;
            let mut tables = Vec::new();
            m.subsets.for_each(|k, s| {
                if (first..first + limits::SUBSETS).contains(&k) {
                    let at = (k - first) as usize;
                    if s != Subset::default() && have.subsets.len() <= at {
                        have.subsets.resize(at + 1, Subset::default());
                    }
                    if let Some(known) = have.subsets.get_mut(at) {
                        *known = s;
                    }
                    tables.extend([s.v4, s.v6].into_iter().filter(|t| t.len > 0));
                }
            })?;
            tables.sort_by_key(|t| t.offset);
            tables.dedup_by_key(|t| t.offset);
            for t in tables {
                have.tables.push((t.offset, Slots::found(t, |at, n| m.arena.read(at, n))?));
            }
            Ok(())
        })()
        .map_err(why)?;
        Ok(have)
    }

    fn write(&mut self, step: &Write) -> Result<(), KernelError> {
        self.go_on();
        let m = &self.maps;
        let done = match step {
            Write::Class { index, class } => m.classes.update(index, class),
            Write::Instance { index, instance } => m.instances.update(index, instance),
            Write::Arena { offset, words } => write_array(&m.arena, *offset, words),
            Write::Listeners(v) => write_entries(&m.listeners, v),
            Write::Lanes(v) => write_entries(&m.lanes, v),
            Write::Identities(v) => write_entries(&m.identities, v),
            Write::Prefixes(v) => write_entries(&m.prefixes, v),
            Write::Bounds(v) => v.iter().try_for_each(|(at, run)| write_array(&m.bounds, *at, run)),
            Write::Nets(v) => write_entries(&m.nets, v),
            // A splice listener adds its own bits.
            Write::Filter(v) => m.filter.lookup(&0).and_then(|now| {
                let mut all = v.clone();
                all.merge(&now.unwrap_or_default());
                m.filter.update(&0, &all)
            }),
            Write::Services { bank, items } => write_array(&m.services, bank * limits::SERVICES, items),
            Write::Readings { bank, items } => write_array(&m.readings, bank * limits::SERVICES, items),
            Write::Further { bank, items } => write_array(&m.further, bank * limits::SERVICES, items),
            Write::Metadata { bank, items } => write_array(&m.metadata, bank * limits::METADATA, items),
            Write::Facts { bank, items } => write_array(&m.facts, bank * limits::FACTS, items),
            Write::Rules { bank, items } => write_array(&m.rules, bank * limits::RULES, items),
            Write::Weighted { bank, items } => {
                items.iter().zip(bank * limits::WEIGHTED..).try_for_each(|(w, i)| m.weighted.update(&i, w))
            }
            Write::Subsets { bank, items } => write_array(&m.subsets, bank * limits::SUBSETS, items),
            Write::Turn { bank, index, subset } => {
                m.subsets.update(&(bank * limits::SUBSETS + index), subset)
            }
            Write::Control { bank, revision, key } => {
                self.control.edit(|c| {
                    c.revision[*bank as usize & 1] = *revision;
                    c.key[*bank as usize & 1] = *key;
                });
                Ok(())
            }
            Write::Flip { epoch } => {
                self.control.set_epoch(*epoch);
                Ok(())
            }
            Write::Forget { listeners, identities, prefixes, instances, lanes } => m
                .listeners
                .delete_all(listeners)
                .and_then(|()| m.lanes.delete_all(lanes))
                .and_then(|()| m.identities.delete_all(identities))
                .and_then(|()| m.prefixes.delete_all(prefixes))
                .and_then(|()| {
                    instances.iter().try_for_each(|i| m.instances.update(i, &Instance::default()))
                }),
        };
        done.map_err(failed(step))
    }

    fn settle(&mut self) -> Result<(), KernelError> {
        bpf::wait_for_runs().map_err(failed("the grace period"))
    }
}
