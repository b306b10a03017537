//! A store in memory that lets itself be edited behind its own back, for the fuzz target of the audit.

use rusqlite::{Connection, types::Value};

use super::{Ballast, Inner, Result, Sqlite, locate, schema};

impl Sqlite {
    pub(crate) fn in_memory() -> Result<Self> {
        let path = std::path::PathBuf::from(":memory:");
        let open = || -> Inner<Connection> {
            let mut db = Connection::open_in_memory()?;
            schema::prepare(&mut db, &path)?;
            Ok(db)
        };
        let db = open().map_err(|f| locate(&path, f))?;
        Ok(Self::over(db, path, Ballast::none(), None))
    }

    /// Who edits the file is not held by triggers and references.
    pub(crate) fn without_guards(&self) -> Result<()> {
        self.run("DROP TRIGGER audit_keeps; DROP TRIGGER audit_stays; PRAGMA foreign_keys = OFF")
    }

    pub(crate) fn run(&self, sql: &str) -> Result<()> {
        self.located(self.db.execute_batch(sql).map_err(Into::into))
    }

    /// Sets one cell, as the type that the first byte chooses; whether it holds something else then.
    pub(in crate::store) fn edit(
        &self,
        (table, column, key): (&str, &str, &str),
        row: usize,
        data: &[u8],
    ) -> bool {
        let (kind, data) = data.split_first().map_or((0, data), |(k, d)| (k % 4, d));
        let value = match kind {
            0 => Value::Text(String::from_utf8_lossy(data).into_owned()),
            1 => Value::Integer(data.iter().take(8).fold(0, |n, b| n << 8 | i64::from(*b))),
            2 => Value::Blob(data.to_vec()),
            _ => Value::Null,
        };
        let all = format!(
            "SELECT group_concat(quote({column})) FROM (SELECT {column} FROM {table} ORDER BY {key})"
        );
        let read = || self.db.query_row(&all, [], |r| r.get::<_, String>(0)).unwrap_or_default();
        let before = read();
        let sql = format!(
            "UPDATE {table} SET {column} = ?1 WHERE ({key}) = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET ?2)"
        );
        // What the columns' types and checks refuse stays as it was.
        let _ = self.db.execute(&sql, (value, row));
        read() != before
    }
}
