//! Choices of tenants: loaded through the list that a cohort has, and kept beside the revisions, one file each. What is kept
//! decides nothing; it says why.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use gray_common::limits;
use serde::{Deserialize, Serialize};

use super::{core::Inner, time};
use crate::{
    api::{
        ApiError, Who,
        types::{Choice, ChoiceShow, CohortEdit, CohortEdited, CohortOp, LayerStatus, Page},
    },
    model::{ClaimKind, CohortBody},
};

/// Choices of one cohort that are kept.
const KEPT: usize = 50;
const DIR: &str = "choices";

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    at_ms: u64,
    who: String,
    revision: Option<u64>,
    choice: Choice,
}

/// The gray layer of a cohort's tenants, as its list was last chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    of: u64,
    basis_points: u16,
}

impl Layer {
    fn of(choice: &Choice) -> Option<Self> {
        choice.layer_basis_points.map(|basis_points| Self { of: choice.of, basis_points })
    }

    /// Tenants that a layer of its size has room for: those of the formal one are all that the table has.
    fn room(&self, chosen: u64) -> u64 {
        let share = u128::from(self.of) * u128::from(self.basis_points);
        u64::try_from(share.div_ceil(10_000)).unwrap_or(u64::MAX).max(chosen)
    }
}

impl Inner {
    /// Each list of tenants that a strategy with a layer chose.
    pub(super) fn layer_status(&self) -> Vec<LayerStatus> {
        let row = |(cohort, layer): (&String, &Layer)| {
            let (of, bit) = self.list_cohort(cohort).ok()?;
            (of == ClaimKind::Tenant).then(|| LayerStatus {
                cohort: cohort.clone(),
                tenants: self.on_list(bit),
                of: layer.of,
                basis_points: layer.basis_points,
                identities: layer.room(self.on_list(bit)),
                room: self.room_beside(bit),
            })
        };
        self.layers.iter().filter_map(row).collect()
    }

    /// Entries that the identity table has for one list: what is free, and its own.
    fn room_beside(&self, bit: u32) -> u64 {
        let ids = &self.have.identities;
        let others = (ids.entries() as u64).saturating_sub(ids.count_on(bit, &self.have.classes));
        u64::from(limits::IDENTITIES).saturating_sub(others)
    }

    /// The layers of what is kept, when the agent starts.
    pub(super) fn read_layers(&mut self) {
        let lists =
            |c: &&crate::model::Cohort| matches!(c.body, CohortBody::List { of: ClaimKind::Tenant, .. });
        let names: Vec<String> = self.policy.cohorts.iter().filter(lists).map(|c| c.name.clone()).collect();
        for name in names {
            match self.last_choice(&name) {
                Ok(kept) => {
                    let layer = kept.and_then(|k| Layer::of(&k.choice));
                    self.layers.extend(layer.map(|l| (name, l)));
                }
                Err(e) => tracing::warn!(cohort = name, error = %e, "the latest choice cannot be read"),
            }
        }
    }

    fn last_choice(&self, name: &str) -> io::Result<Option<Kept>> {
        let Some(path) = files(&self.choices().join(name))?.pop() else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
    }

    /// The chosen become the whole list, at one instant; what was chosen is on disk before that.
    pub fn choose(&mut self, who: &Who, name: &str, choice: Choice) -> Result<CohortEdited, ApiError> {
        let (of, bit) = self.list_cohort(name)?;
        if of != ClaimKind::Tenant {
            return Err(ApiError::conflict(
                format!("cohort {name} is of {}, not of tenants", of.plural()),
                "name a cohort that the document gives as { tenants: [..] }",
            ));
        }
        let layer = Layer::of(&choice);
        let (needs, room) =
            (layer.as_ref().map_or(0, |l| l.room(choice.chosen.len() as u64)), self.room_beside(bit));
        if needs > room {
            return Err(ApiError::conflict(
                format!(
                    "a gray layer of this size is for {needs} tenants, and the identity table has room for {room} (of {})",
                    limits::IDENTITIES
                ),
                "choose fewer, give `layer:` a larger damping, or take ids off other lists",
            ));
        }
        let ids = choice.chosen.iter().map(|c| &c.id).collect();
        let (n, of, by) = (choice.chosen.len(), choice.of, &choice.strategy);
        let message =
            choice.message.clone().unwrap_or_else(|| format!("{n} of {of} tenants, by strategy {by}"));
        let edit = CohortEdit { op: CohortOp::Replace, ids, message: Some(message) };
        let dir = self.choices().join(name);
        let failed = |e: io::Error| ApiError::internal(&e);
        let mut kept = Kept { at_ms: time::now_ms(), who: who.to_string(), revision: None, choice };
        let path = fresh(&dir, kept.at_ms).map_err(failed)?;
        write(&path, &kept).map_err(failed)?;
        let done = match self.edit_cohort(who, name, edit) {
            Ok(done) => done,
            Err(e) => {
                if let Err(e) = fs::remove_file(&path) {
                    tracing::warn!(error = %e, "cannot remove the choice that did not take effect");
                }
                return Err(e);
            }
        };
        let _ = match layer {
            Some(layer) => self.layers.insert(name.to_owned(), layer),
            None => self.layers.remove(name),
        };
        kept.revision = done.revision.or((self.revision != 0).then_some(self.revision));
        // The list is loaded: a choice without its revision is better than an error now.
        if let Err(e) = write(&path, &kept).and_then(|()| forget_old(&dir)) {
            tracing::warn!(cohort = name, error = %e, "the choice is kept without its revision");
        }
        Ok(done)
    }

