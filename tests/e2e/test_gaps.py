"""A gap of a mirror or a handler stays open over runs, until a reread or the operator resolves it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.change import Change
from binlogsync.codec.subjects import stream_name
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult, consume_together
from binlogsync.consume.gaps import ConsumerGap, acknowledge_gaps, gaps_of, open_gaps
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import ProgressKey, ProgressStore, TableProgress
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.consume.targets import Target
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify import Verifier
from binlogsync.mysql import MySQLConfig
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.sinks import Sink
from binlogsync.snapshot.requests_memory import MemorySnapshotRequests
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.options import TailOptions
from binlogsync.targets.duckdb.store import DuckStore
from tests.databases import FreshDatabase, fresh_database
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, drain, options_of, stream_sink
from tests.nats_commands import delete_stream, purge_stream
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]
QUICK = ConsumeOptions(idle_s=0.2, gather_s=0.05)


@dataclass(frozen=True)
class GapRow:
    id: int


class GapScenario:
    """A database, its tail into a stream, and consumers of its tables `t` and `u`."""

    def __init__(self, database: FreshDatabase, url: str, folder: Path) -> None:
        self.database, self.url, self.folder = database, url, folder
        self.path = folder / "warehouse.duckdb"
        self.config: MySQLConfig = config_of(database.server, f"gaps-{database.name}")
        self.options: TailOptions = options_of(self.config.source, database.name)
        self.store = MemoryPositionStore()
        self.handled: list[int | None] = []

    def tail(self, *, accept_gap: str = "") -> None:
        sinks: list[Sink] = [stream_sink(self.url)]
        with TailThread(self.config, sinks, self.store, replace(self.options, accept_gap=accept_gap)) as tail:
            tail.catch_up()

    def consume(self, target: Target, table: str = "t") -> list[ConsumeResult]:
        with StreamReader(NatsOptions(url=self.url), self.config.source) as reader:
            return drain(reader, (self.database.name, table), target, QUICK)

    def mirror(self, *, table: str = "t", reads: bool = True) -> Mirror:
        return Mirror(self.path, self.database.name, table, self.config if reads else None)

    def handler(self, store: ProgressStore) -> Handler[GapRow]:
        return Handler(GapRow, self._handle, store)

    def _handle(self, change: Change[GapRow]) -> None:
        self.handled.append(change.after.id if change.after else None)

    def key(self, table: str = "t") -> ProgressKey:
        return ProgressKey(QUICK.client_id, self.config.source, self.database.name, table)

    @property
    def progress(self) -> TableProgress:
        return TableProgress(DuckStore(self.path, error=ConsumeError))

    def gaps(self, table: str = "t") -> list[ConsumerGap]:
        return open_gaps(self.progress, self.key(table))

    def rows(self, table: str = "t") -> list[int]:
        return [row[0] for row in query(self.path, f'SELECT id FROM "{self.database.name}"."{table}" ORDER BY id')]

    def drop_messages(self) -> None:
        """Make the stream drop all messages except one of another table."""
        self.database.execute("INSERT INTO noise VALUES (NULL)")
        self.tail()
        purge_stream(self.url, stream_name(self.config.source), keep=1)

    def purge_binlog(self) -> None:
        self.database.execute("FLUSH BINARY LOGS")
        newest = self.database.execute("SHOW BINARY LOGS")[-1][0]
        self.database.execute(f"PURGE BINARY LOGS TO '{newest}'")


@pytest.fixture(scope="module")
def own_server() -> Iterator[servers.MySQLServer]:
    """A server whose binlogs may be purged: other tests start at the oldest position of the shared one."""
    with servers.mysql() as server:
        yield server


@pytest.fixture
def mysql(own_server: servers.MySQLServer) -> Iterator[FreshDatabase]:
    with fresh_database(own_server) as database:
        yield database


@pytest.fixture
def scenario(mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> GapScenario:
    scenario = GapScenario(mysql, nats_server.url, tmp_path)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mysql.execute("CREATE TABLE u (id INT PRIMARY KEY)")
    mysql.execute("CREATE TABLE noise (id INT PRIMARY KEY AUTO_INCREMENT)")
    mysql.execute("INSERT INTO t VALUES (1)")
    mysql.execute("INSERT INTO u VALUES (1)")
    scenario.tail()
    return scenario


def mirror_without_source(scenario: GapScenario) -> Mirror:
    """A mirror whose source cannot be reached."""
    one = scenario.mirror()
    one.source = replace(scenario.config, port=1, connect_timeout_s=0.5)
    return one


def test_a_mirror_rereads_its_table_after_a_retention_gap(scenario: GapScenario) -> None:
    scenario.consume(scenario.mirror())
    scenario.database.execute("INSERT INTO t VALUES (2), (3)")
    scenario.database.execute("DELETE FROM t WHERE id = 1")
    scenario.drop_messages()
    scenario.database.execute("INSERT INTO t VALUES (4)")
    scenario.tail()

    for _ in range(2):  # from the second run on the stream itself looks whole
        scenario.consume(mirror_without_source(scenario))
        assert [gap.kind for gap in scenario.gaps()] == ["retention"]
    assert scenario.rows() == [1, 4], "changes are applied, and the gap stays open"

    scenario.consume(scenario.mirror())
    assert scenario.rows() == [2, 3, 4]
    assert scenario.gaps() == []
    (gap,) = gaps_of(scenario.progress, scenario.key())
    assert "rebuilt at" in gap.resolution
    scenario.database.execute("DELETE FROM t WHERE id = 3")
    scenario.tail()
    scenario.consume(scenario.mirror())
    assert scenario.rows() == [2, 4]


def test_messages_that_are_dropped_while_a_mirror_is_running(scenario: GapScenario) -> None:
    """The stream drops messages between two fetches of one run."""

    class Interrupted(Mirror):
        def take(self, *arguments: object) -> None:
            super().take(*arguments)  # type: ignore[arg-type]
            if not happened:
                happened.append(True)
                scenario.database.execute("INSERT INTO t VALUES (2)")
                scenario.drop_messages()
                scenario.database.execute("INSERT INTO t VALUES (3)")
                scenario.tail()

    happened: list[bool] = []
    found = scenario.consume(Interrupted(scenario.path, scenario.database.name, "t"))
    assert any(each.gap for each in found)
    assert scenario.rows() == [1, 3]
    assert [gap.kind for gap in scenario.gaps()] == ["retention"]
    scenario.consume(scenario.mirror())
    assert (scenario.rows(), scenario.gaps()) == ([1, 2, 3], [])


def test_a_stream_that_was_recreated_after_the_position_of_a_mirror(scenario: GapScenario) -> None:
    for table in ("t", "u"):
        scenario.consume(scenario.mirror(table=table), table)
    scenario.database.execute("INSERT INTO t VALUES (2)")
    scenario.tail()
    delete_stream(scenario.url, stream_name(scenario.config.source))
    scenario.tail()  # the position store knows how far it was: what the stream held does not come again
    scenario.database.execute("INSERT INTO t VALUES (3)")
    scenario.database.execute("INSERT INTO u VALUES (3)")
    scenario.tail()
    scenario.consume(mirror_without_source(scenario))
    assert (scenario.rows(), [gap.kind for gap in scenario.gaps()]) == ([1, 3], ["recreated"])
    scenario.consume(scenario.mirror())
    assert (scenario.rows(), scenario.gaps()) == ([1, 2, 3], [])


def test_a_stream_that_was_recreated_from_the_beginning_has_no_gap(scenario: GapScenario) -> None:
    scenario.consume(scenario.mirror())
    delete_stream(scenario.url, stream_name(scenario.config.source))
    scenario.store = MemoryPositionStore()
    scenario.tail()
    found = scenario.consume(scenario.mirror())
    assert ([each.gap for each in found if each.gap], scenario.gaps(), scenario.rows()) == ([], [], [1])


def test_an_accepted_gap_of_the_binlog_reaches_every_consumer(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    scenario = GapScenario(mysql, nats_server.url, tmp_path)
    for table in ("t", "u", "gone"):
        mysql.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY)")
        mysql.execute(f"INSERT INTO {table} VALUES (1)")
    scenario.tail()
    handler = TableProgress(DuckStore(tmp_path / "handler.duckdb", error=ConsumeError))
    for table in ("t", "u", "gone"):
        scenario.consume(scenario.mirror(table=table), table)
    scenario.consume(scenario.handler(handler))
    mysql.execute("INSERT INTO t VALUES (2), (3)")
    mysql.execute("DELETE FROM t WHERE id = 1")
    mysql.execute("DROP TABLE gone")
    scenario.purge_binlog()
    scenario.tail(accept_gap="the disk was full")

    scenario.consume(mirror_without_source(scenario))
    assert (scenario.rows(), [gap.kind for gap in scenario.gaps()]) == ([1], ["accepted"])
    assert "the disk was full" in scenario.gaps()[0].detail
    scenario.consume(scenario.mirror())
    assert (scenario.rows(), scenario.gaps()) == ([2, 3], [])
    with StreamReader(NatsOptions(url=scenario.url), scenario.config.source) as reader:
        mirrors = {(scenario.database.name, name): scenario.mirror(table=name) for name in ("u", "gone")}
        consume_together(reader, mirrors, QUICK, threading.Event())
    assert (scenario.rows("u"), scenario.gaps("u"), scenario.gaps("gone")) == ([1], [], [])
    assert query(scenario.path, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'gone'") == [(0,)]

    mysql.execute("INSERT INTO t VALUES (4)")
    scenario.tail()
    for _ in range(2):
        scenario.consume(scenario.handler(handler))
        assert len(open_gaps(handler, scenario.key())) == 1
    assert scenario.handled == [1, 4]
    with pytest.raises(ConfigError, match="give the reason"):
        acknowledge_gaps(handler, scenario.key(), " ", "me")
    acknowledge_gaps(handler, scenario.key(), "done by hand", "me")
    assert open_gaps(handler, scenario.key()) == []
    (gap,) = gaps_of(handler, scenario.key())
    assert (gap.resolution, gap.resolved_by) == ("done by hand", "me")


def test_an_accepted_gap_requests_a_snapshot_if_the_setting_says_so(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    scenario = GapScenario(mysql, nats_server.url, tmp_path)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mysql.execute("INSERT INTO t VALUES (1)")
    scenario.tail()
    handler = TableProgress(DuckStore(tmp_path / "handler.duckdb", error=ConsumeError))
    scenario.consume(scenario.handler(handler))
    mysql.execute("INSERT INTO t VALUES (2), (3)")
    scenario.purge_binlog()
    requests = MemorySnapshotRequests()
    for accept_gap in ("the disk was full", ""):
        options = replace(scenario.options, snapshot="when_needed", accept_gap=accept_gap)
        sinks: list[Sink] = [stream_sink(scenario.url)]
        with TailThread(scenario.config, sinks, scenario.store, options, snapshots=requests) as tail:
            tail.wait_begun()
            wait_until(lambda: all(each.status.has_ended for each in requests.list()), 60, "the snapshot to end")
    [stored] = requests.list()
    assert (stored.request.patterns, stored.status.state) == ((f"{mysql.name}.*",), "done")
    scenario.consume(scenario.handler(handler))
    assert scenario.handled == [1, 1, 2, 3]


def test_a_gap_of_a_handler_is_stored_in_nats_too(scenario: GapScenario) -> None:
    with NatsConnection(NatsOptions(url=scenario.url), "test") as connection:

        def store() -> NatsProgress:
            return NatsProgress(connection, scenario.config.source)

        scenario.consume(scenario.handler(store()))
        scenario.database.execute("INSERT INTO t VALUES (2)")
        scenario.drop_messages()
        for number in (3, 4):
            scenario.database.execute(f"INSERT INTO t VALUES ({number})")
            scenario.tail()
            scenario.consume(scenario.handler(store()))
            assert [gap.kind for gap in open_gaps(store(), scenario.key())] == ["retention"]
        acknowledge_gaps(store(), scenario.key(), "2 was a test", "me")
        assert open_gaps(store(), scenario.key()) == []
        assert scenario.handled == [1, 3, 4]


def test_a_gap_of_a_mirror_is_closed_by_a_verification_not_by_acknowledgement(scenario: GapScenario) -> None:
    scenario.consume(scenario.mirror(reads=False))
    scenario.database.execute("INSERT INTO t VALUES (2)")
    scenario.drop_messages()
    scenario.consume(scenario.mirror(reads=False))
    with pytest.raises(ConfigError, match="closed by rereading the table"):
        acknowledge_gaps(scenario.progress, scenario.key(), "never mind", "me")
    with StreamReader(NatsOptions(url=scenario.url), scenario.config.source) as reader:
        verifier = Verifier(reader, scenario.config, DuckStore(scenario.path, error=ConsumeError))
        assert not verifier.verify(scenario.database.name, "t").is_equal
        assert len(scenario.gaps()) == 1
        scenario.database.execute("DELETE FROM t WHERE id = 2")
        scenario.tail()
        scenario.consume(scenario.mirror(reads=False))
        assert verifier.verify(scenario.database.name, "t").is_equal
    assert scenario.gaps() == []
