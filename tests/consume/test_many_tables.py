"""Sixty tables and eight workers with a real nats-server: scheduling is fair, order and exactly-once are kept, and
blocked tables do not delay others.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from binlogsync import Change, Consumer, HandlerError, Retry
from binlogsync.codec.subjects import stream_name
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.handler import Handler
from binlogsync.consume.pool import ConsumerTask, WorkerPool, WorkerPoolOptions
from binlogsync.errors import ConfigError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.duck import query
from tests.nats_commands import delete_stream
from tests.samples import SampleOptions, SampleSource, SampleTransaction, small_schema
from tests.waiting import wait_until

TABLES, WORKERS = 60, 8
BLOCKED = {f"t{number}" for number in range(0, TABLES, 5)}
"""Twelve tables: more than there are workers."""
ONE_EACH = [SampleTransaction(tuple(range(TABLES)))]
"""A transaction with a change of every table."""


@dataclass
class NumberedRow:
    id: int


class ManyTablesStream:
    """A source with sixty tables, and the ids of the changes written to each."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        tables = tuple(small_schema(f"t{number}") for number in range(TABLES))
        self._made = SampleSource(SampleOptions(source=name, tables=tables))
        self._sink = JetStreamSink(JetStreamOptions(url=url))
        self._sink.open(name)
        self.ids: dict[str, list[str]] = defaultdict(list)

    def write(self, transactions: list[SampleTransaction]) -> None:
        flush = self._made.flush(transactions)
        for batch in flush.batches:
            self.ids[batch.schema.table] += batch.ids().to_pylist()
        self._sink.write(flush)

    def close(self) -> None:
        self._sink.close()
        delete_stream(self.url, stream_name(self.name))


@pytest.fixture
def stream(nats_server: NATSServer) -> Iterator[ManyTablesStream]:
    made = ManyTablesStream(nats_server.url, f"many{time.time_ns()}")
    yield made
    made.close()


@dataclass
class CallRecorder:
    """Records the changes that handlers get, and the number of concurrent calls."""

    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    bad: set[str] = field(default_factory=set)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    at_once: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self, table: str) -> Callable[[Change[NumberedRow]], None]:
        def on_row(change: Change[NumberedRow]) -> None:
            with self.lock:
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            try:
                if table in self.gates:
                    self.gates[table].wait(120)
                if table in self.bad:
                    raise RuntimeError("not today")
                self.ids[table].append(change.id)
            finally:
                with self.lock:
                    self.at_once -= 1

        return on_row


def client(stream: ManyTablesStream, seen: CallRecorder, **options: Any) -> Consumer:
    consumer = Consumer(
        "client1", url=stream.url, source=stream.name, max_workers=WORKERS,
        retry=Retry(tries=2, first_wait_s=0.3), **options,
    )  # fmt: skip
    for number in range(TABLES):
        consumer.register(NumberedRow, seen.handler(f"t{number}"), table=f"shop.t{number}")
    return consumer


@contextmanager
def running(consumer: Consumer) -> Iterator[None]:
    thread = threading.Thread(target=consumer.run)
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join(60)
        assert not thread.is_alive()


def readers() -> int:
    return sum(thread.name.startswith("nats binlogsync reader") for thread in threading.enumerate())


def test_more_tables_than_workers_take_turns(stream: ManyTablesStream) -> None:
    for _ in range(5):
        stream.write(ONE_EACH)
    before, seen = readers(), CallRecorder(bad=set(BLOCKED))
    consumer = client(stream, seen)
    good = {name: ids for name, ids in stream.ids.items() if name not in BLOCKED}
    with running(consumer):
        wait_until(lambda: {name: seen.ids[name] for name in good} == good, 60, "the tables that are not blocked")
        wait_until(lambda: {n for n in BLOCKED if consumer.status()[f"shop.{n}"].error} == BLOCKED, 60, "errors")
        assert seen.most <= WORKERS
        assert readers() - before <= WORKERS + 1  # one more polls the pending counts

        seen.gates["t1"] = threading.Event()  # a long backlog of one table; a change of another comes in between
        stream.write([SampleTransaction((1,) * 400)])
        stream.write([SampleTransaction((2,))])
        wait_until(lambda: seen.ids["t2"] == stream.ids["t2"], 20, "a change beside the backlog")
        assert len(seen.ids["t1"]) < len(stream.ids["t1"])
        seen.gates["t1"].set()

        assert not any(seen.ids[name] for name in BLOCKED)
        assert isinstance(consumer.status()["shop.t0"].error, HandlerError)
        seen.bad.clear()
        wait_until(lambda: seen.ids == stream.ids, 60, "all changes")
        wait_until(lambda: not any(each.error for each in consumer.status().values()), 20, "no table to be blocked")
    assert {name: each.changes for name, each in consumer.status().items()} == {
        f"shop.{name}": len(ids) for name, ids in stream.ids.items()
    }


