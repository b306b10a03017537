//! Proves that nobody edited the audit log, nor the revisions that it tells of. Repairs nothing.

use std::{collections::BTreeMap, path::PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    AuditRecord, Error, Fail, Inner, Result, Verified,
    audit::{self, Entry, Hash},
    locate, read,
};

/// What the log says about a revision.
struct Told {
    digest: String,
    state: &'static str,
    reason: String,
    dropped: bool,
}

/// What the log says about revisions that were dropped together.
struct Dropped {
    ids: Vec<u64>,
    digest: String,
}

/// Verifies on a connection of its own, which sees the store as it is at that moment: nobody waits for it.
pub struct Auditor {
    pub(super) path: PathBuf,
}

impl Auditor {
    /// # Errors
    /// [`Error::Tampered`], [`Error::Corrupt`], [`Error::Sqlite`].
    pub fn verify(&self) -> Result<Verified> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let verified = || {
            let mut db = Connection::open_with_flags(&self.path, flags)?;
            whole(&*db.transaction()?)
        };
        verified().map_err(|f| locate(&self.path, f))
    }
}

/// Every page, the log, and what it tells of.
pub(super) fn whole(db: &Connection) -> Inner<Verified> {
    pages(db)?;
    run(db)
}

pub(super) fn pages(db: &Connection) -> Inner<()> {
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Fail::Damaged(verdict)) }
}

fn run(db: &Connection) -> Inner<Verified> {
    let (mut told, mut dropped) = (BTreeMap::new(), Vec::new());
    let (mut previous, mut records): (Hash, u64) = ([0; 32], 0);
    let mut stmt = db.prepare("SELECT seq, at, who, action, rev, detail, hash FROM audit ORDER BY seq")?;
    let mut rows = stmt.query([])?;
    while let Some(row) = rows.next()? {
        let (record, hash) = audit::row(row)?;
        records += 1;
        let entry = Entry {
            at: record.at,
            who: &record.who,
            action: &record.action,
            rev: record.revision,
            detail: &record.detail,
        };
        if record.seq != records || audit::chain(&previous, record.seq, entry) != hash {
            return Err(tampered(format!("record {} was changed, or one before it is missing", record.seq)));
        }
        previous = hash;
        if record.action == audit::DROP {
            dropped.push(follow_drop(&mut told, &record)?);
        } else {
            follow(&mut told, &record)?;
        }
    }
    let revisions = compare(db, &told)?;
    for d in dropped {
        if audit::hex(&dropped_digest(db, d.ids.iter().copied())?) != d.digest {
            let (first, last) = (d.ids.first(), d.ids.last());
            return Err(tampered(format!(
                "what is left of the dropped revisions {} to {} differs from what their record was made of",
                first.unwrap_or(&0),
                last.unwrap_or(&0)
            )));
        }
    }
    texts(db)?;
    Ok(Verified { records, revisions, head: audit::hex(&previous) })
}

fn tampered(what: String) -> Fail {
    Error::Tampered { what }.into()
}

/// Replays one record. Records that the chain covers can be odd only if the writer was: then they say so too.
fn follow(told: &mut BTreeMap<u64, Told>, record: &AuditRecord) -> Inner<()> {
    let Some(rev) = record.revision else { return Ok(()) };
    let detail: Value = serde_json::from_str(&record.detail).unwrap_or_default();
    let text = |key: &str| detail[key].as_str().unwrap_or_default().to_owned();
    let state = match record.action.as_str() {
        "begin" => {
            let fresh =
                Told { digest: text("digest"), state: "pending", reason: String::new(), dropped: false };
            return match told.insert(rev, fresh) {
                None => Ok(()),
                Some(_) => Err(tampered(format!("revision {rev} begins twice"))),
            };
        }
        "activate" => "active",
        "fail" => "failed",
        "interrupt" => "interrupted",
        _ => return Ok(()),
    };
    if state == "active" {
        told.values_mut().filter(|t| t.state == "active").for_each(|t| t.state = "superseded");
    }
    let known =
        told.get_mut(&rev).ok_or_else(|| tampered(format!("revision {rev} is settled but never began")))?;
    (known.state, known.reason) = (state, text("reason"));
    Ok(())
}

