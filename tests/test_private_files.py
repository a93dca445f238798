"""New files are accessible to their owner only, with any umask; existing files keep their mode."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from binlogsync.nats.reader import StreamBatch
from binlogsync.private_files import make_folder
from binlogsync.replay.ranges import ReplayPlan
from binlogsync.replay.to_parquet import ParquetTarget
from binlogsync.servers import MariaDBServer, MySQLServer
from binlogsync.servers.database import ServerLocation, prepare_server
from binlogsync.servers.mariadb import find_installation as find_mariadb
from binlogsync.servers.mysql import find_installation as find_mysql
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.targets.duckdb.file import DuckFile
from tests.samples import sample_batch

SOURCE = "main"


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """The most permissive umask."""
    before = os.umask(0)
    yield
    os.umask(before)


def exposed(folder: Path) -> list[str]:
    """Files below a world-accessible folder that another user can read or write."""
    found = []
    for path in folder.iterdir():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            found.append(f"{path.name} {mode:o}")
        if path.is_dir() and mode & 0o011:
            found += [f"{path.name}/{each}" for each in exposed(path)]
    return found


def test_the_position_store(tmp_path: Path) -> None:
    store = SQLitePositionStore(tmp_path / "a" / "b" / "positions.db")
    store.leases.claim(SOURCE, "me")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} >= {"positions.db", "positions.db-wal"}
    assert exposed(tmp_path) == []
    store.close()


def test_a_duckdb_file(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a" / "b.duckdb")
    with file.transaction(keep_open=True) as connection:
        connection.execute("CREATE TABLE t (v INT)")
    assert (tmp_path / "a" / "b.duckdb.wal").stat().st_size
    assert (tmp_path / "a" / "b.duckdb.tmp").is_dir()
    assert exposed(tmp_path) == []
    file.release()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b.duckdb", "b.duckdb.wal"}
    duckdb.connect(str(file.path)).close()  # writes the log into the file
    with file.transaction() as connection:
        connection.execute("SELECT count(*) FROM t").fetchall()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.duckdb"]


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    duckdb.connect(str(tmp_path / "b.duckdb")).close()
    sqlite3.connect(tmp_path / "positions.db").close()
    for name in ("b.duckdb", "positions.db"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o640)
    with DuckFile(tmp_path / "b.duckdb").transaction() as connection:
        connection.execute("CREATE TABLE t (v INT)")
    store = SQLitePositionStore(tmp_path / "positions.db")
    store.leases.claim(SOURCE, "me")
    store.close()
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("b.duckdb", "positions.db")} == {0o640}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_missing_folders(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    assert exposed(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_folder(tmp_path / "file")


def test_a_folder_that_another_process_deletes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, mkdir = tmp_path / "warehouse.duckdb.tmp", os.mkdir
    folder.mkdir()

    def mkdir_beside_another(*arguments: Any) -> None:
        try:
            mkdir(*arguments)
        except FileExistsError:
            folder.rmdir()
            raise

    monkeypatch.setattr(os, "mkdir", mkdir_beside_another)
    make_folder(folder)
    assert folder.is_dir()


def test_parquet_files(tmp_path: Path) -> None:
    target = ParquetTarget(tmp_path / "a" / "b")
    target.begin(ReplayPlan("main", "shop", "orders", "all", (), "1"), threading.Event())
    target.write([StreamBatch(sample_batch(10), np.arange(10), None)], threading.Event())
    target.finish()
    target.close()
    assert {path.suffix for path in (tmp_path / "a" / "b").iterdir()} == {".json", ".parquet"}
    assert exposed(tmp_path) == []


@pytest.mark.server
@pytest.mark.parametrize(("kind", "server"), [(find_mysql, MySQLServer), (find_mariadb, MariaDBServer)])
def test_the_data_of_a_private_server(kind: Any, server: Any, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir(0o700)
    prepare_server(kind(), server, run_dir, ServerLocation(tmp_path / "data", 20_001), {})
    assert exposed(tmp_path) == []
