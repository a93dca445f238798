"""Searches one table's messages in a stream, by checkpoint or by time.

The search is a bisection over stream sequences that reads one message of the table per step and compares the positions
stored in the messages, so it is correct also for a stream that was recreated. `holds_from` and `reaches` return True
only where the messages prove it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.seek import find_first_checkpoint
from binlogsync.errors import PositionError
from binlogsync.nats.reader import StreamBatch, StreamReader
from binlogsync.position import FIRST_ORDINAL, Checkpoint
from binlogsync.position_order import compare
from binlogsync.replay.ranges import checkpoint_before, mask_from
from binlogsync.schema import TableSchema
from binlogsync.waiting import RetryTimer

Mask = Callable[[ChangeBatch], pa.BooleanArray]
_WAIT_S = 0.25


class StreamTable:
    """One table in the stream of an open reader."""

    def __init__(self, reader: StreamReader, database: str, table: str) -> None:
        self.reader = reader
        self.table = (database, table)

    def bounds(self) -> tuple[int, int]:
        """(first sequence, last sequence + 1) of the whole stream."""
        return self.reader.first_sequence(), self.reader.last_sequence() + 1

    def holds_from(self, checkpoint: Checkpoint) -> bool:
        """True when no change of the table at or after the checkpoint can be missing.

        Proof: the table's first message contains a change before the checkpoint, or starts exactly at it; or the first
        checkpoint in the stream is not after it.
        """
        first = self.reader.first_sequence()
        found = self.reader.changes_from(*self.table, first)
        if found:
            start = checkpoint_before(found[0].batch, 0)
            wanted = (checkpoint.server_uuid, checkpoint.position, checkpoint.skip)
            if (start.server_uuid, start.position, start.skip) == wanted:
                return True
            with suppress(PositionError):
                if not mask_from(found[0].batch, checkpoint)[0].as_py():
                    return True
        oldest = find_first_checkpoint(self.reader, first)
        return oldest is not None and compare(checkpoint, oldest).is_at_or_after

    def reaches(self, checkpoint: Checkpoint, wait_s: float = 0.0) -> bool:
        """True when every change before the checkpoint is in the stream; waits for it up to `wait_s`."""
        if checkpoint.skip >= FIRST_ORDINAL:  # among rows of a snapshot, which only the stream has
            checkpoint = checkpoint.at_boundary()
        timer = RetryTimer(wait_s, _WAIT_S)
        while True:
            end = self.end()
            if end is not None and compare(end, checkpoint).is_at_or_after:
                return True
            if timer.is_over:
                return False
            timer.pause()

    def end(self) -> Checkpoint | None:
        """The checkpoint of the last message; None when the stream is empty."""
        return self.reader.checkpoint_at(self.reader.last_sequence())

    def oldest(self) -> tuple[Checkpoint, datetime] | None:
        """(checkpoint before the table's first change in the stream, its commit time); None when there is no change."""
        found = self.reader.changes_from(*self.table, self.reader.first_sequence())
        if not found:
            return None
        return checkpoint_before(found[0].batch, 0), found[0].batch.data.column("ts_us")[0].as_py()

    def first_from_time(self, moment: datetime) -> Checkpoint | None:
        """The checkpoint before the table's first change committed at or after the time; None when there is none."""
        wanted = pa.scalar(moment, pa.timestamp("us", "UTC"))

        def is_later(batch: ChangeBatch) -> pa.BooleanArray:
            return pc.greater_equal(batch.data.column("ts_us"), wanted)

        sequence = self.first(is_later)
        for item in [] if sequence is None else self.reader.changes_from(*self.table, sequence):
            rows = np.flatnonzero(is_later(item.batch).to_numpy(zero_copy_only=False))
            if len(rows):
                return checkpoint_before(item.batch, int(rows[0]))
        return None

    def checkpoint_of_sequence(self, sequence: int) -> Checkpoint | None:
        """The checkpoint before the table's first change at or after the sequence; None when there is none."""
        found = self.reader.changes_from(*self.table, sequence)
        return checkpoint_before(found[0].batch, 0) if found else None

    def last_before(self, checkpoint: Checkpoint) -> tuple[StreamBatch, int] | None:
        """(batch, row) of the table's last change before the checkpoint; None when there is none in the stream."""
        after = self.first(lambda batch: mask_from(batch, checkpoint))
        for item in reversed([] if after is None else self.reader.changes_from(*self.table, after)):
            before = np.flatnonzero(~mask_from(item.batch, checkpoint).to_numpy(zero_copy_only=False))
            if len(before):
                return item, int(before[-1])
        newest = self.newest_up_to(self.bounds()[1] - 1 if after is None else after - 1)
        if newest is None:
            return None
        item = self.reader.changes_from(*self.table, newest)[-1]
        return item, len(item) - 1

    def schema(self, sequence: int) -> TableSchema | None:
        """The schema in the table's first row change at or after the sequence; None when there is none."""
        while found := self.reader.changes_from(*self.table, sequence):
            if found[0].batch.ddl is None:
                return found[0].batch.schema
            sequence = found[0].last_sequence + 1
        return None

    def first(self, mask: Mask) -> int | None:
        """Sequence of the table's first message whose last change matches the mask; all later changes must match."""
        return self.reader.find_first(*self.table, lambda batch: mask(batch)[-1].as_py(), self.bounds())

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
