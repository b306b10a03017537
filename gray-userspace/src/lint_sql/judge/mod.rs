//! A statement's tree to the rules that apply. What no branch names is `unknown`, and refused.

mod alter;
mod column;
mod create;
mod functions;
mod rows;

use std::collections::BTreeSet;

use sqlparser::{
    ast::{Ident, ObjectName, ObjectNamePart, ObjectType, Set, Statement},
    tokenizer::Token,
};

use super::{
    Dialect, Finding, Kind, Level, Levels, Rule,
    parse::{Parsed, has, word},
};

/// A rule that applies, and to what.
pub struct Found {
    rule: Rule,
    subject: String,
}

impl Found {
    pub fn finding(self, levels: &Levels) -> Finding {
        Finding {
            rule: self.rule.name().into(),
            level: levels.of(self.rule),
            subject: super::parse::one_line(&self.subject),
            reason: self.rule.reason().into(),
            instead: self.rule.instead().into(),
        }
    }
}

/// What the script has done so far.
pub struct Judge {
    dialect: Dialect,
    /// Tables that the script created, and nobody else can use yet.
    tables: BTreeSet<String>,
    /// The same of columns: table and column.
    columns: BTreeSet<(String, String)>,
    /// Enumerations and composites that the script created.
    types: BTreeSet<String>,
    /// Domains with constraints that the script created.
    domains: BTreeSet<String>,
    transaction: bool,
    /// A table that is in use was altered in this transaction, and is locked until its end.
    locked: bool,
}

/// Words that no statement has in passing: where one stands and no rule explains it, the tree may not be all there is.
const GRAVE: &[&str] = &["alter", "drop", "exchange", "purge", "rename", "revoke"];
/// The same of definitions only: statements about rows have functions and clauses of these names.
const GRAVE_IN_DDL: &[&str] = &["delete", "disable", "truncate"];

impl Judge {
    pub fn new(dialect: Dialect) -> Self {
        let (tables, columns, types, domains) = Default::default();
        Self { dialect, tables, columns, types, domains, transaction: false, locked: false }
    }

    pub fn statement(&mut self, parsed: &Parsed) -> (Kind, Vec<Found>) {
        let (kind, mut found) = self.tree(&parsed.statement, &parsed.tokens);
        let explained = found.iter().any(|f| {
            let told = [Rule::FreshTable, Rule::AddEnumValue, Rule::DropNotNull].contains(&f.rule);
            told || f.rule.level() == Level::Refuse
        });
        let more = if kind == Kind::Ddl { GRAVE_IN_DDL } else { &[] };
        let grave =
            GRAVE.iter().chain(more).find(|w| has(&parsed.tokens, w) && !excused(&parsed.statement, w));
        if let (false, Some(w)) = (explained, grave) {
            found.push(self.found(Rule::Unknown, format!("the word {w} (quote it if it is a name)")));
        }
        (kind, found)
    }

