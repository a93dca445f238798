"""A range out of the stream: where it begins and ends there, and its changes.

Places are found by bisection over sequences, reading one message of the table at each step: what the messages say of
themselves counts, so a stream that was lost and filled again misleads nobody. Changes come through a durable of this
backfill alone; no consumer is disturbed.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.backfill.ranges import Span, is_behind
from binlogsync.backfill.reading import Part
from binlogsync.change import ChangeBatch
from binlogsync.errors import BinlogSyncError, PositionError, SinkError
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.sinks.jetstream_messages import MAX_MESSAGES
from binlogsync.stream import StreamReader
from binlogsync.subjects import durable_name

log = logging.getLogger(__name__)

Mask = Callable[[ChangeBatch], pa.BooleanArray]
_FETCH = 10_000
_SILENCE_S = 60.0
_INACTIVE_S = 6 * 3600.0
_WAIT_S = 0.25


class StreamRange:
    """Looks into the stream for one table; a `Reading` of ranges that the stream holds."""

    name: Literal["stream", "binlog"] = "stream"

    def __init__(self, reader: StreamReader, database: str, table: str) -> None:
        self.expected: int | None = None
        self._reader = reader
        self._table = (database, table)

    # Where things are

    def holds_from(self, place: Checkpoint) -> bool:
        """True when no change of the table that lies behind the place can be missing.

        Either the table's first message that is left holds something before the place, or begins right there; or the
        first checkpoint that is left is not behind the place. Where neither is so, nobody knows, and the answer is no.
        """
        first, behind_last = self.bounds()
        found = self._reader.changes_from(*self._table, first)
        if found:
            here = place_of(found[0].batch, 0)
            if (here.server_uuid, here.position, here.skip) == (place.server_uuid, place.position, place.skip):
                return True
            with suppress(PositionError):
                if not is_behind(found[0].batch, place)[0].as_py():
                    return True
        for sequence in range(first, min(first + MAX_MESSAGES, behind_last)):
            if (checkpoint := self._reader.checkpoint_at(sequence)) is not None:
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
        """Where the stream ends; None when it is empty, or something is being written right now."""
        return self._reader.checkpoint_at(self._reader.last_sequence())

    def oldest(self) -> tuple[Checkpoint, datetime] | None:
        """(place of the table's first change that is left, when it was committed); None where it holds none."""
        found = self._reader.changes_from(*self._table, self._reader.first_sequence())
        if not found:
            return None
        return place_of(found[0].batch, 0), found[0].batch.data.column("ts_us")[0].as_py()

    def first_from_time(self, moment: datetime) -> Checkpoint | None:
        """The place of the table's first change committed then or later; None when there is none yet."""
        wanted = pa.scalar(moment, pa.timestamp("us", "UTC"))
        return self._place_where(lambda batch: pc.greater_equal(batch.data.column("ts_us"), wanted))

    def place_of_sequence(self, sequence: int) -> Checkpoint | None:
        """The place of the table's first change in the messages from that sequence on; None when there is none."""
        found = self._reader.changes_from(*self._table, sequence)
        return place_of(found[0].batch, 0) if found else None

    def bounds(self) -> tuple[int, int]:
        """(first sequence held, sequence behind the last)."""
        return self._reader.first_sequence(), self._reader.last_sequence() + 1

    # Its changes

    def parts(self, span: Span, stop: threading.Event) -> Iterator[Part]:
        """See Reading."""
        last = self._last_wanted(span)
        first = self._first(lambda batch: is_behind(batch, span.start))
        if first is None or last < first:
            self.expected = 0
            return
        durable = durable_name(f"backfill-{secrets.token_hex(4)}", *self._table)
        try:
            self._reader.ensure_durable(durable, *self._table, first, _INACTIVE_S)
            self.expected = self._count(durable, last)
            yield from self._deliver(durable, span, (first, last), stop)
        finally:
            self._let_go(durable)

    def _deliver(self, durable: str, span: Span, bounds: tuple[int, int], stop: threading.Event) -> Iterator[Part]:
        first, last = bounds
        at, heard_s = first - 1, time.monotonic()
        while at < last and not stop.is_set():
            found = self._reader.fetch(durable, _FETCH)
            if not found and time.monotonic() - heard_s > _SILENCE_S:
                raise SinkError(
                    f"stream {self._reader.stream} delivered nothing for {_SILENCE_S:g} s, though sequence {last} "
                    f"belongs to the range; look at: nats consumer info {self._reader.stream} '{durable}'"
                )
            if found:
                at, heard_s = found[-1].last_sequence, time.monotonic()
                cut = (span.cut(item) for item in found)
                share = (min(at, last) - first + 1) / (last - first + 1)
                yield Part(tuple(item for item in cut if item is not None), share)

    def _count(self, durable: str, last: int) -> int | None:
        """Messages that a new durable will deliver up to `last`; that is changes, where a message holds one."""
        waiting = self._reader.pending(durable)
        behind = f"{durable}-end"
        try:
            self._reader.ensure_durable(behind, *self._table, last + 1, _INACTIVE_S)
            later = self._reader.pending(behind)
        finally:
            self._let_go(behind)
        if waiting is None or later is None or self._holds_several(last):
            return None
        return waiting.num_pending - later.num_pending

    def _holds_several(self, sequence: int) -> bool:
        """True when a message of the table holds more than one change."""
        return sum(len(item) for item in self._reader.changes_from(*self._table, sequence)) > 1

    def _last_wanted(self, span: Span) -> int:
        """Sequence of the last message that may hold changes of the range; 0 for none."""
        beyond = self._first(lambda batch: is_behind(batch, span.until))
        limit = self._reader.last_sequence() if beyond is None else beyond
        before = self._newest_up_to(limit)
        return 0 if before is None else before

    def _newest_up_to(self, limit: int) -> int | None:
        """Sequence of the table's last message up to the limit."""
        low, high = self._reader.first_sequence(), limit + 1
        newest: int | None = None
        while low < high:
            middle = (low + high) // 2
            found = self._reader.changes_from(*self._table, middle)
            if found and found[-1].last_sequence <= limit:
                newest = found[-1].last_sequence
                low = newest + 1
            else:
                high = middle
        return newest

    def _place_where(self, mask: Mask) -> Checkpoint | None:
        sequence = self._first(mask)
        for item in [] if sequence is None else self._reader.changes_from(*self._table, sequence):
            rows = np.flatnonzero(mask(item.batch).to_numpy(zero_copy_only=False))
            if len(rows):
                return place_of(item.batch, int(rows[0]))
        return None

    def _first(self, mask: Mask) -> int | None:
        """Sequence of the table's first message whose last change is one that the mask wants: all later ones are."""
        low, high = self.bounds()
        first: int | None = None
        while low < high:
            middle = (low + high) // 2
            found = self._reader.changes_from(*self._table, middle)
            if not found:
                high = middle
            elif mask(found[-1].batch)[-1].as_py():
                first, high = found[-1].last_sequence, middle
            else:
                low = found[-1].last_sequence + 1
        return first

    def _let_go(self, durable: str) -> None:
        try:
            self._reader.delete_durable(durable)
        except BinlogSyncError as error:
            log.info("durable %s is left for the server to remove: %s", durable, error)


def place_of(batch: ChangeBatch, row: int) -> Checkpoint:
    """The place right before a change."""
    file, txn_pos, order = (batch.data.column(name)[row].as_py() for name in ("file", "txn_pos", "order"))
    return Checkpoint(BinlogPosition(file, txn_pos), batch.server_uuid, None, order)


def _is_reached(end: Checkpoint, place: Checkpoint) -> bool:
    """True when everything before `place` is before `end`, as far as that can be told."""
    try:
        return not end.precedes(place)
    except PositionError:
        return False
