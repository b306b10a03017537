//! IPv4 prefixes as the kernel looks them up (`gray_common::nets`): for each /16 its class, or a block of the places where the
//! class changes. A block is never changed while a run may look into it: other content gets another place.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use gray_common::{
    limits, nets,
    wire::{Class, PrefixKey},
};

use super::CompileError;

/// What the kernel holds of IPv4 prefixes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nets {
    /// Of each bank, by the upper half of the address; absent: of no list.
    elements: [BTreeMap<u32, u32>; 2],
    /// The blocks' words, the count left out, by where they begin.
    blocks: BTreeMap<u32, Vec<u32>>,
}

/// What is to be written for a change: blocks first. Whole runs of words, by where they begin; elements by their index in both
/// banks.
#[derive(Debug, Default, PartialEq)]
pub struct Changed {
    pub bounds: Vec<(u32, Vec<u32>)>,
    pub nets: Vec<(u32, u32)>,
}

/// A prefix of IPv4 in the form that all addresses have.
pub fn is_v4(key: &PrefixKey) -> bool {
    key.bits >= 96 && key.addr.is_v4()
}

impl Nets {
    /// As found in the tables, elements by their index in both banks. `read` gives so many words of `BOUNDS`, from one on.
    pub fn found<E>(
        elements: impl IntoIterator<Item = (u32, u32)>,
        mut read: impl FnMut(u32, u32) -> Result<Vec<u32>, E>,
    ) -> Result<Self, E> {
        let mut found = Self::default();
        for (i, element) in elements.into_iter().filter(|(_, e)| *e != 0) {
            let _ = found.elements[(i / limits::NETS) as usize & 1].insert(i % limits::NETS, element);
            if let Some(at) = nets::offset(element) {
                // Of a change that was given up half-way this may be anything: it is what is there.
                let count = read(at, 1)?.first().copied().unwrap_or(0);
                let _ = found.blocks.insert(at, read(at + 1, count.min(limits::NETS))?);
            }
        }
        Ok(found)
    }

    /// The classes that elements and blocks refer to.
    pub fn classes(&self) -> impl Iterator<Item = u32> {
        let whole = self.elements.iter().flat_map(|bank| bank.values());
        let whole = whole.filter(|e| nets::offset(**e).is_none()).map(|e| e & 0xffff);
        whole.chain(self.blocks.values().flatten().map(|w| w & 0xffff))
    }

    /// Fills the bank of epoch `next` with these changes of class (ascending; before the first: none), or as the other bank is.
    /// Nothing that the epoch before can see is written.
    pub fn change(&mut self, changes: Option<&[(u32, u32)]>, next: u64) -> Result<Changed, CompileError> {
        let idle = (next & 1) as usize;
        let active = &self.elements[idle ^ 1];
        let mut wanted = BTreeMap::new();
        let mut fresh = Vec::new();
        match changes {
            None => wanted.clone_from(active),
            Some(changes) => {
                for (net, words) in by_net(changes) {
                    // What is in force, or was before, or came half-way, is used where it says the same.
                    let there = [active, &self.elements[idle]].into_iter().filter_map(|bank| bank.get(&net));
                    let there = there.copied().find(|e| self.is(*e, &words));
                    match (there, words.as_slice()) {
                        (Some(element), _) => drop(wanted.insert(net, element)),
                        (None, [only]) => drop(wanted.insert(net, nets::whole(only & 0xffff))),
                        (None, _) => fresh.push((net, words)),
                    }
                }
            }
        }
        let used: BTreeSet<u32> =
            active.values().chain(wanted.values()).copied().filter_map(nets::offset).collect();
        self.blocks.retain(|at, _| used.contains(at));
        let mut room = Room::beside(&self.blocks);
        let mut out = Changed::default();
        for (net, words) in fresh {
            let at = room.take(words.len() as u32 + 1)?;
            out.put(at, &words);
            let _ = self.blocks.insert(at, words);
            let _ = wanted.insert(net, nets::block(at));
        }
        let before = mem::take(&mut self.elements[idle]);
        let gone = before.keys().filter(|net| !wanted.contains_key(net)).map(|net| (*net, 0));
        let changed = wanted.iter().map(|(net, e)| (*net, *e)).filter(|(net, e)| before.get(net) != Some(e));
        out.nets = changed.chain(gone).map(|(net, e)| (idle as u32 * limits::NETS + net, e)).collect();
        self.elements[idle] = wanted;
        Ok(out)
    }

