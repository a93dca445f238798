"""Latency from commit to handler and from commit to mirror, with an eager tail and a continuous pool.

`python -m bench.latency` runs it after its own table. Tail, handlers and mirrors are a process each. A change is
handled when its handler is called, and mirrored when the transaction of its mirror is committed.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal

from binlogsync.change import Change
from binlogsync.collection import exempt_existing_objects
from binlogsync.consume.continuous import ContinuousOptions, ContinuousPool
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.handler import Handler
from binlogsync.consume.live_table import LiveTable
from binlogsync.consume.pool import ConsumerTask
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.signals import stop_on_signals

Kind = Literal["handlers", "mirrors"]
IDLE_S = 20.0
_CATCH_UP_S = 60.0


@dataclass(frozen=True, slots=True)
class NumberRow:
    """The columns of a table that handlers read."""

    id: int
    number: int | None


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """When each number was handled, in seconds since 1970; CPU seconds and wall seconds since the last report."""

    handled: dict[int, float]
    cpu_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ConsumerProcess:
    """A running process of consumers."""

    process: multiprocessing.context.SpawnProcess
    asked: multiprocessing.synchronize.Event
    reports: multiprocessing.Queue[ConsumerReport]

    def report(self) -> ConsumerReport:
        """What was handled since the last report."""
        self.asked.set()
        return self.reports.get(timeout=60)


def describe(name: str, rate: int, committed: dict[int, float], found: ConsumerReport) -> str:
    """A row of the table: latencies in milliseconds, and the processor time."""
    missing = [number for number in committed if number not in found.handled]
    if missing:
        raise SystemExit(f"{name}: {len(missing)} of {len(committed)} changes were not handled")
    times = sorted((found.handled[number] - at) * 1e3 for number, at in committed.items())
    return (
        f"{rate:>5}/s  {name:<24} {median(times):9.2f} {quantiles(times, n=100)[98]:9.1f} {times[-1]:9.1f} "
        f"{found.cpu_s / found.seconds * 100:8.1f} %"
    )


@contextmanager
def consumers(kind: Kind, url: str, source: str, tables: list[tuple[str, str]]) -> Iterator[ConsumerProcess]:
    """Run consumers of the tables in a process of their own."""
    spawn = multiprocessing.get_context("spawn")
    asked, reports = spawn.Event(), spawn.Queue()
    arguments = (kind, url, source, tables, asked, reports)
    process = spawn.Process(target=_consume, args=arguments, daemon=True)
    process.start()
    try:
        reports.get(timeout=120)
        yield ConsumerProcess(process, asked, reports)
    finally:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGTERM)
            process.join(60)


def wait_for(found: ConsumerProcess, committed: dict[int, float]) -> ConsumerReport:
    """The report once all numbers are handled."""
    ends_at = time.monotonic() + _CATCH_UP_S
    report = found.report()
    while not committed.keys() <= report.handled.keys() and time.monotonic() < ends_at:
        time.sleep(0.2)
        more = found.report()
        report = ConsumerReport(report.handled | more.handled, report.cpu_s + more.cpu_s, report.seconds + more.seconds)
    return report


def _consume(
    kind: Kind,
    url: str,
    source: str,
    tables: list[tuple[str, str]],
    asked: multiprocessing.synchronize.Event,
    reports: multiprocessing.Queue[ConsumerReport],
) -> None:
    handled: dict[int, float] = {}
    folder = tempfile.TemporaryDirectory(prefix="latency-")
    make = _handler if kind == "handlers" else _mirror
    options = ConsumeOptions(gather_s=0.05 if kind == "handlers" else 0.5)
    tasks = [ConsumerTask(each, make(Path(folder.name, "w.duckdb"), each, handled), options) for each in tables]
    if kind == "mirrors":
        _record_mirrored(handled)
    open_reader = partial(StreamReader, NatsOptions(url=url), source)
    with folder, stop_on_signals() as stop, ContinuousPool(tasks, open_reader, ContinuousOptions(), stop) as pool:
        while not stop.is_set() and pool.quiet_s() == 0:
            _raise_errors(pool.reports(0.1))
        exempt_existing_objects()  # a continuous run of Dagster does it before
        cpu, begun = time.process_time(), time.monotonic()
        reports.put(ConsumerReport({}, 0.0, 0.0))
        while not stop.is_set():
            _raise_errors(pool.reports(0.25))
            if asked.is_set():
                asked.clear()
                now_cpu, now = time.process_time(), time.monotonic()
                reports.put(ConsumerReport(handled.copy(), now_cpu - cpu, now - begun))
                handled.clear()
                cpu, begun = now_cpu, now


def _raise_errors(reports: list[Any]) -> None:
    for report in reports:
        if report.error is not None:
            raise report.error


def _handler(path: Path, table: tuple[str, str], handled: dict[int, float]) -> Target:
    def on_change(change: Change[NumberRow]) -> None:
        if change.after is not None and change.after.number is not None:
            handled[change.after.number] = time.time()

    return Handler(NumberRow, on_change, path)


def _mirror(path: Path, table: tuple[str, str], handled: dict[int, float]) -> Target:
    return Mirror(path, *table)


def _record_mirrored(handled: dict[int, float]) -> None:
    """Record when the transactions of mirrors are committed."""
    confirm = LiveTable.confirm

    def record(self: LiveTable, work: TableChanges) -> None:
        at = time.time()
        for item in work.batches:
            if item.batch.ddl is None:
                numbers = item.batch.data.column("after").field("number").to_pylist()
                handled.update((number, at) for number in numbers if number is not None)
        confirm(self, work)

    LiveTable.confirm = record  # type: ignore[method-assign]
