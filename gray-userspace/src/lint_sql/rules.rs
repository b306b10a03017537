//! The rules: what a statement does to the version that is still running, as a list. docs/lint-sql.md shows it, and a test compares the two.

use serde::{Deserialize, Serialize};

/// What a rule means for the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warn,
    Refuse,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Ok, Self::Warn, Self::Refuse];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        }
    }
}

/// Whether what was there before can be had again by another statement.
const UNDO: bool = true;
const LOST: bool = false;

macro_rules! rules {
    ($($rule:ident = $name:literal, $level:ident, $undo:ident, $reason:literal, $instead:literal;)+) => {
        /// A rule by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $($rule),+ }

        impl Rule {
            pub const ALL: &'static [Self] = &[$(Self::$rule),+];

            pub fn name(self) -> &'static str {
                match self { $(Self::$rule => $name),+ }
            }

            /// Without a file of levels.
            pub fn level(self) -> Level {
                match self { $(Self::$rule => Level::$level),+ }
            }

            /// False: data or definitions are gone, no statement brings them back.
            pub fn reversible(self) -> bool {
                match self { $(Self::$rule => $undo),+ }
            }

            pub fn reason(self) -> &'static str {
                match self { $(Self::$rule => $reason),+ }
            }

            /// The compatible way; empty where there is nothing to do.
            pub fn instead(self) -> &'static str {
                match self { $(Self::$rule => $instead),+ }
            }
        }
    };
}