    fn tree(&mut self, statement: &Statement, tokens: &[Token]) -> (Kind, Vec<Found>) {
        use Statement as S;
        let ddl = |rule: Rule, subject: String| (Kind::Ddl, vec![Found { rule, subject }]);
        let control = |rule: Rule| (Kind::Control, vec![Found { rule, subject: String::new() }]);
        match statement {
            S::CreateTable(t) => {
                let mut all = self.create_table(t);
                if t.query.is_some() {
                    all.extend(self.called(statement, behind_as(tokens)));
                }
                (Kind::Ddl, all)
            }
            S::AlterTable(t) => {
                self.locked |= self.transaction && self.dialect == Dialect::Postgres && !self.fresh(&t.name);
                (Kind::Ddl, self.alter_table(t))
            }
            S::CreateIndex(i) => (Kind::Ddl, self.create_index(i)),
            S::RenameTable(pairs) => {
                (Kind::Ddl, pairs.iter().map(|p| self.rename(&p.old_name, &p.new_name)).collect())
            }
            S::Truncate(t) => {
                let one = |t: &sqlparser::ast::TruncateTableTarget| self.on(&t.name, Rule::Truncate);
                (Kind::Ddl, t.table_names.iter().map(one).collect())
            }
            S::Drop { object_type, names, .. } => {
                (Kind::Ddl, names.iter().map(|n| self.drop(object_type, n)).collect())
            }
            S::CreateView(v) => {
                let rule = if v.or_replace || v.or_alter { Rule::ReplaceView } else { Rule::CreateView };
                let mut all = vec![self.found(rule, v.name.to_string())];
                // A materialized one runs its query now.
                if v.materialized {
                    all.extend(self.called(statement, behind_as(tokens)));
                }
                (Kind::Ddl, all)
            }
            S::AlterView(v) => ddl(Rule::ReplaceView, v.name.to_string()),
            S::CreateTrigger(t) => (Kind::Ddl, vec![self.on(&t.table_name, Rule::CreateTrigger)]),
            S::DropTrigger(t) => ddl(Rule::ChangeTrigger, t.trigger_name.to_string()),
            S::AlterTrigger(_) => ddl(Rule::ChangeTrigger, String::new()),
            S::CreatePolicy(_) | S::AlterPolicy(_) | S::DropPolicy(_) | S::CreateRule(_) | S::DropRule(_) => {
                ddl(Rule::RowSecurity, String::new())
            }
            S::CreateFunction(f) => ddl(
                if f.or_replace || f.or_alter { Rule::ReplaceFunction } else { Rule::CreateFunction },
                f.name.to_string(),
            ),
            S::CreateProcedure { or_alter, name, .. } => ddl(
                if *or_alter || has(tokens, "replace") {
                    Rule::ReplaceFunction
                } else {
                    Rule::CreateFunction
                },
                name.to_string(),
            ),
            S::AlterFunction(_) => ddl(Rule::ReplaceFunction, String::new()),
            S::DropFunction(_) | S::DropProcedure { .. } => ddl(Rule::DropFunction, String::new()),
            S::CreateType { name, representation } => {
                (Kind::Ddl, vec![self.create_type(name, representation.as_ref())])
            }
            S::CreateDomain(d) => {
                if !d.constraints.is_empty() {
                    let _ = self.domains.insert(self.key(&d.name));
                }
                ddl(Rule::CreateType, d.name.to_string())
            }
            S::AlterType(t) => (Kind::Ddl, vec![self.alter_type(t)]),
            S::DropDomain(_) => ddl(Rule::DropType, String::new()),
            S::CreateSequence { name, .. } => ddl(Rule::CreateSequence, name.to_string()),
            S::CreateSchema { or_replace: false, schema_name, .. } => {
                ddl(Rule::CreateSchema, schema_name.to_string())
            }
            S::CreateDatabase { or_replace: false, db_name, .. } => {
                ddl(Rule::CreateSchema, db_name.to_string())
            }
            S::AlterSchema(s) => ddl(Rule::ChangeSchema, s.name.to_string()),
            S::CreateExtension(e) => ddl(Rule::CreateExtension, e.name.to_string()),
            S::DropExtension(_) => ddl(Rule::DropExtension, String::new()),
            S::AlterIndex { name, .. } => ddl(Rule::RenameConstraint, name.to_string()),
            S::Comment { .. } => ddl(Rule::Describe, String::new()),
            S::Grant(_) | S::GrantRole(_) => ddl(Rule::Grant, String::new()),
            S::Revoke(_) | S::RevokeRole(_) | S::Deny(_) => ddl(Rule::Revoke, String::new()),
            S::CreateRole(_) => ddl(Rule::CreateRole, String::new()),
            S::CreateUser(u) if !u.or_replace => ddl(Rule::CreateRole, String::new()),
            S::AlterRole { .. } | S::AlterUser(_) | S::AlterDefaultPrivileges(_) => {
                ddl(Rule::ChangeRole, String::new())
            }

            S::Query(_)
            | S::Insert(_)
            | S::Update(_)
            | S::Delete(_)
            | S::Merge(_)
            | S::Copy { .. }
            | S::LoadData { .. } => self.rows(statement, tokens),
            S::Explain { analyze, options, statement, .. } => {
                // With ANALYZE, in either place, the statement runs.
                if *analyze || options.is_some() {
                    self.tree(statement, tokens)
                } else {
                    (Kind::Dml, vec![self.found(Rule::Read, String::new())])
                }
            }
            S::ExplainTable { .. } => (Kind::Dml, vec![self.found(Rule::Read, String::new())]),
            S::ShowVariable { .. }
            | S::ShowTables { .. }
            | S::ShowColumns { .. }
            | S::ShowCreate { .. }
            | S::ShowVariables { .. } => (Kind::Dml, vec![self.found(Rule::Read, String::new())]),

            S::StartTransaction { statements, exception: None, .. } if statements.is_empty() => {
                self.transaction = true;
                control(Rule::Transaction)
            }
            // In MySQL END is the end of a body that was cut apart.
            S::Commit { end, chain, .. } if !*end || self.dialect == Dialect::Postgres => {
                (self.transaction, self.locked) = (*chain, false);
                control(Rule::Transaction)
            }
            S::Rollback { chain, savepoint } => {
                self.transaction = *chain || savepoint.is_some();
                self.locked &= savepoint.is_some();
                self.forget();
                control(Rule::Transaction)
            }
            S::Savepoint { .. } | S::ReleaseSavepoint { .. } => control(Rule::Transaction),
            S::Set(set) => {
                self.forget_names(set);
                let mut all = vec![self.found(session(set), String::new())];
                all.extend(self.called(statement, tokens));
                (Kind::Control, all)
            }
            S::Use(_) => {
                self.forget();
                control(Rule::Session)
            }
            S::Lock(_) | S::LockTables { .. } => control(Rule::LockTable),
            S::UnlockTables => control(Rule::Session),
            S::Analyze(_) => control(Rule::Maintenance),
            S::Vacuum(v) if !v.full && !has(tokens, "full") => control(Rule::Maintenance),
            S::Vacuum(_) | S::OptimizeTable { .. } => control(Rule::BlockingMaintenance),
            S::Call(_) | S::Execute { .. } | S::Prepare { .. } => control(Rule::Dynamic),
            _ => {
                self.forget();
                (Kind::Unknown, vec![self.found(Rule::Unknown, String::new())])
            }
        }
    }

