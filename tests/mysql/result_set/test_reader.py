"""Rows over the binary protocol: sizes of packets, errors, TLS, and the connection afterwards. The values of all types
are compared in tests/binlog/exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from binlogsync.errors import SourceError
from binlogsync.mysql import MySQLConfig, connect
from binlogsync.mysql.config import fetch
from binlogsync.mysql.information_schema import describe_table
from binlogsync.mysql.result_set import read_rows
from binlogsync.mysql.session import Connection
from binlogsync.schema import Column, TableSchema
from tests.databases import FreshDatabase
from tests.mysql.sources import ENCRYPTED, PLAIN, source_of

pytestmark = pytest.mark.server

_PACKET = 0xFFFFFF
_ROW_BYTES = 1 + 1 + 4 + 4  # first byte, NULL bitmap, id, and the prefix of a string below 16 MiB
_ROWS = 30_000


@pytest.fixture(params=["mysql", "mariadb"])
def database(request: pytest.FixtureRequest) -> FreshDatabase:
    found: FreshDatabase = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def config(database: FreshDatabase) -> MySQLConfig:
    return source_of(database.server, user="root", password=database.server.password, tls=PLAIN)


@pytest.fixture
def connection(config: MySQLConfig) -> Iterator[Connection]:
    with closing(connect(config)) as found:
        yield found


def fill(database: FreshDatabase, rows: int = _ROWS) -> None:
    """A table t (id, v): v is NULL in every third row, else text of 30 to 430 characters."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(500))")
    database.execute("INSERT INTO t VALUES (1, NULL)")
    while (known := int(database.execute("SELECT COUNT(*) FROM t")[0][0])) < rows:
        database.execute(
            f"INSERT INTO t SELECT id + {known}, IF((id + {known}) % 3, REPEAT(CONCAT(id + {known}, 'é'), "
            f"20 + (id + {known}) % 50), NULL) FROM t LIMIT {rows - known}"
        )


def view(database: FreshDatabase, expression: str, source: str = "t", kind: str = "longblob") -> TableSchema:
    """A view of `id` and an expression `v`."""
    database.execute(f"CREATE VIEW w AS SELECT id, {expression} AS v FROM {source}")
    return TableSchema(database.name, "w", (Column("id", "int"), Column("v", kind)))


def table(database: FreshDatabase, config: MySQLConfig, connection: Connection) -> TableSchema:
    return describe_table(config, connection, database.name, "t")


def columns(config: MySQLConfig, connection: Connection, schema: TableSchema, *clauses: Any) -> Sequence[list[Any]]:
    """The values of each column, and a usable connection."""
    batches = [rows.record_batch for rows in read_rows(config, connection, schema, *clauses)]
    for batch in batches:
        batch.validate(full=True)
    assert fetch(config, connection, "SELECT 7 AS n") == [{"n": 7}]
    return [pa.Table.from_batches(batches, batches[0].schema).column(k).to_pylist() for k in range(len(schema.columns))]


def test_all_rows_come_in_order_with_and_without_tls(database: FreshDatabase, config: MySQLConfig) -> None:
    fill(database)
    expected = list(database.execute("SELECT id, v FROM t ORDER BY id"))
    for tls in (PLAIN, ENCRYPTED):
        with closing(connect(replace(config, tls=tls))) as connection:
            ids, texts = columns(config, connection, table(database, config, connection), "ORDER BY id")
        assert list(zip(ids, texts, strict=True)) == expected, tls


def test_clauses_have_parameters(database: FreshDatabase, config: MySQLConfig, connection: Connection) -> None:
    database.execute("CREATE TABLE t (`a%s``?` INT PRIMARY KEY, b VARCHAR(9))")
    database.execute("INSERT INTO t VALUES (1, 'x'), (2, 'it''s ?%'), (3, 'z')")
    schema = table(database, config, connection)
    assert columns(config, connection, schema, "WHERE b = %s LIMIT %s", ("it's ?%", 5)) == [[2], ["it's ?%"]]
    assert columns(config, connection, schema, "WHERE b LIKE '%s ?%' LIMIT 1") == [[2], ["it's ?%"]]
    assert list(read_rows(config, connection, schema, "WHERE b = 'none'")) == []


def test_a_batch_ends_at_its_number_of_rows(
    database: FreshDatabase, config: MySQLConfig, connection: Connection
) -> None:
    fill(database, 2_500)
    schema = table(database, config, connection)
    batches = list(read_rows(config, connection, schema, "ORDER BY id", batch_rows=1_000))
    assert [len(rows) for rows in batches] == [1_000, 1_000, 500]
    assert [rows.image.field(0)[0].as_py() for rows in batches] == [1, 1_001, 2_001]


