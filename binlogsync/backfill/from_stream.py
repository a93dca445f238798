"""A range out of the stream, through a durable of this backfill alone: no consumer is disturbed."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from binlogsync.backfill.in_stream import StreamTable
from binlogsync.backfill.ranges import Span, is_behind
from binlogsync.backfill.reading import Part
from binlogsync.errors import BinlogSyncError, SinkError
from binlogsync.stream.reader import StreamReader
from binlogsync.wire.subjects import durable_name

log = logging.getLogger(__name__)

_FETCH = 10_000
_SILENCE_S = 60.0
_INACTIVE_S = 6 * 3600.0


class StreamRange(StreamTable):
    """A `Reading` of ranges that the stream holds."""

    name: Literal["stream", "binlog"] = "stream"

    def __init__(self, reader: StreamReader, database: str, table: str) -> None:
        super().__init__(reader, database, table)
        self.expected: int | None = None

    def parts(self, span: Span, stop: threading.Event) -> Iterator[Part]:
        """See Reading."""
        first = self.first(lambda batch: is_behind(batch, span.start))
        last = self._last_wanted(span)
        if first is None or last < first:
            self.expected = 0
            return
        self.expected = None if self._holds_several(last) else self.messages(first, last)
        with self._durable(first) as durable:
            yield from self._deliver(durable, span, (first, last), stop)

    def messages(self, first: int, last: int) -> int:
        """How many messages the table has from one sequence to another, both counted."""
        counts = []
        for sequence in (first, last + 1):
            with self._durable(sequence) as durable:
                waiting = self.reader.pending(durable)
                counts.append(waiting.num_pending if waiting is not None else 0)
        return max(0, counts[0] - counts[1])

    def _deliver(self, durable: str, span: Span, bounds: tuple[int, int], stop: threading.Event) -> Iterator[Part]:
        first, last = bounds
        at, heard_s = first - 1, time.monotonic()
        while at < last and not stop.is_set():
            found = self.reader.fetch(durable, _FETCH)
            if not found and time.monotonic() - heard_s > _SILENCE_S:
                raise SinkError(
                    f"stream {self.reader.stream} delivered nothing for {_SILENCE_S:g} s, though sequence {last} "
                    f"belongs to the range; look at: nats consumer info {self.reader.stream} '{durable}'"
                )
            if found:
                at, heard_s = found[-1].last_sequence, time.monotonic()
                cut = (span.cut(item) for item in found)
                share = (min(at, last) - first + 1) / (last - first + 1)
                yield Part(tuple(item for item in cut if item is not None), share)

    def _last_wanted(self, span: Span) -> int:
        """Sequence of the last message that may hold changes of the range; 0 for none."""
        beyond = self.first(lambda batch: is_behind(batch, span.until))
        return self.newest_up_to(self.reader.last_sequence() if beyond is None else beyond) or 0

    def _holds_several(self, sequence: int) -> bool:
        """True when a message of the table holds more than one change."""
        return sum(len(item) for item in self.reader.changes_from(*self.table, sequence)) > 1

    @contextmanager
    def _durable(self, sequence: int) -> Iterator[str]:
        """A durable that delivers from there on, for as long as the block lasts; the server forgets one left behind."""
        name = durable_name(f"backfill-{secrets.token_hex(4)}", *self.table)
        try:
            self.reader.ensure_durable(name, *self.table, sequence, _INACTIVE_S)
            yield name
        finally:
            try:
                self.reader.delete_durable(name)
            except BinlogSyncError as error:
                log.info("durable %s is left for the server to remove: %s", name, error)
