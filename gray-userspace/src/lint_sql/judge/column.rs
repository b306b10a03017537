//! ADD COLUMN: what the running version's rows get, and whether old rows have to be written.

use sqlparser::ast::{
    ArrayElemTypeDef, ColumnDef, ColumnOption, DataType, Expr, Function, FunctionArguments,
    GeneratedExpressionMode, ObjectName, Value,
};

use super::{Dialect, Found, Judge, Rule};

/// Types of PostgreSQL that come with it or with well-known extensions, and are no domains.
const TYPES: &[&str] = &[
    "box",
    "box2d",
    "box3d",
    "cidr",
    "circle",
    "citext",
    "geography",
    "geometry",
    "halfvec",
    "hstore",
    "inet",
    "line",
    "lseg",
    "ltree",
    "macaddr",
    "macaddr8",
    "money",
    "name",
    "oid",
    "path",
    "pg_lsn",
    "point",
    "polygon",
    "sparsevec",
    "tsquery",
    "tsvector",
    "vector",
    "xml",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
];

/// Functions of one value for all rows: no row has to be written for them.
const STABLE: &[&str] = &[
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "transaction_timestamp",
    "statement_timestamp",
];

impl Judge {
    pub(super) fn add_column(&self, table: &ObjectName, column: &ColumnDef, placed: bool) -> Found {
        let subject = format!("{table}.{}", column.name.value);
        self.found(self.added(column, placed), subject)
    }

    /// The gravest first.
    fn added(&self, column: &ColumnDef, placed: bool) -> Rule {
        let options = || column.options.iter().map(|o| &o.option);
        let has = |f: &dyn Fn(&ColumnOption) -> bool| options().any(f);
        let known = |o: &ColumnOption| {
            use ColumnOption as C;
            let tame = matches!(
                o,
                C::Null
                    | C::NotNull
                    | C::Default(_)
                    | C::PrimaryKey(_)
                    | C::Unique(_)
                    | C::ForeignKey(_)
                    | C::Check(_)
                    | C::CharacterSet(_)
                    | C::Collation(_)
                    | C::Comment(_)
                    | C::OnUpdate(_)
                    | C::Generated { .. }
                    | C::Invisible
                    | C::Srid(_)
            );
            tame || is_auto_increment(o)
        };
        let default = options().find_map(|o| match o {
            ColumnOption::Default(value) => Some(value),
            _ => None,
        });
        let default = default.filter(|v| !is_null(v));
        let generated = has(&|o| matches!(o, ColumnOption::Generated { .. }));

        let constrained = has(&|o| {
            use ColumnOption as C;
            matches!(o, C::PrimaryKey(_) | C::Unique(_) | C::ForeignKey(_) | C::Check(_))
        }) || matches!(&column.data_type, DataType::Custom(name, _) if self.domains.contains(&self.key(name)));
        let rewrites = serial(&column.data_type)
            || has(&is_auto_increment)
            || has(&written)
            || default.is_some_and(|v| !self.constant(v));

        if !options().all(known) {
            Rule::Unknown
        } else if constrained {
            Rule::AddColumnConstraint
        } else if rewrites {
            Rule::AddColumnRewrite
        } else if has(&|o| matches!(o, ColumnOption::NotNull)) && default.is_none() && !generated {
            Rule::AddColumnNotNull
        } else if placed {
            Rule::AddColumnPosition
        } else if self.own_type(&column.data_type) {
            Rule::AddColumnType
        } else {
            Rule::AddColumn
        }
    }

    /// One value for all rows, known when the column is added.
    fn constant(&self, value: &Expr) -> bool {
        match value {
            Expr::Value(v) => !matches!(v.value, Value::Placeholder(_)),
            Expr::TypedString(_) | Expr::Prefixed { .. } => true,
            Expr::Interval(i) => self.constant(&i.value),
            Expr::UnaryOp { expr, .. } => self.constant(expr),
            // MySQL writes rows for an expression in parentheses.
            Expr::Nested(inner) => self.dialect == Dialect::Postgres && self.constant(inner),
            Expr::Cast { expr, data_type, .. } => self.constant(expr) && !self.own_type(data_type),
            Expr::Array(a) => a.elem.iter().all(|e| self.constant(e)),
            Expr::Function(f) => {
                let name = f.name.to_string().to_lowercase();
                STABLE.contains(&name.as_str()) && plain_arguments(f)
            }
            Expr::Identifier(i) => {
                i.quote_style.is_none() && STABLE.contains(&i.value.to_lowercase().as_str())
            }
            _ => false,
        }
    }

    /// A type that the database's own people made, which this script did not.
    fn own_type(&self, t: &DataType) -> bool {
        match t {
            DataType::Custom(name, _) if self.dialect == Dialect::Postgres => {
                !TYPES.contains(&name.to_string().to_lowercase().as_str())
                    && !self.types.contains(&self.key(name))
            }
            DataType::Array(ArrayElemTypeDef::SquareBracket(t, _) | ArrayElemTypeDef::AngleBracket(t)) => {
                self.own_type(t)
            }
            _ => false,
        }
    }
}

/// `now()`, `CURRENT_TIMESTAMP(3)`.
fn plain_arguments(f: &Function) -> bool {
    f.over.is_none()
        && f.filter.is_none()
        && match &f.args {
            FunctionArguments::None => true,
            FunctionArguments::List(list) => {
                list.args.iter().all(|a| a.to_string().bytes().all(|b| b.is_ascii_digit()))
            }
            FunctionArguments::Subquery(_) => false,
        }
}

pub(super) fn is_null(value: &Expr) -> bool {
    match value {
        Expr::Value(v) => v.value == Value::Null,
        Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => is_null(inner),
        Expr::Cast { expr, .. } => is_null(expr),
        _ => false,
    }
}

fn is_auto_increment(o: &ColumnOption) -> bool {
    matches!(o, ColumnOption::DialectSpecific(tokens)
        if tokens.iter().any(|t| t.to_string().eq_ignore_ascii_case("auto_increment")))
}

/// Identity, and generated columns that are stored. PostgreSQL before 18 has no others.
fn written(o: &ColumnOption) -> bool {
    match o {
        ColumnOption::Generated { generation_expr, generation_expr_mode, generated_keyword, .. } => {
            let virtual_one = *generation_expr_mode == Some(GeneratedExpressionMode::Virtual);
            // MySQL's `AS (..)` without a word is virtual; it has no identity columns.
            generation_expr.is_none()
                || !(virtual_one || (generation_expr_mode.is_none() && !*generated_keyword))
        }
        _ => false,
    }
}

fn serial(t: &DataType) -> bool {
    let name = t.to_string().to_lowercase();
    name.contains("serial")
}
