"""`make demo CHECK=1`: waits until the sensor has started the tail, then follows a row to the stream and its mirror."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dagster as dg

from binlogsync.errors import BinlogSyncError, ConsumeError, WireError
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.targets.duckdb.file import DuckFile, first_row
from pipelines.demo.stack import SOURCE, Stack

T = TypeVar("T")

_MARKED = "demo-check@example.com"
_LOG_LINES = 25


class CheckFailedError(BinlogSyncError):
    """A step did not finish in time. The message names the step and contains the end of the log."""


@dataclass(frozen=True, slots=True)
class CheckTimings:
    """Seconds from the start of the check to the run of the tail, and from commit to stream and to mirror."""

    started_s: float
    stream_s: float
    mirror_s: float


@dataclass(frozen=True, slots=True)
class DeadlineWait:
    """Waits for conditions until a deadline, a stop, or the end of `dagster dev`."""

    stack: Stack
    stop: threading.Event
    deadline: float

    def wait(self, what: str, look: Callable[[], T | None]) -> T:
        """Poll until `look` returns a result. Raises CheckFailedError."""
        while True:
            found = look()
            if found:
                return found
            if self.stop.wait(0.2):
                raise CheckFailedError(f"stopped while waiting for {what}")
            if self.stack.dagster.poll() is not None:
                raise CheckFailedError(f"dagster dev ended while waiting for {what}:\n{_log_end(self.stack)}")
            if time.monotonic() > self.deadline:
                log = f"the end of {self.stack.dagster_log}:\n{_log_end(self.stack)}"
                raise CheckFailedError(f"waited too long for {what}; {log}")


def check(stack: Stack, deadline_s: float, stop: threading.Event, log: Callable[[str], None]) -> CheckTimings:
    """Wait for the tail, commit a marked row, and follow it. Raises CheckFailedError, also if `stop` is set."""
    begun = time.monotonic()
    wait = DeadlineWait(stack, stop, begun + deadline_s).wait
    run = wait("the tail's run to be STARTED by its sensor", lambda: _tail_run(stack.dagster_home))
    started_s = time.monotonic() - begun
    log(f"tail run {run.run_id[:8]} is STARTED, by sensor {run.tags['dagster/sensor_name']}")
    with wait("the tail to create its stream", lambda: _reader(stack)) as reader:
        first = reader.last_sequence() + 1
        reader.ensure_durable("demo_check", "shop", "customers", first)
        with stack.mysql.connect() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO shop.customers (email, credit) VALUES (%s, 12.34)", (_MARKED,))
        committed = time.monotonic()
        wait("the row to be in the stream", lambda: _in_stream(reader))
        stream_s = time.monotonic() - committed
        reader.delete_durable("demo_check")
    log(f"the row is in the stream, {stream_s:.1f} s after its commit")
    wait("the row to be in its DuckDB mirror", lambda: _in_mirror(stack.warehouse))
    mirror_s = time.monotonic() - committed
    log(f"the row is in its mirror, {mirror_s:.1f} s after its commit")
    return CheckTimings(started_s, stream_s, mirror_s)


def _tail_run(home: Path) -> dg.DagsterRun | None:
    """The run of the tail, if it is STARTED and was requested by a sensor."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = instance.get_runs(dg.RunsFilter(job_name=f"tail_{SOURCE}", statuses=[dg.DagsterRunStatus.STARTED]))
    return next((run for run in runs if "dagster/sensor_name" in run.tags), None)


def _reader(stack: Stack) -> StreamReader | None:
    """An open reader. None if there is no stream yet."""
    reader = StreamReader(NatsOptions(url=stack.nats.url), SOURCE)
    try:
        reader.open()
    except WireError:
        reader.close()
        return None
    return reader


def _in_stream(reader: StreamReader) -> bool:
    batches = reader.fetch("demo_check", 1000, 0.5)
    return any((change.after or {}).get("email") == _MARKED for stored in batches for change in stored.batch.changes())


def _in_mirror(warehouse: Path) -> bool:
    if not warehouse.exists():
        return False
    with DuckFile(warehouse, timeout_s=5, error=ConsumeError).transaction() as connection:
        known = first_row(
            connection,
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'shop' AND table_name = 'customers'",
            [],
        )
        if not known or not known[0]:
            return False
        found = first_row(connection, "SELECT count(*) FROM shop.customers WHERE email = ?", [_MARKED])
        return bool(found and found[0])


def _log_end(stack: Stack) -> str:
    lines = stack.dagster_log.read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])
