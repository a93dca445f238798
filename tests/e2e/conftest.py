"""Shared fixtures: a tailed workload for replay tests, created once; a Dagster project per test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.servers import NATSServer
from binlogsync.snapshot import chunks
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.databases import fresh_database
from tests.e2e.backfill_workload import TailedWorkload, tail_workload
from tests.e2e.continuous_runs import live as live
from tests.e2e.dagster_project import dagster_home as dagster_home
from tests.e2e.dagster_project import project as project
from tests.e2e.loads import use_small_chunks


@pytest.fixture(scope="session")
def tailed(nats_server: NATSServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailedWorkload]:
    """On a separate server, whose binlogs contain only this workload and may be purged at the end."""
    with servers.mysql() as server, fresh_database(server) as database:
        workload = tail_workload(database, nats_server, tmp_path_factory.mktemp("backfill"))
        with closing(workload.store):
            yield workload


@pytest.fixture(scope="module")
def server_without_gtids() -> Iterator[servers.MySQLServer]:
    """Its transactions are visible some milliseconds after they are logged."""
    options = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF", "sync_binlog": "0"}
    with servers.mysql(options={**options, "binlog_group_commit_sync_delay": "3000"}) as server:
        yield server


@pytest.fixture
def position_store(tmp_path: Path) -> Iterator[SQLitePositionStore]:
    """The file positions.db."""
    with closing(SQLitePositionStore(tmp_path / "positions.db")) as store:
        yield store


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads read every table with a key in small chunks."""
    for name in ("SMALL_ROWS", "CHUNK_ROWS", "_FIRST_ROWS"):
        monkeypatch.setattr(chunks, name, getattr(chunks, name))  # restored after the test
    use_small_chunks()
