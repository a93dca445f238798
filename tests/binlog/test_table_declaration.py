"""Types that MariaDB does not log are read from the server; if the column no longer exists, a warning or an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from binlogsync.binlog.table_declaration import TableDeclaration
from binlogsync.mysql import declaration_reader
from tests.binlog.dump import DecodedDump, DumpRecording, config_of, decode, end_of_log, record
from tests.databases import FreshDatabase

UUID = "123e4567-e89b-12d3-a456-426655440000"
RAW = bytes.fromhex(UUID.replace("-", ""))


@pytest.fixture
def old_format(mariadb: FreshDatabase) -> Iterator[FreshDatabase]:
    mariadb.execute("SET GLOBAL mysql56_temporal_format = OFF")
    yield mariadb
    mariadb.execute("SET GLOBAL mysql56_temporal_format = ON")


def _record(database: FreshDatabase, statements: Sequence[str], *, left_out: str = "") -> DumpRecording:
    start = end_of_log(database.server)
    for statement in statements:
        database.execute(statement)
    return record(database.server, start, lambda name, table: name == database.name and table != left_out)


def _values(done: DecodedDump) -> list[object]:
    assert done.error is None, done.error
    return [change.after["v"] for change in done.changes if change.after is not None]


@pytest.mark.parametrize(
    ("ddl", "value", "delivered"),
    [
        ("UUID", f"'{UUID}'", UUID),
        ("INET6", "'::1'", "::1"),
        ("INET4", "'10.0.0.1'", "10.0.0.1"),
        ("VECTOR(1)", "VEC_FromText('[1.5]')", [1.5]),
        ("BINARY(16)", "'x'", b"x".ljust(16, b"\0")),
        ("BINARY(4)", "'x'", b"x\0\0\0"),
        ("VARBINARY(4)", "'x'", b"x"),
    ],
)
def test_columns_that_are_logged_alike(mariadb: FreshDatabase, ddl: str, value: str, delivered: object) -> None:
    recording = _record(mariadb, [f"CREATE TABLE t (v {ddl})", f"INSERT INTO t VALUES ({value})"])
    assert _values(recording.decoded()) == [delivered]


@pytest.mark.parametrize("gone", ["DROP TABLE t", "ALTER TABLE t DROP COLUMN v, ADD COLUMN w INT"])
def test_bytes_of_a_dropped_column_are_delivered_with_a_warning(
    mariadb: FreshDatabase, gone: str, caplog: pytest.LogCaptureFixture
) -> None:
    statements = ["CREATE TABLE t (id INT, v UUID)", f"INSERT INTO t VALUES (1, '{UUID}')", gone]
    with caplog.at_level(logging.WARNING):
        assert _values(_record(mariadb, statements).decoded()) == [RAW]
    assert f"{mariadb.name}.t.v: delivered as binary(16)" in caplog.text
    assert "uuid or inet6" in caplog.text


def test_a_column_is_found_by_its_name_when_the_table_has_changed_since(mariadb: FreshDatabase) -> None:
    statements = ["CREATE TABLE t (v UUID, a INT)", f"INSERT INTO t VALUES ('{UUID}', 1)"]
    alter = "ALTER TABLE t ADD COLUMN first INT FIRST, DROP COLUMN a"
    assert _values(_record(mariadb, [*statements, alter]).decoded()) == [UUID]


def test_the_declaration_is_requested_again_when_the_table_was_reopened(mariadb: FreshDatabase) -> None:
    """The TABLE_MAPs of both tables differ in the table id only."""
    start = end_of_log(mariadb.server)
    mariadb.execute("CREATE TABLE t (v BINARY(16))")
    mariadb.execute(f"INSERT INTO t VALUES (x'{RAW.hex()}')")
    first = record(mariadb.server, start)
    assert _values(first.decoded()) == [RAW]
    requested = []
    answer = declaration_reader(config_of(mariadb.server))

    def ask(database: str, table: str) -> TableDeclaration | None:
        requested.append(table)
        return answer(database, table)

    mariadb.execute("ALTER TABLE t MODIFY v UUID")
    mariadb.execute(f"INSERT INTO t VALUES ('{UUID}'), ('{UUID}')")
    whole = record(mariadb.server, start)
    # Earlier rows are decoded with the current type of the column, which has the same format.
    assert _values(decode(whole.raw, replace(first.options, declared=ask), start)) == [UUID, UUID, UUID]
    assert requested == ["t", "t"]


def test_an_old_time_of_a_dropped_table_is_an_error_with_a_remedy(old_format: FreshDatabase) -> None:
    statements = ["CREATE TABLE t (id INT, v TIME(3))", "INSERT INTO t VALUES (1, '12:00:00.5')", "DROP TABLE t"]
    done = _record(old_format, statements).decoded()
    assert done.error is not None
    assert (done.error.table, done.error.column) == (f"{old_format.name}.t", "v")
    assert "before MariaDB 10.1" in str(done.error)


def test_an_old_time_that_was_rebuilt_since_is_an_error(old_format: FreshDatabase) -> None:
    """Its values had 4 bytes; by the current declaration they have 3."""
    statements = ["CREATE TABLE t (id INT, v TIME(1))", "INSERT INTO t VALUES (1, '12:00:00.5')"]
    rebuild = ["SET GLOBAL mysql56_temporal_format = ON", "ALTER TABLE t MODIFY v TIME"]
    done = _record(old_format, [*statements, *rebuild]).decoded()
    assert done.error is not None
    assert done.error.column == "v"


def test_old_times_of_an_excluded_table_are_skipped(old_format: FreshDatabase) -> None:
    statements = [
        "CREATE TABLE odd (a TIME(3), b DATETIME(1), c TIMESTAMP(6) NULL, d TIME, e DATETIME, id INT)",
        "CREATE TABLE t (v INT)",
        "BEGIN",
        "INSERT INTO odd VALUES (NOW(), NOW(), NOW(), NOW(), NOW(), 1), (NULL, NOW(), NULL, NOW(), NULL, 2)",
        "INSERT INTO t VALUES (1)",
        "COMMIT",
    ]
    done = _record(old_format, statements, left_out="odd").decoded()
    assert _values(done) == [1]
    assert done.changes[-1].source.order == 2


def test_declarations_are_complete(mariadb: FreshDatabase, mysql: FreshDatabase) -> None:
    ddl = (
        "CREATE TABLE t (a BIGINT UNSIGNED NOT NULL, b DECIMAL(10,2), c CHAR(5) CHARACTER SET latin1, d TIME(3), "
        "e ENUM('x,''y','(z)'), f VARBINARY(7), g TEXT, h BIT(9), i POINT, j INT INVISIBLE)"
    )
    for database in (mariadb, mysql):
        database.execute(ddl)
        declaration = declaration_reader(config_of(database.server))(database.name, "t")
        assert declaration is not None
        assert declaration.old_temporal == frozenset()
        columns = declaration.schema.columns
        assert [column.declaration.partition("(")[0] for column in columns] == [
            "bigint unsigned", "decimal", "char", "time", "enum", "varbinary", "text", "bit", "point", "int",
        ]  # fmt: skip
        assert (columns[1].precision, columns[1].scale, columns[2].charset, columns[2].length) == (10, 2, "latin1", 5)
        assert (columns[3].fsp, columns[4].labels, columns[5].length) == (3, ("x,'y", "(z)"), 7)
        assert (columns[7].length, columns[9].visible, columns[0].nullable) == (9, False, False)
        assert declaration_reader(config_of(database.server))(database.name, "missing") is None