    fn found(&self, rule: Rule, subject: impl Into<String>) -> Found {
        Found { rule, subject: subject.into() }
    }

    /// The rule, unless the script itself has created the table.
    fn on(&self, table: &ObjectName, rule: Rule) -> Found {
        let rule = if self.fresh(table) { Rule::FreshTable } else { rule };
        self.found(rule, table.to_string())
    }

    fn fresh(&self, table: &ObjectName) -> bool {
        self.tables.contains(&self.key(table))
    }

    /// Names that are one for the server are one here; where it is not sure, they are not.
    fn key(&self, name: &ObjectName) -> String {
        let part = |p: &ObjectNamePart| match p {
            ObjectNamePart::Identifier(i) => self.ident(i),
            ObjectNamePart::Function(f) => f.to_string(),
        };
        name.0.iter().map(part).collect::<Vec<_>>().join("\u{1f}")
    }

    fn ident(&self, i: &Ident) -> String {
        if self.dialect == Dialect::Postgres && i.quote_style.is_none() {
            i.value.to_ascii_lowercase()
        } else {
            i.value.clone()
        }
    }

    fn rename(&mut self, old: &ObjectName, new: &ObjectName) -> Found {
        let found = self.on(old, Rule::RenameTable);
        if self.tables.remove(&self.key(old)) {
            let _ = self.tables.insert(self.key(new));
        }
        found
    }

