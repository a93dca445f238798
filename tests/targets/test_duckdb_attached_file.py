"""A DuckDB file is attached for one transaction; its last changes stay in the log beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from binlogsync.errors import SinkError
from binlogsync.targets.duckdb import attached_file
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.store import DuckStore
from tests.duck import query

_READ = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute('FROM t').fetchall())"


@pytest.fixture
def file(tmp_path: Path) -> DuckFile:
    """With a table t of one column."""
    file = DuckFile(tmp_path / "a.duckdb")
    with file.transaction() as connection:
        connection.execute("CREATE TABLE t (v INT)")
    return file


def insert(file: DuckFile, value: int) -> None:
    with file.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (?)", [value])


def test_other_programs_read_the_changes_of_the_log(file: DuckFile) -> None:
    insert(file, 1)
    assert Path(f"{file.path}.wal").stat().st_size
    done = subprocess.run([sys.executable, "-c", _READ, str(file.path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[(1,)]\n"
    with duckdb.connect(str(file.path)) as connection:  # of this process
        connection.execute("INSERT INTO t VALUES (2)")
    insert(file, 3)
    assert query(file.path, "SELECT v FROM t ORDER BY v") == [(1,), (2,), (3,)]


def test_the_log_of_a_deleted_file_is_not_applied(file: DuckFile) -> None:
    insert(file, 1)
    file.path.unlink()
    assert Path(f"{file.path}.wal").exists()
    with file.transaction() as connection:
        connection.execute("CREATE TABLE t (v INT)")
    insert(file, 2)
    assert query(file.path, "FROM t") == [(2,)]


def test_the_log_of_another_file_is_refused(file: DuckFile, tmp_path: Path) -> None:
    insert(file, 1)
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    (tmp_path / "other.duckdb").replace(file.path)
    with pytest.raises(SinkError, match=r"DuckDB cannot open .*a\.duckdb: .*a\.duckdb\.wal"):
        insert(file, 2)


def test_a_long_log_is_written_to_the_file(file: DuckFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached_file, "_LOG_BYTES", 1)
    insert(file, 1)
    assert not Path(f"{file.path}.wal").exists()
    assert query(file.path, "FROM t") == [(1,)]


def test_each_change_is_a_new_version(tmp_path: Path) -> None:
    store = DuckStore(tmp_path / "a.duckdb")
    versions = [store.version]
    with store.transaction() as connection:
        connection.execute("CREATE TABLE t (v INT)")
    for value in range(3):
        versions.append(store.version)
        insert(store, value)
    versions.append(store.version)
    assert versions[0] is None
    assert len(set(versions)) == len(versions)
    with store.transaction() as connection:
        connection.execute("FROM t").fetchall()
    assert store.version == versions[-1]


def test_files_that_a_handler_attaches_are_detached(file: DuckFile, tmp_path: Path) -> None:
    for _ in range(2):
        with file.transaction() as connection:
            connection.execute(f"ATTACH '{tmp_path / 'other.duckdb'}' AS other")
    duckdb.connect(str(tmp_path / "other.duckdb")).close()


def test_a_name_with_quotes(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / 'it\'s "quoted".duckdb')
    with file.transaction() as connection:
        connection.execute("CREATE TABLE t (v INT)")
    insert(file, 1)
    assert query(file.path, "FROM t") == [(1,)]


def test_the_format_of_a_new_file(tmp_path: Path) -> None:
    versions = []
    for version in (None, "v1.4.0"):
        file = DuckFile(tmp_path / f"{version}.duckdb", storage_version=version)
        with file.transaction() as connection:
            connection.execute("CREATE TABLE t (v INT)")
        other = DuckFile(file.path, storage_version="v1.2.0")  # an existing file keeps its format
        with other.transaction() as connection:
            tags = connection.execute("SELECT tags FROM duckdb_databases() WHERE path IS NOT NULL").fetchall()
        versions.append(tags[0][0]["storage_version"])
    assert versions[0] > "v2"
    assert versions[1] == "v1.4.0+"
    with pytest.raises(SinkError, match="v0"), DuckFile(tmp_path / "new", storage_version="v0").transaction():
        pass


@pytest.mark.parametrize("name", ["memory", "temp", "main"])
def test_names_that_duckdb_uses_itself(tmp_path: Path, name: str) -> None:
    file = DuckFile(tmp_path / f"{name}.duckdb")
    with file.transaction() as connection:
        connection.execute("CREATE SCHEMA shop; CREATE TABLE shop.t (v INT)")
        connection.execute("INSERT INTO shop.t VALUES (1)")
    assert query(file.path, "FROM shop.t") == [(1,)]


def test_a_transaction_follows_one_that_failed(file: DuckFile) -> None:
    with pytest.raises(SinkError, match="nothing was stored"), file.transaction() as connection:
        connection.execute("INSERT INTO missing VALUES (1)")
    insert(file, 1)
    assert query(file.path, "FROM t") == [(1,)]


def test_an_upgrade_that_failed_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upgraded = []

    def fail(connection: duckdb.DuckDBPyConnection, schema: str) -> None:
        upgraded.append(schema)
        if len(upgraded) == 1:
            raise duckdb.IOException("disk full")

    monkeypatch.setattr("binlogsync.targets.duckdb.file.upgrade", fail)
    file = DuckFile(tmp_path / "b.duckdb")
    with pytest.raises(SinkError, match="disk full"), file.transaction():
        pass
    for _ in range(2):
        with file.transaction():
            pass
    assert len(upgraded) == 2


def test_a_forked_process_writes_too(file: DuckFile) -> None:
    insert(file, 1)
    child = os.fork()
    if not child:  # without the threads of DuckDB
        insert(file, 2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    insert(file, 3)
    assert query(file.path, "SELECT v FROM t ORDER BY v") == [(1,), (2,), (3,)]
