"""Mirrors of MariaDB tables with generated columns: exact in all other columns after any DDL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.errors import ConsumeError
from binlogsync.mirror.apply import DEFAULT_OPTIONS
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.mysql import MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_state import MirrorOptions
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink

GENERATED = "v INT AS (a + 1) VIRTUAL, s INT AS (a + 2) STORED"
WITHOUT = "without v, s: MariaDB logs generated columns in inserts only, so a mirror cannot have them"
HISTORY = MirrorOptions("gone_at", history=True)


@dataclass
class GeneratedColumnsScenario:
    """A tail of one MariaDB database, and mirrors in one file."""

    mariadb: FreshDatabase
    url: str
    config: MySQLConfig
    path: Path
    tail: TailThread

    def mirrored(self, table: str, source: MySQLConfig | None, options: MirrorOptions = DEFAULT_OPTIONS) -> Any:
        """The columns and rows of the mirror after it caught up."""
        self.tail.catch_up()
        target = Mirror(self.path, self.mariadb.name, table, source, options)
        quick = ConsumeOptions(idle_s=0.3, gather_s=0.1)
        with StreamReader(NatsOptions(url=self.url), self.config.source) as reader:
            consume(reader, (self.mariadb.name, table), target, quick, threading.Event())
        name = f'"{self.mariadb.name}"."{table}"'
        columns = [row[0] for row in query(self.path, f"SELECT column_name FROM (DESCRIBE {name})")]
        return columns, sorted(query(self.path, f"FROM {name}"), key=repr)

    def wanted(self, table: str, *columns: str) -> Any:
        rows = self.mariadb.execute(f"SELECT {', '.join(columns)} FROM {table}")
        return list(columns), sorted(rows, key=repr)

    def verified(self, table: str) -> str:
        file = DuckStore(self.path, error=ConsumeError)
        with StreamReader(NatsOptions(url=self.url), self.config.source) as reader:
            found = Verifier(reader, self.config, file, VerifyOptions(timeout_s=20)).verify(self.mariadb.name, table)
        assert found.is_equal, str(found)
        return str(found)


@contextmanager
def tailed(mariadb: FreshDatabase, nats: NATSServer, folder: Path, **stream: Any) -> Iterator[GeneratedColumnsScenario]:
    config = config_of(mariadb.server, f"generated-{mariadb.name}")
    options = options_of(config.source, mariadb.name, start="now")
    with TailThread(config, [stream_sink(nats.url, **stream)], MemoryPositionStore(), options) as tail:
        tail.wait_begun()
        yield GeneratedColumnsScenario(mariadb, nats.url, config, folder / "mirrors.duckdb", tail)


def write(mariadb: FreshDatabase, table: str, first: int) -> None:
    """Inserts, an update of a base column, one of another column, and a delete."""
    for number in range(first, first + 4):
        mariadb.execute(f"INSERT INTO {table} (id, a, z) VALUES ({number}, {number * 10}, 'q')")
    mariadb.execute(f"UPDATE {table} SET a = a + 1 WHERE id = {first}")
    mariadb.execute(f"UPDATE {table} SET z = NULL WHERE id = {first + 1}")
    mariadb.execute(f"DELETE FROM {table} WHERE id = {first + 2}")


@pytest.mark.parametrize(
    ("image", "stream"),
    [("FULL_NODUP", {}), ("FULL", {"format": "arrow"})],
    ids=["json of what changed", "arrow of all"],
)
def test_a_mirror_has_the_columns_that_are_logged(
    mariadb: FreshDatabase, nats_server: NATSServer, tmp_path: Path, image: str, stream: dict[str, Any]
) -> None:
    mariadb.execute(f"SET SESSION binlog_row_image = {image}")
    before = f"(id INT PRIMARY KEY, a INT, {GENERATED}, z VARCHAR(5))"
    mariadb.execute(f"CREATE TABLE copied {before}")
    write(mariadb, "copied", 1)
    with tailed(mariadb, nats_server, tmp_path, **stream) as scenario:
        mariadb.execute(f"CREATE TABLE made {before}")
        mariadb.execute(f"CREATE TABLE keyless (id INT, a INT, {GENERATED}, z VARCHAR(5))")
        for table in ("copied", "made", "keyless"):
            write(mariadb, table, 10)
        assert scenario.mirrored("copied", scenario.config) == scenario.wanted("copied", "id", "a", "z")
        assert scenario.verified("copied").endswith(WITHOUT)
        for table in ("made", "keyless"):  # they need no connection to the source
            assert scenario.mirrored(table, None) == scenario.wanted(table, "id", "a", "z")

        mariadb.execute("ALTER TABLE made ADD COLUMN w INT AS (a * 2) VIRTUAL, ADD COLUMN y INT DEFAULT 7")
        mariadb.execute("ALTER TABLE made DROP COLUMN v")
        write(mariadb, "made", 20)
        assert scenario.mirrored("made", None) == scenario.wanted("made", "id", "a", "z", "y")
        mariadb.execute("ALTER TABLE made MODIFY COLUMN s INT")  # STORED, it becomes a column like any other
        write(mariadb, "made", 30)
        assert scenario.mirrored("made", scenario.config) == scenario.wanted("made", "id", "a", "s", "z", "y")
        assert scenario.verified("made").endswith(
            "without w: MariaDB logs generated columns in inserts only, so a mirror cannot have them"
        )


def test_a_mirror_created_with_generated_columns_is_reread(
    mariadb: FreshDatabase, nats_server: NATSServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a connection to the source, a mirror starts with the rows of the stream, generated columns included."""
    mariadb.execute(f"CREATE TABLE t (id INT PRIMARY KEY, a INT, {GENERATED}, z VARCHAR(5))")
    with tailed(mariadb, nats_server, tmp_path) as scenario:
        mariadb.execute("INSERT INTO t (id, a, z) VALUES (1, 1, 'x')")
        assert scenario.mirrored("t", None)[0] == ["id", "a", "v", "s", "z"]
        mariadb.execute("UPDATE t SET a = 2")
        with pytest.raises(ConsumeError, match="has no value of v, s: .* give the mirror a connection"):
            scenario.mirrored("t", None)
        assert scenario.mirrored("t", scenario.config) == scenario.wanted("t", "id", "a", "z")
        assert "column(s) v, s are left out: MariaDB logs generated columns in inserts only" in caplog.text
        write(mariadb, "t", 10)
        assert scenario.mirrored("t", None) == scenario.wanted("t", "id", "a", "z")