/// Of revisions that the log told of before.
fn follow_drop(told: &mut BTreeMap<u64, Told>, record: &AuditRecord) -> Inner<Dropped> {
    let odd = || tampered(format!("record {} drops revisions that it cannot", record.seq));
    let detail: Value = serde_json::from_str(&record.detail).unwrap_or_default();
    let ranges: Vec<(u64, u64)> = serde_json::from_value(detail["revisions"].clone()).map_err(|_| odd())?;
    let mut ids = Vec::new();
    for (first, last) in ranges {
        if first > last {
            return Err(odd());
        }
        let before = ids.len();
        for (id, t) in told.range_mut(first..=last) {
            if t.dropped || matches!(t.state, "active" | "pending") {
                return Err(odd());
            }
            t.dropped = true;
            ids.push(*id);
        }
        if (ids.len() - before) as u64 != last - first + 1 {
            return Err(odd());
        }
    }
    Ok(Dropped { ids, digest: detail["digest"].as_str().unwrap_or_default().to_owned() })
}

fn compare(db: &Connection, told: &BTreeMap<u64, Told>) -> Inner<u64> {
    let mut stmt = db.prepare("SELECT id, state, reason, dropped FROM revision ORDER BY id")?;
    let mut rows = stmt.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        let (id, state, reason): (u64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some(t) = told.get(&id) else {
            return Err(tampered(format!(
                "revision {id} has no record; the log was cut off or it was slipped in"
            )));
        };
        if state != t.state || reason != t.reason {
            return Err(tampered(format!("revision {id} is {state}, its record says {}", t.state)));
        }
        if row.get::<_, bool>(3)? != t.dropped {
            let what = if t.dropped {
                "is there, its record says that it was dropped"
            } else {
                "is marked as dropped, and no record says so"
            };
            return Err(tampered(format!("revision {id} {what}")));
        }
        if !t.dropped && audit::hex(&revision_digest(db, id)?) != t.digest {
            return Err(tampered(format!("revision {id} differs from what its record was made of")));
        }
    }
    if count != told.len() as u64 {
        return Err(tampered(format!("{} revisions are recorded, {count} are there", told.len())));
    }
    Ok(count)
}

fn texts(db: &Connection) -> Inner<()> {
    let mut stmt = db.prepare("SELECT sha256, text FROM blob")?;
    let mut rows = stmt.query([])?;
    while let Some(row) = rows.next()? {
        let _ = read::intact(row.get(0)?, row.get(1)?)?;
    }
    Ok(())
}

/// Over what is left of dropped revisions.
pub(super) fn dropped_digest(db: &Connection, ids: impl Iterator<Item = u64>) -> Inner<Hash> {
    let mut h = Sha256::new();
    h.update(b"gray dropped 1");
    for id in ids {
        h.update(revision_digest(db, id)?);
    }
    Ok(h.finalize().into())
}

/// Over all that a revision was begun with; texts and ids by their own digests.
pub(super) fn revision_digest(db: &Connection, rev: u64) -> Inner<Hash> {
    let mut h = Sha256::new();
    h.update(b"gray revision 1");
    for sql in [
        "SELECT r.base, r.at, r.who, r.why, r.kind, r.summary, r.drained, r.restored, b.sha256
           FROM revision r LEFT JOIN blob b ON b.id = r.assignments WHERE r.id = ?1",
        "SELECT s.pos, s.name, b.sha256 FROM revision r JOIN source s ON s.set_id = r.source_set
           JOIN blob b ON b.id = s.blob WHERE r.id = ?1 ORDER BY s.pos",
        "SELECT pos, cohort, op, ids, sha256 FROM list_edit WHERE rev = ?1 ORDER BY pos",
    ] {
        let mut stmt = db.prepare_cached(sql)?;
        let columns = stmt.column_count();
        let mut rows = stmt.query([rev])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                feed(&mut h, row.get_ref(column)?);
            }
        }
        h.update([0xff]); // no value tag: the end of a table's part
    }
    Ok(h.finalize().into())
}

fn feed(h: &mut Sha256, value: rusqlite::types::ValueRef<'_>) {
    use rusqlite::types::ValueRef as V;
    let (tag, number, bytes): (u8, i64, &[u8]) = match value {
        V::Null => (0, 0, &[]),
        V::Integer(n) => (1, n, &[]),
        V::Text(t) => (2, t.len() as i64, t),
        V::Blob(b) => (3, b.len() as i64, b),
        V::Real(r) => (4, r.to_bits() as i64, &[]),
    };
    h.update([tag]);
    h.update(number.to_le_bytes());
    h.update(bytes);
}
