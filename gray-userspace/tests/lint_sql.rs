//! What `gray lint-sql` says to statements of both dialects: one row each. The rule of the last statement is expected, or several with `+`.

mod cli_run;

use std::fs;

use cli_run::run;
use gray_userspace::lint_sql::{Dialect, Kind, Level, Levels, Report, Rule, UNJUDGED, lint};

const M: &[Dialect] = &[Dialect::Mysql];
const P: &[Dialect] = &[Dialect::Postgres];
const B: &[Dialect] = &[Dialect::Mysql, Dialect::Postgres];

type Case = (&'static [Dialect], &'static str, &'static str);

const TABLES: &[Case] = &[
    (B, "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20) NOT NULL)", "create-table"),
    (B, "CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)", "create-table"),
    (B, "CREATE TABLE t AS SELECT * FROM u", "create-table"),
    (P, "CREATE TABLE t (LIKE u)", "create-table"),
    (M, "CREATE TABLE t LIKE u", "create-table"),
    (
        M,
        "CREATE TABLE t (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, e ENUM('a','b')) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
        "create-table",
    ),
    (
        P,
        "CREATE TABLE t (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), j jsonb)",
        "create-table",
    ),
    (P, "CREATE UNLOGGED TABLE t (id int)", "create-table"),
    (B, "CREATE TEMPORARY TABLE t (id INT)", "create-table"),
    (B, "CREATE OR REPLACE TABLE t (id INT)", "replace-table"),
    (P, "CREATE TABLE t (id int REFERENCES users (id))", "create-table+foreign-key-to-existing"),
    (
        B,
        "CREATE TABLE t (id INT, FOREIGN KEY (id) REFERENCES users (id))",
        "create-table+foreign-key-to-existing",
    ),
    (B, "CREATE TABLE t (id INT, FOREIGN KEY (id) REFERENCES users (id) ON DELETE CASCADE)", "create-table"),
    (B, "CREATE TABLE t (id INT, up INT, FOREIGN KEY (up) REFERENCES t (id))", "create-table"),
    (
        B,
        "CREATE TABLE users (id INT); CREATE TABLE t (id INT, FOREIGN KEY (id) REFERENCES users (id))",
        "create-table",
    ),
    (P, "CREATE TABLE t () INHERITS (parent)", "create-table+inherit"),
    (P, "CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (1) TO (10)", "create-table+create-partition"),
    (
        P,
        "CREATE TABLE t (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (1) TO (10)",
        "create-table",
    ),
    (B, "DROP TABLE t", "drop-table"),
    (B, "DROP TABLE IF EXISTS t", "drop-table"),
    (B, "DROP TABLE t, u", "drop-table+drop-table"),
    (B, "CREATE TABLE t (id INT); DROP TABLE t", "fresh-table"),
    (B, "CREATE TABLE IF NOT EXISTS t (id INT); DROP TABLE t", "drop-table"),
    (B, "CREATE TABLE t (id INT); DROP TABLE t; DROP TABLE t", "drop-table"),
    (B, "BEGIN; CREATE TABLE t (id INT); ROLLBACK; DROP TABLE t", "drop-table"),
    (B, "CREATE TABLE t (id INT); DROP TABLE u.t", "drop-table"),
    (P, "CREATE TABLE T (id int); DROP TABLE t", "fresh-table"),
    (P, "CREATE TABLE \"T\" (id int); DROP TABLE t", "drop-table"),
    (M, "CREATE TABLE T (id INT); DROP TABLE t", "drop-table"),
    (M, "CREATE TABLE t (id INT); USE other; DROP TABLE t", "drop-table"),
    (P, "CREATE TABLE t (id int); SET search_path = other; DROP TABLE t", "drop-table"),
    (P, "BEGIN; CREATE TEMP TABLE t (id int) ON COMMIT DROP; COMMIT; DROP TABLE t", "drop-table"),
    (B, "ALTER TABLE t RENAME TO u", "rename-table"),
    (M, "ALTER TABLE t RENAME AS u", "rename-table"),
    (M, "RENAME TABLE t TO u", "rename-table"),
    (M, "RENAME TABLE t TO old, new TO t", "rename-table+rename-table"),
    (M, "CREATE TABLE n (id INT); RENAME TABLE t TO old, n TO t", "rename-table+fresh-table"),
    (B, "TRUNCATE TABLE t", "truncate"),
    (P, "TRUNCATE t, u CASCADE", "truncate+truncate"),
    (P, "DROP FOREIGN TABLE t", "drop-table"),
];

const COLUMNS: &[Case] = &[
    (B, "ALTER TABLE t ADD COLUMN a INT", "add-column"),
    (B, "ALTER TABLE t ADD a INT NULL", "add-column"),
    (B, "ALTER TABLE t ADD COLUMN a VARCHAR(20) DEFAULT 'x'", "add-column"),
    (B, "ALTER TABLE t ADD COLUMN a INT NOT NULL DEFAULT 0", "add-column"),
    (B, "ALTER TABLE t ADD COLUMN a INT NOT NULL DEFAULT -1", "add-column"),
    (B, "ALTER TABLE t ADD COLUMN a TIMESTAMP DEFAULT CURRENT_TIMESTAMP", "add-column"),
    (
        M,
        "ALTER TABLE t ADD COLUMN a DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)",
        "add-column",
    ),
    (P, "ALTER TABLE t ADD COLUMN IF NOT EXISTS a text", "add-column"),
    (P, "ALTER TABLE t ADD COLUMN a timestamptz NOT NULL DEFAULT now()", "add-column"),
    (P, "ALTER TABLE t ADD COLUMN a jsonb NOT NULL DEFAULT '{}'::jsonb", "add-column"),
    (P, "ALTER TABLE t ADD COLUMN a text[] NOT NULL DEFAULT '{}'", "add-column"),
    (P, "ALTER TABLE t ADD COLUMN a text[] NOT NULL DEFAULT ARRAY[]::text[]", "add-column"),
    (P, "ALTER TABLE t ADD COLUMN a boolean NOT NULL DEFAULT false", "add-column"),
    (P, "ALTER TABLE ONLY t ADD COLUMN a inet", "add-column"),
    (P, "ALTER TABLE IF EXISTS t ADD COLUMN a int, ADD COLUMN b text", "add-column+add-column"),
    (M, "ALTER TABLE t ADD COLUMN a INT, ALGORITHM=INSTANT", "add-column+online-words"),
    (
        M,
        "ALTER TABLE t ADD COLUMN a INT, ALGORITHM=INPLACE, LOCK=NONE",
        "add-column+online-words+online-words",
    ),
    (M, "ALTER TABLE t ADD COLUMN a INT, ALGORITHM=COPY", "add-column+blocking-words"),
    (M, "ALTER TABLE t ADD COLUMN a INT, LOCK=EXCLUSIVE", "add-column+blocking-words"),
    (M, "ALTER TABLE t ADD COLUMN a INT, LOCK=SHARED", "add-column+blocking-words"),
    (
        M,
        "ALTER TABLE t ADD COLUMN a VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT 'drop it'",
        "add-column",
    ),
    (B, "ALTER TABLE t ADD COLUMN a INT NOT NULL", "add-column-not-null"),
    (B, "ALTER TABLE t ADD COLUMN a INT NOT NULL DEFAULT NULL", "add-column-not-null"),
    (P, "ALTER TABLE t ADD COLUMN a int DEFAULT NULL::int NOT NULL", "add-column-not-null"),
    (B, "ALTER TABLE t ADD COLUMN a INT, ADD COLUMN b INT NOT NULL", "add-column+add-column-not-null"),
    (M, "ALTER TABLE t ADD COLUMN a INT FIRST", "add-column-position"),
    (M, "ALTER TABLE t ADD COLUMN a INT AFTER b", "add-column-position"),
    (P, "ALTER TABLE t ADD COLUMN a uuid DEFAULT gen_random_uuid()", "add-column-rewrite"),
    (P, "ALTER TABLE t ADD COLUMN a timestamptz DEFAULT clock_timestamp()", "add-column-rewrite"),
    (P, "ALTER TABLE t ADD COLUMN a int DEFAULT nextval('s')", "add-column-rewrite"),
    (P, "ALTER TABLE t ADD COLUMN a float DEFAULT random() * 2", "add-column-rewrite"),
    (P, "ALTER TABLE t ADD COLUMN a serial", "add-column-rewrite"),
    (P, "ALTER TABLE t ADD COLUMN a bigint GENERATED ALWAYS AS IDENTITY", "add-column-rewrite"),
    (P, "ALTER TABLE t ADD COLUMN a int GENERATED ALWAYS AS (b * 2) STORED", "add-column-rewrite"),
    (M, "ALTER TABLE t ADD COLUMN a INT GENERATED ALWAYS AS (b * 2) STORED", "add-column-rewrite"),
    (M, "ALTER TABLE t ADD COLUMN a INT GENERATED ALWAYS AS (b * 2) VIRTUAL", "add-column"),
    (M, "ALTER TABLE t ADD COLUMN a CHAR(36) DEFAULT (uuid())", "add-column-rewrite"),
    (M, "ALTER TABLE t ADD COLUMN a INT AUTO_INCREMENT", "add-column-rewrite"),
    (B, "ALTER TABLE t ADD COLUMN a INT UNIQUE", "add-column-constraint"),
    (B, "ALTER TABLE t ADD COLUMN a INT PRIMARY KEY", "add-column-constraint"),
    (B, "ALTER TABLE t ADD COLUMN a INT CHECK (a IS NOT NULL)", "add-column-constraint"),
    (P, "ALTER TABLE t ADD COLUMN a int REFERENCES u (id)", "add-column-constraint"),
    (P, "ALTER TABLE t ADD COLUMN a mood", "add-column-type"),
    (P, "CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TABLE t ADD COLUMN a mood", "add-column"),
    (P, "ALTER TABLE t ADD COLUMN a citext", "add-column"),
    (B, "CREATE TABLE t (id INT); ALTER TABLE t ADD COLUMN a INT NOT NULL", "fresh-table"),
    (B, "ALTER TABLE t DROP COLUMN a", "drop-column"),
    (B, "ALTER TABLE t DROP a", "drop-column"),
    (P, "ALTER TABLE t DROP COLUMN IF EXISTS a CASCADE", "drop-column"),
    (B, "ALTER TABLE t ADD COLUMN a INT, DROP COLUMN b", "add-column+drop-column"),
    (B, "ALTER TABLE t RENAME COLUMN a TO b", "rename-column"),
    (P, "ALTER TABLE t RENAME a TO b", "rename-column"),
    (M, "ALTER TABLE t CHANGE a b INT", "rename-column"),
    (M, "ALTER TABLE t CHANGE COLUMN a a BIGINT", "modify-column"),
    (M, "ALTER TABLE t MODIFY COLUMN a VARCHAR(10)", "modify-column"),
    (M, "ALTER TABLE t MODIFY a BIGINT NOT NULL", "modify-column"),
    (M, "ALTER TABLE t MODIFY COLUMN a ENUM('x','y','z')", "modify-enum"),
    (P, "ALTER TABLE t ALTER COLUMN a TYPE bigint", "change-type"),
    (P, "ALTER TABLE t ALTER COLUMN a SET DATA TYPE varchar(5) USING left(a, 5)", "change-type"),
    (P, "ALTER TABLE t ALTER a SET NOT NULL", "set-not-null"),
    (P, "ALTER TABLE t ALTER COLUMN a DROP NOT NULL", "drop-not-null"),
    (B, "ALTER TABLE t ALTER COLUMN a SET DEFAULT 5", "set-default"),
    (B, "ALTER TABLE t ALTER COLUMN a DROP DEFAULT", "drop-default"),
    (P, "ALTER TABLE t ADD COLUMN a int; ALTER TABLE t ALTER COLUMN a SET DEFAULT random()", "fresh-table"),
    (P, "ALTER TABLE t ADD COLUMN a int; ALTER TABLE t ALTER COLUMN a SET NOT NULL", "set-not-null"),
    (
        P,
        "ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 1; ALTER TABLE t ALTER COLUMN a DROP DEFAULT",
        "drop-default",
    ),
    (P, "ALTER TABLE t ADD COLUMN IF NOT EXISTS a int; ALTER TABLE t DROP COLUMN a", "drop-column"),
    (P, "ALTER TABLE t ALTER COLUMN a ADD GENERATED ALWAYS AS IDENTITY", "set-default"),
];

const KEYS: &[Case] = &[
    (B, "ALTER TABLE t ADD PRIMARY KEY (id)", "add-primary-key"),
    (B, "ALTER TABLE t ADD CONSTRAINT u UNIQUE (a)", "add-unique"),
    (M, "ALTER TABLE t ADD UNIQUE KEY u (a)", "add-unique"),
    (M, "ALTER TABLE t ADD UNIQUE INDEX u (a)", "add-unique"),
    (B, "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "add-check"),
    (P, "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID", "constraint-not-valid"),
    (B, "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id)", "add-foreign-key"),
    (P, "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id) NOT VALID", "constraint-not-valid"),
    (P, "ALTER TABLE t VALIDATE CONSTRAINT f", "validate-constraint"),
    (P, "ALTER TABLE t ADD CONSTRAINT p PRIMARY KEY USING INDEX i", "add-primary-key"),
    (P, "ALTER TABLE t ADD CONSTRAINT u UNIQUE USING INDEX i", "add-unique"),
    (B, "CREATE TABLE t (id INT); ALTER TABLE t ADD CONSTRAINT u UNIQUE (id)", "fresh-table"),
    (
        B,
        "CREATE TABLE t (id INT); ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES u (id)",
        "foreign-key-to-existing",
    ),
    (B, "ALTER TABLE t DROP CONSTRAINT c", "drop-constraint"),
    (M, "ALTER TABLE t DROP FOREIGN KEY f", "drop-constraint"),
    (M, "ALTER TABLE t DROP PRIMARY KEY", "drop-constraint"),
    (P, "ALTER TABLE t RENAME CONSTRAINT a TO b", "rename-constraint"),
    (P, "ALTER INDEX a RENAME TO b", "rename-constraint"),
    (M, "CREATE INDEX i ON t (a)", "create-index"),
    (M, "CREATE INDEX i ON t (a) ALGORITHM=INPLACE LOCK=NONE", "create-index"),
    (M, "CREATE INDEX i ON t (a) ALGORITHM=COPY", "blocking-words"),
    (M, "CREATE INDEX i ON t (a) LOCK=SHARED", "blocking-words"),
    (M, "ALTER TABLE t ADD INDEX i (a)", "create-index"),
    (M, "ALTER TABLE t ADD KEY i (a, b)", "create-index"),
    (M, "ALTER TABLE t ADD FULLTEXT INDEX i (a)", "create-index-blocking"),
    (P, "CREATE INDEX i ON t (a)", "create-index-blocking"),
    (P, "CREATE INDEX CONCURRENTLY i ON t (a)", "create-index"),
    (P, "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t USING gin (a) WHERE b > 0", "create-index"),
    (P, "BEGIN; CREATE INDEX CONCURRENTLY i ON t (a)", "create-index-in-transaction"),
    (P, "BEGIN; COMMIT; CREATE INDEX CONCURRENTLY i ON t (a)", "create-index"),
    (P, "CREATE TABLE t (a int); CREATE INDEX i ON t (a)", "fresh-table"),
    (B, "CREATE UNIQUE INDEX i ON t (a)", "create-unique-index"),
    (P, "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "create-unique-index"),
    (P, "DROP INDEX i", "drop-index"),
    (P, "DROP INDEX CONCURRENTLY i", UNJUDGED),
    (M, "DROP INDEX i ON t", "drop-index"),
    (M, "ALTER TABLE t DROP INDEX i", "drop-index"),
];

const OTHERS: &[Case] = &[
    (B, "CREATE VIEW v AS SELECT a FROM t", "create-view"),
    (P, "CREATE MATERIALIZED VIEW v AS SELECT a FROM t", "create-view"),
    (B, "CREATE OR REPLACE VIEW v AS SELECT a FROM t", "replace-view"),
    (B, "DROP VIEW v", "drop-view"),
    (P, "DROP MATERIALIZED VIEW v", "drop-view"),
    (P, "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", "create-trigger"),
    (P, "DROP TRIGGER g ON t", "change-trigger"),
    (M, "DROP TRIGGER g", "change-trigger"),
    (P, "ALTER TABLE t DISABLE TRIGGER g", "change-trigger"),
    (P, "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "row-security"),
    (P, "CREATE POLICY p ON t USING (a = 1)", "row-security"),
    (
        P,
        "CREATE FUNCTION f(a int) RETURNS int AS $$ BEGIN DELETE FROM t; RETURN 1; END $$ LANGUAGE plpgsql",
        "create-function",
    ),
    (P, "CREATE OR REPLACE FUNCTION f() RETURNS int AS $a$ SELECT 1; $a$ LANGUAGE sql", "replace-function"),
    (P, "DROP FUNCTION f(int)", "drop-function"),
    (B, "DROP PROCEDURE p", "drop-function"),
    (P, "CREATE TYPE mood AS ENUM ('sad', 'ok')", "create-type"),
    (P, "ALTER TYPE mood ADD VALUE 'glad'", "add-enum-value"),
    (P, "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'glad' BEFORE 'sad'", "add-enum-value"),
    (P, "ALTER TYPE mood RENAME VALUE 'sad' TO 'glad'", "change-enum"),
    (P, "DROP TYPE mood", "drop-type"),
    (P, "CREATE DOMAIN d AS int CHECK (VALUE > 0)", "create-type"),
    (P, "CREATE DOMAIN d AS int NOT NULL", UNJUDGED),
    (P, "CREATE SEQUENCE s", "create-sequence"),
    (P, "DROP SEQUENCE s", "drop-sequence"),
    (B, "CREATE SCHEMA s", "create-schema"),
    (B, "CREATE DATABASE d", "create-schema"),
    (B, "DROP DATABASE d", "drop-schema"),
    (P, "DROP SCHEMA s CASCADE", "drop-schema"),
    (P, "CREATE EXTENSION IF NOT EXISTS pgcrypto", "create-extension"),
    (P, "DROP EXTENSION pgcrypto", "drop-extension"),
    (P, "COMMENT ON COLUMN t.a IS 'do not drop'", "describe"),
    (P, "ALTER TABLE t OWNER TO bob", "table-option"),
    (P, "ALTER TABLE t SET UNLOGGED", "table-option"),
    (M, "ALTER TABLE t AUTO_INCREMENT = 5", "table-option"),
    (P, "ALTER TABLE t REPLICA IDENTITY FULL", "table-option"),
    (P, "ALTER TABLE t ATTACH PARTITION p FOR VALUES FROM (1) TO (2)", "change-partition"),
    (P, "ALTER TABLE t DETACH PARTITION p", "change-partition"),
    (P, "ALTER TABLE t INHERIT p", "inherit"),
    (B, "GRANT SELECT, DELETE ON t TO bob", "grant"),
    (B, "REVOKE SELECT ON t FROM bob", "revoke"),
    (P, "CREATE ROLE bob", "create-role"),
    (P, "ALTER ROLE bob WITH PASSWORD 'x'", "change-role"),
    (P, "DROP ROLE bob", "change-role"),
    (M, "LOCK TABLES t WRITE", "lock-table"),
    (P, "LOCK TABLE t IN ACCESS EXCLUSIVE MODE", "lock-table"),
    (B, "CALL p(1)", "dynamic"),
    (P, "PREPARE p AS DELETE FROM t", "dynamic"),
    (P, "EXECUTE p", "dynamic"),
    (P, "SET lock_timeout = '2s'", "session"),
    (P, "SET LOCAL statement_timeout = 0", "session"),
    (M, "SET NAMES utf8mb4", "session"),
    (M, "SET foreign_key_checks = 0", "session"),
    (M, "SET sql_mode = 'NO_BACKSLASH_ESCAPES'", "session-unknown"),
    (M, "SET GLOBAL lock_wait_timeout = 1", "session-unknown"),
    (P, "SET standard_conforming_strings = off", "session-unknown"),
    (P, "SET ROLE bob", "session-unknown"),
    (B, "BEGIN", "transaction"),
    (B, "COMMIT", "transaction"),
    (P, "ANALYZE t", "maintenance"),
    (P, "VACUUM t", "maintenance"),
    (P, "VACUUM FULL t", "blocking-maintenance"),
    (M, "OPTIMIZE TABLE t", UNJUDGED),
    (M, "KILL 5", "unknown"),
];

const ROWS: &[Case] = &[
    (B, "SELECT * FROM t", "read"),
    (B, "SELECT count(*), max(a) FROM t WHERE b IN (1, 2) FOR UPDATE", "read"),
    (P, "SELECT drop_everything()", "read+calls"),
    (P, "SELECT setval('s', 1)", "read+side-effect"),
    (P, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity", "read+side-effect"),
    (P, "SELECT * INTO copy_of_t FROM t", "create-table"),
    (P, "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone", "delete-all"),
    (P, "WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x", "update-all"),
    (P, "WITH gone AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM gone", "delete-all+insert"),
    (B, "INSERT INTO t (a) VALUES (1), (2)", "insert"),
    (B, "INSERT INTO t VALUES ('DROP TABLE t; -- ')", "insert"),
    (M, "INSERT IGNORE INTO t (a) VALUES (1)", "insert"),
    (M, "REPLACE INTO t (a) VALUES (1)", "insert-over"),
    (M, "INSERT INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 2", "insert-over"),
    (P, "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING", "insert"),
    (P, "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", "insert-over"),
    (B, "UPDATE t SET a = 1 WHERE b = 2", "update"),
    (B, "UPDATE t SET a = 1", "update-all"),
    (B, "DELETE FROM t WHERE a = 1", "delete"),
    (B, "DELETE FROM t", "delete-all"),
    (B, "CREATE TABLE t (a INT); DELETE FROM t", "fresh-table"),
    (P, "COPY t TO '/tmp/x'", "copy-out"),
    (P, "COPY t FROM PROGRAM 'id'", "copy-out"),
    (P, "COPY t FROM '/tmp/x'", "insert"),
    (M, "SELECT * FROM t INTO OUTFILE '/tmp/x'", UNJUDGED),
    (B, "EXPLAIN DELETE FROM t", "read"),
    (B, "EXPLAIN ANALYZE DELETE FROM t", "delete-all"),
    (P, "EXPLAIN (ANALYZE) DELETE FROM t", "delete-all"),
];

/// Scripts that break a running version in ways that a reader may miss.
const TRAPS: &[Case] = &[
    (P, "SELECT 1; -- x\rDROP TABLE t", "drop-table"),
    (P, "SELECT E'a'\n'\\''; DROP TABLE t; --'", UNJUDGED),
    (P, "SELECT E'\\'; DROP TABLE t; --'", "read"),
    (P, "SELECT '\\'; DROP TABLE t; --'", "drop-table"),
    (M, "SELECT '\\'; DROP TABLE t; --'", "read"),
    (B, "SELECT ''''; DROP TABLE t", "drop-table"),
    (P, "SELECT $a$ ; $b$; $a$; DROP TABLE t", "drop-table"),
    (P, "SELECT 1 AS a$b$; DROP TABLE t; --$b$", "drop-table"),
    (M, "SELECT $$; DROP TABLE t; -- $$", "drop-table"),
    (P, "/* /* */ DROP TABLE t; */ SELECT 1", "read"),
    (M, "/* /* */ DROP TABLE t", "drop-table"),
    (M, "SELECT 1 --1; DROP TABLE t", "drop-table"),
    (P, "SELECT 1 --1; DROP TABLE t", "read"),
    (M, "SELECT a delimiter ;", UNJUDGED),
    (P, "CREATE FUNCTION f() RETURNS void AS $$ DROP TABLE t $$ LANGUAGE sql; SELECT f()", "read+calls"),
    (P, "SELECT * FROM f(1) AS x (a int)", "read+calls"),
    (P, "SELECT \"f\"(1)", "read+calls"),
    (P, "SELECT s.f (1)", "read+calls"),
    (B, "UPDATE t SET a = f(a) WHERE b = 1", "update+calls"),
    (B, "INSERT INTO t (a, b) SELECT f(a), count(*) FROM u GROUP BY a", "insert+calls"),
    (B, "INSERT INTO s.t (a, b) SELECT max(a), count(*) FROM u", "insert"),
    (P, "WITH x (a) AS (SELECT 1) SELECT a FROM x", "read"),
    (P, "INSERT INTO t (id) VALUES (nextval('s'))", "insert"),
    (P, "SELECT nextval('s')", "read+side-effect"),
    (B, "CREATE TABLE t AS SELECT f()", "create-table+calls"),
    (P, "CREATE MATERIALIZED VIEW v AS SELECT f()", "create-view+calls"),
    (B, "DELETE FROM t WHERE 1 = 1", "delete-all"),
    (B, "DELETE FROM t WHERE TRUE", "delete-all"),
    (B, "UPDATE t SET a = 1 WHERE NOT FALSE", "update-all"),
    (B, "WITH x AS (SELECT 1) DELETE FROM t", "delete-all"),
    (P, "WITH x AS (DELETE FROM t) SELECT 1", "delete-all"),
    (P, "WITH x AS (DELETE FROM t WHERE a = 1 RETURNING *) SELECT * FROM x", "delete"),
    (
        P,
        "WITH x AS (WITH y AS (DELETE FROM t WHERE a = 1 RETURNING *) SELECT * FROM y) SELECT * FROM x",
        "delete-all",
    ),
    (P, "UPDATE pg_attribute SET attnotnull = true WHERE attname = 'a'", "update+system-table"),
    (P, "DELETE FROM pg_catalog.pg_constraint WHERE conname = 'c'", "delete+system-table"),
    (M, "UPDATE mysql.user SET a = 1 WHERE b = 2", "update+system-table"),
    (B, "SELECT * FROM information_schema.tables", "read"),
    (P, "BEGIN; ALTER TABLE t ADD COLUMN a int; UPDATE t SET a = 1 WHERE b = 2", "update+work-under-lock"),
    (P, "BEGIN; ALTER TABLE t ADD COLUMN a int; COMMIT; UPDATE t SET a = 1 WHERE b = 2", "update"),
    (
        P,
        "BEGIN; ALTER TABLE t ADD COLUMN a int; SAVEPOINT s; ROLLBACK TO SAVEPOINT s; UPDATE t SET a = 1 WHERE b = 2",
        "update+work-under-lock",
    ),
    (P, "BEGIN; CREATE TABLE t (a int); ALTER TABLE t ADD COLUMN b int; UPDATE t SET a = 1", "fresh-table"),
    (P, "CREATE TABLE p PARTITION OF t FOR VALUES IN (1); DROP TABLE p", "drop-table"),
    (P, "CREATE TABLE c () INHERITS (t); ALTER TABLE c ADD CONSTRAINT x CHECK (a > 0)", "add-check"),
    (
        P,
        "CREATE TABLE n (a int); ALTER TABLE n ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES t (id) NOT VALID",
        "foreign-key-to-existing",
    ),
    (P, "ALTER TABLE t ADD COLUMN a int; ALTER TABLE t ALTER COLUMN a TYPE text", "change-type"),
    (
        P,
        "ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 1; ALTER TABLE t ALTER COLUMN a SET DEFAULT NULL",
        "drop-default",
    ),
    (P, "ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT -NULL", "add-column-not-null"),
    (P, "ALTER TABLE t ADD COLUMN a int CONSTRAINT x NOT NULL", "add-column-not-null"),
    (P, "ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT nullif(1, 1)", "add-column-rewrite"),
    (M, "ALTER TABLE t ADD COLUMN a INT KEY", "add-column-constraint"),
    (M, "ALTER TABLE t ADD COLUMN a INT UNIQUE KEY", "add-column-constraint"),
    (M, "ALTER TABLE t ADD COLUMN a SERIAL", "add-column-rewrite"),
    (M, "CREATE FULLTEXT INDEX i ON t (a)", UNJUDGED),
    (M, "ALTER TABLE t ADD SPATIAL INDEX i (a)", "create-index-blocking"),
    (M, "ALTER TABLE t ADD COLUMN a INT, ORDER BY a", UNJUDGED),
    (P, "CREATE TABLE \u{c9} (a int); DROP TABLE \u{e9}", "drop-table"),
    (P, "SET SCHEMA 'other'", UNJUDGED),
    (P, "CREATE TABLE t (a int); RESET ALL; DROP TABLE t", "drop-table"),
    (P, "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION f()", UNJUDGED),
    (M, "SET PERSIST lock_wait_timeout = 1", UNJUDGED),
    (M, "SET @@global.lock_wait_timeout = 1", "session-unknown"),
    (P, "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql AS $$ SELECT 1 $$", UNJUDGED),
    (P, "COPY (DELETE FROM t RETURNING *) TO '/tmp/x'", "copy-out"),
    (P, "EXPLAIN (ANALYZE true) UPDATE t SET a = 1", "update-all"),
    (P, "BEGIN; CREATE TABLE t (a int); ABORT; DROP TABLE t", "drop-table"),
    (
        P,
        "ALTER TABLE a.t ADD COLUMN x int, DROP COLUMN y, ADD COLUMN z int",
        "add-column+drop-column+add-column",
    ),
    (M, "INSERT DROP TABLE t", "insert+unknown"),
    (B, "CREATE VIEW v AS SELECT a AS drop FROM t", "create-view+unknown"),
];

const UNREAD: &[Case] = &[
    (B, "ALTER TABLE t FROBNICATE", UNJUDGED),
    (B, "DROP TABLE", UNJUDGED),
    (B, "hello", UNJUDGED),
    (B, "SELECT 'x", UNJUDGED),
    (B, "SELECT 1 /* x", UNJUDGED),
    (M, "ALTER TABLE t ADD (a INT NOT NULL, b INT)", UNJUDGED),
    (M, "ALTER TABLE t ENGINE = MyISAM", UNJUDGED),
    (M, "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", UNJUDGED),
    (M, "ALTER TABLE t RENAME INDEX a TO b", UNJUDGED),
    (M, "ALTER TABLE t DISCARD TABLESPACE", UNJUDGED),
    (M, "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u", UNJUDGED),
    (M, "ALTER TABLE t DROP PARTITION p", UNJUDGED),
    (M, "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t", UNJUDGED),
    (M, "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1", UNJUDGED),
    (M, "CREATE PROCEDURE p() BEGIN DELETE FROM t; END", "unknown"),
    (M, "CREATE PROCEDURE p() BEGIN DELETE FROM t", UNJUDGED),
    (M, "DELIMITER //\nCREATE PROCEDURE p() BEGIN DELETE FROM t; END //\nDELIMITER ;", UNJUDGED),
    (M, "DELIMITER //\nSELECT 1; DROP TABLE t //", UNJUDGED),
    (M, "DELIMITER", UNJUDGED),
    (M, "/*!50000 DROP TABLE t */", UNJUDGED),
    (M, "ALTER TABLE t ADD COLUMN a INT /*!99999 NOT NULL */", UNJUDGED),
    (M, "source other.sql", UNJUDGED),
    (M, "system rm x", UNJUDGED),
    (M, "SELECT 1 \\G", UNJUDGED),
    (P, "\\i other.sql", UNJUDGED),
    (P, "SELECT 'DROP TABLE t' \\gexec", UNJUDGED),
    (P, "ALTER TABLE t ADD COLUMN a int DEFAULT :x", UNJUDGED),
    (P, "DO $$ BEGIN DROP TABLE t; END $$", UNJUDGED),
    (P, "ALTER TABLE t ALTER COLUMN a SET STORAGE EXTERNAL", UNJUDGED),
    (P, "ALTER TABLE t SET SCHEMA other", UNJUDGED),
    (P, "ALTER TABLE t CLUSTER ON i", UNJUDGED),
    (P, "ALTER SEQUENCE s RESTART WITH 1", UNJUDGED),
    (P, "REINDEX TABLE t", UNJUDGED),
    (P, "ALTER DATABASE d SET x = 1", UNJUDGED),
    (P, "ALTER SYSTEM SET x = 1", UNJUDGED),
    (P, "COPY t FROM stdin;\n1\t2\n\\.\n", UNJUDGED),
];

fn rules(report: &Report) -> String {
    let last = report.statements.last();
    let names = last.iter().flat_map(|s| &s.findings).map(|f| f.rule.as_str());
    names.collect::<Vec<_>>().join("+")
}

#[test]
fn g1_statements_of_both_dialects() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (dialects, script, want) in [TABLES, COLUMNS, KEYS, OTHERS, ROWS, TRAPS, UNREAD].concat() {
        for dialect in dialects {
            count += 1;
            let report = lint(script, *dialect, &Levels::default());
            if rules(&report) != want {
                let why = report.statements.last().map(|s| format!("{:?}", s.findings));
                wrong.push(format!(
                    "{dialect:?} {script}\n   wanted {want}, got {} {}",
                    rules(&report),
                    why.unwrap_or_default()
                ));
            }
            // The level is that of the gravest rule; what is not judged never passes.
            let level = want.split('+').map(|n| Rule::named(n).map_or(Level::Refuse, Rule::level)).max();
            let last = report.statements.last().map(|s| s.level);
            if rules(&report) == want && last != level {
                wrong.push(format!("{dialect:?} {script}: {last:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 400, "{count}");
}

const SCRIPT: &str = "\
-- 2.1: two tables and a column
CREATE TABLE carts (id BIGINT PRIMARY KEY, note TEXT);
ALTER TABLE orders ADD COLUMN cart_id BIGINT;

/* moved later;
   DROP TABLE nothing; */
INSERT INTO carts (id, note)
  VALUES (1, 'a;b'), (2, 'c''d');
ALTER TABLE orders
  ADD COLUMN state INT,
  DROP COLUMN old_state;
UPDATE orders SET cart_id = 1 WHERE id = 5;
";

#[test]
fn g1_a_script_is_split_and_each_statement_has_its_line() {
    for dialect in B {
        let report = lint(SCRIPT, *dialect, &Levels::default());
        let lines: Vec<_> = report.statements.iter().map(|s| (s.line, s.kind, s.level)).collect();
        assert_eq!(
            lines,
            [
                (2, Kind::Ddl, Level::Ok),
                (3, Kind::Ddl, Level::Ok),
                (7, Kind::Dml, Level::Ok),
                (9, Kind::Ddl, Level::Refuse),
                (12, Kind::Dml, Level::Ok),
            ]
        );
        assert_eq!((report.ddl, report.dml, report.refused, report.level), (3, 2, 1, Level::Refuse));
        let refused = &report.statements[3].findings[1];
        assert_eq!((refused.rule.as_str(), refused.subject.as_str()), ("drop-column", "orders.old_state"));
        assert!(refused.instead.contains("later script"));
    }
}

#[test]
fn g1_what_does_not_parse_says_its_line() {
    let report = lint("SELECT 1;\n\nALTER TABLE t\n  FROBNICATE;\n", Dialect::Postgres, &Levels::default());
    let last = &report.statements[1];
    assert_eq!((last.line, last.level, last.kind), (3, Level::Refuse, Kind::Unknown));
    assert!(last.findings[0].reason.contains("line 4"), "{}", last.findings[0].reason);
}

#[test]
fn g2_what_cannot_be_undone_is_marked() {
    for (script, reversible) in [
        ("ALTER TABLE t ADD COLUMN a INT", true),
        ("CREATE TABLE t (a INT)", true),
        ("INSERT INTO t (a) VALUES (1)", true),
        ("ALTER TABLE t RENAME TO u", true),
        ("DROP TABLE t", false),
        ("ALTER TABLE t ADD COLUMN b INT, DROP COLUMN a", false),
        ("TRUNCATE TABLE t", false),
        ("UPDATE t SET a = 1 WHERE b = 2", false),
        ("nobody knows", false),
        ("SELECT 1; DELETE FROM t WHERE a = 1; SELECT 1", false),
        ("", true),
    ] {
        for dialect in B {
            assert_eq!(lint(script, *dialect, &Levels::default()).reversible, reversible, "{script}");
        }
    }
    assert!(!lint("ALTER TYPE a ADD VALUE 'b'", Dialect::Postgres, &Levels::default()).reversible);
    assert!(!lint("ALTER TABLE t MODIFY a INT", Dialect::Mysql, &Levels::default()).reversible);
}

#[test]
fn g1_levels_are_configurable_and_what_is_not_judged_is_not() {
    let levels = Levels::parse("rules: { drop-index: warn, add-column: refuse }").unwrap();
    let level = |script| lint(script, Dialect::Mysql, &levels).level;
    assert_eq!(level("DROP INDEX i ON t"), Level::Warn);
    assert_eq!(level("ALTER TABLE t ADD COLUMN a INT"), Level::Refuse);
    assert_eq!(level("DROP TABLE t"), Level::Refuse);
    assert!(Levels::parse("rules: { unjudged: ok }").is_err());
}

#[test]
fn g1_the_page_of_rules_is_the_list_of_rules() {
    let page = include_str!("../../docs/lint-sql.md");
    let told: Vec<&str> = page.lines().filter(|l| l.starts_with("| `")).collect();
    let undo = |r: &Rule| if r.reversible() { "yes" } else { "no" };
    let row = |r: &Rule| {
        format!("| `{}` | {} | {} | {} | {} |", r.name(), r.level().name(), undo(r), r.reason(), r.instead())
    };
    let want: Vec<String> = Rule::ALL.iter().map(row).collect();
    assert_eq!(told, want);
}

#[test]
fn g1_the_examples_are_what_they_say() {
    let expand = include_str!("../../examples/sql/expand.postgres.sql");
    let report = lint(expand, Dialect::Postgres, &Levels::default());
    assert_eq!(report.level, Level::Ok, "{report:?}");
    let contract = include_str!("../../examples/sql/contract.mysql.sql");
    let report = lint(contract, Dialect::Mysql, &Levels::default());
    assert_eq!((report.refused, report.statements.len(), report.reversible), (4, 4, false));
}

#[test]
fn g1_exit_codes_and_output_of_the_command() {
    let fine = run("gray lint-sql - --dialect mysql", "ALTER TABLE t ADD COLUMN a INT;");
    assert!(fine.code == 0 && fine.err.is_empty(), "{}", fine.err);
    assert!(fine.out.contains("add-column"), "{}", fine.out);

    let warned = run("gray lint-sql - --dialect mysql", "SELECT 1;\nDELETE FROM t WHERE a = 1;");
    assert_eq!(warned.code, 0);
    assert!(warned.err.starts_with("warning: ") && warned.err.contains("at -:2"), "{}", warned.err);

    let refused = run("gray lint-sql - --dialect postgres", "SELECT 1;\n\nALTER TABLE t DROP COLUMN a;");
    assert_eq!(refused.code, 3);
    for part in [
        "t.a: the running version still reads and writes it [drop-column]",
        "at -:3",
        "help: drop it in",
        "1 statement refused",
    ] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let json = run("gray lint-sql - --dialect postgres -o json", "DROP TABLE t");
    let report: Report = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, report.reversible, report.refused), (3, false, 1));

    for usage in ["gray lint-sql -", "gray lint-sql - --dialect oracle", "gray lint-sql --dialect mysql"] {
        assert_eq!(run(usage, "").code, 2, "{usage}");
    }
    assert_eq!(run("gray lint-sql /nowhere/x.sql --dialect mysql", "").code, 1);
    let dir = tempfile::tempdir().unwrap();
    let (rules, script) = (dir.path().join("rules.yaml"), dir.path().join("latin1.sql"));
    fs::write(&rules, "rules:\n  drop-tabel: ok\n  drop-index: no\n").unwrap();
    let wrong = run(&format!("gray lint-sql - --dialect mysql --rules {}", rules.display()), "");
    assert_eq!(wrong.code, 2);
    for part in
        ["rules.yaml:2:", "did you mean `drop-table`?", "rules.yaml:3:", "expected ok, warn or refuse"]
    {
        assert!(wrong.err.contains(part), "{part}: {}", wrong.err);
    }
    fs::write(&rules, "rules: { drop-table: warn }\n").unwrap();
    let allowed =
        run(&format!("gray lint-sql - --dialect mysql --rules {}", rules.display()), "DROP TABLE t");
    assert_eq!(allowed.code, 0);
    fs::write(&script, b"SELECT 1;\nSELECT '\xe9';\n").unwrap();
    let latin = run(&format!("gray lint-sql {} --dialect mysql", script.display()), "");
    assert!(latin.code == 3 && latin.err.contains("latin1.sql:2: not UTF-8"), "{}", latin.err);
}
