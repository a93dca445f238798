"""Tables are read in chunks by keys of each type: every row once, in chunks of three."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from binlogsync.mysql import inspect_server
from binlogsync.mysql.result_set import reader
from binlogsync.position import Checkpoint
from binlogsync.snapshot import chunks
from binlogsync.snapshot.chunks import ChunkReader
from binlogsync.snapshot.throttle import LoadLimits
from tests.binlog.exact.type_sample import MARIADB, MYSQL
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of

pytestmark = pytest.mark.server
_WORDS = "'a', 'B', 'c ', 'Ä', 'z', '', 'ab', 'Zebra', 'ñ', 'o''k', 'x%sy', 'back\\\\slash'"
_KEYS = {
    "INT": "-3, -1, 0, 5, 2147483647",
    "BIGINT UNSIGNED": "0, 1, 9223372036854775807, 9223372036854775808, 18446744073709551615",
    "DECIMAL(40, 5)": "-99999999999999999999999.5, -0.5, 0, 0.00001, 123456789012345678901234567890.12345",
    "FLOAT": "0.1, 0.2, 3.4e38, -1.5, 16777216, 1e-30, 0.30000001",
    "DOUBLE": "0.1, 0.2, 1e300, -1e-300, 123456789.123456789",
    "DATE": "'0000-00-00', '2020-00-00', '1000-01-01', '9999-12-31', '2024-02-29'",
    "DATETIME(6)": "'0000-00-00 00:00:00', '1999-01-01 00:00:00.000001', '1999-01-01 00:00:00.000002', '2020-01-01'",
    "TIMESTAMP(3)": "'1999-01-01 00:00:00.001', '1999-01-01 00:00:00.002', '2020-01-01', '2030-01-01'",
    "TIME(2)": "'-838:59:59', '-00:00:00.01', '00:00:00', '12:30:00.5', '838:59:58.99'",
    "YEAR": "1901, 2000, 2155, 0",
    "BIT(9)": "b'0', b'1', b'11111111', b'100000000', b'111111111'",
    "VARCHAR(20) CHARACTER SET utf8mb4": f"{_WORDS}, '😀'",
    "VARCHAR(20) CHARACTER SET latin1": _WORDS,
    "VARCHAR(20) CHARACTER SET utf16": _WORDS,
    "CHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin": _WORDS,
    "VARBINARY(9)": "'', 'a', x'00', x'0000', x'ff', x'27', x'5c'",
    "BINARY(3)": "x'00', x'0001', x'ff', x'61'",
}
_LIMITS = LoadLimits(threads_running=None)


def read_all(database: FreshDatabase, table: str, condition: str | None = None) -> list[int]:
    """The column `n` of all rows, in the order of the chunks."""
    config = config_of(database.server, "chunks")
    info = inspect_server(config)
    start = Checkpoint(info.end(), info.server_uuid, info.executed)
    found: list[int] = []
    with ChunkReader(config, (database.name, table), _LIMITS, threading.Event()) as opened:
        assert opened.key is not None
        opened.begin(start)
        after, is_last = None, False
        while not is_last:
            chunk = opened.read(after, opened.description, condition)
            found += [n for batch in chunk.batches for n in batch.data.column("after").field("n").to_pylist()]
            after, is_last = chunk.last_key, chunk.is_last
    return found


@pytest.mark.parametrize("flavor", [MYSQL, MARIADB])
def test_chunks_have_each_row_once(
    flavor: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHUNK_ROWS", "_FIRST_ROWS"):
        monkeypatch.setattr(chunks, name, 3)
    database: FreshDatabase = request.getfixturevalue(flavor)
    database.execute("SET SESSION sql_mode = ''")
    for number, (kind, values) in enumerate(_KEYS.items()):
        table = f"t{number}"
        database.execute(f"CREATE TABLE {table} (n INT AUTO_INCREMENT UNIQUE, k {kind} PRIMARY KEY)")
        for value in values.split(", "):
            database.execute(f"INSERT IGNORE INTO {table} (k) VALUES ({value.replace('%', '%%')})", ())
        wanted = [n for (n,) in database.execute(f"SELECT n FROM {table} ORDER BY k")]
        assert read_all(database, table) == wanted, kind
        assert len(wanted) > 3
    database.execute("CREATE TABLE pair (n INT, a VARCHAR(3), b DATE, PRIMARY KEY (a, b, n))")
    for n in range(20):
        database.execute(f"INSERT INTO pair VALUES ({n}, '{'abC'[n % 3]}', '2024-01-{n % 2 + 1:02d}')")
    wanted = [n for (n,) in database.execute("SELECT n FROM pair ORDER BY a, b, n")]
    assert read_all(database, "pair") == wanted


@pytest.mark.parametrize("flavor", [MYSQL, MARIADB])
def test_tables_that_cannot_be_read_in_chunks_are_recognized(flavor: str, request: pytest.FixtureRequest) -> None:
    database: FreshDatabase = request.getfixturevalue(flavor)
    tables = {
        "k ENUM('a', 'b') PRIMARY KEY": None,
        "k SET('a', 'b') PRIMARY KEY": None,
        "k BLOB, PRIMARY KEY (k(10))": None,
        "k INT UNIQUE": None,
        "k INT": None,
        "k INT NOT NULL UNIQUE": ("k",),
        "k DATE NOT NULL UNIQUE": None,
        "k INT NOT NULL UNIQUE, p INT PRIMARY KEY": ("p",),
    }
    config = config_of(database.server, "chunks")
    for number, (columns, key) in enumerate(tables.items()):
        database.execute(f"CREATE TABLE t{number} ({columns})")
        with ChunkReader(config, (database.name, f"t{number}"), _LIMITS, threading.Event()) as opened:
            assert (None if opened.key is None else opened.key.names) == key, columns


@pytest.mark.parametrize("flavor", [MYSQL, MARIADB])
def test_a_chunk_ends_after_so_many_bytes(
    flavor: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wide rows follow small ones, so that the average says nothing; batches of rows are of 100 KB."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 500_000)
    for name in ("_BATCH_BYTES", "_LEAST_BATCH_BYTES"):
        monkeypatch.setattr(reader, name, 100_000)
    database: FreshDatabase = request.getfixturevalue(flavor)
    database.execute("CREATE TABLE t (n INT PRIMARY KEY, v LONGBLOB)")
    database.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, 'x')" for n in range(100)))
    for n in range(100, 140):
        database.execute(f"INSERT INTO t VALUES ({n}, REPEAT('x', 60000))")
    sizes: list[int] = []
    read = ChunkReader.read

    def measure(chunk_reader: ChunkReader, *arguments: Any) -> chunks.Chunk:
        chunk = read(chunk_reader, *arguments)
        sizes.append(sum(batch.nbytes for batch in chunk.batches))
        return chunk

    monkeypatch.setattr(ChunkReader, "read", measure)
    assert read_all(database, "t") == list(range(140))
    assert max(sizes) < 800_000
    assert len(sizes) > 3


@pytest.mark.parametrize(("width", "fewest", "most"), [(1, 5, 12), (3000, 10, 40)])
def test_ranges_without_a_matching_row_become_larger(
    width: int, fewest: int, most: int, mysql: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the rows, and about the bytes, of a chunk."""
    for name, value in (("CHUNK_ROWS", 50), ("_FIRST_ROWS", 3), ("CHUNK_BYTES", 80_000)):
        monkeypatch.setattr(chunks, name, value)
    mysql.execute("CREATE TABLE t (n INT PRIMARY KEY, v TEXT)")
    mysql.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, REPEAT('x', {width}))" for n in range(200)))
    mysql.execute("ANALYZE TABLE t")
    found: list[int] = []
    read = ChunkReader.read

    def count(chunk_reader: ChunkReader, *arguments: Any) -> chunks.Chunk:
        found.append(len(found))
        return read(chunk_reader, *arguments)

    monkeypatch.setattr(ChunkReader, "read", count)
    assert read_all(mysql, "t", "n >= 195") == list(range(195, 200))
    assert fewest <= len(found) <= most
