//! Statements about rows. They are split from DDL and shown; judged is what takes rows away that the running version may want, and what the script
//! does not show.

use sqlparser::{
    ast::{
        CopyTarget, Delete, FromTable, Insert, OnConflictAction, OnInsert, Statement, TableObject,
        TableWithJoins,
    },
    tokenizer::Token,
};

use super::{Found, Judge, Kind, Rule};
use crate::lint_sql::parse::{calls, has};

/// Functions that only compute.
const PURE: &[&str] = &[
    "abs",
    "array_agg",
    "array_length",
    "avg",
    "bool_and",
    "bool_or",
    "ceil",
    "char_length",
    "coalesce",
    "concat",
    "concat_ws",
    "convert",
    "count",
    "cast",
    "curdate",
    "current_date",
    "current_timestamp",
    "date",
    "date_add",
    "date_format",
    "date_sub",
    "date_trunc",
    "datediff",
    "dense_rank",
    "exists",
    "extract",
    "first_value",
    "floor",
    "format",
    "from_unixtime",
    "gen_random_uuid",
    "generate_series",
    "greatest",
    "group_concat",
    "if",
    "ifnull",
    "json_agg",
    "json_array",
    "json_build_object",
    "json_extract",
    "json_object",
    "json_unquote",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_build_object",
    "jsonb_set",
    "lag",
    "last_value",
    "lead",
    "least",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "max",
    "md5",
    "min",
    "mod",
    "now",
    "ntile",
    "nullif",
    "octet_length",
    "pg_get_serial_sequence",
    "position",
    "power",
    "rand",
    "random",
    "rank",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "row_number",
    "rpad",
    "rtrim",
    "sha2",
    "sign",
    "split_part",
    "sqrt",
    "string_agg",
    "strpos",
    "substr",
    "substring",
    "sum",
    "timestampdiff",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "translate",
    "trim",
    "trunc",
    "truncate",
    "unix_timestamp",
    "unnest",
    "upper",
    "uuid",
    "uuid_generate_v4",
    "version",
    // Types with a length look like calls.
    "char",
    "varchar",
    "decimal",
    "numeric",
    "timestamp",
    "time",
    "binary",
    "varbinary",
    "float",
    "bit",
];

/// Functions of the servers that change something.
const SIDE_EFFECTS: &[&str] = &[
    "setval",
    "nextval",
    "set_config",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_advisory_lock",
    "pg_reload_conf",
    "lo_unlink",
    "lo_import",
    "lo_export",
    "dblink",
    "dblink_exec",
    "pg_read_file",
    "pg_write_file",
    "pg_switch_wal",
    "pg_sleep",
    "sleep",
    "benchmark",
    "get_lock",
    "load_file",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "pg_rotate_logfile",
    "pg_promote",
    "pg_drop_replication_slot",
];

impl Judge {
    pub(super) fn rows(&mut self, statement: &Statement, tokens: &[Token]) -> (Kind, Vec<Found>) {
        let (rule, subject) = self.row_rule(statement, tokens);
        let mut all = vec![self.found(rule, subject)];
        all.extend(self.called(statement, tokens));
        (Kind::Dml, all)
    }

    fn row_rule(&mut self, statement: &Statement, tokens: &[Token]) -> (Rule, String) {
        match statement {
            Statement::Query(_) => self.query(tokens),
            Statement::Insert(i) => (self.insert(i, tokens), i.table.to_string()),
            Statement::Update(u) if self.free(&u.table) => (Rule::FreshTable, u.table.to_string()),
            Statement::Update(u) => {
                (if u.selection.is_none() { Rule::UpdateAll } else { Rule::Update }, u.table.to_string())
            }
            Statement::Delete(d) => self.delete(d),
            Statement::Merge(_) => (Rule::InsertOver, String::new()),
            Statement::Copy { to: false, target: CopyTarget::File { .. }, .. } => {
                (Rule::Insert, String::new())
            }
            Statement::Copy { .. } => (Rule::CopyOut, String::new()),
            Statement::LoadData { .. } => (Rule::InsertOver, String::new()),
            _ => (Rule::Unknown, String::new()),
        }
    }

