"""Statements for which a mirror must not read its table from the server, and those for which it must."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from binlogsync.servers import MariaDBServer, NATSServer
from tests.databases import FreshDatabase
from tests.e2e.mirrored_tables import mirrored_tables, server_rows

PLAIN = "id INT PRIMARY KEY, note VARCHAR(20), n INT"
RANGES = "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (2), PARTITION p1 VALUES LESS THAN (100))"
ROWS = "INSERT INTO {t} (id, note, n) VALUES (1, 'é', 5), (2, 'b', NULL), (3, '', 7)"
MODES = "SET SESSION sql_mode = '{}'"

NEEDS_NO_READ = [
    "/*!40000 ALTER TABLE {t} DISABLE KEYS */",
    "/* ApplicationName=DBeaver */ ALTER TABLE {t} ADD c INT -- the end",
    "CREATE TABLE IF NOT EXISTS {t} (x INT) /*! ENGINE = innodb */",
    "/* ApplicationName=DBeaver */ CREATE TABLE IF NOT EXISTS {t} (x INT)",
    "DROP TABLE {t}; CREATE TABLE {t} (id INT PRIMARY KEY, c CHAR(60) DEFAULT '' NOT NULL) /*! ENGINE = innodb */; "
    "INSERT INTO {t} VALUES (1, 'é')",
    "ALTER TABLE {t} PARTITION BY HASH (id) PARTITIONS 3",
    "ALTER TABLE {t} PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (2), PARTITION p1 VALUES LESS THAN "
    "MAXVALUE); ALTER TABLE {t} ANALYZE PARTITION p0, p1; ALTER TABLE {t} OPTIMIZE PARTITION ALL; ALTER TABLE {t} "
    "REBUILD PARTITION p0, p1; ALTER TABLE {t} REORGANIZE PARTITION p0, p1 INTO (PARTITION p2 VALUES LESS THAN "
    "MAXVALUE); ALTER TABLE {t} REMOVE PARTITIONING",
    "ALTER TABLE {t} STATS_PERSISTENT=0, STATS_AUTO_RECALC=DEFAULT, STATS_SAMPLE_PAGES=7",
    "ALTER TABLE {t} CHANGE note remark VARCHAR(20)",
    "UPDATE {t} SET note = 'x' WHERE note IS NULL; ALTER TABLE {t} CHANGE note remark VARCHAR(20) NOT NULL",
    "ALTER TABLE {t} ADD COLUMN c VARCHAR(9) DEFAULT 'é''q'",
    r"ALTER TABLE {t} ADD COLUMN c VARCHAR(9) DEFAULT 'a\'\\\n', ADD d ENUM('x\'y', 'é') NOT NULL",
    "ALTER TABLE {t} ADD c VARCHAR(9) DEFAULT 'a' 'b', ADD d VARCHAR(5) DEFAULT N'n', ADD e CHAR(5) DEFAULT _latin1'x'",
    "ALTER TABLE {t} ADD c INT COMMENT 'it''s;ADD d INT' AFTER id, ORDER BY n DESC, id",
    "ANALYZE TABLE {t}; OPTIMIZE TABLE {t}; FLUSH TABLES {t}",
    "CREATE INDEX i ON {t} (n); ALTER TABLE {t} RENAME INDEX i TO j; DROP INDEX j ON {t}",
    "CREATE TEMPORARY TABLE {t} (x INT); ALTER TABLE {t} ADD y INT; DROP TEMPORARY TABLE {t}",
    "ALTER TABLE {t} ADD CONSTRAINT ck CHECK (n < 100), ADD UNIQUE KEY u (n), ALTER note SET DEFAULT 'z'",
    "ALTER TABLE {t} FORCE; ALTER TABLE {t} ENGINE=InnoDB ROW_FORMAT=DYNAMIC COMMENT='x' AUTO_INCREMENT 9",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ANSI_QUOTES'; ALTER TABLE {t} ADD \"select\" VARCHAR(5) DEFAULT 'x'",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'; ALTER TABLE {t} ADD c VARCHAR(5) DEFAULT '\\'",
    "ALTER TABLE {t} CONVERT TO CHARACTER SET latin1",
    "CREATE VIEW v_{t} AS SELECT * FROM {t}; DROP VIEW v_{t}; CREATE TRIGGER tr_{t} BEFORE INSERT ON {t} FOR EACH ROW "
    "SET @a = 1; DROP TRIGGER tr_{t}",
]
OF_MYSQL = [
    "ALTER TABLE {t} SECONDARY_ENGINE_ATTRIBUTE='{{}}'; ALTER TABLE {t} ADD c INT COLUMN_FORMAT DYNAMIC",
    "ALTER TABLE {t} ADD c INT, ALGORITHM=INSTANT; ALTER TABLE {t} ALTER COLUMN c SET INVISIBLE",
    "ALTER TABLE {t} DISCARD TABLESPACE; DROP TABLE {t}",
]
OF_MARIADB = [
    "ALTER TABLE {t} ADD COLUMN IF NOT EXISTS note INT, DROP COLUMN IF EXISTS zz, ADD COLUMN IF NOT EXISTS c INT",
    "CREATE OR REPLACE TABLE {t} (id INT PRIMARY KEY, j JSON); INSERT INTO {t} VALUES (1, '{{}}')",
    "ALTER TABLE IF EXISTS {t} WAIT 5 ADD c INT",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,EMPTY_STRING_IS_NULL'; ALTER TABLE {t} ADD c VARCHAR(5) DEFAULT ''",
]
NEEDS_READS = [
    "ALTER TABLE {t} ADD c INT DEFAULT (n + 1)",
    "ALTER TABLE {t} ADD c DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL",
    "REPAIR TABLE {t}",
    "SET character_set_connection = latin1; ALTER TABLE {t} ADD c VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT '日é'",
]


@pytest.fixture(params=["mysql", "mariadb"])
def database(request: pytest.FixtureRequest) -> FreshDatabase:
    found: FreshDatabase = request.getfixturevalue(request.param)
    return found


@pytest.mark.exhaustive
def test_which_tables_are_reread(database: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> None:
    mariadb = isinstance(database.server, MariaDBServer)
    free = [*NEEDS_NO_READ, *(OF_MARIADB if mariadb else OF_MYSQL)]
    statements = {f"t{number}": text for number, text in enumerate([*free, *NEEDS_READS])}
    with mirrored_tables(database, nats_server.url, tmp_path) as mirrors:
        for name in statements:
            database.execute(f"CREATE TABLE {name} ({PLAIN})")
            database.execute(ROWS.format(t=name))
        tables = [(database.name, name) for name in statements]
        for name, text in statements.items():
            database.execute(MODES.format("STRICT_ALL_TABLES"))
            database.execute("SET NAMES utf8mb4")
            for sql in text.format(t=name).split("; "):
                database.execute(sql)
        mirrors.drain(tables)
        reasons = mirrors.take_reads()
        for table in tables:
            wanted = server_rows(database.connection, table, mariadb=mariadb)
            assert mirrors.rows(table) == wanted, statements[table[1]]
    read = {statements[name]: why for (_, name), why in reasons.items()}
    assert {text: why for text, why in read.items() if text not in NEEDS_READS} == {}
    assert set(read) == set(NEEDS_READS)


EXCHANGES: list[tuple[str, Any]] = [
    ("/* x */ ALTER TABLE {p} EXCHANGE PARTITION p0 WITH TABLE {x}", None),
    ("ALTER TABLE {p} EXCHANGE PARTITION p1 WITH TABLE {d}.{x} WITHOUT VALIDATION", None),
    ("ALTER TABLE {p} CONVERT PARTITION p0 TO TABLE {y}", MariaDBServer),
    ("ALTER TABLE {p} CONVERT TABLE {x} TO PARTITION p2 VALUES LESS THAN (200)", MariaDBServer),
    ("ALTER TABLE {p} TRUNCATE PARTITION p0", None),
    ("ALTER TABLE {p} DROP PARTITION p0", None),
]


@pytest.mark.exhaustive
def test_both_tables_of_a_statement_about_partitions(
    database: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    mariadb = isinstance(database.server, MariaDBServer)
    with mirrored_tables(database, nats_server.url, tmp_path) as mirrors:
        tables = []
        for number, (sql, only) in enumerate(EXCHANGES):
            if only is not None and not isinstance(database.server, only):
                continue
            names = {"p": f"p{number}", "x": f"x{number}", "y": f"y{number}", "d": database.name}
            database.execute(f"CREATE TABLE {names['p']} ({PLAIN}) {RANGES}")
            database.execute(f"CREATE TABLE {names['x']} ({PLAIN})")
            database.execute(ROWS.format(t=names["p"]))
            row = 150 if "CONVERT TABLE" in sql else 50 if "p1" in sql else 0
            database.execute(f"INSERT INTO {names['x']} VALUES ({row}, 'of x', 1)")
            database.execute(sql.format(**names))
            tables += [(database.name, names[name]) for name in ("pxy" if "{y}" in sql else "px")]
        mirrors.drain(tables)
        for table in tables:
            assert mirrors.rows(table) == server_rows(database.connection, table, mariadb=mariadb), table


@pytest.mark.exhaustive
def test_rows_that_come_as_a_file(database: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> None:
    folder = database.server.data_dir / database.name
    with mirrored_tables(database, nats_server.url, tmp_path) as mirrors:
        table = (database.name, "t")
        database.execute(f"CREATE TABLE t ({PLAIN})")
        database.execute(ROWS.format(t="t"))
        database.execute("FLUSH TABLES t FOR EXPORT")
        for name in ("t.ibd", "t.cfg"):
            shutil.copy(folder / name, tmp_path)
        database.execute("UNLOCK TABLES")
        database.execute("DELETE FROM t")
        database.execute("INSERT INTO t (id) VALUES (50)")
        database.execute("ALTER TABLE t DISCARD TABLESPACE")
        mirrors.drain([table])
        assert mirrors.rows(table) == ["['id', 'note', 'n']"]
        for name in ("t.ibd", "t.cfg"):
            shutil.copy(tmp_path / name, folder)
        database.execute("ALTER TABLE t /* again */ IMPORT TABLESPACE")
        mirrors.drain([table])
        wanted = server_rows(database.connection, table, mariadb=isinstance(database.server, MariaDBServer))
        assert mirrors.rows(table) == wanted
        assert len(wanted or ()) == 4
