"""MariaDB's hidden columns and system-versioned tables: the changes match the table that SELECT returns."""

from __future__ import annotations

import pytest

from binlogsync.change import RowChange
from tests.binlog.dump import end_of_log, record
from tests.databases import FreshDatabase
from tests.versioned_tables import COLUMNS, TABLES, change, naive


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.server) for name in ("mariadb", "mariadb_10")])
def database(request: pytest.FixtureRequest) -> FreshDatabase:
    """A database on both servers: 10.11 logs REPLACE differently, and row ends in 2038."""
    found: FreshDatabase = request.getfixturevalue(request.param)
    found.execute("SET time_zone = '+00:00'")
    return found


def _left(changes: list[RowChange], table: str) -> list[tuple[object, ...]]:
    """The rows that remain after the changes."""
    rows: list[dict[str, object]] = []
    for one in (one for one in changes if one.source.table == table):
        if one.before is not None:
            rows.remove(one.before)
        if one.after is not None:
            rows.append(one.after)
    return sorted((naive(tuple(row.values())) for row in rows), key=repr)


@pytest.mark.parametrize("level", ["FULL", "MINIMAL", "NO_LOG"])
def test_changes_result_in_the_rows_that_select_returns(database: FreshDatabase, level: str) -> None:
    start = end_of_log(database.server)
    database.execute(f"SET GLOBAL binlog_row_metadata = {level}")
    for table, definition in TABLES.items():
        database.execute(f"CREATE TABLE {table} {definition}")
        change(database, table, 1)
        if "VERSIONING" in definition:
            database.execute(f"DELETE HISTORY FROM {table}")
    database.execute("SET GLOBAL binlog_row_metadata = FULL")
    done = record(database.server, start, lambda name, _: name == database.name).decoded()
    assert done.error is None
    for table, columns in COLUMNS.items():
        selected = database.execute(f"SELECT {', '.join(columns)} FROM {table}")
        assert _left(done.changes, table) == sorted(selected, key=repr), table
    schemas = {
        b.schema.table: b.schema for decoded_range in done.ranges for b in decoded_range.batches if b.ddl is None
    }
    assert {name: schema.primary_key for name, schema in schemas.items()} == {
        name: () if name == "keyless" else ("id",) for name in TABLES
    }
    assert {name: tuple(c.name for c in schema.columns) for name, schema in schemas.items()} == COLUMNS


def test_images_without_the_row_end_column(database: FreshDatabase) -> None:
    start = end_of_log(database.server)
    database.execute("SET SESSION binlog_row_image = MINIMAL")
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT) WITH SYSTEM VERSIONING")
    database.execute("INSERT INTO t VALUES (1, 1, 1)")
    database.execute("UPDATE t SET a = 2")
    database.execute("DELETE FROM t")
    database.execute("DELETE HISTORY FROM t")
    changes = record(database.server, start, lambda name, _: name == database.name).changes()
    assert [(one.op, (one.before or {}).get("id"), (one.after or {}).get("a")) for one in changes] == [
        ("c", None, 1),
        ("u", 1, 2),
        ("d", 1, None),
    ]


def test_rows_of_a_time_when_the_table_was_versioned(mariadb: FreshDatabase) -> None:
    start = end_of_log(mariadb.server)
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT) WITH SYSTEM VERSIONING")
    mariadb.execute("INSERT INTO t VALUES (1, 1)")
    mariadb.execute("UPDATE t SET a = 2")
    mariadb.execute("ALTER TABLE t DROP SYSTEM VERSIONING")
    mariadb.execute("UPDATE t SET a = 3")
    mariadb.execute("SET system_versioning_alter_history = KEEP")
    mariadb.execute("ALTER TABLE t ADD SYSTEM VERSIONING")
    mariadb.execute("UPDATE t SET a = 4")
    changes = record(mariadb.server, start, lambda name, _: name == mariadb.name).changes()
    assert [(one.op, one.before, one.after) for one in changes] == [
        ("c", None, {"id": 1, "a": 1}),
        *(("u", {"id": 1, "a": n}, {"id": 1, "a": n + 1}) for n in (1, 2, 3)),
    ]
    mariadb.execute("DROP TABLE t")
    again = record(mariadb.server, start, lambda name, _: name == mariadb.name).changes()
    assert [one.after for one in again] == [one.after for one in changes]


def test_a_table_versioned_by_transaction_names_the_reason(mariadb: FreshDatabase) -> None:
    start = end_of_log(mariadb.server)
    period = "s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END"
    mariadb.execute(f"CREATE TABLE t (a INT, {period}, PERIOD FOR SYSTEM_TIME(s, e)) WITH SYSTEM VERSIONING")
    mariadb.execute("INSERT INTO t (a) VALUES (1)")
    done = record(mariadb.server, start, lambda name, _: name == mariadb.name).decoded()
    assert done.error is not None
    assert done.error.table == f"{mariadb.name}.t"
    assert "versioned by transaction" in str(done.error)


def test_impossible_dates_of_an_ended_version(mariadb: FreshDatabase) -> None:
    start = end_of_log(mariadb.server)
    mariadb.execute("SET sql_mode = ''")
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY, d DATE) WITH SYSTEM VERSIONING")
    mariadb.execute("INSERT INTO t VALUES (1, '0000-00-00'), (2, '2020-01-02')")
    mariadb.execute("UPDATE t SET d = '2020-00-01'")
    mariadb.execute("DELETE FROM t")
    changes = record(mariadb.server, start, lambda name, _: name == mariadb.name).changes()
    texts = [(one.op, str((one.before or {}).get("d")), str((one.after or {}).get("d"))) for one in changes]
    assert texts == [
        ("c", "None", "0000-00-00"),
        ("c", "None", "2020-01-02"),
        ("u", "0000-00-00", "2020-00-01"),
        ("u", "2020-01-02", "2020-00-01"),
        ("d", "2020-00-01", "None"),
        ("d", "2020-00-01", "None"),
    ]


def test_each_state_of_a_sequence_has_the_key_of_the_one_before(database: FreshDatabase) -> None:
    start = end_of_log(database.server)
    database.execute("CREATE SEQUENCE q CACHE 1")
    for _ in range(3):
        database.execute("SELECT NEXTVAL(q)")
    done = record(database.server, start, lambda name, _: name == database.name).decoded()
    assert done.error is None
    assert {b.schema.primary_key for s in done.ranges for b in s.batches if b.ddl is None} == {("minimum_value",)}
    assert [(one.after or {})["next_not_cached_value"] for one in done.changes] == [2, 3, 4]
