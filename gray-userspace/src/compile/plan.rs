//! The difference between what the tables hold and what they shall hold, as a list of values before it is a system
//! call. The order is part of the contract: what others refer to comes first, the flip last, removals after it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use gray_common::{
    filter::Filter,
    hash::HashKey,
    limits,
    wire::{
        Class, Fact, Further, Instance, ListenerKey, Metadata, PrefixKey, Reading, Rule, Service, Subset,
        Versioned, Weighted,
    },
};

use super::{
    CompileError, Compiled,
    arena::Arena,
    have::Have,
    identities::{ByHash, with},
    lists::{Edit, Lists, Prefixes},
    nets,
    placed::{Content, Placed, place, places},
    prefixes,
};

/// One step. `bank` is 0 or 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Class {
        index: u32,
        class: Class,
    },
    Instance {
        index: u32,
        instance: Instance,
    },
    Arena {
        offset: u32,
        words: Vec<u32>,
    },
    Listeners(Vec<(ListenerKey, Versioned)>),
    Lanes(Vec<(u32, Versioned)>),
    Identities(Vec<(u64, Versioned)>),
    Prefixes(Vec<(PrefixKey, Versioned)>),
    /// Runs of words, by where they begin.
    Bounds(Vec<(u32, Vec<u32>)>),
    /// By their index in both banks.
    Nets(Vec<(u32, u32)>),
    Filter(Box<Filter>),
    Services {
        bank: u32,
        items: Vec<Service>,
    },
    Readings {
        bank: u32,
        items: Vec<Reading>,
    },
    Further {
        bank: u32,
        items: Vec<Further>,
    },
    Metadata {
        bank: u32,
        items: Vec<Metadata>,
    },
    Facts {
        bank: u32,
        items: Vec<Fact>,
    },
    Rules {
        bank: u32,
        items: Vec<Rule>,
    },
    Weighted {
        bank: u32,
        items: Vec<Box<Weighted>>,
    },
    Subsets {
        bank: u32,
        items: Vec<Subset>,
    },
    /// One subset of the active bank turns to other tables: health.
    Turn {
        bank: u32,
        index: u32,
        subset: Subset,
    },
    Control {
        bank: u32,
        revision: u64,
        key: HashKey,
    },
    /// The one store that turns the policy.
    Flip {
        epoch: u64,
    },
    /// After the flip and a grace period: what is absent now.
    Forget {
        listeners: Vec<ListenerKey>,
        identities: Vec<u64>,
        prefixes: Vec<PrefixKey>,
        instances: Vec<u32>,
        lanes: Vec<u32>,
    },
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class { index, .. } => write!(f, "class {index}"),
            Self::Instance { index, instance } => {
                let at = std::net::IpAddr::from(instance.addr);
                write!(f, "instance {index} {at} port {}", u16::from_be(instance.port))
            }
            Self::Arena { offset, words } => write!(f, "maglev table of {} words at {offset}", words.len()),
            Self::Listeners(v) => write!(f, "{} listeners", v.len()),
            Self::Lanes(v) => write!(f, "{} lanes", v.len()),
            Self::Identities(v) => write!(f, "{} identities", v.len()),
            Self::Prefixes(v) => write!(f, "{} prefixes", v.len()),
            Self::Bounds(v) => {
                write!(f, "{} words of prefixes", v.iter().map(|(_, run)| run.len()).sum::<usize>())
            }
            Self::Nets(v) => write!(f, "{} networks of prefixes", v.len()),
            Self::Filter(_) => f.write_str("the filter"),
            Self::Services { bank, items } => write!(f, "{} services into bank {bank}", items.len()),
            Self::Readings { bank, items } => write!(f, "{} readings into bank {bank}", items.len()),
            Self::Further { bank, items } => write!(f, "{} further readings into bank {bank}", items.len()),
            Self::Metadata { bank, items } => {
                write!(f, "{} instances' metadata into bank {bank}", items.len())
            }
            Self::Facts { bank, items } => write!(f, "{} facts into bank {bank}", items.len()),
            Self::Rules { bank, items } => write!(f, "{} rules into bank {bank}", items.len()),
            Self::Weighted { bank, items } => write!(f, "{} weighted routes into bank {bank}", items.len()),
            Self::Subsets { bank, items } => write!(f, "{} subsets into bank {bank}", items.len()),
            Self::Turn { bank, index, .. } => write!(f, "subset {index} of bank {bank}"),
            Self::Control { bank, revision, .. } => write!(f, "revision {revision} into bank {bank}"),
            Self::Flip { epoch } => write!(f, "flip to epoch {epoch}"),
            Self::Forget { listeners, identities, prefixes, instances, lanes } => write!(
                f,
                "forget {} listeners, {} identities, {} prefixes, {} instances, {} lanes",
                listeners.len(),
                identities.len(),
                prefixes.len(),
                instances.len(),
                lanes.len()
            ),
        }
    }
}

