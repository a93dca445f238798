"""DROP DATABASE: every mirror of one of its tables is dropped, also when the tail was stopped at that time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink


@pytest.fixture(params=["mysql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[FreshDatabase]:
    found: FreshDatabase = request.getfixturevalue(request.param)
    yield found
    for name in drop_databases(found):
        found.execute(f"DROP DATABASE IF EXISTS `{name}`")


def drop_databases(database: FreshDatabase) -> tuple[str, str]:
    """Drop one database while the tail runs, and one while it is stopped."""
    return f"{database.name}-seen", f"{database.name}-unseen"


def tables_of(path: Path, schema: str) -> set[str]:
    return {name for (name,) in query(path, f"SELECT table_name FROM duckdb_tables() WHERE schema_name = '{schema}'")}


def statements_on(url: str, source: str, table: tuple[str, str]) -> list[str]:
    """The kinds of schema changes of a table in the stream."""
    kinds, at = list[str](), 1
    with StreamReader(NatsOptions(url=url), source) as reader:
        while found := reader.changes_from(*table, at):
            kinds += [item.batch.ddl.kind for item in found if item.batch.ddl is not None]
            at = found[-1].last_sequence + 1
    return kinds


def test_its_tables_leave_their_mirrors(database: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> None:
    seen, unseen = drop_databases(database)
    config, store, path = (
        config_of(database.server, f"gone-{database.name}"),
        MemoryPositionStore(),
        tmp_path / "m.duckdb",
    )
    options = options_of(config.source, f"{database.name}*", start="now")
    for name in (seen, unseen):
        database.execute(f"CREATE DATABASE `{name}`")
    database.execute(f"CREATE TABLE `{seen}`.quiet (id INT PRIMARY KEY)")
    database.execute("CREATE TABLE stays (id INT PRIMARY KEY)")

    def drain(*tables: tuple[str, str]) -> None:
        for table in tables:
            mirror(nats_server.url, config.source, path, table)

    with TailThread(config, [stream_sink(nats_server.url)], store, options) as tail:
        tail.wait_begun()
        for name in (seen, unseen):
            database.execute(f"CREATE TABLE `{name}`.`a.b` (id INT PRIMARY KEY)")
            database.execute(f"CREATE TABLE `{name}`.tisch (id INT PRIMARY KEY)")
            database.execute(f"CREATE TABLE `{name}`.before (id INT PRIMARY KEY)")
            database.execute(f"RENAME TABLE `{name}`.before TO `{name}`.later")
            database.execute(f"INSERT INTO `{name}`.`a.b` VALUES (1)")
            database.execute(f"INSERT INTO `{name}`.tisch VALUES (1)")
        database.execute("INSERT INTO stays VALUES (1)")
        tail.catch_up()
        drain((seen, "a.b"), (seen, "tisch"), (unseen, "a.b"), (unseen, "tisch"), (database.name, "stays"))
        assert tables_of(path, seen) == tables_of(path, unseen) == {"a.b", "tisch"}

        database.execute(f"/* by hand */ DROP SCHEMA IF EXISTS `{seen}`")
        tail.catch_up()
        drain((seen, "a.b"), (seen, "tisch"))
        assert tables_of(path, seen) == set()
        assert statements_on(nats_server.url, config.source, (seen, "quiet")) == ["drop"]
        assert statements_on(nats_server.url, config.source, (seen, "later")) == ["rename", "drop"]

    database.execute(f"DROP DATABASE `{unseen}`")
    with TailThread(config, [stream_sink(nats_server.url)], store, options) as tail:
        tail.catch_up()
        database.execute(f"CREATE DATABASE `{unseen}`")
        database.execute(f"CREATE TABLE `{unseen}`.tisch (name VARCHAR(9) PRIMARY KEY)")
        database.execute(f"INSERT INTO `{unseen}`.tisch VALUES ('rund')")
        tail.catch_up()
    drain((unseen, "a.b"), (unseen, "tisch"), (database.name, "stays"))
    assert tables_of(path, unseen) == {"tisch"}
    assert query(path, f'SELECT * FROM "{unseen}".tisch') == [("rund",)]
    assert query(path, f'SELECT * FROM "{database.name}".stays') == [(1,)]
