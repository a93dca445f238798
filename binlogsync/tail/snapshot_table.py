"""The chunks of one table that an incremental snapshot reads: one is published while the next is read."""

from __future__ import annotations

import logging
import math
from collections import deque

from binlogsync.change_batch import ChangeBatch
from binlogsync.position import Checkpoint
from binlogsync.position_order import compare
from binlogsync.tail.snapshot_reader import (
    TRIES,
    OpenedTable,
    ReadFailure,
    SnapshotReader,
    TableName,
    explain_row_image,
    read_pause_s,
)
from binlogsync.tail.snapshot_window import KeyedChunk, UnknownKeyError, Window, changed_keys, missing_columns

log = logging.getLogger(__name__)

_CHUNKS = 2
_PATIENCE = 5
"""So many chunks in a row may be discarded before that is reported."""
_MOST_KEYS = 1_000_000
"""Changes of so many rows are noted while a chunk is read."""


class TableChunks:
    """See the module. Nothing here waits: chunks are read by `reader`.

    Attributes:
        name: (database, table).
        opened: what is known of the table, once it is open.
        failure: why its rows cannot be read; None while they can.
        trouble: why the last order failed, or the last chunks were discarded; "" after a success. It is tried again.
        retry_s: a failed order is not given again before.
        passed: every row up to this key was published or left out; None once IncrementalSnapshot has taken it over.
    """

    def __init__(self, reader: SnapshotReader, name: TableName, condition: str | None) -> None:
        """`condition` is SQL that the rows meet."""
        self.name = name
        self.opened: OpenedTable | None = None
        self.failure: str | None = None
        self.trouble = ""
        self.retry_s = -math.inf
        self.passed: tuple[str, ...] | None = None
        self._reader = reader
        self._condition = condition
        self._order: int | None = None  # number of the order that is carried out
        self._windows: deque[Window] = deque()
        self._failures = self._outages = self._discards = 0
        self._pauses = 0  # the next order waits for so many failures or discards in a row
        self._is_read = False

    # Changes of the table

    @property
    def is_watching(self) -> bool:
        """True while changes matter."""
        return bool(self._windows)

    def touch(self, batch: ChangeBatch) -> None:
        """Changes of the table in the stream."""
        if self._windows:
            self.take_results()
        if not self._windows or self.opened is None:
            return
        if missing := missing_columns(batch, self.opened.columns):
            self.failure = explain_row_image(f"in a session (a change lacks {', '.join(missing)})", "not FULL")
            self.discard()
            return
        try:
            keys = list(changed_keys(batch, self.opened.key))
        except UnknownKeyError:
            self.discard("a change has not the key of its row")
            return
        for window in self._windows:
            window.touch(keys)
        if self._windows and self._windows[-1].noted > _MOST_KEYS:
            self._discards = max(self._discards, _PATIENCE)
            self.discard(f"more than {_MOST_KEYS:,} rows changed while a chunk was read")

    def alter(self) -> None:
        """The table was altered, or replaced: it has to be opened again."""
        self.discard("a statement altered the table")
        self.opened = self.passed = None

    def discard(self, reason: str = "") -> None:
        """Forget the rows that are not published; they are read again. `reason` is "" if that is wanted."""
        if self._windows and reason:
            self._discards += 1
            self._pauses = max(self._pauses, self._discards)
            log.info("%s: a chunk of a snapshot is read again: %s", ".".join(self.name), reason)
            if self._discards > _PATIENCE:
                self.trouble = f"{reason}, and nothing was published since {self._discards} chunks; reading it again"
        self._windows.clear()
        self._order, self._is_read = None, False

    # Orders and results

    def take_results(self) -> None:
        """Take what the reader has."""
        while (result := self._reader.take()) is not None:
            number, found = result
            if number != self._order:
                continue
            self._order = None
            if isinstance(found, OpenedTable):
                self.opened = found
            elif isinstance(found, KeyedChunk):
                self._windows[-1].fill(found)
                self._failures = self._outages = 0
                if self._discards <= _PATIENCE:
                    self.trouble = ""
            elif isinstance(found, ReadFailure):
                self._failed(found)

    def _failed(self, failure: ReadFailure) -> None:
        self.discard()
        self.opened = None
        if failure.is_outage:
            self._outages += 1
        else:
            self._failures += 1
        if failure.is_final or self._failures >= TRIES:
            self.failure = failure.error
        else:
            self._pauses = max(self._pauses, self._failures + self._outages)
            self.trouble = failure.error
            log.info("%s: a chunk of a snapshot: %s; reading it again", ".".join(self.name), failure.error)

    def give_order(self, reached: Checkpoint, key: tuple[str, ...], now_s: float) -> None:
        """Open the table, or read the next chunk, if nothing is being read; `key` is the last one published, or ().

        The stream is at the transaction boundary `reached`, and all earlier changes were passed to `touch`.
        """
        if self._pauses:
            self.retry_s = now_s + read_pause_s(self._pauses)
            self._pauses = 0
        if self._order is not None or now_s < self.retry_s or not self._reader.is_idle:
            return
        if self.opened is None:
            self._order = self._reader.open(self.name, self._condition)
            return
        self._drop_read_windows()
        after: tuple[str, ...] | None = key or None
        if self._windows:
            chunk = self._windows[-1].chunk
            assert chunk is not None
            if chunk.is_last or len(self._windows) == _CHUNKS:
                return
            after = chunk.last_key
        elif self._is_read:
            return
        self._windows.append(Window())
        self._order = self._reader.read(reached, after)

    # Rows

    @property
    def is_read(self) -> bool:
        """True when all rows have been taken."""
        self._drop_read_windows()
        return self._is_read

    def is_ready(self, reached: Checkpoint) -> bool:
        """True when rows may be published at this boundary."""
        self._drop_read_windows()
        chunk = self._windows[0].chunk if self._windows else None
        return chunk is not None and compare(reached, chunk.high).is_at_or_after

    def take(self, count: int, size: int) -> tuple[ChangeBatch, ChangeBatch, KeyedChunk]:
        """The next rows, up to `count` and about `size` bytes; those of them to publish; and their chunk."""
        chunk = self._windows[0].chunk
        assert chunk is not None
        self.passed = None
        if self._discards:
            self._discards, self.trouble = 0, ""
        return *self._windows[0].take(count, size), chunk

    def _drop_read_windows(self) -> None:
        while self._windows and self._windows[0].is_over:
            chunk = self._windows.popleft().chunk
            assert chunk is not None
            self._is_read, self.passed = chunk.is_last, chunk.last_key