    /// Whether an element says what these words do.
    fn is(&self, element: u32, words: &[u32]) -> bool {
        match nets::offset(element) {
            None => matches!(words, [only] if nets::whole(only & 0xffff) == element),
            Some(at) => self.blocks.get(&at).is_some_and(|w| w == words),
        }
    }
}

/// The words of every /16 that is not of no list altogether.
fn by_net(changes: &[(u32, u32)]) -> impl Iterator<Item = (u32, Vec<u32>)> {
    let (mut i, mut class) = (0, 0);
    (0..limits::NETS).filter_map(move |net| {
        let first = i;
        while changes.get(i).is_some_and(|(at, _)| at >> 16 == net) {
            i += 1;
        }
        let inside = &changes[first..i];
        let words = words(class, inside);
        class = inside.last().map_or(class, |(_, class)| *class);
        (words != [0]).then_some((net, words))
    })
}

impl Changed {
    fn put(&mut self, at: u32, words: &[u32]) {
        let count = words.len() as u32;
        match self.bounds.last_mut() {
            Some((from, run)) if *from + run.len() as u32 == at => {
                run.push(count);
                run.extend(words);
            }
            _ => self.bounds.push((at, [&[count], words].concat())),
        }
    }
}

/// The words of one /16: its first class, then the changes.
fn words(class: u32, changes: &[(u32, u32)]) -> Vec<u32> {
    let mut out = vec![nets::word(0, class)];
    for (at, class) in changes {
        let word = nets::word(*at as u16, *class);
        match *at as u16 {
            0 => out[0] = word,
            _ => out.push(word),
        }
    }
    out
}

/// Where the class of an IPv4 address changes, ascending, adjacent classes different. A prefix has the lists of every wider one
/// around it.
pub fn changes<'a>(
    prefixes: impl Iterator<Item = (&'a PrefixKey, &'a Class)>,
    mut index: impl FnMut(Class) -> Result<u32, CompileError>,
) -> Result<Vec<(u32, u32)>, CompileError> {
    let mut known: HashMap<Class, u32> = HashMap::new();
    let mut out: Vec<(u32, u32)> = Vec::new();
    let mut say = |at: u64, class: Class| -> Result<(), CompileError> {
        // The end of the last address is no place.
        let Ok(at) = u32::try_from(at) else { return Ok(()) };
        let class = match known.get(&class) {
            Some(class) => *class,
            None => *known.entry(class).or_insert(index(class)?),
        };
        if out.last().is_some_and(|(last, _)| *last == at) {
            let _ = out.pop();
        }
        if out.last().map_or(0, |(_, class)| *class) != class {
            out.push((at, class));
        }
        Ok(())
    };
    // What covers the present place: its end, and its lists.
    let mut around: Vec<(u64, Class)> = Vec::new();
    let v4 = prefixes.filter(|(k, _)| is_v4(k));
    let mut sorted: Vec<(u64, u32, &Class)> =
        v4.map(|(k, class)| (u64::from(u32::from_be(k.addr.as_v4())), k.bits, class)).collect();
    // Address first, then wide before narrow: what covers others stands before them.
    sorted.sort_unstable_by_key(|(start, bits, _)| (*start, *bits));
    for (start, bits, own) in sorted {
        while let Some((end, _)) = around.pop_if(|(end, _)| *end <= start) {
            say(end, around.last().map_or(Class::default(), |(_, c)| *c))?;
        }
        let mut class = *own;
        if let Some((_, wide)) = around.last() {
            class.lists.iter_mut().zip(wide.lists).for_each(|(c, w)| *c |= w);
        }
        say(start, class)?;
        around.push((start + (1 << (128 - bits.min(128))), class));
    }
    while let Some((end, _)) = around.pop() {
        say(end, around.last().map_or(Class::default(), |(_, c)| *c))?;
    }
    Ok(out)
}