    /// A query may change rows in its WITH, and create a table or write a file with INTO.
    fn query(&mut self, tokens: &[Token]) -> (Rule, String) {
        let changes = ["delete", "merge"].iter().any(|w| has(tokens, w));
        let updates = has(tokens, "update") && !for_update_only(tokens);
        if has(tokens, "outfile") || has(tokens, "dumpfile") {
            (Rule::CopyOut, String::new())
        } else if changes {
            (Rule::Delete, String::new())
        } else if updates {
            (Rule::UpdateAll, String::new())
        } else if has(tokens, "insert") {
            (Rule::InsertOver, String::new())
        } else if has(tokens, "into") {
            (Rule::CreateTable, String::new())
        } else {
            (Rule::Read, String::new())
        }
    }

    fn insert(&self, i: &Insert, tokens: &[Token]) -> Rule {
        let fresh = matches!(&i.table, TableObject::TableName(n) if self.fresh(n));
        let over = i.replace_into
            || i.overwrite
            || match &i.on {
                Some(OnInsert::DuplicateKeyUpdate(_)) => true,
                Some(OnInsert::OnConflict(c)) => matches!(c.action, OnConflictAction::DoUpdate(_)),
                None => false,
                _ => true,
            };
        let with = has(tokens, "delete") || (has(tokens, "with") && has(tokens, "update") && !over);
        match (with, over) {
            (true, _) => Rule::Delete,
            (_, true) if !fresh => Rule::InsertOver,
            _ => Rule::Insert,
        }
    }

    fn delete(&self, d: &Delete) -> (Rule, String) {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &d.from;
        let subject = from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let free =
            d.using.is_none() && d.tables.is_empty() && !from.is_empty() && from.iter().all(|t| self.free(t));
        let rule = match (free, d.selection.is_some()) {
            (true, _) => Rule::FreshTable,
            (false, true) => Rule::Delete,
            (false, false) => Rule::DeleteAll,
        };
        (rule, subject)
    }

    /// One table, which the script has created.
    fn free(&self, t: &TableWithJoins) -> bool {
        t.joins.is_empty()
            && matches!(&t.relation, sqlparser::ast::TableFactor::Table { name, .. } if self.fresh(name))
    }

    fn called(&self, statement: &Statement, tokens: &[Token]) -> Vec<Found> {
        let names: Vec<String> = calls(tokens).map(str::to_lowercase).collect();
        let bad = names.iter().find(|n| SIDE_EFFECTS.contains(&n.as_str()) && !self.own_number(statement, n));
        if let Some(name) = bad {
            return vec![self.found(Rule::SideEffect, name.clone())];
        }
        // In an INSERT, the list of columns looks like a call of the table.
        if !matches!(statement, Statement::Query(_)) {
            return Vec::new();
        }
        let unknown = names.iter().find(|n| !PURE.contains(&n.as_str()));
        unknown.map(|n| self.found(Rule::ReadCalls, n.clone())).into_iter().collect()
    }

    /// A row's own number from a sequence is what sequences are for.
    fn own_number(&self, statement: &Statement, function: &str) -> bool {
        function == "nextval" && matches!(statement, Statement::Insert(_) | Statement::Update(_))
    }
}

/// Whether UPDATE stands only in `FOR UPDATE` and `FOR NO KEY UPDATE`.
fn for_update_only(tokens: &[Token]) -> bool {
    let words: Vec<String> = tokens.iter().map(|t| t.to_string().to_lowercase()).collect();
    words
        .iter()
        .enumerate()
        .filter(|(_, w)| *w == "update")
        .all(|(i, _)| i > 0 && ["for", "key"].contains(&words[i - 1].as_str()))
}
