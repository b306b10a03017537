//! Releases and their histories. The states' meaning is the engine's part.

use rusqlite::Connection;

use super::{Inner, LogEntry, Note, Release, audit};

pub(super) fn save(
    db: &Connection,
    r: &Release,
    happened: &[LogEntry],
    note: Option<&Note<'_>>,
) -> Inner<()> {
    if let Some(note) = note {
        let _ = audit::note(db, note)?;
    }
    let _ = db.execute(
        "INSERT OR REPLACE INTO release (name, run, at, who, document, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (&r.name, r.run, r.at, &r.who, &r.document, &r.state),
    )?;
    for e in happened {
        let _ = db.execute(
            "INSERT INTO release_log (name, seq, run, at, entry)
             VALUES (?1, (SELECT coalesce(max(seq), 0) + 1 FROM release_log WHERE name = ?1), ?2, ?3, ?4)",
            (&r.name, e.run, e.at, &e.entry),
        )?;
    }
    Ok(())
}

pub(super) fn all(db: &Connection) -> Inner<Vec<Release>> {
    let mut stmt = db.prepare("SELECT name, run, at, who, document, state FROM release ORDER BY name")?;
    let rows = stmt.query_map([], |r| {
        Ok(Release {
            name: r.get(0)?,
            run: r.get(1)?,
            at: r.get(2)?,
            who: r.get(3)?,
            document: r.get(4)?,
            state: r.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn log(db: &Connection, name: &str, limit: usize) -> Inner<Vec<LogEntry>> {
    let mut stmt =
        db.prepare("SELECT run, at, entry FROM release_log WHERE name = ?1 ORDER BY seq DESC LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        stmt.query_map((name, limit), |r| Ok(LogEntry { run: r.get(0)?, at: r.get(1)?, entry: r.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// These are known no more, and of another one the newest runs are.
pub(super) fn forget(db: &Connection, gone: &[String], (name, runs): (&str, usize)) -> Inner<()> {
    for gone in gone {
        let _ = db.execute("DELETE FROM release WHERE name = ?1", [gone])?;
        let _ = db.execute("DELETE FROM release_log WHERE name = ?1", [gone])?;
    }
    let runs = i64::try_from(runs).unwrap_or(i64::MAX);
    let _ = db.execute(
        "DELETE FROM release_log WHERE name = ?1 AND run NOT IN
         (SELECT DISTINCT run FROM release_log WHERE name = ?1 ORDER BY run DESC LIMIT ?2)",
        (name, runs),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn f1_a_release_and_its_history_are_there_after_a_crash() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(tmp.path()).unwrap();
        let mut s = Sqlite::open(&dir).unwrap();
        let mut r = Release {
            name: "shop-2.0".into(),
            run: 7,
            who: "ann".into(),
            document: "release: shop-2.0".into(),
            state: "{}".into(),
            at: 8,
        };
        let note = Note { at: 8, who: "ann", action: "release start", detail: "shop-2.0" };
        let entry = |n: u64| LogEntry { run: 7, at: n, entry: format!("{n}") };
        s.save_release(&r, &[entry(1), entry(2)], Some(&note)).unwrap();
        r.state = "{\"phase\":\"ramp\"}".into();
        s.save_release(&r, &[entry(3)], None).unwrap();
        drop(s);
        let s = Sqlite::open(&dir).unwrap();
        assert_eq!(s.releases().unwrap(), [r]);
        assert_eq!(s.release_log("shop-2.0", 2).unwrap(), [entry(3), entry(2)]);
        assert_eq!(s.release_log("cart", 9).unwrap(), []);
        assert_eq!(s.audit(1, None).unwrap()[0].action, "release start");
        let _ = s.verify().unwrap();
    }

    #[test]
    fn f1_old_releases_and_old_runs_are_forgotten() {
        let tmp = tempfile::tempdir().unwrap();
        let mut s = Sqlite::open(&StateDir::open(tmp.path()).unwrap()).unwrap();
        let (document, state) = (String::new(), "{}".to_owned());
        let mut save = |name: &str, run: u64| {
            let (document, state) = (document.clone(), state.clone());
            let r = Release { name: name.into(), run, who: "ann".into(), document, state, at: run };
            let entry = |n: u64| LogEntry { run, at: n, entry: format!("{n}") };
            s.save_release(&r, &[entry(1), entry(2)], None).unwrap();
        };
        save("old", 1);
        save("kept", 2);
        for run in 3..8 {
            save("again", run);
        }
        s.forget_releases(&["old".into()], ("again", 3)).unwrap();
        let names: Vec<_> = s.releases().unwrap().into_iter().map(|r| r.name).collect();
        assert_eq!(names, ["again", "kept"]);
        assert_eq!(s.release_log("old", 9).unwrap(), []);
        assert_eq!(s.release_log("kept", 9).unwrap().len(), 2);
        let runs: Vec<_> = s.release_log("again", 99).unwrap().iter().map(|e| e.run).collect();
        assert_eq!(runs, [7, 7, 6, 6, 5, 5]);
    }
}