/// What lies free between blocks.
struct Room {
    /// Begin and end, ascending.
    gaps: Vec<(u32, u32)>,
    /// Gaps before this one were too small for what was asked last.
    next: usize,
}

impl Room {
    fn beside(blocks: &BTreeMap<u32, Vec<u32>>) -> Self {
        let mut at = 0;
        let mut gaps = Vec::new();
        for (begin, words) in blocks {
            if *begin > at {
                gaps.push((at, *begin));
            }
            at = at.max(begin + words.len() as u32 + 1);
        }
        gaps.push((at, limits::BOUNDS));
        Self { gaps, next: 0 }
    }

    fn take(&mut self, words: u32) -> Result<u32, CompileError> {
        let fits = |(begin, end): &(u32, u32)| end.saturating_sub(*begin) >= words;
        let from = mem::take(&mut self.next);
        let found = self.gaps[from..].iter().position(fits).map(|i| from + i);
        let found = found.or_else(|| self.gaps[..from].iter().position(fits));
        let i = found
            .ok_or(CompileError::Limit { what: "changes of class among prefixes", limit: limits::BOUNDS })?;
        self.next = i;
        let at = self.gaps[i].0;
        self.gaps[i].0 += words;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use gray_common::wire::Addr;
    use proptest::prelude::*;

    /// Classes are the lists' first words here.
    fn index(class: Class) -> Result<u32, CompileError> {
        Ok(class.lists[0] as u32)
    }

    fn key(addr: u32, bits: u32) -> PrefixKey {
        let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
        PrefixKey { bits: 96 + bits, addr: Addr::v4((addr & mask).to_be()) }
    }

    type Policy = BTreeMap<PrefixKey, Class>;

    /// Few places, so that prefixes meet, at the ends of the address space too.
    fn policy() -> impl Strategy<Value = Policy> {
        let place = prop_oneof![Just(0), Just(u32::MAX), Just(0xc612_0000), 0xc612_0000..0xc614_0000u32];
        let one = (place, 0u32..=32, 0u32..3)
            .prop_map(|(at, bits, list)| (key(at, bits), Class { lists: [1 << list, 0, 0, 0] }));
        prop::collection::vec(one, 0..12).prop_map(|all| all.into_iter().collect())
    }

    /// By the definition: the lists of all prefixes around the address.
    fn lists(policy: &Policy, addr: u32) -> u32 {
        let around = |k: &PrefixKey| *k == key(addr, k.bits - 96);
        policy.iter().filter(|(k, _)| around(k)).fold(0, |all, (_, c)| all | c.lists[0] as u32)
    }

    #[derive(Clone, Default)]
    struct Tables {
        nets: BTreeMap<u32, u32>,
        bounds: BTreeMap<u32, u32>,
    }

    impl Tables {
        fn read(&self) -> Nets {
            let word = |i: u32| self.bounds.get(&i).copied().unwrap_or_default();
            let read =
                |at: u32, n: u32| -> Result<Vec<u32>, Infallible> { Ok((at..at + n).map(word).collect()) };
            let Ok(found) = Nets::found(self.nets.iter().map(|(i, e)| (*i, *e)), read);
            found
        }

        fn lists(&self, epoch: u64, addr: u32) -> u32 {
            let net = (epoch & 1) as u32 * limits::NETS + (addr >> 16);
            let element = self.nets.get(&net).copied().unwrap_or(0);
            nets::class(element, addr as u16, |i| self.bounds.get(&i).copied()).unwrap()
        }

        /// Those of the writes that `cut` has a bit for; all blocks before the first element.
        fn write(&mut self, c: &Changed, cut: u64) {
            for (at, run) in &c.bounds {
                self.bounds.extend((*at..).zip(run.iter().copied()));
            }
            self.nets
                .extend(c.nets.iter().enumerate().filter(|(i, _)| cut >> (i % 64) & 1 != 0).map(|(_, e)| *e));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// A5, D1: whatever part of a change is written, the epoch in force answers as before; with all of it the next one answers
        /// by the definition, also after changes that were given up half-way.
        #[test]
        fn a5_d1_each_epoch_answers_by_its_own_prefixes(
            policies in prop::collection::vec((policy(), any::<Option<u64>>()), 1..6),
            anywhere in any::<u32>(),
        ) {
            let mut t = Tables::default();
            let mut have = Nets::default();
            let mut before = Policy::new();
            let mut epoch = 0;
            for (policy, cut) in policies {
                let mut asked = vec![0, 1, u32::MAX, anywhere];
                for k in policy.keys().chain(before.keys()) {
                    let (first, bits) = (u32::from_be(k.addr.as_v4()), k.bits - 96);
                    let last = first | u32::MAX.checked_shr(bits).unwrap_or(0);
                    asked.extend([first, last, first.wrapping_sub(1), last.wrapping_add(1)]);
                }
                let steps = have.change(Some(&changes(policy.iter(), index).unwrap()), epoch + 1).unwrap();
                t.write(&steps, cut.unwrap_or(u64::MAX));
                for addr in &asked {
                    prop_assert_eq!(t.lists(epoch, *addr), lists(&before, *addr), "{:#x} before the flip", addr);
                }
                if cut.is_some() {
                    have = t.read();
                    continue;
                }
                epoch += 1;
                before = policy;
                for addr in &asked {
                    prop_assert_eq!(t.lists(epoch, *addr), lists(&before, *addr), "{:#x} after it", addr);
                }
                prop_assert_eq!(&t.read(), &have, "what is read back");
                // The same prefixes once more, or whatever is in force: no block is written, and nobody sees a difference.
                let same = changes(before.iter(), index).unwrap();
                for again in [Some(same.as_slice()), None] {
                    let steps = have.change(again, epoch + 1).unwrap();
                    prop_assert!(steps.bounds.is_empty());
                    t.write(&steps, u64::MAX);
                    epoch += 1;
                    for addr in &asked {
                        prop_assert_eq!(t.lists(epoch, *addr), lists(&before, *addr), "{:#x} again", addr);
                    }
                }
            }
        }
    }

    #[test]
    fn a5_more_changes_than_there_is_room_for_are_refused() {
        // Every second address of 70 networks is listed.
        let all: Vec<(u32, u32)> = (0..70 << 16).map(|at| (at, at & 1)).collect();
        let mut have = Nets::default();
        let refused = have.change(Some(&all), 1).unwrap_err();
        assert!(refused.to_string().contains("4500000 changes of class among prefixes"), "{refused}");
    }

    /// A million prefixes are in force, a million others were written and never turned to: there is no room for a third
    /// million, and none is needed.
    #[test]
    fn a5_d1_what_is_in_force_needs_no_room_again() {
        let million =
            |at: u32| (0..1u32 << 20).flat_map(move |n| [((n << 12) + at, 1), ((n << 12) + at + 1, 0)]);
        let (a, b): (Vec<_>, Vec<_>) = (million(5).collect(), million(9).collect());
        let mut t = Tables::default();
        let mut have = Nets::default();
        for (all, epoch) in [(&a, 1), (&b, 2)] {
            let steps = have.change(Some(all), epoch).unwrap();
            t.write(&steps, u64::MAX);
        }
        let mut have = t.read();
        let again = have.change(Some(&a), 2).unwrap();
        assert!(again.bounds.is_empty() && again.nets.len() == limits::NETS as usize);
    }

    #[test]
    fn a5_a_place_is_used_again_when_no_epoch_needs_it() {
        let mut have = Nets::default();
        let odd = |n: u32, class| {
            (0..n).flat_map(move |at| [(at * 4 + 1, class), (at * 4 + 2, 0)]).collect::<Vec<_>>()
        };
        for epoch in 1..500 {
            let changed = have.change(Some(&odd(8000, 1 + (epoch % 7) as u32)), epoch).unwrap();
            assert!(changed.bounds.iter().all(|(at, _)| *at < 40_000), "a third place");
        }
    }
}
