"""Reads a range from the stream, with a temporary durable per read, so no live consumer is disturbed."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from typing import Literal

from binlogsync.errors import SinkError
from binlogsync.nats.complete_reading import StreamRecreatedError, read_sequences
from binlogsync.nats.reader import StreamReader
from binlogsync.nats.temporary_durable import temporary_durable
from binlogsync.replay.range_reader import ReadStep
from binlogsync.replay.ranges import ReplayRange, mask_from
from binlogsync.replay.stream_table import StreamTable


class StreamRangeReader(StreamTable):
    """The `RangeReader` of a stream."""

    name: Literal["stream", "binlog"] = "stream"

    def __init__(self, reader: StreamReader, database: str, table: str) -> None:
        super().__init__(reader, database, table)
        self.expected: int | None = None

    def read(self, range_: ReplayRange, stop: threading.Event) -> Generator[ReadStep]:
        """See RangeReader. The caller must not use the stream's reader meanwhile: the next changes are read ahead.

        Raises SinkError also if the stream drops messages of the range before they are read.
        """
        first = self.first(lambda batch: mask_from(batch, range_.start))
        last = self._find_last(range_)
        if first is None or last < first:
            self.expected = 0
            return
        self.expected = None if self._has_several_changes(last) else self.count_messages(first, last)
        read_to = first - 1
        try:
            with closing(read_sequences(self.reader, self.table, (first, last), "backfill", is_ahead=True)) as found:
                for items in found:
                    read_to = items[-1].last_sequence if items else read_to
                    clipped = (range_.clip(item) for item in items)
                    share = (min(read_to, last) - first + 1) / (last - first + 1)
                    yield ReadStep(tuple(item for item in clipped if item is not None), share)
                    if stop.is_set():
                        return
            if read_to < last:
                raise StreamRecreatedError
        except StreamRecreatedError:
            raise SinkError(
                f"stream {self.reader.stream} was recreated, or dropped messages of the range {range_.label} after "
                f"sequence {read_to}, while it was read; start the replay again: it resumes after the last stored "
                "change, and reads the binlogs if the stream no longer has the range"
            ) from None

    def count_messages(self, first: int, last: int) -> int:
        """Number of messages of the table from one sequence to another, both included."""
        counts = []
        for sequence in (first, last + 1):
            with temporary_durable(self.reader, "backfill", self.table, sequence) as durable:
                pending = self.reader.pending(durable)
                counts.append(pending.num_pending if pending is not None else 0)
        return max(0, counts[0] - counts[1])

    def _find_last(self, range_: ReplayRange) -> int:
        """Sequence of the last message that may contain changes of the range; 0 if there is none."""
        after = self.first(lambda batch: mask_from(batch, range_.until))
        return self.newest_up_to(self.reader.last_sequence() if after is None else after) or 0

    def _has_several_changes(self, sequence: int) -> bool:
        """True when the table's message at that sequence contains more than one change."""
        return sum(len(item) for item in self.reader.changes_from(*self.table, sequence)) > 1
