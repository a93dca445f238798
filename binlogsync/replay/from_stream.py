"""Reads a range from the stream, with a temporary durable per read, so no live consumer is disturbed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from binlogsync.errors import BinlogSyncError, SinkError
from binlogsync.nats.durable import temporary_durable
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.range_reader import ReadStep
from binlogsync.replay.ranges import ReplayRange, mask_from
from binlogsync.replay.stream_table import StreamTable

log = logging.getLogger(__name__)

_FETCH = 10_000
_SILENCE_S = 60.0
_INACTIVE_S = 6 * 3600.0


class StreamRangeReader(StreamTable):
    """The `RangeReader` of a stream."""

    name: Literal["stream", "binlog"] = "stream"

    def __init__(self, reader: StreamReader, database: str, table: str) -> None:
        super().__init__(reader, database, table)
        self.expected: int | None = None

    def read(self, range_: ReplayRange, stop: threading.Event) -> Iterator[ReadStep]:
        """See RangeReader."""
        first = self.first(lambda batch: mask_from(batch, range_.start))
        last = self._find_last(range_)
        if first is None or last < first:
            self.expected = 0
            return
        self.expected = None if self._has_several_changes(last) else self.count_messages(first, last)
        with self._durable(first) as durable:
            yield from self._deliver(durable, range_, (first, last), stop)

    def count_messages(self, first: int, last: int) -> int:
        """Number of messages of the table from one sequence to another, both included."""
        counts = []
        for sequence in (first, last + 1):
            with self._durable(sequence) as durable:
                pending = self.reader.pending(durable)
                counts.append(pending.num_pending if pending is not None else 0)
        return max(0, counts[0] - counts[1])

    def _deliver(
        self, durable: str, range_: ReplayRange, bounds: tuple[int, int], stop: threading.Event
    ) -> Iterator[ReadStep]:
        first, last = bounds
        read_to, received_s = first - 1, time.monotonic()
        while read_to < last and not stop.is_set():
            found = self.reader.fetch(durable, _FETCH)
            if not found and time.monotonic() - received_s > _SILENCE_S:
                raise SinkError(
                    f"stream {self.reader.stream} delivered nothing for {_SILENCE_S:g} s, though sequence {last} "
                    f"is in the range; check with: nats consumer info {self.reader.stream} '{durable}'"
                )
            if found:
                read_to, received_s = found[-1].last_sequence, time.monotonic()
                clipped = (range_.clip(item) for item in found)
                share = (min(read_to, last) - first + 1) / (last - first + 1)
                yield ReadStep(tuple(item for item in clipped if item is not None), share)

    def _find_last(self, range_: ReplayRange) -> int:
        """Sequence of the last message that may contain changes of the range; 0 if there is none."""
        after = self.first(lambda batch: mask_from(batch, range_.until))
        return self.newest_up_to(self.reader.last_sequence() if after is None else after) or 0

    def _has_several_changes(self, sequence: int) -> bool:
        """True when the table's message at that sequence contains more than one change."""
        return sum(len(item) for item in self.reader.changes_from(*self.table, sequence)) > 1

    @contextmanager
    def _durable(self, sequence: int) -> Iterator[str]:
        """A durable that starts at the sequence; it is deleted after the block, or by NATS when inactive for 6 h."""
        name = temporary_durable("backfill", self.table)
        try:
            self.reader.ensure_durable(name, *self.table, sequence, _INACTIVE_S)
            yield name
        finally:
            try:
                self.reader.delete_durable(name)
            except BinlogSyncError as error:
                log.info("cannot delete durable %s, which NATS removes when it is inactive for 6 h: %s", name, error)
