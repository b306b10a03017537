//! Values of rules -> subsets and weights: `1.0;1.1`, `1.0=90;1.1=10`. Must not know where they stood.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::limits::{ARMS_PER_ROUTE, FULL, META_CHARS, SELECTOR_VALUES},
    model::{Arm, MetaKey, Selector, address},
};

/// What is chosen at one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    pub pairs: BTreeMap<MetaKey, BTreeSet<String>>,
    pub weights: Option<(MetaKey, Vec<(String, u64)>)>,
}

impl Choice {
    /// What this one leaves open is as in the other.
    pub(super) fn or(mut self, other: &Self) -> Self {
        for (key, any) in &other.pairs {
            let _ = self.pairs.entry(*key).or_insert_with(|| any.clone());
        }
        self.weights = self.weights.or_else(|| other.weights.clone());
        self
    }

    pub(super) fn arms(&self) -> Result<Vec<Arm>, String> {
        let Some((key, weights)) = &self.weights else {
            return shares(vec![(Selector(self.pairs.clone()), 1)]);
        };
        if self.pairs.contains_key(key) {
            return Err(format!("both a {0} and weights by {0}", key.name()));
        }
        let arm = |(value, weight): &(String, u64)| {
            let mut pairs = self.pairs.clone();
            let _ = pairs.insert(*key, BTreeSet::from([value.clone()]));
            (Selector(pairs), *weight)
        };
        shares(weights.iter().map(arm).collect())
    }
}

/// `1.0;1.1`: any of them.
pub(super) fn values(key: MetaKey, text: &str) -> Result<BTreeSet<String>, String> {
    let all: BTreeSet<String> = text
        .split(';')
        .map(str::trim)
        .filter(|v| !v.is_empty())
        .map(|v| value(key, v))
        .collect::<Result<_, _>>()?;
    match all.len() {
        0 => Err("no value".to_owned()),
        n if n > SELECTOR_VALUES => Err(format!("{n} values, more than {SELECTOR_VALUES}")),
        _ => Ok(all),
    }
}

fn value(key: MetaKey, text: &str) -> Result<String, String> {
    if key == MetaKey::Address {
        return address::canonical(text)
            .ok_or_else(|| format!("`{}` is no pattern of addresses", super::shown(text)));
    }
    if text.contains(['*', '?']) {
        return Err(format!("a wildcard in a {}: name the values", key.name()));
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || [',', '=', '|', '\u{feff}'].contains(&c);
    if text.is_empty() || text.chars().count() > META_CHARS || text.contains(bad) {
        return Err(format!("`{}` cannot be a {} here", super::shown(text), key.name()));
    }
    Ok(text.to_owned())
}

/// `1.0=90;1.1=10`.
pub(super) fn weighted(text: &str) -> Result<Vec<(String, u64)>, String> {
    let one = |part: &str| {
        let (value, weight) =
            part.split_once('=').ok_or_else(|| format!("`{}` has no weight", super::shown(part)))?;
        let weight = weight
            .trim()
            .parse::<u32>()
            .map_err(|_| format!("the weight of `{}` is no number", super::shown(value)))?;
        Ok((value.trim().to_owned(), u64::from(weight)))
    };
    let all: Vec<(String, u64)> =
        text.split(';').map(str::trim).filter(|p| !p.is_empty()).map(one).collect::<Result<_, String>>()?;
    if all.is_empty() { Err("no weights".to_owned()) } else { Ok(all) }
}

/// Of a key's values.
pub(super) fn weights(key: MetaKey, text: &str) -> Result<Vec<(String, u64)>, String> {
    weighted(text)?.into_iter().map(|(v, w)| Ok((value(key, &v)?, w))).collect()
}

/// Weights as shares of exactly 100 %: rounded down, what is left over to the largest remainders. Equal subsets are one.
pub(super) fn shares(given: Vec<(Selector, u64)>) -> Result<Vec<Arm>, String> {
    let mut arms: Vec<(Selector, u64)> = Vec::new();
    for (subset, weight) in given {
        match arms.iter_mut().find(|(s, _)| *s == subset) {
            Some((_, sum)) => *sum += weight,
            None => arms.push((subset, weight)),
        }
    }
    let total: u64 = arms.iter().map(|(_, w)| w).sum();
    if total == 0 {
        return Err("all weights are 0".to_owned());
    }
    if arms.len() > ARMS_PER_ROUTE {
        return Err(format!("{} weighted subsets, more than {ARMS_PER_ROUTE}", arms.len()));
    }
    if arms.iter().any(|(s, _)| s.0.is_empty()) {
        return Err("a share that goes to any instance".to_owned());
    }
    let full = u64::from(FULL);
    let mut points: Vec<u64> = arms.iter().map(|(_, w)| w * full / total).collect();
    let mut order: Vec<usize> = (0..arms.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(arms[*i].1 * full % total));
    let missing = full - points.iter().sum::<u64>();
    for i in order.into_iter().take(missing as usize) {
        points[i] += 1;
    }
    let arm = |((subset, _), p): ((Selector, u64), u64)| Arm { subset, basis_points: p as u16 };
    Ok(arms.into_iter().zip(points).map(arm).collect())
}
