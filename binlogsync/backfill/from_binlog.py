"""A range out of MySQL's binlogs: a dump of its own that ends by itself, decoded for one table.

The server does not count it as a replica, so a running tail is not disturbed, and nothing waits for new events.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pyarrow as pa

from binlogsync.backfill.ranges import Span
from binlogsync.backfill.reading import Part
from binlogsync.binlog.reader import BinlogReader, DecodedRange
from binlogsync.errors import PreparedEarlierError, SourceError
from binlogsync.flush import changes_after
from binlogsync.mysql import (
    BinlogDump,
    MySQLConfig,
    ReadAhead,
    ServerInfo,
    inspect_server,
    raise_server_error,
    reach_back,
    reader_options,
)
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.stream.reader import StreamBatch
from binlogsync.table_names import check_spelling

_WAIT_S = 0.5


class BinlogRange:
    """A `Reading` of ranges that MySQL's binlogs hold."""

    name: Literal["stream", "binlog"] = "binlog"

    def __init__(self, config: MySQLConfig, database: str, table: str) -> None:
        self.expected: int | None = None
        self._config = config
        self._table = (database, table)

    def parts(self, span: Span, stop: threading.Event) -> Iterator[Part]:
        """See Reading."""
        if span.is_empty:
            self.expected = 0
            return
        info = inspect_server(self._config)
        check_spelling(info.fold, *self._table, self._config.source)
        way = _Way(info, span)
        start, read = span.start, span.start.at_boundary()
        missing: PreparedEarlierError | None = None
        while True:
            try:
                for stretch in self._stretches(info, start, span, stop):
                    yield Part(_items(stretch, span, read if missing is not None else None), way.share(stretch))
                    if not stretch.checkpoint.precedes(span.until):
                        return
                    read = stretch.checkpoint if read.precedes(stretch.checkpoint) else read
                return
            except PreparedEarlierError as error:
                if error.is_same(missing):
                    raise
                missing = error
                reached = reach_back(self._config, span.start, error, lambda: not stop.is_set())
                if reached is None:
                    return
                start = reached

    def _stretches(
        self, info: ServerInfo, begin: Checkpoint, span: Span, stop: threading.Event
    ) -> Iterator[DecodedRange]:
        """What the log holds for a restart at `begin`, to its end."""
        start = begin.at_boundary().to_read()
        options = reader_options(self._config, info, self._captures)
        reader = BinlogReader(options, replace(start, server_uuid=info.server_uuid))
        with BinlogDump(self._config, start, blocking=False, info=info) as dump, ReadAhead(dump) as ahead:
            while not stop.is_set():
                chunk = ahead.next(_WAIT_S)
                if chunk is None and ahead.ended:
                    raise SourceError(
                        f"{self._config.address} closed the binlog dump at {reader.position}, inside the range "
                        f"{span.label}; start the backfill again, it goes on from what is stored"
                    )
                if chunk is None:
                    continue
                yield from reader.feed(chunk.buffer, chunk.start, chunk.end)
                ahead.recycle(chunk)
                if reader.server_error is not None:
                    raise_server_error(reader.server_error)
                if reader.ended:
                    return

    def _captures(self, database: str, table: str) -> bool:
        return (database, table) == self._table


def _items(stretch: DecodedRange, span: Span, read: Checkpoint | None) -> tuple[StreamBatch, ...]:
    """The changes of a stretch that lie in the range, without those before `read`, which were read already."""
    cut = (
        span.cut(StreamBatch(batch, pa.repeat(pa.scalar(0, pa.uint64()), len(batch)), None))
        for batch in (stretch.batches if read is None else (changes_after(batch, read) for batch in stretch.batches))
    )
    return tuple(item for item in cut if item is not None)


class _Way:
    """How far reading is, by bytes of binlog."""

    def __init__(self, info: ServerInfo, span: Span) -> None:
        self._before: dict[str, int] = {}
        total = 0
        for file in info.files:
            self._before[file.name] = total
            total += file.size
        self._begin = self._bytes(span.start.position) if span.start.server_uuid == info.server_uuid else 0
        self._end = self._bytes(span.until.position) if span.until.server_uuid == info.server_uuid else total

    def share(self, stretch: DecodedRange) -> float:
        """0 to 1."""
        done = self._bytes(stretch.checkpoint.position) - self._begin
        return max(0.0, min(1.0, done / max(1, self._end - self._begin)))

    def _bytes(self, position: BinlogPosition) -> int:
        """Bytes before it in all files; a file that was begun since comes behind all."""
        last = max(self._before.values(), default=0)
        return self._before.get(position.file, last) + position.pos
