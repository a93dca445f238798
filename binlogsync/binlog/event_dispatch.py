"""Handles the events that the kernel leaves to Python: rotations, statements, XA transactions, tagged GTIDs.

DDL on a captured table ends a range. A statement that changes rows of a captured table is an error, and so is an
unknown event that may contain changes.
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
from binlogsync.position import BinlogPosition, Checkpoint, EventPosition
from binlogsync.position_order import PositionOrder, compare

log = logging.getLogger(__name__)
_IGNORABLE = 0x80  # header flag LOG_EVENT_IGNORABLE_F: a reader that does not know the event may skip it
_OF_A_LOAD = frozenset({events.APPEND_BLOCK, events.DELETE_FILE, events.BEGIN_LOAD_QUERY})
_WAY_TO_ROWS = "set binlog_format to ROW"
_MARIADB_WAY_TO_ROWS = (
    f"{_WAY_TO_ROWS}; where it is, the table is versioned by transaction (GENERATED ALWAYS AS ROW START of BIGINT "
    "UNSIGNED), which MariaDB logs in no other way: exclude the table with a filter"
)
_UNKNOWN_XA = (
    "commits changes that were prepared, and logged, before the position at which reading started; start at an earlier "
    "position, or after this one with new snapshots of the tables"
)


def refuse(reason: str, position: BinlogPosition, table: str | None = None, column: str | None = None) -> NoReturn:
    """Raise a DecodeError for the event at `position`."""
    raise DecodeError(reason, file=position.file, pos=position.pos, table=table, column=column)


class EventDispatcher:
    """Handles one event at a time; see the module."""

    def __init__(
        self, assembler: Assembler, catalog: Catalog, *, mariadb: bool, stored: Checkpoint | None = None
    ) -> None:
        self.has_started = False
        """True once a format description was read, so that the position is one of this dump."""
        self._way_to_rows = _MARIADB_WAY_TO_ROWS if mariadb else _WAY_TO_ROWS
        self._assembler = assembler
        self._catalog = catalog
        self._mariadb = mariadb
        self._stored = stored
        self._tagged: dict[str, int] = {}  # tagged GTID key -> its number
        self._handlers: dict[int, Callable[[bytes, bytes, BinlogPosition], Iterator[DecodedRange]]] = {
            events.ROTATE: self._rotate,
            events.QUERY: self._query,
            events.QUERY_COMPRESSED: self._query,
            events.EXECUTE_LOAD_QUERY: self._query,
            events.XA_PREPARE: self._prepare,
            events.PREVIOUS_GTIDS: self._previous_gtids,
            events.MARIADB_GTID_LIST: self._previous_gtids,
            **({events.MARIADB_GTID: self._begin_prepared} if mariadb else {events.GTID_TAGGED: self._begin_tagged}),
        }

    def handle(self, header: bytes, body: bytes, position: BinlogPosition) -> Iterator[DecodedRange]:
        """Handle the event that begins at `position`; yields the ranges that end with it.

        Raises ValueError for a malformed event, DecodeError for one that is not supported.
        """
        kind, flags = header[4], int.from_bytes(header[17:19], "little")
        handler = self._handlers.get(kind)
        if handler is not None:
            yield from handler(header, body, position)
            return
        self._assembler.advance(header)
        if kind in _OF_A_LOAD or (kind == events.START_ENCRYPTION and flags & _IGNORABLE):
            return  # a statement follows that ends the load; servers send encrypted events decrypted
        if kind in events.REMEDIES:
            refuse(f"{events.name_of(kind)} events are not decoded: {events.REMEDIES[kind]}", position)
        if not flags & _IGNORABLE:
            refuse(f"{events.name_of(kind)} events are not decoded, and may contain changes", position)

    def _begin_tagged(self, header: bytes, body: bytes, position: BinlogPosition) -> Iterator[DecodedRange]:
        """A transaction whose GTID has a tag; the kernel handles those without."""
        gtid = events.parse_tagged_gtid(body)
        if gtid.key not in self._tagged:
            # The kernel compares UUIDs of 16 bytes; a digest of the tagged key serves as one that no server has.
            digest = hashlib.blake2b(gtid.key.encode(), digest_size=16).digest()
            self._tagged[gtid.key] = self._assembler.add_key(digest, gtid.key)
        self._assembler.advance(header)
        self._assembler.begin_transaction(self._tagged[gtid.key], gtid.number, gtid.ts_us, position.pos)
        yield from ()

    def _begin_prepared(self, header: bytes, body: bytes, position: BinlogPosition) -> Iterator[DecodedRange]:
        """A MariaDB GTID event with the flag of an XA transaction that ends with XA PREPARE."""
        key, name = events.gtid_key(events.MARIADB_GTID, header, body)
        number = self._assembler.find_or_add_key(key, name)
        self._assembler.advance(header)
        ts_us = int.from_bytes(header[:4], "little") * 1_000_000
        self._assembler.begin_transaction(number, int.from_bytes(body[:8], "little"), ts_us, position.pos)
        self._assembler.begin_xa()
        yield from ()

    def _prepare(self, header: bytes, body: bytes, position: BinlogPosition) -> Iterator[DecodedRange]:
        """XA_PREPARE: the end of an XA transaction, which is then prepared, or committed in one phase."""
        assembler = self._assembler
        if not assembler.state[ScanField.XA]:
            raise ValueError("no XA transaction has begun")
        one_phase, xid = xa.parse_prepare(body)
        assembler.advance(header)
        assembler.hold_xa_rows()
        assembler.state[ScanField.XA] = 0
        if one_phase:
            yield from self._release(assembler.prepared.take_one_phase())
        else:
            assembler.prepared.prepare(xid)
        assembler.state[ScanField.OPEN] = 0

    def _xa(self, sql: str, position: BinlogPosition) -> Iterator[DecodedRange]:
        """XA START, END, COMMIT or ROLLBACK."""
        assembler = self._assembler
        verb, xid = xa.parse_statement(sql)
        if not assembler.is_open:
            raise ValueError(f"XA {verb} outside a transaction")
        if verb == "START":
            assembler.begin_xa()
        elif verb == "COMMIT":
            rows = assembler.prepared.find_rows(xid)
            if rows is not None:
                yield from self._release(rows)
                assembler.prepared.commit(xid)
            elif not self._is_stored(position):
                raise MissingPrepareError(_UNKNOWN_XA, xid=str(xid), file=position.file, pos=position.pos)
            assembler.state[ScanField.OPEN] = 0
        elif verb == "ROLLBACK":
            assembler.prepared.roll_back(xid)
            assembler.state[ScanField.OPEN] = 0

    def _is_stored(self, position: BinlogPosition) -> bool:
        """True if the open transaction, of which an event begins at `position`, is before the stored checkpoint.

        Reading starts before that checkpoint for another XA transaction, and perhaps after the PREPARE of this one.
        """
        if self._stored is None:
            return False
        assembler = self._assembler
        event = EventPosition(position, assembler.server_uuid, assembler.last_gtid())
        return compare(event, self._stored) is PositionOrder.BEFORE

    def _release(self, rows: list[xa.XaRowEvent]) -> Iterator[DecodedRange]:
        """Add the row events of a prepared transaction to the open transaction."""
        for held in rows:
            if self._assembler.is_full or self._assembler.exceeds_memory:
                yield self._assembler.finish_range()
            self._assembler.release_xa_rows(held)

    def _rotate(self, header: bytes, body: bytes, position: BinlogPosition) -> Iterator[DecodedRange]:
        """ROTATE: the next file begins. A dump begins with an artificial one, and repeats each at the next file."""
        # The first rotate of a dump precedes the format description, so whether it has a checksum is not known yet.
        if not self.has_started and events.has_checksum(header + body):
            body = body[:-CHECKSUM_SIZE]
        file, pos = events.parse_rotate(body)
        assembler = self._assembler
        if file == assembler.file and self.has_started:
            return
        if assembler.is_open:
            refuse("the file ends inside a transaction, which the server has probably rolled back", assembler.position)
        assembler.advance(header)
        log = assembler.log.identity(assembler.file)
        decoded = assembler.finish_range("rotation")
        assembler.rotate(file, pos)
        if not self.has_started:
            return
        self._catalog.tables.forget_ids()
        yield replace(decoded, checkpoint=replace(decoded.checkpoint, position=assembler.position, log=log))

    def _previous_gtids(self, header: bytes, body: bytes, position: BinlogPosition) -> Iterator[DecodedRange]:
        """PREVIOUS_GTIDS or GTID_LIST: the transactions executed before the file. Artificial ones are ignored."""
        self._assembler.advance(header)
        if not int.from_bytes(header[17:19], "little") & ARTIFICIAL:
            self._assembler.log.record_previous_gtids(body)
        yield from ()

    def _query(self, header: bytes, body: bytes, position: BinlogPosition) -> Iterator[DecodedRange]:
        """A statement: part of a transaction, DDL, or one that affects no captured table."""
        query = parse_query(body, header[4])
        self._assembler.advance(header)
        dialect = SqlDialect(self._mariadb, query.sql_mode or 0)
        read = read_statement(query.sql, query.database, dialect)
        statement = self._catalog.names.resolve_names(read)
        tables = tuple(table for table in statement.tables if self._catalog.captures(*table))
        if statement.kind == "xa":
            yield from self._xa(query.sql, position)
            return
        self._refuse_statement(statement, tables, position)
        assembler = self._assembler
        if statement.kind in ("transaction", "partial rollback"):
            return
        if assembler.is_single_statement or statement.kind == "rollback":
            assembler.state[ScanField.OPEN] = 0
        if not query.takes_effect:
            return
        self._catalog.mark_altered(fold_tables(altered_tables(read), self._catalog.names.fold))
        if not tables:
            return
        kind = cast(DDL, statement.kind)
        if kind == "other":
            log.warning("%s: unknown statement; mirrors of the tables it may affect are read again", position)
        if kind in ("rename", "alter"):  # all names, so that the consumer of one table receives that of the other
            tables = statement.tables
        gtid, ts_us = assembler.last_gtid(), assembler.last_ts_us()
        change = SchemaChange(
            *(kind, tables, query.sql, 0, assembler.position, gtid, ts_us, query.database, query.sql_mode),
            recodes_literals=query.recodes_literals,
        )
        yield assembler.finish_range("schema", (change,))

    def _refuse_statement(self, statement: Statement, tables: Tables, position: BinlogPosition) -> None:
        """Raise DecodeError for a statement whose row changes are unknown; `tables` are its captured tables."""
        assembler = self._assembler
        if statement.kind in ("rollback", "partial rollback") and assembler.has_changes:
            assembler.discard_transaction()
            refuse("changes were rolled back after they were logged: the transaction mixes storage engines", position)
        if statement.kind == "other" and assembler.is_open and not assembler.is_single_statement:
            reason = "a statement inside a transaction is logged as text, and may change rows: set binlog_format to ROW"
            refuse(reason, position)
        if statement.kind == "rows" and statement.tables and not tables:
            assembler.dropped_rows += 1
        elif statement.kind == "rows":
            name = ".".join(tables[0]) if tables else None
            refuse(f"a statement that changes rows is logged as text: {self._way_to_rows}", position, name)
