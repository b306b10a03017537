//! The seam between control and kernel: two implementations, `kernel::Live` and `Fake`, whose tables decide the same.

use std::convert::Infallible;

use gray_common::{decide::mem::MemTables, slots::Slots};

use crate::{
    compile::{have::Have, nets::Nets, plan::Write},
    kernel::KernelError,
};

/// The tables of a data path.
pub trait Datapath: Send {
    /// Everything that the next plan must know.
    fn read(&mut self) -> Result<Have, KernelError>;
    /// One step. A failed one may be half done; what is active is never touched before the flip.
    fn write(&mut self, step: &Write) -> Result<(), KernelError>;
    /// Returns when no run that began before the call is still going: after it, the other bank may be filled.
    fn settle(&mut self) -> Result<(), KernelError>;
}

/// The part of a data path that health turns, beside the changes of policy: tables, and the subsets of the active bank.
pub trait Turns: Send {
    fn turn(&mut self, step: &Write) -> Result<(), KernelError>;
    /// As [`Datapath::settle`].
    fn grace(&mut self) -> Result<(), KernelError>;
}

/// The data path in memory, for tests of everything above the kernel. Can be told to fail at the k-th step.
#[derive(Debug, Default)]
pub struct Fake {
    pub tables: MemTables,
    /// Fails the step with this number (from 0), once.
    pub fail_at: Option<usize>,
    steps: usize,
}

impl Fake {
    /// Steps taken so far.
    pub fn steps(&self) -> usize {
        self.steps
    }
}

impl Datapath for Fake {
    fn read(&mut self) -> Result<Have, KernelError> {
        Ok(have_of(&self.tables))
    }

    fn write(&mut self, step: &Write) -> Result<(), KernelError> {
        let n = self.steps;
        self.steps += 1;
        if self.fail_at == Some(n) {
            self.fail_at = None;
            let source = std::io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(KernelError::Write { what: step.to_string(), source });
        }
        write_mem(&mut self.tables, step);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), KernelError> {
        Ok(())
    }
}

impl Turns for std::sync::Arc<std::sync::Mutex<Fake>> {
    fn turn(&mut self, step: &Write) -> Result<(), KernelError> {
        self.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write(step)
    }

    fn grace(&mut self) -> Result<(), KernelError> {
        self.lock().unwrap_or_else(std::sync::PoisonError::into_inner).settle()
    }
}

/// What tables in memory hold, as a plan sees it.
pub fn have_of(t: &MemTables) -> Have {
    use gray_common::limits;
    let bank = (t.control.epoch & 1) as u32;
    let mut have = Have {
        epoch: t.control.epoch,
        revision: t.control.revision[bank as usize],
        key: t.control.key[bank as usize],
        listeners: t.listeners.clone(),
        lanes: t.lanes.clone(),
        prefixes: t.prefixes.clone(),
        instances: t.instances.clone(),
        ..Have::default()
    };
    let word = |i: u32| t.bounds.get(&i).copied().unwrap_or_default();
    let read = |at: u32, n: u32| -> Result<Vec<u32>, Infallible> { Ok((at..at + n).map(word).collect()) };
    let Ok(nets) = Nets::found(t.nets.iter().map(|(i, e)| (*i, *e)), read);
    have.nets = nets;
    t.identities.iter().for_each(|(h, v)| have.identities.found(*h, *v, t.control.epoch));
    for (i, c) in &t.classes {
        have.classes.insert(*i, *c);
    }
    let subsets = t.subsets.range(bank * limits::SUBSETS..(bank + 1) * limits::SUBSETS);
    have.subsets = subsets.clone().map(|(_, s)| *s).collect();
    for table in subsets.flat_map(|(_, s)| [s.v4, s.v6]) {
        if table.len > 0 && have.tables.iter().all(|(o, _)| *o != table.offset) {
            let word = |i: u32| t.arena.get(&i).copied().unwrap_or(0);
            let read =
                |at: u32, n: u32| -> Result<Vec<u32>, Infallible> { Ok((at..at + n).map(word).collect()) };
            let Ok(slots) = Slots::found(table, read);
            have.tables.push((table.offset, slots));
        }
    }
    have
}

/// Applies one step to tables in memory.
pub fn write_mem(t: &mut MemTables, step: &Write) {
    use gray_common::limits;
    fn bank<T: Clone>(map: &mut std::collections::BTreeMap<u32, T>, at: u32, items: &[T]) {
        for (i, item) in items.iter().enumerate() {
            let _ = map.insert(at + i as u32, item.clone());
        }
    }
    match step {
        Write::Class { index, class } => drop(t.classes.insert(*index, *class)),
        Write::Instance { index, instance } => drop(t.instances.insert(*index, *instance)),
        Write::Arena { offset, words } => bank(&mut t.arena, *offset, words),
        Write::Listeners(v) => t.listeners.extend(v.iter().copied()),
        Write::Lanes(v) => t.lanes.extend(v.iter().copied()),
        Write::Identities(v) => t.identities.extend(v.iter().copied()),
        Write::Prefixes(v) => t.prefixes.extend(v.iter().copied()),
        Write::Bounds(v) => v.iter().for_each(|(at, run)| bank(&mut t.bounds, *at, run)),
        Write::Nets(v) => t.nets.extend(v.iter().copied()),
        Write::Filter(_) => {}
        Write::Services { bank: b, items } => bank(&mut t.services, b * limits::SERVICES, items),
        Write::Readings { bank: b, items } => bank(&mut t.readings, b * limits::SERVICES, items),
        Write::Further { bank: b, items } => bank(&mut t.further, b * limits::SERVICES, items),
        Write::Metadata { bank: b, items } => bank(&mut t.metadata, b * limits::METADATA, items),
        Write::Facts { bank: b, items } => bank(&mut t.facts, b * limits::FACTS, items),
        Write::Rules { bank: b, items } => bank(&mut t.rules, b * limits::RULES, items),
        Write::Weighted { bank: b, items } => bank(&mut t.weighted, b * limits::WEIGHTED, items),
        Write::Subsets { bank: b, items } => bank(&mut t.subsets, b * limits::SUBSETS, items),
        Write::Turn { bank, index, subset } => {
            let _ = t.subsets.insert(bank * limits::SUBSETS + index, *subset);
        }
        Write::Control { bank, revision, key } => {
            t.control.revision[*bank as usize & 1] = *revision;
            t.control.key[*bank as usize & 1] = *key;
        }
        Write::Flip { epoch } => t.control.epoch = *epoch,
        Write::Forget { listeners, identities, prefixes, instances, lanes } => {
            t.listeners.retain(|k, _| !listeners.contains(k));
            t.lanes.retain(|k, _| !lanes.contains(k));
            t.identities.retain(|k, _| !identities.contains(k));
            t.prefixes.retain(|k, _| !prefixes.contains(k));
            t.instances.retain(|k, _| !instances.contains(k));
        }
    }
}
