"""Measures handlers: changes per second, and the delay from commit to handler.

The handlers do almost nothing, so the result is the cost of reading the stream, building model instances or DataFrames,
and calling the handler.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median, quantiles

import pandas as pd

from bench.readers import Measurement
from bench.workload import DATABASE
from binlogsync.change import Change
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.consume.handler import Handler
from binlogsync.mysql import MySQLConfig
from binlogsync.mysql.config import connect
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.run import Tail, TailOptions

RATE = 100
SECONDS = 10


@dataclass(frozen=True, slots=True)
class BulkRow:
    """A row of bench.bulk."""

    id: int
    customer: int
    kind: int
    quantity: int | None
    balance: Decimal
    rate: float | None
    weight: float | None
    name: str
    email: str | None
    note: str | None
    token: bytes
    born: date | None
    created: datetime
    updated: datetime | None
    opens: timedelta | None
    state: str
    flags: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class OltpRow:
    """A row of bench.oltp."""

    id: int
    account: int
    amount: Decimal
    memo: str
    at: datetime


class _Counter:
    """Counts changes, and stores the time of the last one."""

    def __init__(self) -> None:
        self.count = 0
        self.at = 0.0

    def on_bulk(self, change: Change[BulkRow]) -> None:
        """One change."""
        self._add(1)

    def on_oltp(self, change: Change[OltpRow]) -> None:
        """One change."""
        self._add(1)

    def on_frame(self, frame: pd.DataFrame) -> None:
        """A batch."""
        self._add(len(frame))

    def _add(self, count: int) -> None:
        self.count += count
        self.at = time.perf_counter()


def measure_handler(url: str, source: str, table: str, shape: str) -> Measurement:
    """Consume the backlog of the table with a handler of "change" or "frame". The final idle wait is not counted."""
    counter = _Counter()
    model: type[BulkRow] | type[OltpRow] = BulkRow if table == "bulk" else OltpRow
    each: Callable[..., object] = counter.on_bulk if table == "bulk" else counter.on_oltp
    with tempfile.TemporaryDirectory(prefix="bench-handler-") as folder:
        target = Handler[BulkRow | OltpRow](
            model, each if shape == "change" else counter.on_frame, Path(folder) / "p.duckdb"
        )
        with StreamReader(NatsOptions(url=url), source) as reader:
            begun = time.perf_counter()
            options = ConsumeOptions(client_id=f"bench-{shape}", idle_s=1.0)
            consume(reader, (DATABASE, table), target, options, threading.Event())
    return Measurement(counter.at - begun, 0, counter.count)


def measure_delays(config: MySQLConfig, url: str, flush_interval_s: float) -> tuple[float, float]:
    """Seconds from commit to handler, (median, 99th percentile), at RATE one-row transactions per second.

    MySQL, tail, nats-server and consumer run on this machine, so both times come from the same clock.
    """
    source, stop, found = f"delay{int(flush_interval_s * 1000)}", threading.Event(), list[float]()

    def on_change(change: Change[OltpRow]) -> None:
        found.append((datetime.now(UTC) - change.source.ts).total_seconds())
        if len(found) == RATE * SECONDS:
            stop.set()

    options = TailOptions(source, flush_interval_s=flush_interval_s, include=(f"{DATABASE}.oltp",), preflight=False)
    sink = _SignallingSink(JetStreamOptions(url=url))
    tail = Tail(config, [sink], MemoryPositionStore(), options, owner="bench")
    threads = [threading.Thread(target=tail.run, args=(stop,)), threading.Thread(target=_write, args=(config, stop))]
    threads[0].start()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-delay-") as folder:
            handler = Handler[OltpRow](OltpRow, on_change, Path(folder) / "p.duckdb")
            sink.opened.wait(60)
            with StreamReader(NatsOptions(url=url), source) as reader:
                threads[1].start()
                most = ConsumeOptions(client_id="delay", gather_s=0.02, idle_s=20.0)
                consume(reader, (DATABASE, "oltp"), handler, most, stop)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return median(found), quantiles(found, n=100)[98]


class _SignallingSink(JetStreamSink):
    """A sink that sets an event when it has opened its stream."""

    def __init__(self, options: JetStreamOptions) -> None:
        super().__init__(options)
        self.opened = threading.Event()

    def open(self, source: str) -> Checkpoint | None:
        """Open the sink, and set the event."""
        checkpoint = super().open(source)
        self.opened.set()
        return checkpoint


def _write(config: MySQLConfig, stop: threading.Event) -> None:
    """Commit RATE transactions per second, evenly spaced, until the handler has received enough."""
    connection = connect(config)
    connection.autocommit(True)
    begun, number = time.monotonic(), 0
    with connection.cursor() as cursor:
        while not stop.wait(max(0.0, begun + number / RATE - time.monotonic())):
            cursor.execute(f"INSERT INTO {DATABASE}.oltp (account, amount, memo) VALUES (1, {number}, 'delay')")
            number += 1
    connection.close()
