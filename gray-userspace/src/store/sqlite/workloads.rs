//! Labels of this node's processes. Resolving them is `sys::workload`'s part.

use rusqlite::Connection;

use super::{
    Error, Fail, Inner, Link, Workload,
    audit::{self, Entry},
};

pub(super) fn set(db: &Connection, w: &Workload, at: u64, who: &str) -> Inner<()> {
    if w.name.is_empty() || w.target.is_empty() {
        return Err(Error::invalid("a workload needs a name and a target").into());
    }
    let link = w.link.map(Link::name);
    let mut detail =
        serde_json::json!({ "name": w.name, "kind": w.kind, "target": w.target, "lane": w.lane });
    if let Some(link) = link {
        detail["link"] = link.into();
    }
    let detail = detail.to_string();
    let _ = audit::append(db, Entry { at, who, action: "workload-set", rev: None, detail: &detail })?;
    let _ = db.execute(
        "INSERT OR REPLACE INTO workload (name, kind, target, lane, link) VALUES (?1, ?2, ?3, ?4, ?5)",
        (&w.name, w.kind.name(), &w.target, &w.lane, link),
    )?;
    Ok(())
}

pub(super) fn remove(db: &Connection, name: &str, at: u64, who: &str) -> Inner<bool> {
    if db.execute("DELETE FROM workload WHERE name = ?1", [name])? == 0 {
        return Ok(false);
    }
    let detail = serde_json::json!({ "name": name }).to_string();
    let _ = audit::append(db, Entry { at, who, action: "workload-remove", rev: None, detail: &detail })?;
    Ok(true)
}

pub(super) fn all(db: &Connection) -> Inner<Vec<Workload>> {
    let mut stmt = db.prepare("SELECT name, kind, target, lane, link FROM workload ORDER BY name")?;
    let rows = stmt.query_map([], |r| {
        Ok((r.get(0)?, r.get::<_, String>(1)?, r.get(2)?, r.get(3)?, r.get::<_, Option<String>>(4)?))
    })?;
    rows.map(|row| {
        let (name, kind, target, lane, link): (String, _, _, _, _) = row?;
        let kind =
            kind.parse().map_err(|()| Fail::Damaged(format!("workload {name}: unknown kind {kind}")))?;
        let unknown = |l: String| Fail::Damaged(format!("workload {name}: unknown link {l}"));
        let link = link.map(|l| l.parse().map_err(|()| unknown(l))).transpose()?;
        Ok(Workload { name, kind, target, lane, link })
    })
    .collect()
}
