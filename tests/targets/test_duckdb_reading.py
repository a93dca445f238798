"""A warehouse is read while another process writes to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import binlogsync
from binlogsync.errors import ConfigError, ConsumeError, TargetBusyError
from binlogsync.targets.duckdb.file import DuckFile
from tests.duck import locked_by_another

# Writes the same number into each row of two tables, without a pause.
_WRITER = """
import sys
from binlogsync.targets.duckdb.file import DuckFile
file = DuckFile(sys.argv[1])
with file.transaction() as connection:
    connection.execute("CREATE TABLE a AS SELECT 0 AS v FROM range(1000); CREATE TABLE b AS FROM a")
print("begun", flush=True)
number = 0
while True:
    number += 1
    with file.transaction(keep_open=True) as connection:
        connection.execute(f"UPDATE a SET v = {number}; UPDATE b SET v = {number}")
"""
_EACH = "SELECT v, count(*) FROM (FROM a UNION ALL FROM b) GROUP BY v"


@pytest.mark.slow
def test_readers_get_in_between_transactions(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "begun\n"
            seen: list[int] = []
            while len(set(seen)) < 10:
                assert writer.poll() is None
                with binlogsync.open_warehouse(path, timeout_s=120) as connection:
                    [(value, rows)] = connection.execute(_EACH).fetchall()
                assert rows == 2000
                seen.append(value)
        finally:
            writer.kill()
    assert seen == sorted(seen)


def test_the_warehouse_cannot_be_changed(tmp_path: Path) -> None:
    with DuckFile(tmp_path / "w.duckdb").transaction() as connection:
        connection.execute("CREATE TABLE t (v INT)")
    with (
        binlogsync.open_warehouse(tmp_path / "w.duckdb") as connection,
        pytest.raises(Exception, match="read-only mode"),
    ):
        connection.execute("INSERT INTO t VALUES (1)")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with pytest.raises(ConfigError, match=r"w\.duckdb does not exist"):
        binlogsync.open_warehouse(path)
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(ConsumeError, match=r"DuckDB cannot read .*w\.duckdb"):
        binlogsync.open_warehouse(path)
    path.unlink()
    with (
        locked_by_another(path) as process,
        pytest.raises(TargetBusyError, match=rf"w\.duckdb was locked by process {process.pid}"),
    ):
        binlogsync.open_warehouse(path, timeout_s=0.2)
