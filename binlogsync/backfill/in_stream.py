"""Where places of a table are in the stream.

Found by bisection over sequences, reading one message of the table at each step: what the messages say of themselves
counts, so a stream that was lost and filled again misleads nobody. Where it cannot be proved that the stream holds
something, the answer is that it does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.backfill.ranges import is_behind, place_of
from binlogsync.change import ChangeBatch
from binlogsync.errors import PositionError
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.sinks.jetstream.messages import MAX_MESSAGES
from binlogsync.stream.reader import StreamBatch, StreamReader

Mask = Callable[[ChangeBatch], pa.BooleanArray]
_WAIT_S = 0.25


class StreamTable:
    """One table in the stream of an open reader."""

    def __init__(self, reader: StreamReader, database: str, table: str) -> None:
        self.reader = reader
        self.table = (database, table)

    def bounds(self) -> tuple[int, int]:
        """(first sequence held, sequence behind the last), of all tables."""
        return self.reader.first_sequence(), self.reader.last_sequence() + 1

    def holds_from(self, place: Checkpoint) -> bool:
        """True when no change of the table that lies behind the place can be missing.

        Either the table's first message that is left holds something before the place, or begins right there; or the
        first checkpoint that is left is not behind the place.
        """
        first, beyond = self.bounds()
        found = self.reader.changes_from(*self.table, first)
        if found:
            here = place_of(found[0].batch, 0)
            if (here.server_uuid, here.position, here.skip) == (place.server_uuid, place.position, place.skip):
                return True
            with suppress(PositionError):
                if not is_behind(found[0].batch, place)[0].as_py():
                    return True
        for sequence in range(first, min(first + MAX_MESSAGES, beyond)):
            if (checkpoint := self.reader.checkpoint_at(sequence)) is not None:
                return _is_reached(place, checkpoint)
        return False

    def reaches(self, place: Checkpoint, wait_s: float = 0.0) -> bool:
        """True when everything before the place is in the stream, at the latest after so many seconds."""
        deadline = time.monotonic() + wait_s
        while True:
            end = self.end()
            if end is not None and _is_reached(end, place):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_WAIT_S)

    def end(self) -> Checkpoint | None:
        """Where the stream ends; None when it is empty."""
        return self.reader.checkpoint_at(self.reader.last_sequence())

    def oldest(self) -> tuple[Checkpoint, datetime] | None:
        """(place of the table's first change that is left, when it was committed); None where it holds none."""
        found = self.reader.changes_from(*self.table, self.reader.first_sequence())
        if not found:
            return None
        return place_of(found[0].batch, 0), found[0].batch.data.column("ts_us")[0].as_py()

    def first_from_time(self, moment: datetime) -> Checkpoint | None:
        """The place of the table's first change committed then or later; None when there is none yet."""
        wanted = pa.scalar(moment, pa.timestamp("us", "UTC"))

        def is_later(batch: ChangeBatch) -> pa.BooleanArray:
            return pc.greater_equal(batch.data.column("ts_us"), wanted)

        sequence = self.first(is_later)
        for item in [] if sequence is None else self.reader.changes_from(*self.table, sequence):
            rows = np.flatnonzero(is_later(item.batch).to_numpy(zero_copy_only=False))
            if len(rows):
                return place_of(item.batch, int(rows[0]))
        return None

    def place_of_sequence(self, sequence: int) -> Checkpoint | None:
        """The place of the table's first change in the messages from that sequence on; None when there is none."""
        found = self.reader.changes_from(*self.table, sequence)
        return place_of(found[0].batch, 0) if found else None

    def last_before(self, place: Checkpoint) -> tuple[StreamBatch, int] | None:
        """(batch, row) of the table's last change before the place; None where the stream holds none."""
        beyond = self.first(lambda batch: is_behind(batch, place))
        for item in reversed([] if beyond is None else self.reader.changes_from(*self.table, beyond)):
            before = np.flatnonzero(~is_behind(item.batch, place).to_numpy(zero_copy_only=False))
            if len(before):
                return item, int(before[-1])
        newest = self.newest_up_to(self.bounds()[1] - 1 if beyond is None else beyond - 1)
        if newest is None:
            return None
        item = self.reader.changes_from(*self.table, newest)[-1]
        return item, len(item) - 1

    def schema(self, sequence: int) -> TableSchema | None:
        """Of the table's schema in its first change of rows from that sequence on; None where there is none."""
        while found := self.reader.changes_from(*self.table, sequence):
            if found[0].batch.ddl is None:
                return found[0].batch.schema
            sequence = found[0].last_sequence + 1
        return None

    def first(self, mask: Mask) -> int | None:
        """Sequence of the table's first message whose last change is one that the mask wants: all later ones are."""
        low, high = self.bounds()
        first: int | None = None
        while low < high:
            middle = (low + high) // 2
            found = self.reader.changes_from(*self.table, middle)
            if not found:
                high = middle
            elif mask(found[-1].batch)[-1].as_py():
                first, high = found[-1].last_sequence, middle
            else:
                low = found[-1].last_sequence + 1
        return first

    def newest_up_to(self, limit: int) -> int | None:
        """Sequence of the table's last message up to the limit; None for none."""
        low, high = self.reader.first_sequence(), limit + 1
        newest: int | None = None
        while low < high:
            middle = (low + high) // 2
            found = self.reader.changes_from(*self.table, middle)
            if found and found[-1].last_sequence <= limit:
                newest = found[-1].last_sequence
                low = newest + 1
            else:
                high = middle
        return newest


def _is_reached(end: Checkpoint, place: Checkpoint) -> bool:
    """True when everything before `place` is before `end`, as far as that can be told."""
    try:
        return not end.precedes(place)
    except PositionError:
        return False