rules! {
    CreateTable = "create-table", Ok, UNDO, "a new table, which the running version does not know", "";
    FreshTable = "fresh-table", Ok, UNDO, "changes what this script has created", "";
    ReplaceTable = "replace-table", Refuse, LOST, "drops the table that is there", "create a table of another name";
    ForeignKeyToExisting = "foreign-key-to-existing", Warn, UNDO, "rows of the new table can keep the running version from deleting or changing the rows they refer to", "leave the reference out until the old version is gone, or use ON DELETE CASCADE or SET NULL";
    Inherit = "inherit", Refuse, UNDO, "queries of the parent see the child's rows too", "create a table of its own";
    CreatePartition = "create-partition", Warn, UNDO, "the parent is locked for a moment, and rows go to the new partition", "set a lock time-out before it";
    ChangePartition = "change-partition", Refuse, LOST, "rows leave or enter the table that the running version uses", "change partitions when the old version is gone";
    DropTable = "drop-table", Refuse, LOST, "the running version still uses it", "drop it in a later script, when the old version is gone";
    RenameTable = "rename-table", Refuse, UNDO, "the running version uses the old name", "create the new table beside it, write to both, move, drop the old one later";
    Truncate = "truncate", Refuse, LOST, "all rows of a table that the running version uses are gone", "delete what nobody needs any more, when the old version is gone";

    AddColumn = "add-column", Ok, UNDO, "nullable, or with a constant default: rows of the running version go on being written", "";
    AddColumnNotNull = "add-column-not-null", Refuse, UNDO, "NOT NULL without a default: the running version writes rows without this column, and they are refused", "add it nullable or with a default; set NOT NULL when the old version is gone";
    AddColumnPosition = "add-column-position", Refuse, UNDO, "columns behind it move: who reads or writes rows by position gets other columns", "add it at the end, without FIRST or AFTER";
    AddColumnRewrite = "add-column-rewrite", Refuse, UNDO, "every row has to be written: the table is locked while that lasts", "add it nullable, fill it in portions, then set the default";
    AddColumnConstraint = "add-column-constraint", Refuse, UNDO, "a key or check on the column also holds for what the running version writes, and is built under a lock", "add the bare column; add the constraint when the old version is gone";
    AddColumnType = "add-column-type", Warn, UNDO, "a type of your own may be a domain with NOT NULL or a check", "make sure that it allows NULL";
    DropColumn = "drop-column", Refuse, LOST, "the running version still reads and writes it", "drop it in a later script, when the old version is gone";
    RenameColumn = "rename-column", Refuse, UNDO, "the running version uses the old name", "add a column, write both, move, drop the old one later";
    ChangeType = "change-type", Refuse, LOST, "what the type was is not in the script: values may be cut or not be read any more, and rows may have to be written again", "add a column of the new type, write both, move, drop the old one later";
    ModifyColumn = "modify-column", Refuse, LOST, "the whole definition is new and what it was is not in the script: type, NULL or default may change", "add a column, write both, move, drop the old one later; for a default alone, ALTER COLUMN SET DEFAULT";
    ModifyEnum = "modify-enum", Refuse, LOST, "which values the enum had is not in the script: a value that is gone or moved changes rows, a new one may not be read by the running version", "add a column of text, or allow this rule for a script that only adds values at the end";
    SetNotNull = "set-not-null", Refuse, UNDO, "the running version may write NULL", "set it when the old version is gone";
    DropNotNull = "drop-not-null", Warn, UNDO, "the running version may not expect NULL when it reads", "write no NULL before the old version is gone";
    SetDefault = "set-default", Refuse, UNDO, "rows that the running version writes get another value", "give the value in the new version's INSERT; set the default when the old version is gone";
    DropDefault = "drop-default", Refuse, UNDO, "rows that the running version writes get no value any more", "drop it when the old version is gone";

    AddPrimaryKey = "add-primary-key", Refuse, UNDO, "duplicates and NULL of the running version are refused, and the table is locked", "add it when the old version is gone";
    AddUnique = "add-unique", Refuse, UNDO, "duplicates that the running version writes are refused", "add it when the old version is gone";
    AddCheck = "add-check", Refuse, UNDO, "what the running version writes may be refused, and all rows are checked under a lock", "add it NOT VALID when the old version is gone, then VALIDATE";
    AddForeignKey = "add-foreign-key", Refuse, UNDO, "what the running version writes and deletes may be refused, and all rows are checked under a lock", "add it NOT VALID when the old version is gone, then VALIDATE";
    ConstraintNotValid = "constraint-not-valid", Refuse, UNDO, "NOT VALID leaves old rows alone, but holds for each new one of the running version", "add it when the old version is gone; allow this rule if the old version is known to keep to it";
    ValidateConstraint = "validate-constraint", Ok, UNDO, "checks old rows of a constraint that holds already", "";
    DropConstraint = "drop-constraint", Refuse, UNDO, "the running version may rely on it (ON CONFLICT, cascades, duplicates that cannot be)", "drop it when the old version is gone";
    RenameConstraint = "rename-constraint", Refuse, UNDO, "the running version may name it (ON CONFLICT ON CONSTRAINT, index hints)", "rename it when the old version is gone";

    CreateIndex = "create-index", Ok, UNDO, "an index that is built beside reads and writes", "";
    CreateIndexBlocking = "create-index-blocking", Refuse, UNDO, "writes wait until the index is built", "PostgreSQL: CREATE INDEX CONCURRENTLY; MySQL: when the old version is gone, or in a time of no writes";
    CreateIndexInTransaction = "create-index-in-transaction", Refuse, UNDO, "CONCURRENTLY fails inside a transaction", "put it before BEGIN or behind COMMIT";
    CreateUniqueIndex = "create-unique-index", Refuse, UNDO, "duplicates that the running version writes are refused", "add it when the old version is gone";
    DropIndex = "drop-index", Refuse, UNDO, "the running version may need it (ON CONFLICT, index hints, speed)", "drop it when the old version is gone";
    BlockingWords = "blocking-words", Refuse, UNDO, "ALGORITHM=COPY and LOCK=SHARED or EXCLUSIVE stop writes while the table is changed", "ALGORITHM=INSTANT, or ALGORITHM=INPLACE with LOCK=NONE";
    OnlineWords = "online-words", Ok, UNDO, "ALGORITHM and LOCK that let writes go on, or leave it to the server", "";
    TableOption = "table-option", Refuse, UNDO, "owner, schema, engine, storage or identity of a table that is in use changes, or it is written again under a lock", "change it when the old version is gone";

    CreateView = "create-view", Ok, UNDO, "a new view, which the running version does not know", "";
    ReplaceView = "replace-view", Refuse, UNDO, "the running version gets other columns or rows from it", "create a view of another name";
    DropView = "drop-view", Refuse, UNDO, "the running version still reads it", "drop it when the old version is gone";
    CreateTrigger = "create-trigger", Refuse, UNDO, "it runs for what the running version writes", "write in the new version's code, or add it when the old version is gone";
    ChangeTrigger = "change-trigger", Refuse, UNDO, "what the running version writes is treated differently", "change it when the old version is gone";
    RowSecurity = "row-security", Refuse, UNDO, "the running version sees or writes other rows", "change it when the old version is gone";
    CreateFunction = "create-function", Warn, UNDO, "what is in it is not judged; PostgreSQL may find a call of the running version ambiguous", "give it a name of its own";
    ReplaceFunction = "replace-function", Refuse, UNDO, "the running version calls it and gets another one", "create one of another name";
    DropFunction = "drop-function", Refuse, UNDO, "the running version may call it", "drop it when the old version is gone";
    CreateType = "create-type", Ok, UNDO, "a new type, which the running version does not know", "";
    AddEnumValue = "add-enum-value", Warn, LOST, "the running version may not know the value when it reads it, and it cannot be removed", "write the value when the old version is gone";
    ChangeEnum = "change-enum", Refuse, UNDO, "the running version uses the old value or name", "add a value; move when the old version is gone";
    DropType = "drop-type", Refuse, UNDO, "the running version may use it", "drop it when the old version is gone";
    CreateSequence = "create-sequence", Ok, UNDO, "a new sequence, which the running version does not know", "";
    ChangeSequence = "change-sequence", Refuse, LOST, "the running version may get numbers that were given already", "use a sequence of its own";
    DropSequence = "drop-sequence", Refuse, LOST, "the running version may take numbers from it", "drop it when the old version is gone";
    CreateSchema = "create-schema", Ok, UNDO, "a new schema or database", "";
    DropSchema = "drop-schema", Refuse, LOST, "all that is in it is gone", "drop it when the old version is gone";
    ChangeSchema = "change-schema", Refuse, UNDO, "the running version uses the old name or owner", "create a schema beside it";
    CreateExtension = "create-extension", Warn, UNDO, "it brings functions, types and operators", "try it on a copy first";
    DropExtension = "drop-extension", Refuse, LOST, "columns and functions of it are gone", "drop it when the old version is gone";
    Describe = "describe", Ok, UNDO, "a comment on an object", "";

    Grant = "grant", Ok, UNDO, "more rights", "";
    Revoke = "revoke", Refuse, UNDO, "the running version may need the right", "revoke it when the old version is gone";
    CreateRole = "create-role", Ok, UNDO, "a new role or user", "";
    ChangeRole = "change-role", Refuse, UNDO, "the running version may log in or act by it", "change it when the old version is gone";

    Read = "read", Ok, UNDO, "reads", "";
    Calls = "calls", Refuse, LOST, "calls a function that is not the database's own: what that does is not in the script", "leave it to a person, or allow this rule if the script's functions only compute";
    SideEffect = "side-effect", Refuse, LOST, "calls a function that changes the server, a sequence, or other sessions", "leave it to a person";
    Insert = "insert", Ok, UNDO, "more rows", "";
    InsertOver = "insert-over", Warn, LOST, "replaces rows that are there", "make sure that the running version can do with the new ones";
    Update = "update", Ok, LOST, "changes some rows; what they were is not kept", "";
    UpdateAll = "update-all", Warn, LOST, "changes every row, and locks each one for as long", "change them in portions";
    Delete = "delete", Warn, LOST, "the running version may still want the rows", "delete them when the old version is gone";
    DeleteAll = "delete-all", Refuse, LOST, "all rows of the table are gone", "delete what nobody needs any more, when the old version is gone";
    WorkUnderLock = "work-under-lock", Refuse, LOST, "rows are changed in a transaction that has altered a table: it stays locked, for reads too, until the end", "COMMIT before it";
    SystemTable = "system-table", Refuse, LOST, "changes the database's own tables", "use the statement that is meant for it";
    CopyIn = "copy-in", Refuse, LOST, "rows in the script that are no SQL", "use INSERT, or load them apart";
    CopyOut = "copy-out", Refuse, LOST, "writes a file or runs a program on the server", "leave it out of the script";

    Session = "session", Ok, UNDO, "a setting of this session", "";
    SessionUnknown = "session-unknown", Refuse, UNDO, "a setting that may change how the rest of the script is read, or that others see", "leave it out; lock_timeout, statement_timeout, search_path, NAMES, time_zone and such are fine";
    Transaction = "transaction", Ok, UNDO, "a transaction's begin or end", "";
    Maintenance = "maintenance", Ok, UNDO, "statistics or cleaning, beside reads and writes", "";
    BlockingMaintenance = "blocking-maintenance", Refuse, UNDO, "the table is locked while it is written again", "do it in a time of no traffic";
    LockTable = "lock-table", Refuse, UNDO, "the running version waits", "do without";
    Dynamic = "dynamic", Refuse, LOST, "runs what is not in the script", "write the statements into the script";
    Unknown = "unknown", Refuse, LOST, "no rule knows this kind of statement", "leave it to a person, or allow this rule";
}
