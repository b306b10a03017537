//! The audit log as people see it. Writes nothing: records are made with what they tell of.

use super::time;
use crate::{
    api::{
        ApiError,
        types::{AuditEntry, AuditQuery, AuditVerified},
    },
    store::{AuditRecord, Auditor, Error, Store},
};

/// Records of one answer.
const MOST: u64 = 1000;

/// Newest first.
pub fn page(store: &dyn Store, query: AuditQuery) -> Result<Vec<AuditEntry>, ApiError> {
    let records = store.audit(query.limit.min(MOST) as usize, query.before).map_err(refused)?;
    Ok(records.into_iter().map(entry).collect())
}

/// Computes the chain again, and compares it with the revisions.
pub fn verify(store: &Auditor) -> Result<AuditVerified, ApiError> {
    let v = store.verify().map_err(refused)?;
    Ok(AuditVerified { records: v.records, revisions: v.revisions, head: v.head })
}

/// Somebody's doing, or the disk's, is no fault of ours.
fn refused(e: Error) -> ApiError {
    match e {
        Error::Tampered { .. } | Error::Corrupt { .. } => ApiError::conflict(
            e.to_string(),
            "keep a copy of the state directory, and find out who wrote to it",
        ),
        other => ApiError::internal(&other),
    }
}

fn entry(r: AuditRecord) -> AuditEntry {
    AuditEntry {
        seq: r.seq,
        at: time::rfc3339(r.at),
        who: r.who,
        action: r.action,
        revision: r.revision,
        detail: r.detail,
        hash: r.hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::ErrorKind,
        store::{Draft, Kind, Note, Source, Sqlite, StateDir},
    };

    /// In a directory that goes with it.
    fn store() -> (tempfile::TempDir, Sqlite) {
        let tmp = tempfile::tempdir().unwrap();
        let mut s = Sqlite::open(&StateDir::open(tmp.path()).unwrap()).unwrap();
        let mut draft = Draft::new(Kind::Apply, None, 1_700_000_000_123, "uid:ada", "1 change");
        draft.why = "because".into();
        draft.sources = Some(vec![Source { name: "a.yaml".into(), text: "services: {}".into() }]);
        let rev = s.begin(&draft).unwrap();
        s.activate(rev, 1_700_000_001_000).unwrap();
        let note = Note { at: 1_700_000_002_000, who: "uid:bob", action: "key export", detail: "" };
        let _ = s.record(&note).unwrap();
        (tmp, s)
    }

    #[test]
    fn who_did_what_when_newest_first_d5() {
        let (_tmp, s) = store();
        let all = page(&s, AuditQuery { limit: 9, before: None }).unwrap();
        let told: Vec<_> = all.iter().map(|e| (e.seq, &*e.who, &*e.action, e.revision)).collect();
        let want = [
            (3, "uid:bob", "key export", None),
            (2, "uid:ada", "activate", Some(1)),
            (1, "uid:ada", "begin", Some(1)),
        ];
        assert_eq!(told, want);
        assert_eq!(all[2].at, "2023-11-14T22:13:20Z");
        assert!(all[2].detail.contains("because"));
        let older = page(&s, AuditQuery { limit: 1, before: Some(3) }).unwrap();
        assert_eq!(older, all[1..2]);
        let newest = page(&s, AuditQuery { limit: 1, before: Some(u64::MAX) }).unwrap();
        assert_eq!(newest, all[..1]);
        let v = verify(&s.auditor()).unwrap();
        assert_eq!((v.records, v.revisions, &v.head), (3, 1, &all[0].hash));
    }

    #[test]
    fn what_was_changed_is_told_and_is_no_fault_of_the_agent_d5() {
        let edits = [
            ("UPDATE audit SET who = 'uid:eve' WHERE seq = 2", "record 2 was changed"),
            ("UPDATE audit SET at = -1 WHERE seq = 2", "is damaged"),
            ("UPDATE blob SET text = '{}'", "does not match its SHA-256"),
        ];
        for (sql, said) in edits {
            let (_tmp, s) = store();
            s.without_guards().unwrap();
            s.run(sql).unwrap();
            let e = verify(&s.auditor()).unwrap_err();
            assert_eq!(e.kind, ErrorKind::Conflict, "{sql}: {e}");
            assert!(e.error.contains(said), "{sql}: {e}");
        }
    }
}
