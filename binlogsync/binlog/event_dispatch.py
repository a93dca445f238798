"""The events that are handled one by one: rotations, statements, XA transactions, GTIDs that the walk does not know.

What a statement means for the flow is decided here: DDL on a captured table ends a stretch, a statement that changes
rows of one is an error, and so is an event that is not known and may carry changes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NoReturn, cast

from binlogsync.binlog import events, xa
from binlogsync.binlog.assembler import Assembler
from binlogsync.binlog.catalog import Catalog
from binlogsync.binlog.ddl import DDL, Statement, Tables, altered_tables, read_statement
from binlogsync.binlog.decoded_range import DecodedRange
from binlogsync.binlog.event_index import CHECKSUM_SIZE
from binlogsync.binlog.known_tables import fold_tables
from binlogsync.binlog.query_event import parse_query
from binlogsync.binlog.scan_state import ARTIFICIAL, ScanField
from binlogsync.binlog.sql import SqlDialect
from binlogsync.change import SchemaChange
from binlogsync.errors import DecodeError, MissingPrepareError
from binlogsync.position import BinlogPosition

log = logging.getLogger(__name__)
_IGNORABLE = 0x80  # header flag: who does not know the event may step over it
_OF_A_LOAD = frozenset({events.APPEND_BLOCK, events.DELETE_FILE, events.BEGIN_LOAD_QUERY})
_WAY_TO_ROWS = "set binlog_format to ROW"
_MARIADB_WAY_TO_ROWS = (
    f"{_WAY_TO_ROWS}; where it is, the table is versioned by transaction (GENERATED ALWAYS AS ROW START of BIGINT "
    "UNSIGNED), which MariaDB logs in no other way: leave the table out with a filter"
)
_UNKNOWN_XA = (
    "commits changes that were logged when they were prepared, before the place where reading began; begin at a "
    "place before that, or behind this one with new copies of the tables"
)


def refuse(reason: str, place: BinlogPosition, table: str | None = None, column: str | None = None) -> NoReturn:
    """Raise the DecodeError for the event at a place."""
    raise DecodeError(reason, file=place.file, pos=place.pos, table=table, column=column)


class EventDispatcher:
    """Handles one event after the other; see the module."""

    def __init__(self, assembler: Assembler, catalog: Catalog, *, mariadb: bool) -> None:
        self.has_started = False
        """A format description was seen: the position is that of this dump."""
        self._way_to_rows = _MARIADB_WAY_TO_ROWS if mariadb else _WAY_TO_ROWS
        self._assembler = assembler
        self._catalog = catalog
        self._mariadb = mariadb
        self._tagged: dict[str, int] = {}  # tagged GTID keys, by their number
        self._handlers: dict[int, Callable[[bytes, bytes, BinlogPosition], Iterator[DecodedRange]]] = {
            events.ROTATE: self._rotate,
            events.QUERY: self._query,
            events.QUERY_COMPRESSED: self._query,
            events.EXECUTE_LOAD_QUERY: self._query,
            events.XA_PREPARE: self._prepare,
            events.PREVIOUS_GTIDS: self._executed_before,
            events.MARIADB_GTID_LIST: self._executed_before,
            **({events.MARIADB_GTID: self._begin_prepared} if mariadb else {events.GTID_TAGGED: self._begin_tagged}),
        }

    def handle(self, header: bytes, body: bytes, place: BinlogPosition) -> Iterator[DecodedRange]:
        """Take in the event that begins at `place`; gives the stretches that end with it.

        Raises ValueError for an event that is not what its kind should be, DecodeError for one that cannot be taken in.
        """
        kind, flags = header[4], int.from_bytes(header[17:19], "little")
        handler = self._handlers.get(kind)
        if handler is not None:
            yield from handler(header, body, place)
            return
        self._assembler.advance(header)
        if kind in _OF_A_LOAD or (kind == events.START_ENCRYPTION and flags & _IGNORABLE):
            return  # the statement behind tells of it; the server sends what it has decrypted
        if kind in events.REMEDIES:
            refuse(f"{events.name_of(kind)} events are not decoded: {events.REMEDIES[kind]}", place)
        if not flags & _IGNORABLE:
            refuse(f"{events.name_of(kind)} events are not decoded, and may carry changes", place)

    def _begin_tagged(self, header: bytes, body: bytes, place: BinlogPosition) -> Iterator[DecodedRange]:
        """A transaction whose GTID has a tag; the walk knows only those without."""
        gtid = events.parse_tagged_gtid(body)
        if gtid.key not in self._tagged:
            # Stands among the UUIDs that the walk compares with, and is none that a server has.
            digest = hashlib.blake2b(gtid.key.encode(), digest_size=16).digest()
            self._tagged[gtid.key] = self._assembler.add_key(digest, gtid.key)
        self._assembler.advance(header)
        self._assembler.begin(self._tagged[gtid.key], gtid.number, gtid.ts_us, place.pos)
        yield from ()

    def _begin_prepared(self, header: bytes, body: bytes, place: BinlogPosition) -> Iterator[DecodedRange]:
        """MariaDB says with the GTID that the transaction will only be prepared; the walk knows all others."""
        key, name = events.gtid_key(events.MARIADB_GTID, header, body)
        number = self._assembler.key_of(key, name)
        self._assembler.advance(header)
        ts_us = int.from_bytes(header[:4], "little") * 1_000_000
        self._assembler.begin(number, int.from_bytes(body[:8], "little"), ts_us, place.pos)
        self._assembler.begin_xa()
        yield from ()

    def _prepare(self, header: bytes, body: bytes, place: BinlogPosition) -> Iterator[DecodedRange]:
        """The end of an XA transaction: prepared, or committed at once."""
        assembler = self._assembler
        if not assembler.state[ScanField.XA]:
            raise ValueError("no XA transaction has begun")
        one_phase, xid = xa.parse_prepare(body)
        assembler.advance(header)
        assembler.hold()
        assembler.state[ScanField.XA] = 0
        if one_phase:
            yield from self._release(assembler.prepared.one_phase())
        else:
            assembler.prepared.prepare(xid)
        assembler.state[ScanField.OPEN] = 0

    def _xa(self, sql: str, place: BinlogPosition) -> Iterator[DecodedRange]:
        """XA START, END, COMMIT or ROLLBACK."""
        assembler = self._assembler
        verb, xid = xa.parse_statement(sql)
        if not assembler.is_open:
            raise ValueError(f"XA {verb} outside a transaction")
        if verb == "START":
            assembler.begin_xa()
        elif verb == "COMMIT":
            rows = assembler.prepared.rows(xid)
            if rows is None:
                raise MissingPrepareError(_UNKNOWN_XA, xid=str(xid), file=place.file, pos=place.pos)
            yield from self._release(rows)
            assembler.prepared.commit(xid)
            assembler.state[ScanField.OPEN] = 0
        elif verb == "ROLLBACK":
            assembler.prepared.roll_back(xid)
            assembler.state[ScanField.OPEN] = 0

    def _release(self, rows: list[xa.XaRowEvent]) -> Iterator[DecodedRange]:
        """Rows that were held become changes of the open transaction."""
        for held in rows:
            if self._assembler.is_full or self._assembler.is_heavy:
                yield self._assembler.finish()
            self._assembler.release(held)

    def _rotate(self, header: bytes, body: bytes, place: BinlogPosition) -> Iterator[DecodedRange]:
        """The next file begins. The first of a dump only says where it begins, and each comes twice."""
        # The first rotate of a dump comes before the format description that says whether it has a checksum.
        if not self.has_started and events.has_checksum(header + body):
            body = body[:-CHECKSUM_SIZE]
        file, pos = events.parse_rotate(body)
        assembler = self._assembler
        if file == assembler.file and self.has_started:
            return
        if assembler.is_open:
            refuse("the file ends inside a transaction, which the server will have rolled back", assembler.position)
        assembler.advance(header)
        log = assembler.log.identity(assembler.file)
        stretch = assembler.finish("rotation")
        assembler.rotate(file, pos)
        if not self.has_started:
            return
        self._catalog.tables.forget_ids()
        yield replace(stretch, checkpoint=replace(stretch.checkpoint, position=assembler.position, log=log))

    def _executed_before(self, header: bytes, body: bytes, place: BinlogPosition) -> Iterator[DecodedRange]:
        """What was executed before the file began. The ones that are made up for a dump are of no file."""
        self._assembler.advance(header)
        if not int.from_bytes(header[17:19], "little") & ARTIFICIAL:
            self._assembler.log.see_previous(body)
        yield from ()

    def _query(self, header: bytes, body: bytes, place: BinlogPosition) -> Iterator[DecodedRange]:
        """A statement: part of a transaction, DDL, or something that touches no captured table."""
        query = parse_query(body, header[4])
        self._assembler.advance(header)
        dialect = SqlDialect(self._mariadb, query.sql_mode or 0)
        read = read_statement(query.sql, query.database, dialect)
        statement = self._catalog.names.spelled_out(read)
        tables = tuple(table for table in statement.tables if self._catalog.captures(*table))
        if statement.kind == "xa":
            yield from self._xa(query.sql, place)
            return
        self._refuse_statement(statement, tables, place)
        assembler = self._assembler
        if statement.kind in ("transaction", "partial rollback"):
            return
        if assembler.is_alone or statement.kind == "rollback":
            assembler.state[ScanField.OPEN] = 0
        if not query.takes_effect:
            return
        self._catalog.altered(fold_tables(altered_tables(read), self._catalog.names.fold))
        if not tables:
            return
        kind = cast(DDL, statement.kind)
        if kind == "other":
            log.warning("%s: a statement is not understood; mirrors of tables it may concern are read again", place)
        if kind in ("rename", "alter"):  # all names, so that the consumer of one table learns of the other
            tables = statement.tables
        gtid, ts_us = assembler.last_gtid(), assembler.last_ts_us()
        change = SchemaChange(
            *(kind, tables, query.sql, 0, assembler.position, gtid, ts_us, query.database, query.sql_mode),
            recodes_literals=query.recodes_literals,
        )
        yield assembler.finish("schema", (change,))

    def _refuse_statement(self, statement: Statement, tables: Tables, place: BinlogPosition) -> None:
        """An error for a statement whose changes of rows are not known; `tables` are those of it that are captured."""
        assembler = self._assembler
        if statement.kind in ("rollback", "partial rollback") and assembler.has_changes:
            assembler.take_back()
            refuse("changes were rolled back after they were logged: the transaction mixes storage engines", place)
        if statement.kind == "other" and assembler.is_open and not assembler.is_alone:
            reason = "a statement inside a transaction is logged as text, and may change rows: set binlog_format to ROW"
            refuse(reason, place)
        if statement.kind == "rows" and statement.tables and not tables:
            assembler.left_out += 1
        elif statement.kind == "rows":
            name = ".".join(tables[0]) if tables else None
            refuse(f"a statement that changes rows is logged as text: {self._way_to_rows}", place, name)
