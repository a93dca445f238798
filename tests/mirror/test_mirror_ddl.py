"""Schema changes are applied to a mirror if their effect is provable; all others require a rebuild."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from binlogsync.binlog.sql import SqlDialect
from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch, build_schema_batch
from binlogsync.errors import ConsumeError
from binlogsync.mirror import apply as mirror
from binlogsync.mirror.clauses import parse_alter, parse_create
from binlogsync.position import BinlogPosition
from binlogsync.schema import Column, TableSchema
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.state import load_state
from binlogsync.targets.duckdb.transaction import DuckTransaction
from tests.duck import SERVER_UUID, Change, make_batch, mirror_rows, query

pytestmark = pytest.mark.slow

THINGS = ("shop", "things")
SCHEMA = TableSchema(
    *THINGS,
    (
        Column("id", "int", nullable=False),
        Column("a", "varchar", length=5, charset="utf8mb4"),
        Column("b", "decimal", precision=5, scale=2),
        Column("t", "datetime", fsp=3),
    ),
    ("id",),
)
AT = datetime(2020, 12, 31, 23, 59, 59, 500_000)
ROW = {"id": 1, "a": "x", "b": Decimal("1.50"), "t": AT}
VALUES = (1, "x", Decimal("1.50"), AT)


def ddl(
    sql: str,
    kind: Any = "alter",
    tables: tuple[tuple[str, str], ...] = (THINGS,),
    pos: int = 5000,
    sql_mode: int | None = 0,
    **more: Any,
) -> ChangeBatch:
    """The schema change of a statement, for the table shop.things."""
    position = BinlogPosition("binlog.000001", pos)
    change = SchemaChange(kind, tables, sql, 0, position, None, 5, "shop", sql_mode, **more)
    place = {"file": "binlog.000001", "pos": pos, "row": 0, "txn_pos": pos - 50, "order": 0, "seq": 0}
    return build_schema_batch(change, THINGS, {**place, "ts_us": 5, "gtid": None}, (SERVER_UUID, 7))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DuckFile]:
    file = DuckFile(tmp_path / "mirror.duckdb", error=ConsumeError)
    yield file
    file.release()


def apply(file: DuckFile, *batches: ChangeBatch, can_read: bool = False) -> mirror.RebuildReason | None:
    with file.transaction() as connection:
        return mirror.apply(DuckTransaction(connection), batches, can_read=can_read)


def rows(schema: TableSchema, *changes: Change) -> ChangeBatch:
    return make_batch(schema, changes)


def shape(file: DuckFile) -> list[tuple[str, str]]:
    return query(
        file.path,
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'things' ORDER BY column_index",
    )


DONE: dict[str, tuple[Any, ...]] = {
    "ADD c INT": (*VALUES, None),
    "ADD COLUMN c INT NOT NULL DEFAULT 7 FIRST": (7, *VALUES),
    "ADD c INT NOT NULL AFTER a, ADD (d CHAR(5) DEFAULT 'it''s'), COMMENT = 'x'": (
        1,
        "x",
        0,
        *VALUES[2:],
        "it's",
    ),
    "ADD c ENUM('u','v') NOT NULL, ADD d SET('a') NOT NULL": (*VALUES, "u", []),
    "ADD c DECIMAL(6,3) DEFAULT -1.5, ADD d DATETIME DEFAULT '2020-01-02 03:04:05'": (
        *VALUES,
        Decimal("-1.500"),
        datetime(2020, 1, 2, 3, 4, 5),
    ),
    "DROP COLUMN b": (1, "x", AT),
    "DROP a, ADD a INT DEFAULT 3": (1, Decimal("1.50"), AT, 3),
    "RENAME COLUMN a TO z": VALUES,
    "RENAME COLUMN a TO t, RENAME COLUMN t TO a": VALUES,
    "CHANGE a z TEXT, MODIFY id BIGINT NOT NULL AFTER t": ("x", Decimal("1.50"), AT, 1),
    "MODIFY t DATETIME(6) FIRST": (AT, *VALUES[:3]),
    "MODIFY b DECIMAL(5,1)": (1, "x", Decimal("1.5"), AT),
    "MODIFY a ENUM('x','y')": VALUES,
    "MODIFY id VARCHAR(10), DROP PRIMARY KEY": ("1", *VALUES[1:]),
    "CONVERT TO CHARACTER SET latin1": VALUES,
    "/*!80000 ADD c INT */": (*VALUES, None),
    "ADD INDEX i (a), DROP INDEX j, ALGORITHM=INPLACE, LOCK=NONE": VALUES,
    "ENGINE=InnoDB, ROW_FORMAT=DYNAMIC": VALUES,
    "ALTER COLUMN a SET DEFAULT 'q'": VALUES,
    "DROP PRIMARY KEY, ADD PRIMARY KEY (id, a)": VALUES,
}


@pytest.mark.parametrize("clauses", DONE)
def test_a_provable_change_is_applied(file: DuckFile, clauses: str) -> None:
    assert apply(file, rows(SCHEMA, ("c", None, ROW)), ddl(f"ALTER TABLE things {clauses}")) is None
    assert mirror_rows(file.path, *THINGS) == [DONE[clauses]]
    with file.transaction() as connection:
        schema = load_state(connection, *THINGS).schema
    assert schema is not None
    assert [column.name for column in schema.columns] == [name for name, _ in shape(file)]


UNPROVEN = [
    "ADD c INT AUTO_INCREMENT UNIQUE",
    "ADD c INT DEFAULT (1 + 1)",
    "ADD c DATETIME DEFAULT CURRENT_TIMESTAMP",
    "ADD c INT GENERATED ALWAYS AS (id + 1) STORED",
    "ADD c DATE NOT NULL",
    "ADD c TIMESTAMP",
    "MODIFY t DATETIME",
    "MODIFY a INT",
    "MODIFY a VARCHAR(0)",
    "MODIFY a ENUM('X','y')",
    "MODIFY id TINYINT UNSIGNED, MODIFY b DECIMAL(2,2)",
    "MODIFY n INT NOT NULL",
    "DROP PARTITION p1",
    "ADD c POLYGON, SOMETHING new",
    "RENAME TO things",
    "ADD c VARBINARY(3) DEFAULT _binary'\ufffd'",
]


@pytest.mark.parametrize("clauses", UNPROVEN)
def test_a_change_that_is_not_provable_requires_a_rebuild(file: DuckFile, clauses: str) -> None:
    rebuild = apply(file, rows(SCHEMA, ("c", None, ROW)), ddl(f"ALTER TABLE things {clauses}"), rows(SCHEMA))
    assert rebuild is not None
    assert (rebuild.done, rebuild.is_required) == (1, True)
    assert clauses in rebuild.reason
    assert mirror_rows(file.path, *THINGS) == [VALUES]


def test_values_decide_whether_a_conversion_is_proven(file: DuckFile) -> None:
    long = ROW | {"id": 2, "a": "zü"}
    narrow = ddl("ALTER TABLE things MODIFY a VARCHAR(5) CHARACTER SET latin1")
    assert apply(file, rows(SCHEMA, ("c", None, ROW)), narrow) is None
    assert apply(file, rows(SCHEMA, ("c", None, long)), narrow) is not None


@pytest.mark.parametrize(
    ("labels", "charset", "is_known"), [("a", "latin1", True), ("ä", "latin1", False), ("a", "utf16", False)]
)
def test_labels_are_not_recoded_with_their_column(file: DuckFile, labels: str, charset: str, is_known: bool) -> None:
    column = Column("e", "enum", charset="utf8mb4", labels=(labels,))
    schema = TableSchema(*THINGS, (Column("id", "int"), column), ("id",))
    batch = make_batch(schema, [("c", None, {"id": 1, "e": labels})])
    rebuild = apply(file, batch, ddl(f"ALTER TABLE things CONVERT TO CHARACTER SET {charset}"))
    assert (rebuild is None) == is_known


STRICT, NO_ESCAPES, ANSI, PAD_CHAR = 1 << 22, 1 << 20, 1 << 2, 1 << 31
OF_A_MODE: list[tuple[str, int | None, dict[str, Any], Any]] = [
    ('ADD "c" INT DEFAULT 3', ANSI, {}, 3),
    ('ADD c VARCHAR(9) DEFAULT "it\'s"', 0, {}, "it's"),
    ("ADD c VARCHAR(9) DEFAULT 'a\\\\b'", 0, {}, "a\\b"),
    ("ADD c VARCHAR(9) DEFAULT 'a\\\\b'", NO_ESCAPES, {}, "a\\\\b"),
    ("ADD c VARCHAR(9) DEFAULT 'a\\\\b'", None, {}, ...),
    ("ADD c VARCHAR(9) DEFAULT 'é''q' COMMENT 'x'", STRICT, {}, "é'q"),
    ("ADD c VARCHAR(9) DEFAULT 'é'", 0, {}, ...),
    ("ADD c VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT 'é'", 0, {}, "é"),
    ("ADD c VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT 'é'", STRICT, {"recodes_literals": True}, ...),
    ("ADD c VARCHAR(9) DEFAULT 'e'", STRICT, {"recodes_literals": True}, "e"),
    ("ADD c REAL DEFAULT 2", 0, {}, 2.0),
]


@pytest.mark.parametrize(("clauses", "mode", "more", "wanted"), OF_A_MODE)
def test_a_default_is_read_in_the_sql_mode_of_its_session(
    file: DuckFile, clauses: str, mode: int | None, more: dict[str, Any], wanted: Any
) -> None:
    statement = ddl(f"ALTER TABLE things {clauses}", sql_mode=mode, **more)
    rebuild = apply(file, rows(SCHEMA, ("c", None, ROW)), statement)
    assert (rebuild is not None) == (wanted is ...)
    if rebuild is None:
        assert mirror_rows(file.path, *THINGS) == [(*VALUES, wanted)]


@pytest.mark.parametrize("mode", [0, PAD_CHAR])
def test_trailing_spaces_of_char_depend_on_the_sql_mode(file: DuckFile, mode: int) -> None:
    schema = TableSchema(*THINGS, (Column("id", "int"), Column("a", "char", length=5, charset="utf8mb4")), ("id",))
    batch = make_batch(schema, [("c", None, {"id": 1, "a": "x"})])
    rebuild = apply(file, batch, ddl("ALTER TABLE things MODIFY a VARCHAR(9) CHARACTER SET utf8mb4", sql_mode=mode))
    assert (rebuild is not None) == (mode == PAD_CHAR)


def test_statements_whose_effect_only_the_server_knows(file: DuckFile) -> None:
    exchanged = ddl("ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE things", tables=(("shop", "p"), THINGS))
    for statement in (ddl("FROBNICATE", "other"), exchanged, ddl(""), ddl("", "create")):
        rebuild = apply(file, rows(SCHEMA, ("c", None, ROW)), statement)
        assert rebuild is not None
        assert (rebuild.done, rebuild.is_required) == (1, True)
        with file.transaction() as connection:
            connection.execute("DELETE FROM shop.things")


@pytest.mark.parametrize("clause", ["DISCARD TABLESPACE", "TRUNCATE PARTITION ALL"])
def test_statements_that_delete_all_rows(file: DuckFile, clause: str) -> None:
    assert apply(file, rows(SCHEMA, ("c", None, ROW)), ddl(f"ALTER TABLE things {clause}")) is None
    assert mirror_rows(file.path, *THINGS) == []


def test_an_empty_mirror_needs_no_proof(file: DuckFile) -> None:
    delete = rows(SCHEMA, ("c", None, ROW), ("d", ROW, None))
    assert apply(file, delete, ddl("ALTER TABLE things MODIFY a INT, ADD c INT AS (id) STORED")) is None
    assert shape(file)[:2] == [("id", "INTEGER"), ("a", "INTEGER")]
    assert shape(file)[-1] == ("c", "INTEGER")


def test_rows_whose_columns_differ_from_the_schema_changes(file: DuckFile) -> None:
    wider = replace(SCHEMA, columns=(*SCHEMA.columns, Column("c", "int")))
    rebuild = apply(file, rows(SCHEMA, ("c", None, ROW)), rows(wider, ("c", None, ROW | {"id": 2, "c": 3})))
    assert rebuild is not None
    assert "columns differ from those that result from the schema changes in the stream" in rebuild.reason
    assert mirror_rows(file.path, *THINGS) == [VALUES]


def test_the_next_row_completes_an_unknown_character_set(file: DuckFile) -> None:
    recoded = replace(SCHEMA.columns[1], charset="latin1")
    schema = replace(SCHEMA, columns=(SCHEMA.columns[0], recoded, *SCHEMA.columns[2:]))
    assert apply(file, rows(SCHEMA, ("c", None, ROW)), ddl("ALTER TABLE things MODIFY a VARCHAR(5)")) is None
    assert apply(file, rows(schema, ("u", ROW, ROW | {"a": "y"}))) is None
    assert mirror_rows(file.path, *THINGS) == [(1, "y", *VALUES[2:])]


def test_a_truncate_with_the_schema_before_an_alter(file: DuckFile) -> None:
    altered = ddl("ALTER TABLE things ADD c INT")
    assert apply(file, rows(SCHEMA, ("c", None, ROW)), altered, rows(SCHEMA, ("t", None, None))) is None
    assert mirror_rows(file.path, *THINGS) == []
    assert shape(file)[-1] == ("c", "INTEGER")


def test_drop_and_create_with_other_columns(file: DuckFile) -> None:
    create = ddl("CREATE TABLE things (k CHAR(2) PRIMARY KEY, v JSON) ENGINE=InnoDB", "create")
    assert apply(file, rows(SCHEMA, ("c", None, ROW)), ddl("DROP TABLE `things`", "drop")) is None
    assert shape(file) == []
    assert apply(file, create) is None
    assert shape(file) == [("k", "VARCHAR"), ("v", "JSON")]
    again = ddl("CREATE TABLE IF NOT EXISTS things (z INT)", "create")
    assert apply(file, again) is None
    assert shape(file) == [("k", "VARCHAR"), ("v", "JSON")]
    assert apply(file, ddl("CREATE OR REPLACE TABLE things (z INT)", "create")) is None
    assert shape(file) == [("z", "INTEGER")]


@pytest.mark.parametrize(
    ("tables", "left"),
    [
        ((("shop", "things"), ("shop", "old")), []),
        ((("shop", "things"), ("shop", "old"), ("shop", "old"), ("shop", "things")), [VALUES]),
        ((("shop", "things"), ("shop", "old"), ("shop", "new"), ("shop", "things")), None),
        ((("shop", "new"), ("shop", "things")), None),
        ((("shop", "a"), ("shop", "things"), ("shop", "things"), ("shop", "b")), []),
    ],
    ids=["away", "there-and-back", "another-in", "in", "through"],
)
def test_renames(file: DuckFile, tables: tuple[tuple[str, str], ...], left: list[Any] | None) -> None:
    rebuild = apply(file, rows(SCHEMA, ("c", None, ROW)), ddl("RENAME TABLE ...", "rename", tables))
    assert (rebuild is not None) == (left is None)
    assert (shape(file) == []) == (left == [])
    if left:
        assert mirror_rows(file.path, *THINGS) == left


def test_an_unknown_table_is_rebuilt_if_there_is_a_source(file: DuckFile) -> None:
    for batch in (rows(SCHEMA, ("c", None, ROW)), ddl("CREATE TABLE IF NOT EXISTS things (z INT)", "create")):
        rebuild = apply(file, batch, can_read=True)
        assert rebuild is not None
        assert (rebuild.done, rebuild.is_required) == (0, False)
    assert apply(file, rows(SCHEMA, ("c", None, ROW))) is None


def test_a_create_without_columns_waits_for_the_first_row(file: DuckFile) -> None:
    like = ddl("CREATE TABLE things LIKE others", "create")
    assert apply(file, like, rows(SCHEMA, ("c", None, ROW))) is None
    assert mirror_rows(file.path, *THINGS) == [VALUES]
    rebuild = apply(file, like, can_read=True)
    assert rebuild is not None


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER IGNORE TABLE t ADD UNIQUE (a)",
        "ALTER TABLE t ADD COLUMN c SERIAL",
        "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE x",
        "ALTER TABLE t ENGINE=BLACKHOLE",
        "ALTER TABLE t TRUNCATE PARTITION p0",
        "SET STATEMENT max_statement_time=1 FOR ALTER TABLE t ADD c INT",
        "",
    ],
)
def test_a_statement_with_unknown_syntax_is_not_applied_partially(sql: str) -> None:
    assert parse_alter(sql, SqlDialect(mariadb=True)) is None


def test_create_table_is_parsed_as_in_the_server() -> None:
    created = parse_create(
        "CREATE TABLE IF NOT EXISTS `d b`.`t``x` (\n  id int unsigned NOT NULL AUTO_INCREMENT, -- the key\n"
        "  v VARCHAR(20) COLLATE latin1_bin DEFAULT 'a,(b', d DOUBLE PRECISION, n NUMERIC(7), f FLOAT(30),\n"
        "  e ENUM('it''s','b ') CHARACTER SET utf8, x TEXT CHARSET binary, at TIMESTAMP(3) NULL DEFAULT "
        "CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), j JSON, g INT AS (id * 2) VIRTUAL INVISIBLE,\n"
        "  UNIQUE KEY k (v(3)), CONSTRAINT pk PRIMARY KEY USING BTREE (id, v DESC), CHECK (d > 1)\n"
        ") ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4 COMMENT='(x)'",
        SqlDialect(),
    )
    assert created is not None
    assert created.primary_key == ("id", "v")
    assert created.columns == (
        Column("id", "int", nullable=False, unsigned=True),
        Column("v", "varchar", nullable=False, length=20, charset="latin1"),
        Column("d", "double"),
        Column("n", "decimal", precision=7, scale=0),
        Column("f", "double"),
        Column("e", "enum", charset="utf8mb3", labels=("it's", "b")),
        Column("x", "blob"),
        Column("at", "timestamp", fsp=3),
        Column("j", "json"),
        Column("g", "int", visible=False),
    )