    /// The latest choice, against the list as it is.
    pub fn choice(&self, name: &str) -> Result<ChoiceShow, ApiError> {
        let list = self.cohort(name, Page { offset: 0, limit: u64::MAX })?;
        let none = || {
            ApiError::not_found(
                format!("the list of cohort {name} was not made by a strategy"),
                "`gray cohort plan` makes one",
            )
        };
        let kept = self.last_choice(name).map_err(|e| ApiError::internal(&e))?.ok_or_else(none)?;
        let chosen: BTreeSet<&str> = kept.choice.chosen.iter().map(|c| c.id.as_str()).collect();
        let listed: BTreeSet<&str> = list.ids.iter().map(String::as_str).collect();
        let owned = |from: &BTreeSet<&str>, without: &BTreeSet<&str>| {
            from.difference(without).map(|id| (*id).to_owned()).collect()
        };
        Ok(ChoiceShow {
            cohort: name.to_owned(),
            at: time::rfc3339(kept.at_ms),
            revision: kept.revision,
            added: owned(&listed, &chosen),
            removed: owned(&chosen, &listed),
            who: kept.who,
            choice: kept.choice,
        })
    }

    fn choices(&self) -> PathBuf {
        self.state_dir.path().join(DIR)
    }
}

/// A name after all others of the directory, which is made.
fn fresh(dir: &Path, at_ms: u64) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let last = files(dir)?.pop().and_then(|p| p.file_stem()?.to_str()?.parse::<u64>().ok());
    // Also when the clock was set back.
    let number = last.map_or(at_ms, |l| at_ms.max(l.saturating_add(1)));
    Ok(dir.join(format!("{number:020}.json")))
}

/// Old ones first.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all: Vec<PathBuf> = entries.map(|e| e.map(|e| e.path())).collect::<io::Result<_>>()?;
    all.retain(|p| p.extension().is_some_and(|e| e == "json"));
    all.sort();
    Ok(all)
}

/// Whole, or not at all.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&next)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

/// What is kept, the directories after what is in them; one with something of others in it stays.
pub fn left(state_dir: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).map(|all| all.filter_map(|e| Some(e.ok()?.path())).collect()).unwrap_or_default()
    };
    let ours = |p: &PathBuf| p.extension().is_some_and(|e| e == "json" || e == "next");
    let (top, mut out) = (state_dir.join(DIR), Vec::new());
    if !top.is_dir() {
        return out;
    }
    let cohorts = entries(&top);
    let mut whole = true;
    for dir in cohorts {
        let (mine, others): (Vec<_>, Vec<_>) = entries(&dir).into_iter().partition(ours);
        out.extend(mine);
        if others.is_empty() && dir.is_dir() { out.push(dir) } else { whole = false }
    }
    if whole {
        out.push(top);
    }
    out
}

fn forget_old(dir: &Path) -> io::Result<()> {
    let all = files(dir)?;
    let old = all.len().saturating_sub(KEPT);
    all[..old].iter().try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(revision: Option<u64>) -> Kept {
        Kept { at_ms: 1, who: "uid:root".into(), revision, choice: Choice::default() }
    }

    /// Its own formula's share of all tenants, and never less than those that were chosen.
    #[test]
    fn g4_a_layer_has_room_for_its_share_of_the_tenants() {
        let layer = |of, basis_points| Layer { of, basis_points };
        assert_eq!(layer(1000, 1569).room(100), 157);
        assert_eq!(layer(1000, 10).room(100), 100);
        assert_eq!(layer(3, 10_000).room(2), 3);
        assert_eq!(layer(u64::MAX, 10_000).room(2), u64::MAX);
        assert_eq!(Layer::of(&Choice::default()), None);
    }

    #[test]
    fn b5_choices_are_kept_in_order_and_not_for_ever() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("early");
        assert!(files(&dir).unwrap().is_empty());
        for i in 0..60 {
            // The clock stands still, then goes back.
            let path = fresh(&dir, 1000 - i / 30).unwrap();
            write(&path, &kept(Some(i))).unwrap();
            forget_old(&dir).unwrap();
            let last = files(&dir).unwrap().pop().unwrap();
            let read: Kept = serde_json::from_slice(&fs::read(last).unwrap()).unwrap();
            assert_eq!(read.revision, Some(i));
        }
        assert_eq!(files(&dir).unwrap().len(), KEPT);
        assert!(fs::read_dir(&dir).unwrap().count() == KEPT, "nothing half is left");

        let state = tempfile::tempdir().unwrap();
        assert!(left(state.path()).is_empty());
        let dir = state.path().join(DIR).join("early");
        write(&fresh(&dir, 1).unwrap(), &kept(None)).unwrap();
        assert_eq!(left(state.path()).len(), 3, "a file, its directory, the directory of all");
        fs::write(dir.join("mine.txt"), "").unwrap();
        assert_eq!(left(state.path()).len(), 1, "what is of others stays where it is");
    }
}
