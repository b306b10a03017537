//! ALTER TABLE, action by action; ALTER TYPE.

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableAlgorithm, AlterTableLock, AlterTableOperation as Op,
    AlterType, AlterTypeOperation, ColumnOption, DataType, Ident, ObjectName, RenameTableNameKind,
    TableConstraint,
};

use super::{Found, Judge, Rule, column::is_null};

impl Judge {
    pub(super) fn alter_table(&mut self, t: &AlterTable) -> Vec<Found> {
        let fresh = self.fresh(&t.name);
        let mut all = Vec::new();
        for op in &t.operations {
            if let Op::RenameTable {
                table_name: RenameTableNameKind::To(new) | RenameTableNameKind::As(new),
            } = op
            {
                all.push(self.rename(&t.name, new));
                continue;
            }
            let found = self.alteration(&t.name, op);
            // What leads beyond the table is no matter of the table alone.
            let outside = matches!(found.rule, Rule::ForeignKeyToExisting | Rule::Inherit | Rule::Unknown);
            all.push(if fresh && !outside {
                self.found(Rule::FreshTable, t.name.to_string())
            } else {
                found
            });
        }
        if all.is_empty() || t.location.is_some() || t.on_cluster.is_some() {
            all.push(self.found(Rule::Unknown, t.name.to_string()));
        }
        all
    }

    fn alteration(&mut self, table: &ObjectName, op: &Op) -> Found {
        let on = |rule: Rule, name: &Ident| Found { rule, subject: format!("{table}.{}", name.value) };
        let whole = |rule: Rule| Found { rule, subject: table.to_string() };
        match op {
            Op::AddColumn { column_def, column_position, if_not_exists, .. } => {
                let found = self.add_column(table, column_def, column_position.is_some());
                if !*if_not_exists {
                    let _ = self.columns.insert((self.key(table), self.ident(&column_def.name)));
                }
                found
            }
            Op::DropColumn { column_names, .. } => {
                let old = column_names.iter().find(|c| !self.fresh_column(table, c));
                match old.or(column_names.first()) {
                    Some(c) => on(if old.is_some() { Rule::DropColumn } else { Rule::FreshTable }, c),
                    None => whole(Rule::DropColumn),
                }
            }
            Op::RenameColumn { old_column_name: c, .. } => {
                on(self.unless_fresh(table, c, Rule::RenameColumn), c)
            }
            Op::ChangeColumn { old_name: c, new_name, data_type, options, .. } => {
                let renamed = c.value != new_name.value;
                on(if renamed { Rule::RenameColumn } else { redefined(data_type, options) }, c)
            }
            Op::ModifyColumn { col_name: c, data_type, options, .. } => on(redefined(data_type, options), c),
            Op::AlterColumn { column_name: c, op } => on(self.alter_column(table, c, op), c),

            Op::AddConstraint { constraint, not_valid } => self.add_constraint(table, constraint, *not_valid),
            Op::ValidateConstraint { name } => on(Rule::ValidateConstraint, name),
            Op::DropConstraint { name, .. } | Op::DropForeignKey { name, .. } => {
                on(Rule::DropConstraint, name)
            }
            Op::DropPrimaryKey { .. } => whole(Rule::DropConstraint),
            Op::RenameConstraint { old_name, .. } => on(Rule::RenameConstraint, old_name),
            Op::DropIndex { name } => on(Rule::DropIndex, name),

            Op::EnableTrigger { name }
            | Op::DisableTrigger { name }
            | Op::EnableAlwaysTrigger { name }
            | Op::EnableReplicaTrigger { name } => on(Rule::ChangeTrigger, name),
            Op::EnableRule { name }
            | Op::DisableRule { name }
            | Op::EnableAlwaysRule { name }
            | Op::EnableReplicaRule { name } => on(Rule::RowSecurity, name),
            Op::EnableRowLevelSecurity
            | Op::DisableRowLevelSecurity
            | Op::ForceRowLevelSecurity
            | Op::NoForceRowLevelSecurity => whole(Rule::RowSecurity),

            Op::AttachPartitionOf { .. }
            | Op::DetachPartitionOf { .. }
            | Op::AttachPartition { .. }
            | Op::DetachPartition { .. }
            | Op::DropPartitions { .. }
            | Op::AddPartitions { .. }
            | Op::RenamePartitions { .. } => whole(Rule::ChangePartition),
            Op::Inherit { .. } | Op::NoInherit { .. } => whole(Rule::Inherit),

            Op::Algorithm { algorithm: AlterTableAlgorithm::Copy, .. }
            | Op::Lock { lock: AlterTableLock::Shared | AlterTableLock::Exclusive, .. } => {
                whole(Rule::BlockingWords)
            }
            Op::Algorithm { .. } | Op::Lock { .. } => whole(Rule::OnlineWords),

            Op::OwnerTo { .. }
            | Op::SetLogged
            | Op::SetUnlogged
            | Op::ReplicaIdentity { .. }
            | Op::AutoIncrement { .. }
            | Op::SetOptionsParens { .. }
            | Op::ResetOptions { .. } => whole(Rule::TableOption),
            _ => whole(Rule::Unknown),
        }
    }