def record(table: str) -> Callable[[Change[NumberedRow], duckdb.DuckDBPyConnection], None]:
    """A handler that writes the ids of changes in its transaction."""

    def on_row(change: Change[NumberedRow], connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS seen (t VARCHAR, n INT, id VARCHAR)")
        connection.execute("INSERT INTO seen SELECT $1, count(*), $2 FROM seen WHERE t = $1", [table, change.id])

    return on_row


def changes(consumer: Consumer) -> int:
    return sum(each.changes for each in consumer.status().values())


def write_and_wait(stream: ManyTablesStream, consumer: Consumer, wanted: int) -> None:
    stream.write(ONE_EACH)
    wait_until(lambda: changes(consumer) >= wanted, 30, f"{wanted} changes")
    assert changes(consumer) == wanted


def test_each_turn_resumes_after_the_previous_one_exactly_once(stream: ManyTablesStream, tmp_path: Path) -> None:
    path, tables = tmp_path / "mine.duckdb", [f"t{number}" for number in range(12)]
    for _ in range(2):
        stream.write(ONE_EACH)
        consumer = Consumer("once", url=stream.url, source=stream.name, max_workers=3, progress=path)
        for table in tables:
            consumer.register(NumberedRow, record(table), table=f"shop.{table}")
        with running(consumer):
            for written in range(2, 5):
                write_and_wait(stream, consumer, written * len(tables))
    for table in tables:
        rows = query(path, f"SELECT id FROM seen WHERE t = '{table}' ORDER BY n")
        assert [row[0] for row in rows] == stream.ids[table]


def test_tables_are_added_to_running_workers(stream: ManyTablesStream, tmp_path: Path) -> None:
    stream.write(ONE_EACH)
    seen, tables = CallRecorder(), [f"t{number}" for number in range(5)]
    options = WorkerPoolOptions(first_round_s=0.2, round_s=0.5, max_workers=2)
    stop = threading.Event()
    with WorkerPool((), lambda: StreamReader(NatsOptions(url=stream.url), stream.name), options, stop) as pool:
        for table in tables:
            handler: Handler[NumberedRow] = Handler(NumberedRow, seen.handler(table), str(tmp_path / "progress.duckdb"))
            task = ConsumerTask(("shop", table), handler, ConsumeOptions(client_id="added"))
            pool.add(task)
            with pytest.raises(ConfigError, match="listed twice"):
                pool.add(task)
            wait_until(partial(seen.ids.get, table), 30, f"the change of {table}")
        stream.write(ONE_EACH)
        wait_until(lambda: all(seen.ids[table] == stream.ids[table] for table in tables), 30, "a later change of each")
        assert pool.tables == tuple(("shop", table) for table in tables)
    assert seen.most <= 2


@pytest.mark.parametrize("max_workers", [2, 4])
def test_rounds_that_find_nothing_are_no_activity(stream: ManyTablesStream, tmp_path: Path, max_workers: int) -> None:
    """With workers of their own and shared ones; each round of a mirror begins with its progress, from the file."""
    path, counts = tmp_path / "mirrors.duckdb", Counter[str]()
    tasks = [
        ConsumerTask(("shop", f"t{number}"), Mirror(path, "shop", f"t{number}"), ConsumeOptions(client_id="quiet"))
        for number in range(4)
    ]
    options = WorkerPoolOptions(first_round_s=0.4, round_s=0.4, max_workers=max_workers)

    def count_changes(pool: WorkerPool) -> Counter[str]:
        for report in pool.reports(0):
            assert report.done is not None, report.error
            counts[report.table[1]] += report.done.changes
        return counts

    open_reader = partial(StreamReader, NatsOptions(url=stream.url), stream.name)
    with WorkerPool(tasks, open_reader, options, threading.Event()) as pool:
        for written in (1, 2):
            stream.write(ONE_EACH)
            wait_until(lambda: min(count_changes(pool)[f"t{n}"] for n in range(4)) == written, 60, "the changes")  # noqa: B023
            wait_until(lambda: pool.quiet_s() > 4 * options.round_s, 60, "four quiet rounds")


def test_pending_counts_of_all_durables_are_listed(stream: ManyTablesStream) -> None:
    stream.write(ONE_EACH)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        for number in range(300):  # more than a page of the server's list
            reader.ensure_durable(f"d{number}", "shop", f"t{number % TABLES}", 1)
        assert reader.pending_counts() == {f"d{number}": 1 for number in range(300)}
        [item] = reader.fetch("d0")
        assert reader.pending_counts()["d0"] == 1
        reader.ack(item)
        assert reader.pending_counts()["d0"] == 0
        reader.leave("d0")
        with pytest.raises(ConfigError, match="not open"):
            reader.fetch("d0")


def test_workers_are_at_least_one() -> None:
    with pytest.raises(ConfigError, match="max_workers must be at least 1"):
        Consumer("a", max_workers=0)