/// What the tables shall hold from the next epoch on.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    pub revision: u64,
    pub key: HashKey,
    pub compiled: &'a Compiled,
    pub identities: Wanted<'a>,
    /// `None`: as they are.
    pub prefixes: Option<&'a Prefixes>,
}

/// The lists' identities from the next epoch on.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// As they are.
    Same,
    /// As they are but for these.
    Edit(&'a Edit),
    /// These and no others.
    All(&'a ByHash<Class>),
}

impl<'a> Want<'a> {
    /// Everything compared, whatever the kernel has.
    pub fn all(revision: u64, key: HashKey, compiled: &'a Compiled, lists: &'a Lists) -> Self {
        let (identities, prefixes) = (Wanted::All(&lists.identities), Some(&lists.prefixes));
        Self { revision, key, compiled, identities, prefixes }
    }
}

/// The steps from `have` to `want`, up to and including the flip; `have` is brought to the state after them.
pub fn plan(have: &mut Have, want: &Want<'_>) -> Result<Vec<Write>, CompileError> {
    let mut arena = Arena::holding(have.tables.iter().cloned());
    let placed = place(&mut arena, want.compiled.subsets.iter().map(|s| (s, Content::of(s))))?;
    let used = places(&placed.subsets);
    let tables = arena.tables().filter(|(o, _)| used.contains(o));
    have.tables = tables.map(|(o, s)| (o, s.clone())).collect();
    plan_placed(have, want, placed)
}

/// The same with tables that somebody else keeps account of.
pub fn plan_placed(have: &mut Have, want: &Want<'_>, placed: Placed) -> Result<Vec<Write>, CompileError> {
    let next = have.epoch + 1;
    let bank = (next & 1) as u32;
    let c = want.compiled;
    let mut out = Vec::new();
    for (index, instance) in &c.instances {
        if have.instances.get(index) != Some(instance) {
            out.push(Write::Instance { index: *index, instance: *instance });
            let _ = have.instances.insert(*index, *instance);
        }
    }
    out.extend(placed.fresh);
    let listeners = c.listeners.iter().map(|(k, v)| (*k, v.0)).collect();
    let changed = differences(&mut have.listeners, &listeners, next);
    push(&mut out, changed, Write::Listeners);
    let changed = differences(&mut have.lanes, &c.lanes, next);
    push(&mut out, changed, Write::Lanes);
    plan_identities(have, want, next, &mut out)?;
    plan_prefixes(have, want, next, &mut out)?;
    out.extend(plan_filter(have, c));
    push(&mut out, c.services.clone(), |items| Write::Services { bank, items });
    push(&mut out, c.readings.clone(), |items| Write::Readings { bank, items });
    push(&mut out, c.further.clone(), |items| Write::Further { bank, items });
    push(&mut out, c.metadata.clone(), |items| Write::Metadata { bank, items });
    push(&mut out, c.facts.clone(), |items| Write::Facts { bank, items });
    push(&mut out, c.rules.clone(), |items| Write::Rules { bank, items });
    push(&mut out, c.weighted.clone(), |items| Write::Weighted { bank, items });
    push(&mut out, placed.subsets, |items| Write::Subsets { bank, items });
    out.push(Write::Control { bank, revision: want.revision, key: want.key });
    out.push(Write::Flip { epoch: next });
    have.classes.settle();
    have.epoch = next;
    have.revision = want.revision;
    have.key = want.key;
    Ok(out)
}

/// Where the steps begin that turn the policy: before it, nothing that the active epoch can see.
pub fn turn(steps: &[Write]) -> usize {
    steps.iter().position(|s| matches!(s, Write::Control { .. } | Write::Flip { .. })).unwrap_or(steps.len())
}

fn push<T>(out: &mut Vec<Write>, items: Vec<T>, make: impl FnOnce(Vec<T>) -> Write) {
    if !items.is_empty() {
        out.push(make(items));
    }
}

/// The step after the flip: entries that are absent from this epoch on, and instance slots that nobody names.
pub fn forget(have: &mut Have, compiled: &Compiled, listed: &Prefixes) -> Option<Write> {
    let epoch = have.epoch;
    let gone = |v: &Versioned| v.at(epoch) == 0;
    let listeners: Vec<_> = have.listeners.iter().filter(|(_, v)| gone(v)).map(|(k, _)| *k).collect();
    let identities = have.identities.forget();
    // Not by their value: a prefix that is gone carries that of a wider one.
    let prefixes: Vec<_> = have.prefixes.keys().filter(|k| !listed.has(k)).copied().collect();
    let instances: Vec<_> =
        have.instances.keys().filter(|i| !compiled.instances.contains_key(i)).copied().collect();
    let lanes: Vec<_> = have.lanes.iter().filter(|(_, v)| gone(v)).map(|(n, _)| *n).collect();
    have.listeners.retain(|_, v| !gone(v));
    have.lanes.retain(|_, v| !gone(v));
    have.prefixes.retain(|k, _| listed.has(k));
    have.instances.retain(|i, _| compiled.instances.contains_key(i));
    let nothing = listeners.is_empty()
        && identities.is_empty()
        && prefixes.is_empty()
        && instances.is_empty()
        && lanes.is_empty();
    if nothing { None } else { Some(Write::Forget { listeners, identities, prefixes, instances, lanes }) }
}

/// Brings one versioned table to what is wanted, returning the entries to write.
fn differences<K: Ord + Copy>(
    have: &mut BTreeMap<K, Versioned>,
    want: &BTreeMap<K, u32>,
    next: u64,
) -> Vec<(K, Versioned)> {
    let mut out = Vec::new();
    let gone: Vec<K> = have.keys().filter(|k| !want.contains_key(k)).copied().collect();
    for (k, v) in want.iter().map(|(k, v)| (*k, *v)).chain(gone.into_iter().map(|k| (k, 0))) {
        let now = have.get(&k).copied().unwrap_or_default();
        if now.at(next) != v {
            let entry = now.then(next, v);
            let _ = have.insert(k, entry);
            out.push((k, entry));
        }
    }
    out
}

fn plan_identities(
    have: &mut Have,
    want: &Want<'_>,
    next: u64,
    out: &mut Vec<Write>,
) -> Result<(), CompileError> {
    let mut changed = Vec::new();
    match want.identities {
        Wanted::Same => {}
        Wanted::Edit(edit) => {
            have.identities.reserve(edit.on.len());
            changed.reserve(edit.on.len() + edit.off.len());
            for (hashes, on) in [(&edit.on, true), (&edit.off, false)] {
                // Many have the same class before, and so after.
                let mut after = HashMap::new();
                for h in hashes {
                    let now = have.identities.class(*h);
                    let class = match after.get(&now) {
                        Some(class) => *class,
                        None => {
                            let class = with(have.classes.get(now), edit.bit, on);
                            let class = have.class(class, out)?;
                            let _ = after.insert(now, class);
                            class
                        }
                    };
                    changed.extend(have.identities.set(*h, class, next).map(|entry| (*h, entry)));
                }
            }
        }
        Wanted::All(lists) => {
            have.identities.reserve(lists.len().saturating_sub(have.identities.len()));
            let gone: Vec<u64> =
                have.identities.iter().map(|(h, _)| h).filter(|h| !lists.contains_key(h)).collect();
            changed.extend(gone.iter().filter_map(|h| Some((*h, have.identities.set(*h, 0, next)?))));
            for (h, class) in lists {
                let class = have.class(*class, out)?;
                changed.extend(have.identities.set(*h, class, next).map(|entry| (*h, entry)));
            }
        }
    }
    let ahead = have.identities.put_back(next);
    if !ahead.is_empty() {
        // Each key once: writes of one step have no order among themselves.
        let written: HashSet<u64> = changed.iter().map(|(h, _)| *h).collect();
        changed.extend(ahead.into_iter().filter(|(h, _)| !written.contains(h)));
    }
    if have.identities.entries() > limits::IDENTITIES as usize {
        return Err(CompileError::Limit { what: "identities", limit: limits::IDENTITIES });
    }
    push(out, changed, Write::Identities);
    Ok(())
}

fn plan_prefixes(
    have: &mut Have,
    want: &Want<'_>,
    next: u64,
    out: &mut Vec<Write>,
) -> Result<(), CompileError> {
    let changes = match want.prefixes {
        Some(prefixes) => Some(nets::changes(prefixes.iter(), |class| have.class(class, out))?),
        None => None,
    };
    let changed = have.nets.change(changes.as_deref(), next)?;
    push(out, changed.bounds, Write::Bounds);
    push(out, changed.nets, Write::Nets);
    let Some(prefixes) = want.prefixes else { return Ok(()) };
    let mut classes = BTreeMap::new();
    for (k, class) in prefixes.inherited() {
        let _ = classes.insert(k, have.class(class, out)?);
    }
    let changed = prefixes::differences(&mut have.prefixes, &classes, next);
    if prefixes.len() > limits::PREFIXES as usize || have.prefixes.len() > limits::PREFIXES as usize {
        return Err(CompileError::Limit { what: "prefixes", limit: limits::PREFIXES });
    }
    push(out, changed, Write::Prefixes);
    Ok(())
}

fn plan_filter(have: &mut Have, c: &Compiled) -> Option<Write> {
    let listeners = c.listeners.keys().map(|l| (l.addr, l.port));
    let instances = c.instances.values().map(|i| (i.addr, i.port));
    let new = listeners.chain(instances).filter(|(addr, port)| have.filter.add(addr, *port)).count();
    (new > 0).then(|| Write::Filter(have.filter.clone()))
}