    fn alter_column(&self, table: &ObjectName, column: &Ident, op: &AlterColumnOperation) -> Rule {
        use AlterColumnOperation as C;
        match op {
            C::SetNotNull => Rule::SetNotNull,
            C::DropNotNull => self.unless_fresh(table, column, Rule::DropNotNull),
            C::SetDefault { value } if is_null(value) => Rule::DropDefault,
            C::SetDefault { .. } => self.unless_fresh(table, column, Rule::SetDefault),
            // Of a column of this script too: it may have been added NOT NULL because of it.
            C::DropDefault => Rule::DropDefault,
            // The rows are written again under a lock, whoever made the column.
            C::SetDataType { .. } => Rule::ChangeType,
            C::AddGenerated { .. } => Rule::SetDefault,
            _ => Rule::Unknown,
        }
    }

    pub(super) fn add_constraint(&self, table: &ObjectName, c: &TableConstraint, not_valid: bool) -> Found {
        let rule = match c {
            TableConstraint::Index(_) => Rule::CreateIndex,
            TableConstraint::FulltextOrSpatial(_) => Rule::CreateIndexBlocking,
            TableConstraint::ForeignKey(f) if self.fresh(table) => {
                if self.holds(table, f) {
                    Rule::ForeignKeyToExisting
                } else {
                    Rule::FreshTable
                }
            }
            TableConstraint::Check(_) | TableConstraint::ForeignKey(_) if not_valid => {
                Rule::ConstraintNotValid
            }
            TableConstraint::Check(_) => Rule::AddCheck,
            TableConstraint::ForeignKey(_) => Rule::AddForeignKey,
            TableConstraint::PrimaryKey(_) => Rule::AddPrimaryKey,
            TableConstraint::Unique(_) => Rule::AddUnique,
            _ if format!("{c}").to_uppercase().contains("PRIMARY KEY") => Rule::AddPrimaryKey,
            _ => Rule::AddUnique,
        };
        self.found(rule, table.to_string())
    }

    fn fresh_column(&self, table: &ObjectName, column: &Ident) -> bool {
        self.columns.contains(&(self.key(table), self.ident(column)))
    }

    fn unless_fresh(&self, table: &ObjectName, column: &Ident, rule: Rule) -> Rule {
        if self.fresh_column(table, column) { Rule::FreshTable } else { rule }
    }

    pub(super) fn alter_type(&self, t: &AlterType) -> Found {
        let rule = match &t.operation {
            AlterTypeOperation::AddValue(_) => Rule::AddEnumValue,
            _ => Rule::ChangeEnum,
        };
        self.found(rule, t.name.to_string())
    }
}

fn redefined(t: &DataType, options: &[ColumnOption]) -> Rule {
    let list = matches!(t, DataType::Enum(..) | DataType::Set(..));
    let plain = !options.iter().any(|o| matches!(o, ColumnOption::Unique(_) | ColumnOption::PrimaryKey(_)));
    if list && plain { Rule::ModifyEnum } else { Rule::ModifyColumn }
}