@pytest.mark.parametrize(
    ("database", "packets"),
    [("mysql", 1), ("mysql", 2), ("mariadb", 1), pytest.param("mariadb", 2, marks=pytest.mark.exhaustive)],
    indirect=["database"],
)
def test_rows_of_about_16_mib_and_more(
    database: FreshDatabase, config: MySQLConfig, connection: Connection, packets: int
) -> None:
    """A packet of 0xffffff bytes is followed by another one, which may be empty."""
    database.execute("SET GLOBAL max_allowed_packet = 67108864")
    size = packets * _PACKET - _ROW_BYTES - (5 if packets > 1 else 0)
    sizes = [size - 1, size, size + 1, 10, size + 20, 0]
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, size INT)")
    database.execute(f"INSERT INTO t VALUES {', '.join(map(str, enumerate(sizes)))}")
    schema = view(database, "CAST(CONCAT(REPEAT('x', size), id) AS BINARY)")
    connection = connect(config)  # max_allowed_packet is read at the login
    with closing(connection):
        found = [
            (identity.as_py(), value.as_buffer().size, value.as_buffer()[-2:].to_pybytes())
            for rows in read_rows(config, connection, schema, "ORDER BY id")
            for identity, value in zip(rows.image.field(0), rows.image.field(1), strict=True)
        ]
        assert fetch(config, connection, "SELECT 7 AS n") == [{"n": 7}]
    assert found == [(i, n + 1, (b"x" * n + str(i).encode())[-2:]) for i, n in enumerate(sizes)]


def test_an_error_in_mid_stream_leaves_the_connection_usable(
    database: FreshDatabase, config: MySQLConfig, connection: Connection
) -> None:
    fill(database)
    schema = view(database, "EXP(IF(id = 25000, 1000, 1))", kind="double")
    counts: list[int] = []
    with pytest.raises(SourceError, match="out of range"):
        counts.extend(map(len, read_rows(config, connection, schema, "ORDER BY id", batch_rows=1_000)))
    assert 0 < sum(counts) < 25_000
    assert columns(config, connection, schema, "WHERE id < 3") == [[1, 2], [pytest.approx(2.718, abs=0.001)] * 2]


def test_a_killed_connection_is_an_error(database: FreshDatabase, config: MySQLConfig, connection: Connection) -> None:
    fill(database)
    [number] = fetch(config, connection, "SELECT CONNECTION_ID() AS id")[0].values()
    reading = read_rows(config, connection, view(database, "REPEAT(id, 1000)", kind="longtext"), batch_rows=100)
    next(reading)
    database.execute(f"KILL {number}")
    with pytest.raises(SourceError, match=r"closed the connection|interrupted|killed|reset by peer"):
        list(reading)
    with pytest.raises(SourceError):
        fetch(config, connection, "SELECT 1 AS n")


def test_an_abandoned_reader_closes_the_connection(
    database: FreshDatabase, config: MySQLConfig, connection: Connection
) -> None:
    fill(database, 3_000)
    schema = table(database, config, connection)
    reading = read_rows(config, connection, schema, batch_rows=100)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert not connection.open
    with closing(connect(config)) as other:
        whole = read_rows(config, other, schema, "LIMIT 100", batch_rows=1_000)
        next(whole)
        whole.close()  # type: ignore[attr-defined]
        assert fetch(config, other, "SELECT 7 AS n") == [{"n": 7}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("MODIFY v INT", r"t\.v is varchar\(500\) in the schema, but the server sends type 3"),
        ("MODIFY v VARBINARY(500)", "the server sends bytes"),
        ("MODIFY id INT UNSIGNED", "the server sends it unsigned"),
        ("MODIFY id BIGINT", "the server sends type 8"),
        ("DROP COLUMN v", "Unknown column"),
    ],
)
def test_an_altered_table_is_an_error(
    database: FreshDatabase, config: MySQLConfig, connection: Connection, change: str, message: str
) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(500))")
    schema = table(database, config, connection)
    database.execute(f"ALTER TABLE t {change}")
    with pytest.raises(SourceError, match=message):
        list(read_rows(config, connection, schema))
    assert fetch(config, connection, "SELECT 7 AS n") == [{"n": 7}]


def test_a_statement_that_the_server_refuses(
    database: FreshDatabase, config: MySQLConfig, connection: Connection
) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    schema = table(database, config, connection)
    for clauses, message in (("WHERE", "SQL syntax"), ("WHERE id = ?", "parameters already")):
        with pytest.raises(SourceError, match=message):
            list(read_rows(config, connection, schema, clauses))
        assert fetch(config, connection, "SELECT 7 AS n") == [{"n": 7}]
    assert fetch(config, connection, "SHOW STATUS LIKE 'Prepared_stmt_count'")[0]["Value"] == "0"


def test_a_server_without_room_for_prepared_statements(
    database: FreshDatabase, config: MySQLConfig, connection: Connection
) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    schema = table(database, config, connection)
    [(limit,)] = database.execute("SELECT @@GLOBAL.max_prepared_stmt_count")
    database.execute("SET GLOBAL max_prepared_stmt_count = 0")
    try:
        with pytest.raises(SourceError, match="raise max_prepared_stmt_count"):
            list(read_rows(config, connection, schema))
    finally:
        database.execute(f"SET GLOBAL max_prepared_stmt_count = {limit}")
    assert list(read_rows(config, connection, schema)) == []
