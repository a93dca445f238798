"""A source with six tables, and a continuous pool that consumes them, for tests."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from binlogsync import Change, Retry
from binlogsync.codec.subjects import stream_name
from binlogsync.consume.continuous import ContinuousOptions, ContinuousPool
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.handler import Handler
from binlogsync.consume.pool import ConsumerTask, TableReport
from binlogsync.consume.progress import ProgressKey, ProgressStore
from binlogsync.errors import BinlogSyncError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.nats_commands import delete_stream
from tests.samples import SampleOptions, SampleSource, SampleTransaction, small_schema
from tests.waiting import wait_until

TABLES = [f"t{number}" for number in range(6)]
ALL = SampleTransaction(tuple(range(len(TABLES))))
"""A transaction with a change of every table."""


@dataclass
class IdRow:
    id: int


class SixTables:
    """A source with six tables, and the ids of the changes written to each."""

    def __init__(self, url: str) -> None:
        self.options, self.name = NatsOptions(url=url), f"live{time.time_ns()}"
        tables = tuple(small_schema(table) for table in TABLES)
        self._made = SampleSource(SampleOptions(source=self.name, tables=tables))
        self._sink = JetStreamSink(JetStreamOptions(url=url))
        self._sink.open(self.name)
        self.ids: dict[str, list[str]] = defaultdict(list)

    def write(self, *transactions: SampleTransaction) -> None:
        flush = self._made.flush(list(transactions))
        for batch in flush.batches:
            self.ids[batch.schema.table] += batch.ids().to_pylist()
        self._sink.write(flush)

    def reader(self) -> StreamReader:
        return StreamReader(self.options, self.name)

    def key(self, table: str) -> ProgressKey:
        return ProgressKey("binlogsync", self.name, "shop", table)

    def close(self) -> None:
        self._sink.close()
        delete_stream(self.options.url, stream_name(self.name))


@contextmanager
def six_tables(url: str) -> Iterator[SixTables]:
    made = SixTables(url)
    yield made
    made.close()


@dataclass
class Recorder:
    """What handlers got, and which tables they refuse."""

    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    bad: set[str] = field(default_factory=set)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)

    def task(self, table: str, store: ProgressStore | Path) -> ConsumerTask:
        def on_row(change: Change[IdRow]) -> None:
            if table in self.gates:
                self.called.add(table)
                self.gates[table].wait(60)
            if table in self.bad:
                raise RuntimeError("not today")
            self.ids[table].append(change.id)

        handler = Handler(IdRow, on_row, store, Retry(tries=1))
        return ConsumerTask(("shop", table), handler, ConsumeOptions())


def mirror(table: str, path: Path) -> ConsumerTask:
    return ConsumerTask(("shop", table), Mirror(path, "shop", table), ConsumeOptions())


@dataclass
class Live:
    """A running pool, with what it reported."""

    pool: ContinuousPool
    changes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    errors: dict[str, BinlogSyncError | None] = field(default_factory=dict)
    reports: list[TableReport] = field(default_factory=list)

    def look(self) -> bool:
        for report in self.pool.reports(0.05):
            self.reports.append(report)
            self.errors[report.table[1]] = report.error
            self.changes[report.table[1]] += report.done.changes if report.done else 0
        return True

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(lambda: self.look() and condition(), 30, what)

    def wait_quiet(self) -> None:
        self.wait(lambda: self.pool.quiet_s() > 0.2, "no pending changes")


@contextmanager
def live(stream: SixTables, tasks: list[ConsumerTask], reload_s: float = 60.0) -> Iterator[Live]:
    options = ContinuousOptions(gather_s=0.05, first_wait_s=0.2, longest_wait_s=0.2, reload_s=reload_s)
    with ContinuousPool(tasks, stream.reader, options, threading.Event()) as pool:
        yield Live(pool)
