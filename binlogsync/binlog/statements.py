"""Bytes of a dump -> the statements in it that change tables, and nothing else: a look ahead in the log, in one pass.

Events that are no statements are stepped over unread. What is malformed is left to the reader that comes here later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from binlogsync.binlog import events
from binlogsync.binlog.ddl import ALL_TABLES, Tables, altered_tables
from binlogsync.binlog.frames import CHECKSUM_SIZE, HEADER_SIZE, EventIndex, Part, Stop, index_event, index_events
from binlogsync.binlog.plan import ARTIFICIAL, full_position
from binlogsync.binlog.spill import Spill, join_packets
from binlogsync.position import BinlogPosition

Bytes = npt.NDArray[np.uint8]
_NOT_LOGGED = frozenset({events.ROTATE, 27, 41})  # or not in this file any more: heartbeats, a rotation
_OF_INTEREST = (events.QUERY, events.ROTATE, events.QUERY_COMPRESSED)


@dataclass(frozen=True, slots=True)
class Alteration:
    """A statement after which these tables (database, table) may have another shape: the place behind it."""

    position: BinlogPosition
    tables: Tables

    def concerns(self, database: str, table: str) -> bool:
        """True when it may have changed that table."""
        return (database, table) in self.tables or (database, ALL_TABLES) in self.tables


class StatementReader:
    """Takes the bytes of a dump that begins at `position`; `position` is then the place behind the last event seen."""

    def __init__(self, position: BinlogPosition) -> None:
        self.position = position
        self.ended = False
        self.server_error: bytes | None = None
        self._spill = Spill()
        self._index = EventIndex.room_for(1 << 17)
        self._trailer = 0

    def feed(self, buffer: Bytes, start: int, end: int) -> Iterator[Alteration]:
        """The alterations in buffer[start:end]. Raises ValueError for bytes that are no binlog.

        After it `server_error` holds an error packet's payload when the server sent one, and `ended` is True when it
        has no more to send.
        """
        buffer, at, end = self._spill.prepend(buffer, start, end)
        while True:
            count, at, stop = index_events(buffer, at, end, self._index, checksum=False)
            yield from self._alterations(Part(buffer, self._index, count, self._trailer))
            if stop == Stop.FORMAT:
                size = int.from_bytes(buffer[at : at + 3].tobytes(), "little")
                description = buffer[at + 5 + HEADER_SIZE : at + 4 + size].tobytes()
                self._trailer = CHECKSUM_SIZE if events.parse_format_description(description).checksum else 0
                at += 4 + size
            elif stop == Stop.SPLIT:
                joined = join_packets(buffer, at, end)
                if joined is None:
                    break
                event, at = joined
                if index_event(event, self._index, checksum=False) == Stop.MORE:
                    yield from self._alterations(Part(event, self._index, 1, self._trailer))
            elif stop == Stop.SERVER_ERROR:
                self.server_error = buffer[at + 4 : end].tobytes()
                return
            elif stop == Stop.END:
                self.ended = True
                return
            elif stop == Stop.MORE:
                break
            elif stop != Stop.FULL:
                raise ValueError(f"the bytes behind {self.position} are no binlog ({stop.name})")
        self._spill.keep(buffer, at, end)

    def _alterations(self, part: Part) -> Iterator[Alteration]:
        kinds = self._index.kind[: part.count]
        for i in np.flatnonzero(np.isin(kinds, _OF_INTEREST)).tolist():
            event = part.event(i).tobytes()
            header, body = event[:HEADER_SIZE], event[HEADER_SIZE : len(event) - self._trailer]
            if header[4] == events.ROTATE:
                if events.has_checksum(event):
                    body = event[HEADER_SIZE:-CHECKSUM_SIZE]
                self.position = BinlogPosition(*events.parse_rotate(body))
            elif not body.endswith(b"\0BEGIN"):
                query = events.parse_query(body, header[4])
                tables = altered_tables(query.sql, query.database)
                if tables:
                    yield Alteration(self._behind(header), tables)
        if part.count:
            self.position = self._behind(part.event(part.count - 1)[:HEADER_SIZE].tobytes())

    def _behind(self, header: bytes) -> BinlogPosition:
        """The place behind an event; the last that is known where it does not say, as in MariaDB's transactions."""
        end, flags = int.from_bytes(header[13:17], "little"), int.from_bytes(header[17:19], "little")
        if not end or flags & ARTIFICIAL or header[4] in _NOT_LOGGED:
            return self.position
        return BinlogPosition(self.position.file, full_position(self.position.pos, end))
