"""Random statements of every kind that can change a table's rows or columns, or only seem to; refused ones are counted.

Each has comments, quotes and letters of any form (sql_variants.py), under random SQL modes and client character sets.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.databases import FreshDatabase
from tests.e2e.sql_variants import CHARSETS, MARIADB_MODES, MODES, MYSQL_MODES, SqlStyle, vary_sql
from tests.e2e.statements import MIRRORED, SPARE, TYPES, RandomStatements

OF_A_SERVER = (*MIRRORED, *SPARE)
_DDL = ("CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE", "SET STATEMENT", "ANALYZE", "OPTIMIZE", "REPAIR")


class DdlStatements(RandomStatements):
    """Executes every kind of DDL; `folds_names` if the server folds the case of table names."""

    def __init__(self, database: FreshDatabase, seed: int, folder: Path, *, folds_names: bool = False) -> None:
        self._file = folder / "rows.txt"
        self._file.write_text("1\t7\n2\t8\n60\t9\n")
        folder.chmod(0o755)  # the server may run as another account
        self._file.chmod(0o755)
        self.other = f"{database.name}_b"
        self._folds_names, self._is_dressed = folds_names, False
        super().__init__(database, seed)
        self._is_dressed = True
        self._modes = "STRICT_ALL_TABLES"

    def step(self) -> None:
        """Execute a statement; two of three are DDL."""
        if self.chance.random() < 0.15:
            own = MARIADB_MODES if self._is_mariadb else MYSQL_MODES
            self._modes = self.chance.choice((*MODES, *own))
            self.database.execute(f"SET SESSION sql_mode = '{self._modes}'")
        if self.chance.random() < 0.5:
            self.chance.choice(self._ddl())()
        else:
            self.chance.choice((self._write_one, self._write_one, self._write_one, self._write_several))()

    def run(self, sql: str) -> bool:
        if not self._is_dressed or not sql.startswith(_DDL):
            return super().run(sql)
        style = SqlStyle(self._modes, self._is_mariadb, frozenset(OF_A_SERVER), self._folds_names)
        sql = vary_sql(sql, self.chance, style)
        charset = self.chance.choice(CHARSETS)
        connection = self.database.connection
        connection.set_character_set(charset)
        try:
            sql.encode(connection.encoding)
        except UnicodeEncodeError:
            connection.set_character_set("utf8mb4")
        if self.chance.random() < 0.15:
            self.database.execute("SET character_set_connection = latin1")
        try:
            return super().run(sql)
        finally:
            connection.set_character_set("utf8mb4")

    def _ddl(self) -> list[Callable[[], object]]:
        kinds = [*super()._ddl(), self._clauses, self._clauses, self._clauses, self._options, self._options]
        kinds += [self._create_one, self._create_one, self._drop_several, self._rename, self._rename, self._view]
        kinds += [self._temporary, self._partition, self._partition, self._partition, self._exchange, self._database]
        kinds += [self._defaults, self._defaults, self._harmless, self._empty, self._generated]
        return kinds + ([self._of_mariadb, self._of_mariadb, self._sequence] if self._is_mariadb else [self._of_mysql])

    # Rows

    def _write_one(self) -> None:
        self._write(self._table())

    def _write_several(self) -> None:
        """Statements that change rows of several tables, or copy them from another table."""
        one, two = self.chance.sample(OF_A_SERVER, 2)
        self.run(
            self.chance.choice(
                (
                    f"INSERT IGNORE INTO {one} SELECT * FROM {two}",
                    f"REPLACE INTO {one} SELECT * FROM {two}",
                    f"INSERT INTO {one} (id) SELECT id + 20 FROM {two}",
                    f"UPDATE {one} AS a JOIN {two} AS b ON a.id = b.id SET a.id = a.id + 30, b.k2 = 7",
                    f"DELETE a, b FROM {one} AS a JOIN {two} AS b ON a.id = b.id WHERE a.id > 5",
                    f"DELETE FROM a USING {one} AS a JOIN {two} AS b WHERE a.id = b.k2",
                    f"LOAD DATA INFILE '{self._file}' REPLACE INTO TABLE {one} (id, k2)",
                    f"INSERT INTO {one} (id, k2) VALUES (3, 4) ON DUPLICATE KEY UPDATE k2 = k2 + 1",
                )
            )
        )

    # Columns

    def _defaults(self) -> None:
        """Defaults that depend on the SQL mode, or that have more than one token."""
        table, fields = self._fields()
        given = self.chance.choice(
            (
                *("VARCHAR(9) DEFAULT ''", "VARCHAR(9) DEFAULT 'é''q'", "VARCHAR(9) NOT NULL DEFAULT 'a\\\\\\\\b'"),
                *("CHAR(5) DEFAULT N'n'", "VARCHAR(9) DEFAULT _utf8mb4'x'", "VARCHAR(9) DEFAULT 'a' 'b'"),
                *(
                    "VARBINARY(5) DEFAULT x'4142'",
                    "INT DEFAULT 0x10",
                    "REAL DEFAULT 1",
                    "DATE",
                    "BLOB",
                    "INT4 DEFAULT -3",
                ),
                *("DATE NOT NULL", "DATETIME DEFAULT '0000-00-00'", "TIMESTAMP", "TIMESTAMP NOT NULL", "INT UNIQUE"),
                *(
                    "ENUM('', 'b,c') NOT NULL",
                    "ENUM('é', 'it''s') DEFAULT 'é'",
                    "VARCHAR(5) CHARACTER SET latin1 DEFAULT 'é'",
                ),
                *(
                    "INT COMMENT 'it''s; DROP COLUMN id' DEFAULT 4",
                    "INT CHECK (1 + 1 > 0) DEFAULT 3",
                    "INT REFERENCES m0 (id)",
                ),
                *("INT NOT NULL DEFAULT (7) COMMENT 'x'", "DOUBLE DEFAULT 1e3", "DECIMAL(5,2) DEFAULT .5", "INT KEY"),
            )
        )
        self._alter(table, f"ADD `{self._name()}` {given}{self._column_position(fields)}")

    def _generated(self) -> None:
        table, fields = self._fields()
        kind = self.chance.choice(("VIRTUAL", "STORED", ""))
        self._alter(
            table, f"ADD `{self._name()}` INT GENERATED ALWAYS AS (k2 + 1) {kind}{self._column_position(fields)}"
        )

    def _clauses(self) -> None:
        """Clauses that change no existing row, or only how rows are stored."""
        table, fields = self._fields()
        name = self.chance.choice(fields).name
        number = self._number()
        self._alter(
            table,
            self.chance.choice(
                (
                    *(
                        f"ALTER COLUMN `{name}` SET DEFAULT 5",
                        f"ALTER `{name}` DROP DEFAULT",
                        "COMMENT = 'RENAME TO x0'",
                    ),
                    *("FORCE", "ENGINE = InnoDB", "ENABLE KEYS", "DISABLE KEYS", "AUTO_INCREMENT = 50"),
                    *(f"ORDER BY `{name}` DESC, id", f"ADD UNIQUE KEY u{number} (id, k2)", "ROW_FORMAT = COMPACT"),
                    *(f"ADD CONSTRAINT ck{number} CHECK (k2 >= 0)", f"ADD INDEX i{number} (k2), ALGORITHM = INPLACE"),
                    *(
                        "DEFAULT CHARACTER SET latin1",
                        "CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin",
                        "STATS_PERSISTENT = 1",
                    ),
                    *(f"ADD COLUMN `c{number}` INT, ALGORITHM = INSTANT", f"DROP COLUMN `{name}`, ALGORITHM = INPLACE"),
                    *(f"MODIFY `{name}` INT, LOCK = SHARED", f"ADD (`c{number}` INT, `d{number}` TEXT)"),
                    *(
                        f"RENAME INDEX i{number - 1} TO i{number}",
                        f"ALTER `{name}` SET INVISIBLE",
                        f"ALTER `{name}` SET VISIBLE",
                    ),
                    *("DISCARD TABLESPACE", "STATS_AUTO_RECALC DEFAULT, STATS_SAMPLE_PAGES 7", "MAX_ROWS 5 MIN_ROWS 1"),
                )[: -3 if self.chance.random() < 0.9 else None]
            ),
        )

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _options(self) -> None:
        """Several clauses at once, with options of the table between them."""
        table, fields = self._fields()
        if len(fields) > 10:
            return
        parts = [self._added(fields), "COMMENT 'x, DROP COLUMN id'", "ENGINE InnoDB", "ROW_FORMAT = DYNAMIC", "FORCE"]
        parts += [f"MODIFY `{fields[-1].name}` {fields[-1].declared} FIRST", f"ADD INDEX i{self._number()} (id)"]
        self._alter(table, *self.chance.sample(parts, self.chance.randrange(1, 5)))

    # Tables

    def _create_one(self) -> None:
        chance, table, other = self.chance, self._table(), self._table()
        if chance.random() < 0.5:
            self.run(f"DROP TABLE IF EXISTS {table}")
        head = "CREATE TABLE" + chance.choice(("", " IF NOT EXISTS"))
        if self._is_mariadb and chance.random() < 0.4:
            head = "CREATE OR REPLACE TABLE"
        columns = ", ".join(f"`{self._name()}` {kind}" for kind in chance.sample(TYPES, chance.randrange(1, 4)))
        body = f"(id INT NOT NULL, k2 SMALLINT UNSIGNED NOT NULL DEFAULT 3, {columns}, PRIMARY KEY (id))"
        tails = (
            "",
            " ENGINE = InnoDB DEFAULT CHARSET = latin1",
            " COMMENT = 'LIKE m0'",
            " PARTITION BY HASH (id) PARTITIONS 2",
        )
        self.run(
            chance.choice(
                (
                    f"{head} {table} {body}{chance.choice(tails)}",
                    f"{head} {table} {body}{chance.choice(tails)}",
                    f"{head} {table} LIKE {other}",
                    f"{head} {table} (LIKE {other})",
                    f"{head} {table} SELECT id, k2, 'x' AS word FROM {other}",
                    f"{head} {table} (id INT KEY, w VARCHAR(5) DEFAULT 'é') IGNORE SELECT DISTINCT id FROM {other}",
                    f"{head} {table} (id INT KEY, k2 INT) REPLACE AS SELECT id, k2 FROM {other}",
                )
            )
        )

    def _drop_several(self) -> None:
        one, two = self.chance.sample(OF_A_SERVER, 2)
        self.run(self.chance.choice((f"DROP TABLE {one}, {two}", f"DROP TABLES IF EXISTS {one}, nothere RESTRICT")))

    def _empty(self) -> None:
        self.run(self.chance.choice(("TRUNCATE {0}", "TRUNCATE TABLE {0}", "DELETE FROM {0}")).format(self._table()))

    def _rename(self) -> None:
        """Chains, swaps, to another database and back."""
        one, two = self.chance.sample(OF_A_SERVER, 2)
        self.run(
            self.chance.choice(
                (
                    f"RENAME TABLE {one} TO {two}",
                    f"RENAME TABLE {one} TO spare, {two} TO {one}, spare TO {two}",
                    f"ALTER TABLE {one} RENAME AS {two}",
                    f"ALTER TABLE {one} ADD `{self._name()}` INT, RENAME TO {two}",
                    f"ALTER TABLE {one} RENAME {self.other}.b0",
                    f"RENAME TABLE {one} TO {self.other}.b0, {two} TO {one}",
                    f"RENAME TABLE {self.other}.b0 TO {one}",
                    f"RENAME TABLES {one} TO away, away TO {one}",
                )
            )
        )

    def _database(self) -> None:
        verb = self.chance.choice(
            ("CREATE DATABASE IF NOT EXISTS", "CREATE SCHEMA", "DROP DATABASE IF EXISTS", "DROP SCHEMA")
        )
        if self._is_mariadb and self.chance.random() < 0.3:
            verb = "CREATE OR REPLACE DATABASE"
        self.run(f"{verb} {self.other}")
        if verb.startswith("CREATE"):
            self.run(f"CREATE TABLE {self.other}.b0 (id INT PRIMARY KEY, k2 INT)")
            self.run(f"INSERT INTO {self.other}.b0 VALUES (1, 2), (3, 4)")
            self.run(f"ALTER DATABASE {self.other} CHARACTER SET latin1")

    # Statements that only look like DDL of a mirrored table

    def _view(self) -> None:
        table, number = self._table(), self._number()
        self.run(f"CREATE OR REPLACE VIEW v{number} AS SELECT * FROM {table}")
        self.run(f"ALTER VIEW v{number} AS SELECT 1 AS x")
        self.run(f"DROP VIEW v{number}")
        self.run(f"CREATE TRIGGER t{number} BEFORE INSERT ON {table} FOR EACH ROW SET @a = 1")
        self.run(f"DROP TRIGGER t{number}")
        self.run(f"CREATE PROCEDURE p{number}() BEGIN DROP TABLE IF EXISTS {table}; END")
        if self.chance.random() < 0.2:
            self.database.execute(f"CALL p{number}()")
        self.run(f"DROP PROCEDURE p{number}")

    def _temporary(self) -> None:
        table = self._table()
        if self.run(f"CREATE TEMPORARY TABLE {table} (x INT)"):
            self.run(f"INSERT INTO {table} VALUES (1)")
            self.run(f"ALTER TABLE {table} ADD y INT")
            self.run(f"TRUNCATE TABLE {table}")
            self.run(f"DROP TEMPORARY TABLE {table}")

    def _harmless(self) -> None:
        table = self._table()
        verb = self.chance.choice(("ANALYZE", "OPTIMIZE", "REPAIR", "CHECK", "CHECKSUM"))
        self.run(f"{verb} TABLE {table}")
        self.run(f"CREATE INDEX j ON {table} (k2)")
        self.run(f"DROP INDEX j ON {table}")

    # Partitions

    def _partitions(self, table: str) -> list[str]:
        rows = self.database.execute(
            "SELECT partition_name FROM information_schema.partitions WHERE partition_name IS NOT NULL AND "
            f"table_schema = '{self.database.name}' AND table_name = '{table}'"
        )
        return [str(row[0]) for row in rows]

    def _partition(self) -> None:
        table, _ = self._fields()
        ranges = "(PARTITION p0 VALUES LESS THAN (4), PARTITION p1 VALUES LESS THAN MAXVALUE)"
        there = self._partitions(table)
        if not there or self.chance.random() < 0.2:
            self._alter(
                table, self.chance.choice((f"PARTITION BY RANGE (id) {ranges}", "PARTITION BY HASH (id) PARTITIONS 3"))
            )
            return
        part = self.chance.choice(there)
        self._alter(
            table,
            self.chance.choice(
                (
                    *(
                        f"TRUNCATE PARTITION {part}",
                        "TRUNCATE PARTITION ALL",
                        f"DROP PARTITION {part}",
                        "COALESCE PARTITION 1",
                    ),
                    *(f"ANALYZE PARTITION {part}", "OPTIMIZE PARTITION ALL", f"REBUILD PARTITION {', '.join(there)}"),
                    *(
                        f"CHECK PARTITION {part}",
                        f"REPAIR PARTITION {part}",
                        "REMOVE PARTITIONING",
                        "ADD PARTITION PARTITIONS 2",
                    ),
                    f"REORGANIZE PARTITION {', '.join(there)} INTO (PARTITION q VALUES LESS THAN MAXVALUE)",
                    "ADD COLUMN (z9 INT) REMOVE PARTITIONING",
                    f"{self._added(self.fields(table))} PARTITION BY KEY (id) PARTITIONS 2",
                )
            ),
        )

    def _exchange(self) -> None:
        """EXCHANGE PARTITION: swap the rows of a partition with those of a table with the same columns."""
        table, other = self.chance.sample(OF_A_SERVER, 2)
        there = self._partitions(table)
        if not there:
            self._alter(table, "PARTITION BY HASH (id) PARTITIONS 2")
            there = self._partitions(table) or ["p0"]
        if self.chance.random() < 0.8:
            self.run(f"DROP TABLE IF EXISTS {other}")
            self.run(f"CREATE TABLE {other} LIKE {table}")
            self._alter(other, "REMOVE PARTITIONING")
            self.run(f"INSERT INTO {other} (id, k2) VALUES (40, 1)")
        part = self.chance.choice(there)
        ways = [
            f"EXCHANGE PARTITION {part} WITH TABLE {other} WITHOUT VALIDATION",
            f"EXCHANGE PARTITION {part} WITH TABLE {other}",
        ]
        if self._is_mariadb:
            ways += [
                f"CONVERT PARTITION {part} TO TABLE {other}",
                f"CONVERT TABLE {other} TO PARTITION p9 VALUES LESS THAN (99)",
            ]
        self._alter(table, self.chance.choice(ways))

    # Statements of one kind of server

    def _of_mysql(self) -> None:
        table, fields = self._fields()
        number = self._number()
        self._alter(
            table,
            self.chance.choice(
                (
                    "SECONDARY_ENGINE_ATTRIBUTE = '{}'",
                    f"ADD `c{number}` INT COLUMN_FORMAT DYNAMIC",
                    f"ADD `c{number}` POINT SRID 4326",
                    f"ADD INDEX fi{number} ((k2 + 1))",
                    f"ADD `c{number}` VARCHAR(5) DEFAULT (CONCAT('a', k2)) INVISIBLE FIRST",
                    f"ADD CONSTRAINT ck{number} CHECK (k2 < 70000) NOT ENFORCED",
                    "AUTOEXTEND_SIZE = 4M",
                    f"ADD `c{number}` INT AS (k2 * 2) VIRTUAL, WITHOUT VALIDATION",
                )
            ),
        )

    def _of_mariadb(self) -> None:
        table, fields = self._fields()
        name, number = self.chance.choice(fields).name, self._number()
        self.run(
            self.chance.choice(
                (
                    f"ALTER TABLE IF EXISTS {table} ADD COLUMN IF NOT EXISTS `{name}` INT",
                    f"ALTER TABLE {table} WAIT 5 ADD COLUMN IF NOT EXISTS `c{number}` INT DEFAULT 4",
                    f"ALTER TABLE {table} NOWAIT DROP COLUMN IF EXISTS `c{number}`",
                    f"ALTER ONLINE TABLE {table} ADD `c{number}` INT",
                    f"ALTER TABLE {table} CHANGE COLUMN IF EXISTS nothere `c{number}` INT",
                    f"ALTER TABLE {table} MODIFY IF EXISTS `{name}` TEXT",
                    f"ALTER TABLE {table} RENAME COLUMN IF EXISTS `{name}` TO `c{number}`",
                    f"ALTER TABLE {table} ADD SYSTEM VERSIONING",
                    f"ALTER TABLE {table} DROP SYSTEM VERSIONING",
                    f"ALTER TABLE {table} ADD (a{number} DATE NOT NULL DEFAULT '2020-01-01', "
                    f"b{number} DATE NOT NULL DEFAULT '2021-01-01'), ADD PERIOD FOR app(a{number}, b{number})",
                    f"ALTER IGNORE TABLE {table} ADD UNIQUE (k2)",
                    f"SET STATEMENT max_statement_time = 60 FOR ALTER TABLE {table} ADD `c{number}` INT",
                    f"RENAME TABLE IF EXISTS {table} WAIT 5 TO {self._table()}",
                    f"TRUNCATE TABLE {table} WAIT 5",
                    f"DROP TABLE IF EXISTS {table} WAIT 5",
                    f"ALTER TABLE {table} ADD `c{number}` UUID, ADD `d{number}` INET6 DEFAULT '::1'",
                    f"ALTER TABLE {table} ADD `c{number}` INT DEFAULT (k2 + 1) INVISIBLE",
                    f"CREATE OR REPLACE TABLE {table} (id INT, k2 INT, w VARCHAR(5)) WITH SYSTEM VERSIONING",
                    f"ALTER TABLE {table} ENGINE = Aria TRANSACTIONAL = 1",
                    f"CREATE OR REPLACE TABLE {table} AS SELECT 1 AS id, 2 AS k2, 'é' AS word",
                )
            )
        )

    def _sequence(self) -> None:
        """The name of a table without a mirror."""
        self.run("CREATE OR REPLACE SEQUENCE s1 START WITH 5")
        self.run("ALTER SEQUENCE s1 RESTART 50")
        self.run("DROP SEQUENCE s1")
