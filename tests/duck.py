"""Queries on DuckDB files, and ChangeBatches from Python values, for tests."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from binlogsync.change import Op
from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.file import quote
from tests.waiting import wait_until

SERVER_UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
_HOLD = """import duckdb, sys, time
ends_s = time.monotonic() + float(sys.argv[2])
while True:
    try:
        held = duckdb.connect(sys.argv[1])
        break
    except duckdb.IOException:
        if time.monotonic() > ends_s:
            raise
        time.sleep(0.02)
print("held", flush=True)
sys.stdin.read()
"""
_READER: list[duckdb.DuckDBPyConnection] = []
_LOCK = threading.Lock()
atexit.register(_READER.clear)
Change = tuple[Op, Mapping[str, Any] | None, Mapping[str, Any] | None]


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """All rows of a query on a DuckDB file, which is closed afterwards. Raises duckdb.Error.

    The file is attached, which takes a twentieth of the time of opening it.
    """
    with _LOCK:
        if not _READER:
            _READER.append(duckdb.connect())
            _READER[0].execute("ATTACH ':memory:' AS nothing; USE nothing; DETACH memory")
            _READER[0].execute("SET checkpoint_on_detach = 'DISABLED'")
        reader, quoted = _READER[0], str(path).replace("'", "''")
        wait_until(lambda: _attach(reader, quoted), 60, f"{path} is closed by this process")
        try:
            [(name,)] = reader.execute("SELECT database_name FROM duckdb_databases() WHERE path IS NOT NULL").fetchall()
            reader.execute(f"USE {quote(name)}")
            rows: list[tuple[Any, ...]] = reader.execute(sql).fetchall()
        finally:
            reader.execute("USE nothing")
            reader.execute(f"DETACH {quote(name)}")
    return rows


def _attach(reader: duckdb.DuckDBPyConnection, quoted: str) -> bool:
    """False while this process has the file open."""
    try:
        reader.execute(f"ATTACH '{quoted}'")
    except duckdb.Error as error:
        if "Unique file handle conflict" in str(error):
            return False
        raise
    return True


def query_elsewhere(path: Path, sql: str) -> str:
    """The rows of a query in another process, as text: that fails while this process has the file open."""
    program = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2]).fetchall())"
    command = [sys.executable, "-c", program, str(path), sql]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def make_older(path: Path, *statements: str) -> None:
    """Replace the file by one that differs by these statements, as a file of an earlier version does."""
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    shutil.copy(path, path.with_name("older"))
    path.with_name("older").replace(path)


def mirror_rows(path: Path, database: str, table: str) -> list[tuple[Any, ...]]:
    """All rows of a mirror, sorted by their values."""
    return sorted(query(path, f"SELECT * FROM {quote(database, table)}"), key=repr)


def make_batch(schema: TableSchema, changes: Sequence[Change], first: int = 0) -> ChangeBatch:
    """A batch of these (op, before, after), each in a separate event and transaction, numbered from `first`."""
    numbers = range(first, first + len(changes))
    image = schema.image_type()
    source = {
        "ts_us": [1_700_000_000_000_000 + n for n in numbers],
        "gtid": [f"{SERVER_UUID}:{n + 1}" for n in numbers],
        "file": ["binlog.000001"] * len(changes),
        "pos": [1000 + 100 * n for n in numbers],
        "row": [0] * len(changes),
        "txn_pos": [950 + 100 * n for n in numbers],
        "order": [0] * len(changes),
        "seq": list(numbers),
    }
    images = tuple(pa.array([change[i] for change in changes], image) for i in (1, 2))
    return build_batch(schema, [change[0] for change in changes], (images[0], images[1]), source, (SERVER_UUID, 7))


@contextmanager
def locked_by_another(path: Path, tries_s: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open until its input ends; it tries for `tries_s` seconds to open it."""
    command = [sys.executable, "-c", _HOLD, str(path), str(tries_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()
        process.wait(60)