    fn drop(&mut self, what: &ObjectType, name: &ObjectName) -> Found {
        let rule = match what {
            ObjectType::Table | ObjectType::ForeignTable => {
                let found = self.on(name, Rule::DropTable);
                let _ = self.tables.remove(&self.key(name));
                return found;
            }
            ObjectType::View | ObjectType::MaterializedView => Rule::DropView,
            ObjectType::Index => Rule::DropIndex,
            ObjectType::Schema | ObjectType::Database => Rule::DropSchema,
            ObjectType::Sequence => Rule::DropSequence,
            ObjectType::Type => Rule::DropType,
            ObjectType::Role | ObjectType::User | ObjectType::Group => Rule::ChangeRole,
            _ => Rule::Unknown,
        };
        self.found(rule, name.to_string())
    }

    /// What was created may be gone, or its name mean something else.
    fn forget(&mut self) {
        self.tables.clear();
        self.columns.clear();
        self.types.clear();
    }

    fn forget_names(&mut self, set: &Set) {
        if set.to_string().to_lowercase().contains("search_path") {
            self.forget();
        }
    }
}

/// The query of `CREATE .. AS ..`.
fn behind_as(tokens: &[Token]) -> &[Token] {
    let at = tokens.iter().position(|t| word(t).is_some_and(|w| w.eq_ignore_ascii_case("as")));
    &tokens[at.unwrap_or(0)..]
}

/// Settings that change neither how the script is read nor what others see.
const SESSION: &[&str] = &[
    "application_name",
    "client_encoding",
    "client_min_messages",
    "foreign_key_checks",
    "idle_in_transaction_session_timeout",
    "innodb_lock_wait_timeout",
    "lock_timeout",
    "lock_wait_timeout",
    "maintenance_work_mem",
    "max_execution_time",
    "row_security",
    "search_path",
    "statement_timeout",
    "time_zone",
    "timezone",
    "unique_checks",
    "work_mem",
    "autocommit",
];

fn session(set: &Set) -> Rule {
    use sqlparser::ast::ContextModifier::Global;
    let known = |name: &ObjectName| {
        let name = name.to_string().to_lowercase();
        // MySQL's own variables of a session.
        let variable = name.starts_with('@') && !name.starts_with("@@");
        let name = name.trim_start_matches("@@").trim_start_matches("session.").trim_start_matches("local.");
        SESSION.contains(&name) || variable
    };
    let fine = match set {
        Set::SingleAssignment { scope, variable, .. } => *scope != Some(Global) && known(variable),
        Set::MultipleAssignments { assignments } => {
            assignments.iter().all(|a| a.scope != Some(Global) && known(&a.name))
        }
        Set::SetTimeZone { .. } | Set::SetNames { .. } | Set::SetNamesDefault {} => true,
        Set::SetTransaction { .. } => true,
        _ => false,
    };
    if fine { Rule::Session } else { Rule::SessionUnknown }
}

/// Grave words that belong to what is fine.
fn excused(statement: &Statement, word: &str) -> bool {
    match statement {
        // ON DELETE CASCADE of a foreign key; ON COMMIT DROP; bodies are not words.
        Statement::CreateTable(_) => ["delete", "drop"].contains(&word),
        Statement::AlterTable(_) => word == "alter",
        Statement::Grant(_) => ["alter", "delete", "drop", "truncate"].contains(&word),
        _ => false,
    }
}

/// What a statement that does not parse seems to be, and what to do with it.
pub fn guess(tokens: &[Token]) -> (&'static str, &'static str) {
    let words: Vec<String> = tokens.iter().filter_map(word).take(8).map(str::to_ascii_lowercase).collect();
    let is = |w: &str| words.iter().any(|x| x == w);
    let (body, person) = (
        "create it in a script of its own, and leave that to a person",
        "leave it to a person, or write it in another way",
    );
    match words.first().map(String::as_str) {
        Some("create" | "alter" | "drop") if is("trigger") => ("a trigger", Rule::CreateTrigger.instead()),
        Some("create" | "alter") if is("event") => ("an event", body),
        Some("create" | "alter") if is("procedure") || is("function") => {
            ("a routine whose body is not judged", body)
        }
        Some("do" | "call" | "execute") => ("code that is not judged", Rule::Dynamic.instead()),
        Some("lock") => ("a lock", Rule::LockTable.instead()),
        _ => ("it does not parse", person),
    }
}
