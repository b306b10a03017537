//! Statements about rows. They are split from DDL and shown; judged is what takes rows away that the running version may want, and what the script
//! does not show.

use sqlparser::{
    ast::{
        CopyTarget, Delete, Expr, FromTable, Insert, OnConflictAction, OnInsert, Query, SetExpr, Statement,
        TableFactor, TableObject, TableWithJoins,
    },
    tokenizer::Token,
};

use super::{
    Dialect, Found, Judge, Kind, Rule,
    functions::{calls, has_side_effects, is_pure},
};
use crate::lint_sql::parse::{has, word};

impl Judge {
    pub(super) fn rows(&mut self, statement: &Statement, tokens: &[Token]) -> (Kind, Vec<Found>) {
        let mut all = self.row_rules(statement, tokens);
        let changes = all.iter().any(|f| f.rule != Rule::Read);
        if changes && self.locked {
            all.push(self.found(Rule::WorkUnderLock, String::new()));
        }
        if changes {
            all.extend(self.system(tokens));
        }
        all.extend(self.called(statement, tokens));
        (Kind::Dml, all)
    }

    fn row_rules(&self, statement: &Statement, tokens: &[Token]) -> Vec<Found> {
        let one = |rule: Rule, subject: String| vec![Found { rule, subject }];
        match statement {
            Statement::Query(q) => self.query(q, tokens),
            Statement::Insert(i) => {
                let mut all = one(self.insert(i), i.table.to_string());
                all.extend(i.source.iter().flat_map(|q| self.inside(q, tokens)));
                all
            }
            Statement::Update(u) if self.free(&u.table) => one(Rule::FreshTable, u.table.to_string()),
            Statement::Update(u) => one(
                if all_rows(u.selection.as_ref()) { Rule::UpdateAll } else { Rule::Update },
                u.table.to_string(),
            ),
            Statement::Delete(d) => vec![self.delete(d)],
            Statement::Merge(_) | Statement::LoadData { .. } => one(Rule::InsertOver, String::new()),
            Statement::Copy { to: false, target: CopyTarget::File { .. }, .. } => {
                one(Rule::Insert, String::new())
            }
            Statement::Copy { to: false, target: CopyTarget::Stdin, .. } => one(Rule::CopyIn, String::new()),
            Statement::Copy { .. } => one(Rule::CopyOut, String::new()),
            _ => one(Rule::Unknown, String::new()),
        }
    }

    /// A query may change rows, and create a table or write a file with INTO.
    fn query(&self, q: &Query, tokens: &[Token]) -> Vec<Found> {
        let mut all = self.inside(q, tokens);
        if has(tokens, "outfile") || has(tokens, "dumpfile") {
            all.push(self.found(Rule::CopyOut, String::new()));
        }
        match (all.is_empty(), has(tokens, "into")) {
            (true, true) => vec![self.found(Rule::CreateTable, String::new())],
            (true, false) => vec![self.found(Rule::Read, String::new())],
            _ => all,
        }
    }

    /// What a query changes in its WITH, or behind it. Deeper in the tree it is not looked for: words that are left over are taken for the worst.
    fn inside(&self, q: &Query, tokens: &[Token]) -> Vec<Found> {
        let (mut all, mut deletes, mut updates) = (Vec::new(), 0, 0);
        let bodies = q.with.iter().flat_map(|w| &w.cte_tables).map(|cte| &cte.query.body).chain([&q.body]);
        for body in bodies {
            if let SetExpr::Insert(s) | SetExpr::Update(s) | SetExpr::Delete(s) | SetExpr::Merge(s) = &**body
            {
                deletes += usize::from(matches!(**body, SetExpr::Delete(_)));
                updates += usize::from(matches!(**body, SetExpr::Update(_)));
                all.extend(self.row_rules(s, &[]));
            }
        }
        if said(tokens, "delete", &[]) > deletes {
            all.push(self.found(Rule::DeleteAll, String::new()));
        }
        // FOR UPDATE, FOR NO KEY UPDATE, ON DUPLICATE KEY UPDATE, ON CONFLICT DO UPDATE.
        if said(tokens, "update", &["for", "key", "do"]) > updates {
            all.push(self.found(Rule::UpdateAll, String::new()));
        }
        all
    }