def test_history_and_soft_deletes_of_such_a_table(
    mariadb: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    with tailed(mariadb, nats_server, tmp_path) as scenario:
        mariadb.execute(f"CREATE TABLE t (id INT PRIMARY KEY, a INT, {GENERATED}, z VARCHAR(5))")
        write(mariadb, "t", 1)
        assert scenario.mirrored("t", None, HISTORY)[0] == ["id", "a", "z", "gone_at"]
        rows = query(scenario.path, f'SELECT id, a, valid_to IS NULL FROM "{mariadb.name}".t__history ORDER BY id, a')
        assert rows == [(1, 10, False), (1, 11, True), (2, 20, False), (2, 20, True), (3, 30, False), (4, 40, True)]


def test_an_image_without_other_columns_causes_a_reread(
    mariadb: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    mariadb.execute("SET SESSION binlog_row_image = MINIMAL")
    mariadb.execute(f"CREATE TABLE t (id INT PRIMARY KEY, a INT, {GENERATED}, z VARCHAR(5))")
    with tailed(mariadb, nats_server, tmp_path) as scenario:
        mariadb.execute("INSERT INTO t (id, a, z) VALUES (1, 1, 'x')")
        assert scenario.mirrored("t", scenario.config) == scenario.wanted("t", "id", "a", "z")
        mariadb.execute("UPDATE t SET a = 2")
        assert scenario.mirrored("t", scenario.config) == scenario.wanted("t", "id", "a", "z")
