//! Many short texts in two allocations: a million ids take some 16 MB, not 60, and none of them is copied to be looked at.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A list of texts, 4 GiB of them at most; what the API takes is far below.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Ids {
    text: String,
    ends: Vec<u32>,
}

impl Ids {
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    pub fn push(&mut self, id: &str) {
        self.text.push_str(id);
        self.ends.push(self.text.len() as u32);
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).and_then(|i| self.ends.get(i)).map_or(0, |e| *e as usize);
        self.text.get(start..end)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            let id = self.text.get(start..end).unwrap_or_default();
            start = end;
            id
        })
    }

    /// All texts, one after the other.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// In byte order, each once.
    pub fn is_sorted(&self) -> bool {
        let mut before = None;
        self.iter().all(|id| {
            let grows = before.is_none_or(|b| b < id);
            before = Some(id);
            grows
        })
    }

    /// In byte order, each once.
    pub fn sorted(self) -> Self {
        if self.is_sorted() {
            return self;
        }
        // Ids of one list begin alike: what tells them apart are the eight bytes after that.
        let first = self.get(0).unwrap_or_default();
        let common = self.iter().map(|id| alike(first, id)).min().unwrap_or(0);
        let mut order: Vec<(u64, u32)> =
            self.iter().enumerate().map(|(i, id)| (word(id, common), i as u32)).collect();
        let text = |i: u32| self.get(i as usize).unwrap_or_default();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| text(a.1).cmp(text(b.1))));
        let mut out = Self::with_capacity(self.len(), self.text.len());
        let mut before = None;
        for (_, i) in order {
            let id = text(i);
            if before != Some(id) {
                out.push(id);
            }
            before = Some(id);
        }
        out
    }
}

/// Bytes that two texts begin with both.
fn alike(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Eight bytes as a number that orders as they do; zeros where the text ended.
fn word(id: &str, at: usize) -> u64 {
    let rest = id.as_bytes().get(at..).unwrap_or_default();
    let mut eight = [0; 8];
    let n = rest.len().min(8);
    eight[..n].copy_from_slice(&rest[..n]);
    u64::from_be_bytes(eight)
}

impl<S: AsRef<str>> FromIterator<S> for Ids {
    fn from_iter<I: IntoIterator<Item = S>>(ids: I) -> Self {
        let mut out = Self::default();
        ids.into_iter().for_each(|id| out.push(id.as_ref()));
        out
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Ids {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> de::Visitor<'de> for List {
            type Value = Ids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Ids, A::Error> {
                let mut out = Ids::default();
                while let Some(id) = seq.next_element::<std::borrow::Cow<'de, str>>()? {
                    out.push(&id);
                }
                Ok(out)
            }
        }
        d.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorted_is_what_a_set_of_strings_is(ids in prop::collection::vec("(aaaaaaaaaa)?[ab\\x00é]{0,12}", 0..40)) {
            let set: std::collections::BTreeSet<&String> = ids.iter().collect();
            let sorted = ids.iter().collect::<Ids>().sorted();
            prop_assert!(sorted.iter().eq(set.iter().map(|s| s.as_str())), "{:?}", sorted);
            prop_assert!(sorted.is_sorted());
            prop_assert_eq!(sorted.get(sorted.len()), None);
        }
    }

    #[test]
    fn json_is_a_list_of_texts() {
        let ids: Ids = serde_json::from_str(r#"["a", "\u00e9\n", ""]"#).unwrap();
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["a", "é\n", ""]);
        assert_eq!(serde_json::to_string(&ids).unwrap(), r#"["a","é\n",""]"#);
        assert!(serde_json::from_str::<Ids>(r#"["a", 1]"#).unwrap_err().is_data());
    }
}
