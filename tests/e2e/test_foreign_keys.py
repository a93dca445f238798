"""Cascades of foreign keys are not in the binlog of MariaDB, nor of MySQL with native foreign keys.

Mirrors of child tables are exact nevertheless, handlers have a gap, and a warning is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.change import Change
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.gaps import open_gaps
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import ProgressKey, TableProgress
from binlogsync.consume.targets import Target
from binlogsync.errors import ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import inspect_server, preflight
from binlogsync.mysql.foreign_keys import ForeignKey, descendants, unlogged_keys
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.position_order import compare
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.store import DuckStore
from tests.databases import FreshDatabase, fresh_database
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, drain, options_of
from tests.waiting import wait_until

QUICK = ConsumeOptions(idle_s=0.1, gather_s=0.05)


def test_a_change_can_affect_tables_over_several_keys() -> None:
    def key(child: str, parent: str) -> ForeignKey:
        return ForeignKey("k", ("d", child), ("d", parent), ("id",), "CASCADE", "")

    keys = [key("b", "a"), key("c", "b"), key("a", "c"), key("x", "x"), key("y", "z")]
    assert descendants(keys, [("d", "b")]) == {("d", "a"), ("d", "b"), ("d", "c")}
    assert descendants(keys, [("d", "x")]) == {("d", "x")}


@dataclass(frozen=True)
class ChildRow:
    id: int


class ForeignKeyScenario:
    """A server that does not log cascades of foreign keys, its tail, and mirrors of tables."""

    def __init__(self, database: FreshDatabase, url: str, folder: Path, message_format: str) -> None:
        self.database, self.url, self.path, self.format = database, url, folder / "warehouse.duckdb", message_format
        self.config = config_of(database.server, f"fk-{database.name}")
        self.store = MemoryPositionStore()
        self.include: tuple[str, ...] = (f"{database.name}.*",)

    def tail(self) -> TailThread:
        options = JetStreamOptions(url=self.url, format=self.format)  # type: ignore[arg-type]
        tail_options = options_of(self.config.source, self.database.name, include=self.include)
        return TailThread(self.config, [JetStreamSink(options)], self.store, tail_options)

    def catch_up(self, tail: TailThread) -> None:
        """Wait until everything that the server has logged is stored."""
        end = inspect_server(self.config).end()
        wait_until(
            lambda: (
                tail.error
                or (tail.progress.checkpoint and compare(tail.progress.checkpoint.position, end).is_at_or_after)
            ),
            60.0,
            f"{end} to be stored",
        )
        assert tail.error is None

    def consume(self, table: str, target: Target | None = None) -> None:
        target = target or Mirror(self.path, self.database.name, table, self.config)
        with StreamReader(NatsOptions(url=self.url), self.config.source) as reader:
            drain(reader, (self.database.name, table), target, QUICK)

    def assert_mirrored(self, *tables: str) -> None:
        for table in tables:
            self.consume(table)
            here = query(self.path, f'SELECT * FROM "{self.database.name}"."{table}" ORDER BY ALL')
            assert here == sorted(self.database.execute(f"SELECT * FROM {table}"), key=repr), table
            assert open_gaps(TableProgress(DuckStore(self.path)), self.key(table)) == []

    def key(self, table: str) -> ProgressKey:
        return ProgressKey(QUICK.client_id, self.config.source, self.database.name, table)


TABLES = ("p", "cascading", "nulled", "grandchild", "tree", "renumbered", "dropped", "late")
SETUP = (
    "CREATE TABLE p (id INT PRIMARY KEY, code INT UNIQUE, name VARCHAR(9))",
    "CREATE TABLE cascading (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
    "CREATE TABLE nulled (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE SET NULL)",
    "CREATE TABLE grandchild (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES cascading (id) ON DELETE CASCADE)",
    "CREATE TABLE tree (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES tree (id) ON DELETE CASCADE)",
    "CREATE TABLE renumbered (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES p (code) ON UPDATE CASCADE)",
    "CREATE TABLE dropped (id INT PRIMARY KEY, p INT, "
    "CONSTRAINT gone FOREIGN KEY (p) REFERENCES p (id) ON DELETE SET NULL)",
    "CREATE TABLE late (id INT PRIMARY KEY, p INT, KEY (p))",
    "INSERT INTO p VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c'), (4, 40, 'd'), (5, 50, 'e')",
    "INSERT INTO cascading VALUES (11, 1), (12, 2), (13, 3)",
    "INSERT INTO nulled VALUES (21, 1), (22, 2), (23, 3)",
    "INSERT INTO grandchild VALUES (31, 11), (32, 12), (33, 13)",
    "INSERT INTO tree VALUES (41, NULL), (42, 41), (43, 42), (44, NULL)",
    "INSERT INTO renumbered VALUES (51, 30)",
    "INSERT INTO dropped VALUES (61, 4), (62, 3)",
    "INSERT INTO late VALUES (71, 5), (72, 3)",
)


ACTIONS = (
    "DELETE FROM p WHERE id = 1",
    "UPDATE p SET code = 31 WHERE code = 30",
    "REPLACE INTO p VALUES (2, 20, 'again')",
    "DELETE FROM tree WHERE id = 41",
    # Dropped before the tail reads it: at that time the server no longer has the key.
    "DELETE FROM p WHERE id = 4",
    "ALTER TABLE dropped DROP FOREIGN KEY gone",
    "ALTER TABLE late ADD CONSTRAINT new FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE",
    "DELETE FROM p WHERE id = 5",
    "UPDATE p SET name = 'other'",
)


# The test of parents that are not captured has MariaDB, its cascades, and messages in JSON.
@pytest.fixture(params=[pytest.param("mariadb json", marks=pytest.mark.exhaustive), "mysql arrow"])
def scenario(request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path) -> Iterator[ForeignKeyScenario]:
    flavor, message_format = request.param.split()
    if flavor == "mariadb":
        with fresh_database(request.getfixturevalue("mariadb_server")) as database:
            yield ForeignKeyScenario(database, nats_server.url, tmp_path, message_format)
        return
    with servers.mysql(options={"innodb_native_foreign_keys": "ON"}) as server, fresh_database(server) as database:
        yield ForeignKeyScenario(database, nats_server.url, tmp_path, message_format)


@pytest.mark.server
@pytest.mark.slow
def test_mirrors_of_child_tables_are_right(scenario: ForeignKeyScenario, caplog: pytest.LogCaptureFixture) -> None:
    for statement in SETUP:
        scenario.database.execute(statement)
    with caplog.at_level(logging.WARNING), scenario.tail() as tail:
        scenario.catch_up(tail)
        scenario.assert_mirrored(*TABLES)
        assert "the server does not log the actions of foreign keys on rows of" in caplog.text
        for statement in ACTIONS:
            scenario.database.execute(statement)
        scenario.catch_up(tail)
        scenario.assert_mirrored(*TABLES)


@pytest.mark.server
@pytest.mark.slow
def test_parents_that_are_not_captured_and_children_elsewhere(
    mariadb: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    scenario = ForeignKeyScenario(mariadb, nats_server.url, tmp_path, "json")
    with fresh_database(mariadb.server) as other:
        scenario.include = (f"{mariadb.name}.child*",)
        other.execute("CREATE TABLE p (id INT PRIMARY KEY)")
        other.execute("INSERT INTO p VALUES (1), (2), (3)")
        mariadb.execute(
            f"CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES {other.name}.p (id) "
            "ON DELETE CASCADE)"
        )
        mariadb.execute("INSERT INTO child VALUES (1, 1), (2, 2), (3, 3)")
        mariadb.execute("CREATE TABLE child2 (id INT PRIMARY KEY, p INT, KEY (p))")
        mariadb.execute("CREATE TABLE uncaptured (id INT PRIMARY KEY)")
        mariadb.execute("INSERT INTO uncaptured VALUES (1), (2)")
        handler: Handler[ChildRow] = Handler(ChildRow, ignore, tmp_path / "handler.duckdb")
        with scenario.tail() as tail:
            scenario.catch_up(tail)
            scenario.assert_mirrored("child")
            scenario.consume("child", handler)
            other.execute("DELETE FROM p WHERE id = 1")
            scenario.catch_up(tail)
            scenario.assert_mirrored("child")
            scenario.consume("child", handler)
            progress = TableProgress(DuckStore(tmp_path / "handler.duckdb", error=ConsumeError))
            assert [gap.kind for gap in open_gaps(progress, scenario.key("child"))] == ["foreign_key"]

            # The tail must now capture a table that it has excluded so far.
            mariadb.execute("INSERT INTO child2 VALUES (1, 1), (2, 2)")
            mariadb.execute("ALTER TABLE child2 ADD FOREIGN KEY (p) REFERENCES uncaptured (id) ON DELETE SET NULL")
            mariadb.execute("DELETE FROM uncaptured WHERE id = 1")
            scenario.catch_up(tail)
            scenario.assert_mirrored("child2")
        with StreamReader(NatsOptions(url=scenario.url), scenario.config.source) as reader:
            assert set(reader.tables()) <= {(mariadb.name, "child"), (mariadb.name, "child2")}
        told = next(finding for finding in preflight(scenario.config) if finding.name == "foreign keys")
        assert not told.ok
        assert f"{mariadb.name}.child2" in told.message
        mariadb.execute("DROP TABLE child")


@pytest.mark.server
def test_a_server_that_logs_cascades_needs_no_reread(mysql: FreshDatabase) -> None:
    mysql.execute("CREATE TABLE p (id INT PRIMARY KEY)")
    mysql.execute("CREATE TABLE c (p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)")
    config = config_of(mysql.server, "fk")
    assert unlogged_keys(config) is None
    assert next(finding for finding in preflight(config) if finding.name == "foreign keys").ok


def ignore(change: Change[ChildRow]) -> None:
    """Do nothing."""
