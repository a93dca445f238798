"""Reads the chunks of an incremental snapshot in a thread, one order after another, over a separate connection.

The thread of the tail gives orders and takes results without waiting. An order that is no longer wanted is not
interrupted: its result has an old number, and is ignored. The next one is given when the reader is idle, so none waits
in its queue. It waits for the limits of the server between two orders, because changes are noted during one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import BinlogSyncError, SourceError
from binlogsync.mysql.config import MySQLConfig, error_code
from binlogsync.mysql.table_errors import DENIED, INVALID, MISSING, is_outage
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.snapshot.chunks import ChunkReader
from binlogsync.snapshot.throttle import LoadLimits, Throttle
from binlogsync.snapshot.view import TRANSACTIONAL, TableSnapshot, read_table
from binlogsync.snapshot.watermarks import WAIT_S, ReadStoppedError, contains_start
from binlogsync.tail.snapshot_policy import WHOLE_ROWS
from binlogsync.tail.snapshot_window import KeyedChunk, UnknownKeyError, number_rows
from binlogsync.waiting import backoff_s

log = logging.getLogger(__name__)

TableName: TypeAlias = tuple[str, str]
_REFUSED = DENIED | INVALID
_NO_LIMITS = LoadLimits(threads_running=None)
_WHOLE_BYTES = 512 << 20
"""Largest table that is read as a whole: its rows are in memory until they are published."""
_POLL_S = 0.02
TRIES = 6
"""After so many failures in a row, outages apart, a table cannot be read."""
_NO_KEY = "no primary key, or other unique key without NULL, of numbers, times or text"
_ALL_WAIT = "without one, all changes of the source would wait while its rows are published"
_SMALLER = "give it a primary key, or load it directly into a mirror"


@dataclass(frozen=True, slots=True)
class OpenedTable:
    """A table that can be read.

    Attributes:
        key: names of the columns of its key.
        order: identifies the order of the rows: a hash of the definition of the key; WHOLE without a key.
        estimate: number of its rows.
        columns: names of the columns that are read.
    """

    key: tuple[str, ...]
    order: str
    estimate: int
    columns: tuple[str, ...] = ()


WHOLE = "whole"
"""Order of the rows of a table without a key for chunks: it is read as a whole, and published in no order."""


@dataclass(frozen=True, slots=True)
class OpenedView:
    """A read view of a whole table is open, and its rows are being read.

    Attributes:
        at: its position: the rows contain every earlier change, and no later one.
        schema: of the table.
        server: (server_uuid, server_id).
    """

    at: Checkpoint
    schema: TableSchema
    server: tuple[str, int]


@dataclass(frozen=True, slots=True)
class ViewRows:
    """All rows of the view that was opened last."""

    batches: Sequence[ChangeBatch]


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """An order failed.

    Attributes:
        error: what is wrong, and what to do.
        is_final: True when it would fail again.
        is_outage: True when the server cannot be reached: it is tried without an end.
    """

    error: str
    is_final: bool
    is_outage: bool = False


@dataclass(frozen=True, slots=True)
class _Order:
    number: int
    table: TableName | None  # to open, or to read as a whole if there is a `low`; None to read the next chunk
    condition: str | None = None
    low: Checkpoint | None = None
    after: tuple[str, ...] | None = None


ReadResult: TypeAlias = OpenedTable | KeyedChunk | OpenedView | ViewRows | ReadFailure


def read_pause_s(failures: int) -> float:
    """Seconds before the next order of a table after so many failures, or discarded results, in a row."""
    return backoff_s(0.2, 5.0, failures)


def explain_row_image(where: str, value: str) -> str:
    """The error about row images that lack columns; `value` is the setting."""
    return (
        f"binlog_row_image is {value} {where}: a row that changes while it is read would lack columns in the stream; "
        "set it to FULL on the server, let sessions reconnect, and request the snapshot again"
    )


class SnapshotReader:
    """See the module; `wake` is called in its thread when there is a result."""

    def __init__(self, config: MySQLConfig, wake: Callable[[], None], most_rows: int = WHOLE_ROWS) -> None:
        """`most_rows` is the largest number of rows of a table that is read as a whole."""
        self._config = config
        self._most_rows = most_rows
        self._wake = wake
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._results: deque[tuple[int, ReadResult]] = deque()
        self._stop = threading.Event()
        self._numbers = self._finished = 0
        self._throttle = Throttle(LoadLimits(), f"{config.source}: a snapshot")
        self._thread: threading.Thread | None = None
        self._held = ExitStack()
        self._reader: ChunkReader | None = None
        self._condition: str | None = None

    def open(self, table: TableName, condition: str | None) -> int:
        """Open a table, whose rows meet the SQL condition. Returns the number of the order."""
        return self._give(table=table, condition=condition)

    def read(self, low: Checkpoint, after: tuple[str, ...] | None) -> int:
        """Read the next chunk of the open table, which shows every change before `low`. Returns the order's number."""
        return self._give(table=None, low=low, after=after)

    def read_whole(self, table: TableName, low: Checkpoint) -> int:
        """Read a whole table in one view, which shows every change before `low`. Returns the number of the order, which
        has two results: an OpenedView, and the ViewRows.
        """
        return self._give(table=table, low=low)

    @property
    def is_idle(self) -> bool:
        """True when the last order was carried out, and the server's limits allow the next one."""
        return self._finished == self._numbers

    def take(self) -> tuple[int, ReadResult] | None:
        """The number of an order and a result of it; None without one."""
        return self._results.popleft() if self._results else None

    def close(self) -> None:
        """End the thread, after the statement that it executes."""
        self._stop.set()
        self._orders.put(None)

    def _give(
        self,
        table: TableName | None,
        condition: str | None = None,
        low: Checkpoint | None = None,
        after: tuple[str, ...] | None = None,
    ) -> int:
        self._numbers += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"snapshot-{self._config.source}", daemon=True)
            self._thread.start()
        self._orders.put(_Order(self._numbers, table, condition, low, after))
        return self._numbers

    def _run(self) -> None:
        with self._held:
            while (order := self._orders.get()) is not None and not self._stop.is_set():
                try:
                    result = self._carry_out(order)
                except ReadStoppedError:
                    return
                self._post(order, result)
                self._wait()
                self._finished = order.number
                self._wake()

    def _post(self, order: _Order, result: ReadResult) -> None:
        self._results.append((order.number, result))
        self._wake()

    def _wait(self) -> None:
        """Wait until the limits allow the next order."""
        if self._reader is None:
            return
        try:
            self._reader.wait(self._throttle)
        except BinlogSyncError as error:  # the next order connects again
            log.info("%s: a snapshot: %s", self._config.source, error)
            self._close_reader()

    def _carry_out(self, order: _Order) -> ReadResult:
        try:
            if order.table is None:
                return self._read(order)
            return self._open(order.table, order.condition) if order.low is None else self._read_whole(order)
        except (BinlogSyncError, UnknownKeyError) as error:
            self._close_reader()
            return ReadFailure(str(error), is_final=error_code(error) in _REFUSED, is_outage=is_outage(error))
        except Exception as error:  # the tail continues without the snapshot
            log.exception("%s: a chunk of a snapshot could not be read", self._config.source)
            self._close_reader()
            return ReadFailure(f"{type(error).__name__}: {error}", is_final=True)

    def _close_reader(self) -> None:
        self._held.close()
        self._reader = None

    def _open(self, table: TableName, condition: str | None) -> ReadResult:
        self._close_reader()
        self._condition = condition
        name = ".".join(table)
        try:
            reader = self._held.enter_context(ChunkReader(self._config, table, _NO_LIMITS, self._stop))
        except SourceError as error:
            if error_code(error) in MISSING:
                return ReadFailure(f"{name} does not exist on {self._config.address}", is_final=True)
            raise
        if reader.key is None:
            problem = self._refuse_whole(name, reader, condition)
            self._close_reader()
            return ReadFailure(problem, is_final=True) if problem else OpenedTable((), WHOLE, reader.size.estimate)
        if reader.row_image != "FULL":
            return ReadFailure(explain_row_image(f"on {self._config.address}", reader.row_image), is_final=True)
        self._reader = reader
        collations = reader.collations()
        definition = [(column, collations.get(column.name)) for column in reader.key.columns]
        order = sha256(repr(definition).encode()).hexdigest()[:8]
        columns = tuple(column.name for column in reader.description.schema.columns)
        return OpenedTable(reader.key.names, order, reader.size.estimate, columns)

    def _read(self, order: _Order) -> ReadResult:
        reader, low = self._reader, order.low
        if reader is None:  # an order that was no longer wanted has failed
            return ReadFailure("the connection was lost", is_final=False, is_outage=True)
        assert reader.key is not None
        assert low is not None
        reader.begin(low)
        chunk = reader.read(order.after, reader.description, self._condition)
        rows = number_rows(chunk.batches, reader.key.names)
        return KeyedChunk(chunk.batches, rows, chunk.last_key, reader.key.last_key, chunk.is_last, chunk.high)

    def _refuse_whole(self, name: str, reader: ChunkReader, condition: str | None) -> str:
        """Why a table without a key for chunks cannot be read as a whole; "" if it can."""
        if reader.engine not in TRANSACTIONAL:
            return (
                f"{name} has the engine {reader.engine or 'unknown'}, whose rows are visible before their changes are "
                "logged: convert it to InnoDB, or load it directly into a mirror"
            )
        if condition is not None:
            return (
                f"{name} has {_NO_KEY}, so that the snapshot replaces all its rows at once: request it without a "
                "condition, or give the table a primary key"
            )
        # The estimate of a large table may be twice as high as the number of its rows.
        return self._explain_rows(name) if reader.size.estimate > 2 * self._most_rows or not self._most_rows else ""

    def _explain_rows(self, name: str) -> str:
        return (
            f"{name} has {_NO_KEY}, and more than {self._most_rows:,} rows: {_ALL_WAIT}. Choose: {_SMALLER}, or raise "
            "BINLOGSYNC_SNAPSHOT_KEYLESS_ROWS (tail.snapshot_keyless_rows)"
        )

    def _read_whole(self, order: _Order) -> ReadResult:
        table, low = order.table, order.low
        assert table is not None
        assert low is not None
        ends_at = time.monotonic() + WAIT_S
        while not self._stop.is_set():
            with read_table(self._config, *table, stop=self._stop) as view:
                if view.schema is None:
                    return ReadFailure(f"{'.'.join(table)} does not exist on {self._config.address}", is_final=True)
                if view.server[0] == low.server_uuid and contains_start(view.at, low):
                    self._post(order, OpenedView(view.at, view.schema, view.server))
                    return self._read_rows(".".join(table), view)
            if time.monotonic() > ends_at:
                error = f"{self._config.address} shows the table at {view.at}, but the stream is at {low}"
                return ReadFailure(error, is_final=False)
            self._stop.wait(_POLL_S)
        raise ReadStoppedError

    def _read_rows(self, name: str, view: TableSnapshot) -> ReadResult:
        batches: list[ChangeBatch] = []
        count = size = 0
        for batch in view.batches():
            batches.append(batch)
            count, size = count + len(batch), size + batch.nbytes
            if count > self._most_rows:
                return ReadFailure(self._explain_rows(name), is_final=True)
            if size > _WHOLE_BYTES:
                error = f"{name} has {_NO_KEY}, and more than {_WHOLE_BYTES >> 20} MiB: {_ALL_WAIT}. Choose: {_SMALLER}"
                return ReadFailure(error, is_final=True)
            if self._stop.is_set():
                raise ReadStoppedError
        return ViewRows(batches)
