"""Reads a range from MySQL's binlogs: a separate, non-blocking binlog dump, decoded for one table.

The dump does not register as a replica and ends at the end of the binlog, so a running tail is not disturbed.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from binlogsync.binlog.reader import BinlogReader, DecodedRange
from binlogsync.errors import MissingPrepareError, SourceError
from binlogsync.mysql import (
    BinlogDump,
    MySQLConfig,
    ReadAhead,
    ServerInfo,
    find_xa_prepare,
    inspect_server,
    raise_server_error,
    reader_options,
)
from binlogsync.nats.reader import StreamBatch
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_masks import changes_after
from binlogsync.position_order import compare_or_raise
from binlogsync.replay.range_reader import ReadStep
from binlogsync.replay.ranges import ReplayRange
from binlogsync.table_names import check_spelling

_WAIT_S = 0.5


class BinlogRangeReader:
    """The `RangeReader` of MySQL's binlogs."""

    name: Literal["stream", "binlog"] = "binlog"

    def __init__(self, config: MySQLConfig, database: str, table: str) -> None:
        self.expected: int | None = None
        self._config = config
        self._table = (database, table)

    def read(self, range_: ReplayRange, stop: threading.Event) -> Generator[ReadStep]:
        """See RangeReader."""
        if range_.is_empty:
            self.expected = 0
            return
        info = inspect_server(self._config)
        check_spelling(info.fold, *self._table, self._config.source)
        progress = _ReadProgress(info, range_)
        start, read = range_.start, range_.start.at_boundary()
        missing: MissingPrepareError | None = None
        while True:
            try:
                for decoded in self._decode(info, start, range_, stop):
                    yield ReadStep(
                        _items(decoded, range_, read if missing is not None else None), progress.share(decoded)
                    )
                    if compare_or_raise(decoded.checkpoint, range_.until).is_at_or_after:
                        return
                    if compare_or_raise(read, decoded.checkpoint).may_be_before:
                        read = decoded.checkpoint
                return
            except MissingPrepareError as error:
                if error.is_same(missing):
                    raise
                missing = error
                reached = find_xa_prepare(self._config, range_.start, error, lambda: not stop.is_set())
                if reached is None:
                    return
                start = reached

    def _decode(
        self, info: ServerInfo, begin: Checkpoint, range_: ReplayRange, stop: threading.Event
    ) -> Iterator[DecodedRange]:
        """The decoded transactions from the checkpoint `begin` to the end of the binlog."""
        start = begin.at_boundary().read_start()
        options = replace(reader_options(self._config, info, self._captures), stored=range_.start)
        reader = BinlogReader(options, replace(start, server_uuid=info.server_uuid))
        with BinlogDump(self._config, start, blocking=False, info=info) as dump, ReadAhead(dump) as ahead:
            while not stop.is_set():
                chunk = ahead.next(_WAIT_S)
                if chunk is None and ahead.ended:
                    raise SourceError(
                        f"{self._config.address} closed the binlog dump at {reader.position}, inside the range "
                        f"{range_.label}; start the replay again; it resumes after the last stored change"
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


def _items(decoded: DecodedRange, range_: ReplayRange, read: Checkpoint | None) -> tuple[StreamBatch, ...]:
    """The changes that are in the range and not before `read`, the checkpoint up to which changes were returned."""
    clipped = (
        range_.clip(StreamBatch(batch, np.zeros(len(batch), np.int64), None))
        for batch in (decoded.batches if read is None else (changes_after(batch, read) for batch in decoded.batches))
    )
    return tuple(item for item in clipped if item is not None)


class _ReadProgress:
    """The share of a range that has been read, by bytes of binlog."""

    def __init__(self, info: ServerInfo, range_: ReplayRange) -> None:
        self._before: dict[str, int] = {}
        total = 0
        for file in info.files:
            self._before[file.name] = total
            total += file.size
        self._begin = self._bytes(range_.start.position) if range_.start.server_uuid == info.server_uuid else 0
        self._end = self._bytes(range_.until.position) if range_.until.server_uuid == info.server_uuid else total

    def share(self, decoded: DecodedRange) -> float:
        """The share after these transactions, 0 to 1."""
        done = self._bytes(decoded.checkpoint.position) - self._begin
        return max(0.0, min(1.0, done / max(1, self._end - self._begin)))

    def _bytes(self, position: BinlogPosition) -> int:
        """Bytes of all files before the position; a file that was created after the start follows all known files."""
        last = max(self._before.values(), default=0)
        return self._before.get(position.file, last) + position.pos
