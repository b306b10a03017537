//! CREATE TABLE, INDEX, TYPE: what is new, and where it touches what is there.

use sqlparser::ast::{
    AlterTableAlgorithm, AlterTableLock, AlterTableOperation as Op, ColumnOption, CreateIndex, CreateTable,
    ForeignKeyConstraint, ObjectName, ReferentialAction, TableConstraint, UserDefinedTypeRepresentation,
};

use super::{Dialect, Found, Judge, Rule};

impl Judge {
    pub(super) fn create_table(&mut self, t: &CreateTable) -> Vec<Found> {
        let name = t.name.to_string();
        if t.or_replace {
            return vec![self.found(Rule::ReplaceTable, name)];
        }
        // IF NOT EXISTS may find another one; a temporary one that goes with its transaction uncovers what it hid; a child has its parent's rows.
        let child = t.inherits.is_some() || t.partition_of.as_ref().is_some_and(|p| !self.fresh(p));
        if !t.if_not_exists && t.on_commit.is_none() && !child {
            let _ = self.tables.insert(self.key(&t.name));
        }
        let mut all = vec![self.found(Rule::CreateTable, name)];
        if t.inherits.is_some() {
            all.push(self.found(Rule::Inherit, t.name.to_string()));
        }
        if let Some(parent) = t.partition_of.as_ref().filter(|p| !self.fresh(p)) {
            all.push(self.found(Rule::CreatePartition, parent.to_string()));
        }
        let inline = t.columns.iter().flat_map(|c| &c.options).filter_map(|o| match &o.option {
            ColumnOption::ForeignKey(f) => Some(f),
            _ => None,
        });
        let apart = t.constraints.iter().filter_map(|c| match c {
            TableConstraint::ForeignKey(f) => Some(f),
            _ => None,
        });
        let kept: Vec<_> = inline
            .chain(apart)
            .filter(|f| self.holds(&t.name, f))
            .map(|f| f.foreign_table.to_string())
            .collect();
        all.extend(kept.into_iter().map(|table| self.found(Rule::ForeignKeyToExisting, table)));
        all
    }

    /// Whether rows of the new table can hold rows of one that is in use.
    pub(super) fn holds(&self, table: &ObjectName, f: &ForeignKeyConstraint) -> bool {
        let lets_go = |a: &Option<ReferentialAction>| {
            matches!(
                a,
                Some(ReferentialAction::Cascade | ReferentialAction::SetNull | ReferentialAction::SetDefault)
            )
        };
        let own = self.fresh(&f.foreign_table) || self.key(&f.foreign_table) == self.key(table);
        !own && !lets_go(&f.on_delete)
    }

    pub(super) fn create_index(&self, i: &CreateIndex) -> Vec<Found> {
        let blocking = i.alter_options.iter().any(|o| {
            matches!(
                o,
                Op::Algorithm { algorithm: AlterTableAlgorithm::Copy, .. }
                    | Op::Lock { lock: AlterTableLock::Shared | AlterTableLock::Exclusive, .. }
            )
        });
        let rule = if i.unique {
            Rule::CreateUniqueIndex
        } else if blocking {
            Rule::BlockingWords
        } else if self.dialect == Dialect::Mysql {
            Rule::CreateIndex
        } else if !i.concurrently {
            Rule::CreateIndexBlocking
        } else if self.transaction {
            return vec![self.found(Rule::CreateIndexInTransaction, i.table_name.to_string())];
        } else {
            Rule::CreateIndex
        };
        vec![self.on(&i.table_name, rule)]
    }

    pub(super) fn create_type(
        &mut self,
        name: &ObjectName,
        how: Option<&UserDefinedTypeRepresentation>,
    ) -> Found {
        if how.is_some() {
            let _ = self.types.insert(self.key(name));
        }
        self.found(Rule::CreateType, name.to_string())
    }
}
