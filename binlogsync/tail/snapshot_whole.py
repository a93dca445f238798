"""A table without a key for chunks, which a snapshot publishes as a whole, from one read view.

    tail    the stream waits until the position P of the view is known, then continues
    P       changes up to P are published first: they are in the rows
    hold    the stream waits again at the first later change of the table, until all rows are published
    rows    a reset of the table (op "t"), and every row (op "r"), at one transaction boundary

So between P and that boundary the table has not changed, and its rows are exactly those of the view. The stream waits
for all rows from the reset on: they have one position, so that no checkpoint is between them. They are read before,
into memory. After a crash a new view is published, with a new reset.

Used by the thread of the tail alone; never waits: the session does, while `holds` and `is_holding` are true.
"""

from __future__ import annotations

import logging
import math
from collections import deque

from binlogsync.binlog.decoded_range import DecodedRange
from binlogsync.change_batch import ChangeBatch
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.schema import TableSchema
from binlogsync.tail.snapshot_reader import (
    TRIES,
    OpenedTable,
    OpenedView,
    ReadFailure,
    SnapshotReader,
    TableName,
    ViewRows,
    read_pause_s,
)

log = logging.getLogger(__name__)

_OPENING_S = 5.0
"""How long the stream waits for the position of a view."""
_READING_S = 60.0
"""How long it waits for the rows of a view."""


class WholeTable:
    """See the module. A failed or discarded view is read again.

    Attributes:
        name: (database, table).
        opened: what is known of the table.
        failure: why its rows cannot be read; None while they can.
        trouble: why the last view failed; "" after a success.
        retry_s: a view is not ordered again before.
        schema, server: of the rows, once the view is open.
        has_begun: True from the reset on.
        is_read: True when all rows have been taken.
    """

    is_watching = True
    passed: tuple[str, ...] | None = None

    def __init__(self, reader: SnapshotReader, name: TableName, opened: OpenedTable) -> None:
        self.name = name
        self.opened: OpenedTable | None = opened
        self.failure: str | None = None
        self.trouble = ""
        self.retry_s = -math.inf
        self.schema: TableSchema | None = None
        self.server = ("", 0)
        self.has_begun = self.is_read = False
        self._reader = reader
        self._order: int | None = None  # number of the order that is carried out
        self._at: Checkpoint | None = None  # position of the view
        self._rows: deque[ChangeBatch] | None = None
        self._ends_s = math.inf  # when the stream no longer waits
        self._failures = 0
        self._must_pause = False

    # Changes of the table

    @property
    def is_holding(self) -> bool:
        """True while nothing may be read from the binlog: the position is not known, or rows are being published."""
        return (self._order is not None and self._at is None) or (self.has_begun and not self.is_read)

    @property
    def split_at(self) -> BinlogPosition | None:
        """Where a range of changes has to end."""
        return None if self._at is None or self.has_begun else self._at.position

    def holds(self, decoded: DecodedRange, reached: Checkpoint, now_s: float) -> bool:
        """Whether these changes, which follow the boundary `reached`, have to wait for rows of the table."""
        self.take_results()
        if self.has_begun:
            return not self.is_read
        if self._at is None:
            return False
        if not self._may_change(decoded):
            self._ends_s = math.inf
            return False
        if compare(reached, self._at).is_at_or_after:
            if self._ends_s == math.inf:
                self._ends_s = now_s + _READING_S
            if now_s > self._ends_s:
                self._fail(f"its rows were not read within {_READING_S:.0f} s of the next change")
            return self._at is not None
        if compare(decoded.checkpoint.at_boundary(), self._at) is PositionOrder.AFTER:
            self.discard("its view is between two changes that were read together")
        return False

    def _may_change(self, decoded: DecodedRange) -> bool:
        """Whether the range changes the table, or the transaction at its end may."""
        return (
            decoded.checkpoint.skip > 0
            or any((batch.schema.database, batch.schema.table) == self.name for batch in decoded.batches)
            or any(self.name in statement.tables for statement in decoded.schema_changes)
        )

    def touch(self, batch: ChangeBatch) -> None:
        """Nothing to do: the view contains the changes up to its position, and `holds` stops later ones."""

    def alter(self) -> None:
        """The table was altered before the position of the view, or replaced: it has to be opened again."""
        self.discard("a statement altered the table")
        self.opened = None

    def discard(self, reason: str = "") -> None:
        """Forget the view, unless its rows are being published; it is read again. `reason` is "" if that is wanted."""
        if self.has_begun:
            return
        if self._order is not None and reason:
            self._must_pause = True
            log.info("%s: a view of a snapshot is read again: %s", ".".join(self.name), reason)
        self._order = self._at = self._rows = None
        self._ends_s = math.inf

    def _fail(self, error: str, *, is_final: bool = False, is_outage: bool = False) -> None:
        self.discard(error)
        self._failures += not is_outage
        if is_final or self._failures >= TRIES:
            self.failure = error
        else:
            self.trouble = error

    # Orders and results

    def take_results(self) -> None:
        """Take what the reader has."""
        while (result := self._reader.take()) is not None:
            number, found = result
            if number != self._order:
                continue
            if isinstance(found, OpenedView):
                self._at, self.schema, self.server, self._ends_s = found.at, found.schema, found.server, math.inf
            elif isinstance(found, ViewRows):
                self._rows, self.trouble = deque(found.batches), ""
            elif isinstance(found, ReadFailure):
                self._fail(found.error, is_final=found.is_final, is_outage=found.is_outage)

    def give_order(self, reached: Checkpoint, key: tuple[str, ...], now_s: float) -> None:
        """Read the table, if that is not ordered yet. All changes before `reached` were passed on, and no later ones
        were decoded.
        """
        del key
        if self._order is not None:
            if self._at is None and now_s > self._ends_s:
                self._fail(f"found no moment for a read view within {_OPENING_S:.0f} s")
            return
        if self._must_pause:
            self._must_pause = False
            self.retry_s = now_s + read_pause_s(max(1, self._failures))
        if now_s >= self.retry_s and self._reader.is_idle:
            self._order = self._reader.read_whole(self.name, reached)
            self._ends_s = now_s + _OPENING_S

    # Rows

    def is_ready(self, reached: Checkpoint) -> bool:
        """True when rows, or the reset before them, may be published at this boundary."""
        if self._at is None or self._rows is None or self.is_read:
            return False
        return self.has_begun or compare(reached, self._at).is_at_or_after

    @property
    def count(self) -> int:
        """Number of rows that are not taken."""
        return sum(map(len, self._rows or ()))

    @property
    def read_us(self) -> int:
        """When the view was opened, microseconds since 1970 UTC."""
        return 0 if self._at is None else self._at.ts_us

    def begin(self) -> None:
        """The reset is published now."""
        self.has_begun = True
        self.is_read = not self._rows

    def take(self, count: int, size: int) -> ChangeBatch:
        """The next rows, up to `count` and about `size` bytes."""
        assert self._rows
        batch = self._rows.popleft()
        stop = min(len(batch), count, max(1, size * len(batch) // max(1, batch.nbytes)))
        if stop < len(batch):
            self._rows.appendleft(batch.slice(stop, len(batch)))
        self.is_read = not self._rows
        return batch.slice(0, stop)
