"""Bytes of a dump -> the statements in it that change tables, and nothing else: a look ahead in the log, in one pass.

Events that are no statements are stepped over unread. What is malformed is left to the reader that comes here later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from binlogsync.binlog import events
from binlogsync.binlog.ddl import ALL_TABLES, Tables, altered_tables, read_statement
from binlogsync.binlog.dump_parser import BrokenLogError, Bytes, DumpParser, has_checksums
from binlogsync.binlog.event_index import CHECKSUM_SIZE, HEADER_SIZE, EventIndex, IndexedEvents
from binlogsync.binlog.known_tables import fold_tables
from binlogsync.binlog.query_event import parse_query
from binlogsync.binlog.scan_state import ARTIFICIAL, full_position
from binlogsync.binlog.sql import SqlDialect
from binlogsync.position import BinlogPosition
from binlogsync.table_names import Fold, keep_case

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


class AlterationReader:
    """Takes the bytes of a dump that begins at `position`; `position` is then the place behind the last event seen.

    How the dump ended is said by `walk`.
    """

    def __init__(self, position: BinlogPosition, fold: Fold = keep_case, *, mariadb: bool) -> None:
        """`fold` is how the server compares names of tables."""
        self.position = position
        self._fold = fold
        self._mariadb = mariadb
        self.walk = DumpParser(EventIndex.room_for(1 << 17), has_checksums)

    def feed(self, buffer: Bytes, start: int, end: int) -> Iterator[Alteration]:
        """The alterations in buffer[start:end]. Raises ValueError for bytes that are no binlog."""
        try:
            for part in self.walk.parts(buffer, start, end):
                yield from self._alterations(part)
        except BrokenLogError as error:
            raise ValueError(f"behind {self.position} {error}") from error

    def _alterations(self, part: IndexedEvents) -> Iterator[Alteration]:
        kinds = part.index.kind[: part.count]
        for i in np.flatnonzero(np.isin(kinds, _OF_INTEREST)).tolist():
            event = part.event(i).tobytes()
            header, body = event[:HEADER_SIZE], event[HEADER_SIZE:]
            if header[4] == events.ROTATE:
                if events.has_checksum(event):  # the first of a dump comes before the format description
                    body = body[:-CHECKSUM_SIZE]
                self.position = BinlogPosition(*events.parse_rotate(body))
            elif not body.endswith(b"\0BEGIN"):
                query = parse_query(body, header[4])
                dialect = SqlDialect(self._mariadb, query.sql_mode or 0)
                tables = altered_tables(read_statement(query.sql, query.database, dialect))
                if tables and query.takes_effect:
                    yield Alteration(self._behind(header), fold_tables(tables, self._fold))
        self.position = self._behind(part.event(part.count - 1)[:HEADER_SIZE].tobytes())

    def _behind(self, header: bytes) -> BinlogPosition:
        """The place behind an event; the last that is known where it does not say, as in MariaDB's transactions."""
        end, flags = int.from_bytes(header[13:17], "little"), int.from_bytes(header[17:19], "little")
        if not end or flags & ARTIFICIAL or header[4] in _NOT_LOGGED:
            return self.position
        return BinlogPosition(self.position.file, full_position(self.position.pos, end))
