"""A table on a server, mirrored with policies: fixtures and helpers of their tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from binlogsync.consume.progress import ProgressKey, TableProgress
from binlogsync.mirror.verify import Verification, Verifier, VerifyOptions
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.factory import SourceTable, open_sources
from binlogsync.replay.rewind import RewindRequest, rewind
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_options import MirrorOptions
from tests.databases import MARIADB_TOO, FreshDatabase
from tests.duck import query
from tests.e2e.loads import OPTIONS, Loads, loads


@pytest.fixture(params=["mysql", MARIADB_TOO])
def scenario(request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path) -> Iterator[Loads]:
    database: FreshDatabase = request.getfixturevalue(request.param)
    with loads(database, nats_server.url, tmp_path) as running:
        yield running


@pytest.fixture
def on_mysql(mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> Iterator[Loads]:
    with loads(mysql, nats_server.url, tmp_path) as running:
        yield running


def drain(scenario: Loads, table: str, options: MirrorOptions) -> None:
    scenario.drain(scenario.mirror(table, options))


def verify(scenario: Loads, table: str) -> Verification:
    options = VerifyOptions(client_id=OPTIONS.client_id, timeout_s=60.0)
    with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
        return Verifier(reader, scenario.config, DuckStore(scenario.path), options).verify(
            scenario.database.name, table
        )


def rows(scenario: Loads, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    return query(scenario.path, f"SELECT {columns} FROM {quote(scenario.database.name, table)} ORDER BY ALL")


def tables(scenario: Loads, schema: str | None = None) -> list[str]:
    """The tables of a schema; those that were archived have a time in their names, which is left out."""
    sql = f"SELECT table_name FROM duckdb_tables() WHERE schema_name = '{schema or scenario.database.name}' ORDER BY 1"
    return [
        name.partition("__dropped_")[0] + "__dropped" * ("__dropped_" in name) for (name,) in query(scenario.path, sql)
    ]


def move_back(scenario: Loads, table: str, to: str, *, rebuild: bool = False) -> None:
    scenario.catch_up()
    database, source = scenario.database.name, scenario.config.source
    key = ProgressKey(OPTIONS.client_id, source, database, table)
    request = RewindRequest(key=key, to=to, reason="" if rebuild else "test", who="test", rebuild=rebuild)
    place = SourceTable(source, database, table)
    nats = NatsOptions(url=scenario.nats_url)
    with open_sources(place, scenario.config, nats, MemoryPositionStore()) as sources:
        rewind(sources, TableProgress(DuckStore(scenario.path)), request)


def query_server(scenario: Loads, sql: str) -> list[tuple[Any, ...]]:
    with scenario.database.server.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())
