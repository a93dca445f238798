"""What a mirror or handler may have missed stays noted over runs, until a new read or a person resolves it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from binlogsync import embedded
from binlogsync.change import Change
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult
from binlogsync.consume.gaps import ConsumerGap, acknowledge_gaps, gaps_of, open_gaps
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import DuckProgress, ProgressKey, ProgressStore
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.consume.targets import Mirror, Target
from binlogsync.duckfile import DuckFile
from binlogsync.embedded import NATSServer
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror.group import MirrorGroup
from binlogsync.mirror.verify import Verifier
from binlogsync.mysql import MySQLConfig
from binlogsync.sinks import Sink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.stream.client import NatsConnection, NatsOptions
from binlogsync.stream.reader import StreamReader
from binlogsync.tail.options import TailOptions
from binlogsync.wire.subjects import stream_name
from tests.databases import FreshDatabase, fresh_database
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, drain, options_of, stream_sink
from tests.nats_commands import delete_stream, purge_stream

pytestmark = [pytest.mark.server, pytest.mark.slow]
QUICK = ConsumeOptions(idle_s=0.2, gather_s=0.05)


@dataclass(frozen=True)
class Row:
    id: int


class Site:
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

    def handler(self, store: ProgressStore) -> Handler[Row]:
        return Handler(Row, self._handle, store)

    def _handle(self, change: Change[Row]) -> None:
        self.handled.append(change.after.id if change.after else None)

    def key(self, table: str = "t") -> ProgressKey:
        return ProgressKey(QUICK.client_id, self.config.source, self.database.name, table)

    @property
    def progress(self) -> DuckProgress:
        return DuckProgress(DuckFile(self.path, error=ConsumeError))

    def gaps(self, table: str = "t") -> list[ConsumerGap]:
        return open_gaps(self.progress, self.key(table))

    def rows(self, table: str = "t") -> list[int]:
        return [row[0] for row in query(self.path, f'SELECT id FROM "{self.database.name}"."{table}" ORDER BY id')]

    def drop_messages(self) -> None:
        """The stream drops all but a message of another table."""
        self.database.execute("INSERT INTO noise VALUES (NULL)")
        self.tail()
        purge_stream(self.url, stream_name(self.config.source), keep=1)

    def purge_binlog(self) -> None:
        self.database.execute("FLUSH BINARY LOGS")
        newest = self.database.execute("SHOW BINARY LOGS")[-1][0]
        self.database.execute(f"PURGE BINARY LOGS TO '{newest}'")


@pytest.fixture(scope="module")
def own_server() -> Iterator[embedded.MySQLServer]:
    """A server whose binlogs may be purged: other tests start at the oldest position of the shared one."""
    with embedded.mysql() as server:
        yield server


@pytest.fixture
def mysql(own_server: embedded.MySQLServer) -> Iterator[FreshDatabase]:
    with fresh_database(own_server) as database:
        yield database


@pytest.fixture
def site(mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> Site:
    site = Site(mysql, nats_server.url, tmp_path)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mysql.execute("CREATE TABLE u (id INT PRIMARY KEY)")
    mysql.execute("CREATE TABLE noise (id INT PRIMARY KEY AUTO_INCREMENT)")
    mysql.execute("INSERT INTO t VALUES (1)")
    mysql.execute("INSERT INTO u VALUES (1)")
    site.tail()
    return site


def unreadable(site: Site) -> Mirror:
    """A mirror whose source does not answer."""
    one = site.mirror()
    one.source = replace(site.config, port=1, connect_timeout_s=0.5)
    return one


def test_retention_ahead_of_a_mirror_has_it_read_again(site: Site) -> None:
    site.consume(site.mirror())
    site.database.execute("INSERT INTO t VALUES (2), (3)")
    site.database.execute("DELETE FROM t WHERE id = 1")
    site.drop_messages()
    site.database.execute("INSERT INTO t VALUES (4)")
    site.tail()

    for _ in range(2):  # from the second run on the stream itself looks whole
        site.consume(unreadable(site))
        assert [gap.kind for gap in site.gaps()] == ["retention"]
    assert site.rows() == [1, 4], "changes are applied, and the gap stays open"

    site.consume(site.mirror())
    assert site.rows() == [2, 3, 4]
    assert site.gaps() == []
    (gap,) = gaps_of(site.progress, site.key())
    assert "read again at" in gap.resolution
    site.database.execute("DELETE FROM t WHERE id = 3")
    site.tail()
    site.consume(site.mirror())
    assert site.rows() == [2, 4]


def test_messages_that_are_dropped_while_a_mirror_is_at_work(site: Site) -> None:
    """The stream drops messages between two looks of one run."""

    class Interrupted(Mirror):
        def take(self, *arguments: object) -> None:
            super().take(*arguments)  # type: ignore[arg-type]
            if not happened:
                happened.append(True)
                site.database.execute("INSERT INTO t VALUES (2)")
                site.drop_messages()
                site.database.execute("INSERT INTO t VALUES (3)")
                site.tail()

    happened: list[bool] = []
    found = site.consume(Interrupted(site.path, site.database.name, "t"))
    assert any(each.gap for each in found)
    assert site.rows() == [1, 3]
    assert [gap.kind for gap in site.gaps()] == ["retention"]
    site.consume(site.mirror())
    assert (site.rows(), site.gaps()) == ([1, 2, 3], [])


def test_a_stream_that_was_recreated_later_than_a_mirror_stands(site: Site) -> None:
    for table in ("t", "u"):
        site.consume(site.mirror(table=table), table)
    site.database.execute("INSERT INTO t VALUES (2)")
    site.tail()
    delete_stream(site.url, stream_name(site.config.source))
    site.tail()  # the position store knows how far it was: what the stream held does not come again
    site.database.execute("INSERT INTO t VALUES (3)")
    site.database.execute("INSERT INTO u VALUES (3)")
    site.tail()
    site.consume(unreadable(site))
    assert (site.rows(), [gap.kind for gap in site.gaps()]) == ([1, 3], ["recreated"])
    site.consume(site.mirror())
    assert (site.rows(), site.gaps()) == ([1, 2, 3], [])


def test_a_stream_that_was_recreated_from_the_beginning_has_no_gap(site: Site) -> None:
    site.consume(site.mirror())
    delete_stream(site.url, stream_name(site.config.source))
    site.store = MemoryPositionStore()
    site.tail()
    found = site.consume(site.mirror())
    assert ([each.gap for each in found if each.gap], site.gaps(), site.rows()) == ([], [], [1])


def test_an_accepted_gap_of_the_binlog_reaches_every_consumer(nats_server: NATSServer, tmp_path: Path) -> None:
    with embedded.mysql() as server, fresh_database(server) as database:
        site = Site(database, nats_server.url, tmp_path)
        for table in ("t", "u", "gone"):
            database.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY)")
            database.execute(f"INSERT INTO {table} VALUES (1)")
        site.tail()
        handler = DuckProgress(DuckFile(tmp_path / "handler.duckdb", error=ConsumeError))
        for table in ("t", "u", "gone"):
            site.consume(site.mirror(table=table), table)
        site.consume(site.handler(handler))
        database.execute("INSERT INTO t VALUES (2), (3)")
        database.execute("DELETE FROM t WHERE id = 1")
        database.execute("DROP TABLE gone")
        site.purge_binlog()
        site.tail(accept_gap="the disk was full")

        site.consume(unreadable(site))
        assert (site.rows(), [gap.kind for gap in site.gaps()]) == ([1], ["accepted"])
        assert "the disk was full" in site.gaps()[0].detail
        site.consume(site.mirror())
        assert (site.rows(), site.gaps()) == ([2, 3], [])
        with StreamReader(NatsOptions(url=site.url), site.config.source) as reader:
            MirrorGroup(reader, [site.mirror(table="u"), site.mirror(table="gone")], QUICK).drain(threading.Event())
        assert (site.rows("u"), site.gaps("u"), site.gaps("gone")) == ([1], [], [])
        assert query(site.path, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'gone'") == [(0,)]

        database.execute("INSERT INTO t VALUES (4)")
        site.tail()
        for _ in range(2):
            site.consume(site.handler(handler))
            assert len(open_gaps(handler, site.key())) == 1
        assert site.handled == [1, 4]
        with pytest.raises(ConfigError, match="give the reason"):
            acknowledge_gaps(handler, site.key(), " ", "me")
        acknowledge_gaps(handler, site.key(), "done by hand", "me")
        assert open_gaps(handler, site.key()) == []
        (gap,) = gaps_of(handler, site.key())
        assert (gap.resolution, gap.resolved_by) == ("done by hand", "me")


def test_a_gap_of_a_handler_is_kept_in_nats_too(site: Site) -> None:
    with NatsConnection(NatsOptions(url=site.url), "test") as connection:

        def store() -> NatsProgress:
            return NatsProgress(connection, site.config.source)

        site.consume(site.handler(store()))
        site.database.execute("INSERT INTO t VALUES (2)")
        site.drop_messages()
        for number in (3, 4):
            site.database.execute(f"INSERT INTO t VALUES ({number})")
            site.tail()
            site.consume(site.handler(store()))
            assert [gap.kind for gap in open_gaps(store(), site.key())] == ["retention"]
        acknowledge_gaps(store(), site.key(), "2 was a test", "me")
        assert open_gaps(store(), site.key()) == []
        assert site.handled == [1, 3, 4]


def test_a_gap_of_a_mirror_is_not_acknowledged_away_but_closed_by_a_verification(site: Site) -> None:
    site.consume(site.mirror(reads=False))
    site.database.execute("INSERT INTO t VALUES (2)")
    site.drop_messages()
    site.consume(site.mirror(reads=False))
    with pytest.raises(ConfigError, match="closed by rereading the table"):
        acknowledge_gaps(site.progress, site.key(), "never mind", "me")
    with StreamReader(NatsOptions(url=site.url), site.config.source) as reader:
        verifier = Verifier(reader, site.config, DuckFile(site.path, error=ConsumeError))
        assert not verifier.verify(site.database.name, "t").is_equal
        assert len(site.gaps()) == 1
        site.database.execute("DELETE FROM t WHERE id = 2")
        site.tail()
        site.consume(site.mirror(reads=False))
        assert verifier.verify(site.database.name, "t").is_equal
    assert site.gaps() == []