    fn insert(&self, i: &Insert) -> Rule {
        let fresh = matches!(&i.table, TableObject::TableName(n) if self.fresh(n));
        let over = i.replace_into
            || i.overwrite
            || match &i.on {
                Some(OnInsert::OnConflict(c)) => matches!(c.action, OnConflictAction::DoUpdate(_)),
                None => false,
                _ => true,
            };
        if over && !fresh { Rule::InsertOver } else { Rule::Insert }
    }

    fn delete(&self, d: &Delete) -> Found {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &d.from;
        let subject = from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let free =
            d.using.is_none() && d.tables.is_empty() && !from.is_empty() && from.iter().all(|t| self.free(t));
        let rule = match (free, all_rows(d.selection.as_ref())) {
            (true, _) => Rule::FreshTable,
            (false, false) => Rule::Delete,
            (false, true) => Rule::DeleteAll,
        };
        self.found(rule, subject)
    }

    /// One table, which the script has created.
    fn free(&self, t: &TableWithJoins) -> bool {
        t.joins.is_empty() && matches!(&t.relation, TableFactor::Table { name, .. } if self.fresh(name))
    }

    /// The first function that is not known to only compute.
    pub(super) fn called(&self, statement: &Statement, tokens: &[Token]) -> Vec<Found> {
        let names = calls(tokens);
        // A row's own number from a sequence is what sequences are for.
        let numbered = matches!(statement, Statement::Insert(_) | Statement::Update(_));
        let own_number = |n: &str| numbered && n == "nextval";
        let bad = names.iter().find(|n| has_side_effects(n) && !own_number(n));
        let unknown = names.iter().find(|n| !is_pure(n) && !own_number(n));
        let found = match (bad, unknown) {
            (Some(n), _) => Some((Rule::SideEffect, n)),
            (None, Some(n)) => Some((Rule::Calls, n)),
            (None, None) => None,
        };
        found.map(|(rule, n)| self.found(rule, n.clone())).into_iter().collect()
    }

    /// Names of the database's own tables, in a statement that changes rows.
    fn system(&self, tokens: &[Token]) -> Option<Found> {
        let schema = |s: &str| match self.dialect {
            Dialect::Mysql => ["mysql", "performance_schema", "information_schema", "sys"].contains(&s),
            Dialect::Postgres => s == "information_schema" || s.starts_with("pg_"),
        };
        let name = tokens.iter().enumerate().find_map(|(i, t)| match t {
            // A function may have such a name, and is looked at by itself.
            Token::Word(w) if tokens.get(i + 1) != Some(&Token::LParen) => {
                let name = w.value.to_lowercase();
                let qualified =
                    self.dialect == Dialect::Postgres || tokens.get(i + 1) == Some(&Token::Period);
                (qualified && schema(&name)).then_some(name)
            }
            _ => None,
        });
        name.map(|n| self.found(Rule::SystemTable, n))
    }
}

/// No condition, or one that names nothing: `WHERE 1 = 1`.
fn all_rows(condition: Option<&Expr>) -> bool {
    let names_nothing = |e: &Expr| {
        let text = e.to_string().to_lowercase();
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty());
        words.into_iter().all(|w| {
            w.starts_with(|c: char| c.is_ascii_digit())
                || ["and", "false", "is", "not", "null", "or", "true"].contains(&w)
        })
    };
    condition.is_none_or(names_nothing)
}

/// How often a word stands in a statement, but for behind one of `but`.
fn said(tokens: &[Token], wanted: &str, but: &[&str]) -> usize {
    let is = |t: &Token, w: &str| word(t).is_some_and(|x| x.eq_ignore_ascii_case(w));
    let counts = |i: &usize| {
        let before = i.checked_sub(1).map(|b| &tokens[b]);
        is(&tokens[*i], wanted) && !before.is_some_and(|t| but.iter().any(|w| is(t, w)))
    };
    (0..tokens.len()).filter(counts).count()
}
