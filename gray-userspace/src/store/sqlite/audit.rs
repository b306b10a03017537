//! The append-only, hash-chained log. One record per mutation, in the mutation's own transaction.

use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};

use super::{AuditRecord, Error, Inner, Note};

pub(super) type Hash = [u8; 32];

/// Actions that only the store writes: `verify` reads the history of revisions from them.
pub(super) const OWN: [&str; 7] =
    ["begin", "activate", "fail", "interrupt", "workload-set", "workload-remove", DROP];
/// What old revisions held goes.
pub(super) const DROP: &str = "drop-revisions";

/// A record before it is chained.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub at: u64,
    pub who: &'a str,
    pub action: &'a str,
    pub rev: Option<u64>,
    pub detail: &'a str,
}

pub(super) fn note(db: &Connection, note: &Note<'_>) -> Inner<u64> {
    if note.action.is_empty() || OWN.contains(&note.action) {
        return Err(Error::invalid(format!("`{}` is not a caller's audit action", note.action)).into());
    }
    append(db, Entry { at: note.at, who: note.who, action: note.action, rev: None, detail: note.detail })
}

pub(super) fn append(db: &Connection, e: Entry<'_>) -> Inner<u64> {
    let last: Option<(u64, Hash)> = db
        .query_row("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", [], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .optional()?;
    let (seq, previous) = last.map_or((1, [0; 32]), |(seq, hash)| (seq + 1, hash));
    let _ = db.execute(
        "INSERT INTO audit (seq, at, who, action, rev, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (seq, e.at, e.who, e.action, e.rev, e.detail, chain(&previous, seq, e)),
    )?;
    Ok(seq)
}

/// Every field with its length, so that no two records share an encoding.
pub(super) fn chain(previous: &Hash, seq: u64, e: Entry<'_>) -> Hash {
    let mut h = Sha256::new();
    h.update(b"gray audit 1");
    h.update(previous);
    for number in [seq, e.at, e.rev.unwrap_or(0)] {
        h.update(number.to_le_bytes());
    }
    for text in [e.who, e.action, e.detail] {
        h.update((text.len() as u64).to_le_bytes());
        h.update(text);
    }
    h.finalize().into()
}

pub(super) fn page(db: &Connection, limit: usize, before: Option<u64>) -> Inner<Vec<AuditRecord>> {
    let mut stmt = db.prepare_cached(
        "SELECT seq, at, who, action, rev, detail, hash FROM audit WHERE ?1 IS NULL OR seq < ?1
         ORDER BY seq DESC LIMIT ?2",
    )?;
    // SQLite's integers are signed.
    let before = before.map(|seq| seq.min(i64::MAX as u64));
    let rows = stmt.query_map((before, limit.min(i64::MAX as usize)), row)?;
    Ok(rows.map(|r| r.map(|(record, _)| record)).collect::<Result<_, _>>()?)
}

pub(super) fn row(r: &Row<'_>) -> rusqlite::Result<(AuditRecord, Hash)> {
    let hash: Hash = r.get(6)?;
    let record = AuditRecord {
        seq: r.get(0)?,
        at: r.get(1)?,
        who: r.get(2)?,
        action: r.get(3)?,
        revision: r.get(4)?,
        detail: r.get(5)?,
        hash: hex(&hash),
    };
    Ok((record, hash))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
