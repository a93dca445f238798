"""Finds the statements in a dump that may alter tables, to look ahead in the log in one pass.

Skips all other events. Does not report malformed ones: the reader does when it reaches them.
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

_NOT_LOGGED = frozenset({events.ROTATE, *events.HEARTBEATS})  # heartbeats are not in the file; a rotation ends it
_OF_INTEREST = (events.QUERY, events.ROTATE, events.QUERY_COMPRESSED)


@dataclass(frozen=True, slots=True)
class Alteration:
    """A statement that may have altered these tables, (database, table); `position` is the position after it."""

    position: BinlogPosition
    tables: Tables

    def affects(self, database: str, table: str) -> bool:
        """True when it may have changed that table."""
        return (database, table) in self.tables or (database, ALL_TABLES) in self.tables


class AlterationReader:
    """Reads a dump that begins at `position`, which then advances with each event.

    `parser` reports how the dump ended.
    """

    def __init__(self, position: BinlogPosition, fold: Fold = keep_case, *, mariadb: bool) -> None:
        """`fold` is how the server compares names of tables."""
        self.position = position
        self._fold = fold
        self._mariadb = mariadb
        self.parser = DumpParser(EventIndex.room_for(1 << 17), has_checksums)

    def feed(self, buffer: Bytes, start: int, end: int) -> Iterator[Alteration]:
        """The alterations in buffer[start:end]. Raises ValueError for bytes that are not a binlog."""
        try:
            for indexed in self.parser.parse(buffer, start, end):
                yield from self._alterations(indexed)
        except BrokenLogError as error:
            raise ValueError(f"after {self.position}: {error}") from error

    def _alterations(self, indexed: IndexedEvents) -> Iterator[Alteration]:
        kinds = indexed.index.kind[: indexed.count]
        for i in np.flatnonzero(np.isin(kinds, _OF_INTEREST)).tolist():
            event = indexed.event(i).tobytes()
            header, body = event[:HEADER_SIZE], event[HEADER_SIZE:]
            if header[4] == events.ROTATE:
                if events.has_checksum(event):  # the first rotate of a dump precedes the format description
                    body = body[:-CHECKSUM_SIZE]
                self.position = BinlogPosition(*events.parse_rotate(body))
            elif not body.endswith(b"\0BEGIN"):
                query = parse_query(body, header[4])
                dialect = SqlDialect(self._mariadb, query.sql_mode or 0)
                tables = altered_tables(read_statement(query.sql, query.database, dialect))
                if tables and query.takes_effect:
                    yield Alteration(self._end_of(header), fold_tables(tables, self._fold))
        self.position = self._end_of(indexed.event(indexed.count - 1)[:HEADER_SIZE].tobytes())

    def _end_of(self, header: bytes) -> BinlogPosition:
        """The position after an event; the last known one if its header has none, as inside MariaDB's transactions."""
        end, flags = int.from_bytes(header[13:17], "little"), int.from_bytes(header[17:19], "little")
        if not end or flags & ARTIFICIAL or header[4] in _NOT_LOGGED:
            return self.position
        return BinlogPosition(self.position.file, full_position(self.position.pos, end))
