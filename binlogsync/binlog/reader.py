"""Bytes of a dump in, stretches of changes out.

    reader = BinlogReader(options, checkpoint)
    for stretch in reader.feed(buffer, start, end): ...

`feed` takes what a socket gave, cut anywhere, and keeps the part of an event that is not whole yet. A `Stretch` ends
where its bytes end, at a rotation, or behind a DDL statement on a captured table. Nothing is dropped: what cannot be
decoded exactly raises DecodeError, and the reader is of no use any more.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NoReturn, cast

import numpy as np
import numpy.typing as npt

from binlogsync.binlog import events
from binlogsync.binlog.assemble import Assembler, Stretch
from binlogsync.binlog.catalog import Catalog, table_name
from binlogsync.binlog.ddl import DDL, read_statement
from binlogsync.binlog.declared import Declared, nothing_declared
from binlogsync.binlog.frames import CHECKSUM_SIZE, HEADER_SIZE, Part, Stop, index_event, index_events
from binlogsync.binlog.layout import UPDATE, ColumnError
from binlogsync.binlog.payloads import parse_payload, parts
from binlogsync.binlog.plan import ARTIFICIAL, Field, Halt, full_position
from binlogsync.binlog.spill import Spill, join_packets
from binlogsync.binlog.zipped import unzip
from binlogsync.change import SchemaChange
from binlogsync.errors import DecodeError
from binlogsync.position import BinlogPosition, Checkpoint

__all__ = ["BinlogReader", "ReaderOptions", "Stretch"]

Bytes = npt.NDArray[np.uint8]
_HANDLED = frozenset(
    {events.ROTATE, events.QUERY, events.QUERY_COMPRESSED, events.GTID_TAGGED, events.TRANSACTION_PAYLOAD}
)
_IGNORABLE = 0x80  # header flag: who does not know the event may step over it

_STOP_REASONS = {
    Stop.BAD_LENGTH: "the event's length is not the length of its packet",
    Stop.BAD_CHECKSUM: "the event's checksum is wrong: the binlog is damaged, or the bytes were on their way",
    Stop.BAD_PACKET: "a packet that is no event, no error and no end",
}
_XA = "XA transactions are not supported yet: their changes are logged before it is known whether they commit"
_HALT_REASONS = {
    Halt.NO_TABLE_MAP: "rows whose TABLE_MAP was not seen; start at the beginning of a transaction",
    Halt.MALFORMED: "the event is shorter than what it says it holds",
    Halt.NO_TRANSACTION: "rows outside a transaction; start at the beginning of one",
}


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """What a reader has to know that no event says.

    Attributes:
        server_uuid, server_id: of the server that sends.
        mariadb: True for MariaDB.
        captures: whether changes of (database, table) are wanted; the others are counted and stepped over.
        declared: how the server declares a table now; asked only for what a TABLE_MAP leaves open.
    """

    server_uuid: str
    server_id: int
    mariadb: bool = False
    captures: Callable[[str, str], bool] = lambda database, table: True
    declared: Declared = nothing_declared


class BinlogReader:
    """Decodes one dump from `checkpoint` on; see the module."""

    def __init__(self, options: ReaderOptions, checkpoint: Checkpoint) -> None:
        self.server_error: bytes | None = None
        self.ended = False
        self._options = options
        self._catalog = Catalog(options.captures, mariadb=options.mariadb, declared=options.declared)
        server = (options.server_uuid, options.server_id)
        self._assembler = Assembler(self._catalog, checkpoint, server, mariadb=options.mariadb)
        self._spill = Spill()
        self._checksum = False
        self._tagged: dict[str, int] = {}  # tagged GTID keys, by their number
        self._payload_place = checkpoint.position  # where the payload begins whose events are walked
        self._place_before = checkpoint.position.pos  # behind the last event that could be read
        self._started = False  # a format description was seen: the position is that of this dump

    @property
    def position(self) -> BinlogPosition:
        """The place behind the last whole event."""
        return self._assembler.position

    def feed(self, buffer: Bytes, start: int, end: int) -> Iterator[Stretch]:
        """Decode buffer[start:end]; bytes in front of `start` may be overwritten. Raises DecodeError.

        After it `server_error` holds an error packet's payload when the server sent one, and `ended` is True when it
        has no more to send. Nothing of the buffer is kept.
        """
        buffer, at, end = self._spill.prepend(buffer, start, end)
        index = self._assembler.index
        while True:
            count, at, stop = index_events(buffer, at, end, index, checksum=self._checksum)
            if count:
                yield from self._stretches(Part(buffer, index, count, self._trailer))
            if stop == Stop.FORMAT:
                at = self._read_format(buffer, at)
            elif stop == Stop.SPLIT:
                joined = join_packets(buffer, at, end)
                if joined is None:
                    break
                event, at = joined
                bad = index_event(event, index, checksum=self._checksum)
                if bad != Stop.MORE:
                    self._refuse(_STOP_REASONS[bad])
                yield from self._stretches(Part(event, index, 1, self._trailer))
            elif stop == Stop.SERVER_ERROR:
                self.server_error = _payload(buffer, at)
                return
            elif stop == Stop.END:
                self.ended = True
                return
            elif stop == Stop.MORE:
                break
            elif stop != Stop.FULL:
                self._refuse(_STOP_REASONS[stop])
        self._spill.keep(buffer, at, end)

    @property
    def _trailer(self) -> int:
        return CHECKSUM_SIZE if self._checksum else 0

    def _stretches(self, part: Part) -> Iterator[Stretch]:
        """Walk the events of the buffer; their stretches end before the buffer is given back."""
        assembler = self._assembler
        try:
            yield from self._walk(part)
            if assembler.events:
                yield assembler.finish()
        except DecodeError:
            # What lies before the event that cannot be read is good, and is handed over before the error.
            assembler.state[Field.POS] = min(self._place_before, assembler.state[Field.POS])
            assembler.state[Field.INSIDE] = 0
            before = assembler.what_precedes()
            if before is not None:
                yield before
            raise

    def _walk(self, part: Part) -> Iterator[Stretch]:
        """Plan the events; a rotation or DDL ends a stretch, and so does memory that is full."""
        assembler = self._assembler
        at = 0
        while at < part.count:
            at, halt = assembler.walk(part, at)
            if not assembler.state[Field.INSIDE]:
                self._place_before = int(assembler.state[Field.POS])
            if halt == Halt.RARE:
                yield from self._rare(part.event(at))
                assembler.events += 1
                at += 1
            elif halt not in (Halt.DONE, Halt.FULL):
                at = self._learn(part.event(at), at, halt)
            if halt == Halt.FULL or assembler.is_heavy:
                yield assembler.finish()

    # What the walk leaves to Python

    def _learn(self, event: Bytes, i: int, halt: Halt) -> int:
        """Take in a new table, GTID key or kind of rows; returns the event to go on with."""
        header = event[:HEADER_SIZE].tobytes()
        kind = header[4]
        if halt == Halt.NEW_TABLE:
            self._add_table(header, event[HEADER_SIZE:].tobytes())
            return i
        if halt == Halt.NEW_KEY:
            self._assembler.add_key(*events.gtid_key(kind, header, event[HEADER_SIZE:].tobytes()))
            return i
        if halt == Halt.LOOK:
            self._look_at_rows(event, header)
            self._assembler.events += 1
            return i + 1
        return self._refuse(f"{events.name_of(kind)}: {_HALT_REASONS[halt]}", self._place(header))

    def _add_table(self, header: bytes, body: bytes) -> None:
        try:
            self._catalog.add(np.frombuffer(body, np.uint8))
        except ColumnError as error:
            self._refuse(str(error), self._place(header), table_name(body), error.column)
        except ValueError as error:
            self._refuse(f"TABLE_MAP: {error}", self._place(header), table_name(body))

    def _look_at_rows(self, event: Bytes, header: bytes) -> None:
        """The row event planned last lacks columns, is compressed, or holds partial JSON: make it one that does not."""
        rows, last = self._assembler.rows, int(self._assembler.state[Field.ROWS]) - 1
        layout = self._catalog.layouts[int(rows.layout[last])]
        try:
            self._ready_rows(event, header[4], last)
        except ColumnError as error:
            self._assembler.state[Field.ROWS] = last
            self._refuse(str(error), self._place(header), layout.schema.name, error.column or None)
        except ValueError as error:
            self._assembler.state[Field.ROWS] = last
            self._refuse(f"{events.name_of(header[4])}: {error}", self._place(header), layout.schema.name)

    def _ready_rows(self, event: Bytes, kind: int, last: int) -> None:
        rows = self._assembler.rows
        begin, op = int(rows.at[last]) - int(event.ctypes.data), int(rows.op[last])
        full = int(rows.layout[last])
        width = (len(self._catalog.layouts[full].schema.columns) + 7) // 8 * (2 if op == UPDATE else 1)
        number = self._catalog.partial(full, event[begin - width : begin].tobytes(), op)
        rows.layout[last] = number
        if kind in events.COMPRESSED_ROWS:
            rows.at[last], rows.end[last] = self._assembler.keep(unzip(event[begin:].tobytes()))
        elif kind == events.PARTIAL_UPDATE:
            whole = self._catalog.partial_json(number).whole(event[begin:].tobytes())
            rows.at[last], rows.end[last] = self._assembler.keep(whole)

    def _rare(self, event: Bytes) -> Iterator[Stretch]:
        """Handle an event that comes seldom; gives the stretches that end with it."""
        header = event[:HEADER_SIZE].tobytes()
        kind, flags = header[4], int.from_bytes(header[17:19], "little")
        place = self._place(header)
        try:
            if kind == events.TRANSACTION_PAYLOAD:
                yield from self._payload(event, header, place)
            else:
                yield from self._rare_alone(kind, header, event[HEADER_SIZE:].tobytes(), place)
        except ValueError as error:
            self._refuse(f"{events.name_of(kind)}: {error}", place)
        if kind in _HANDLED:
            return
        self._assembler.advance(header)
        if kind == events.MARIADB_GTID:  # the one kind that is left to Python
            self._refuse(_XA, place)
        if kind in events.REMEDIES:
            self._refuse(f"{events.name_of(kind)} events are not decoded: {events.REMEDIES[kind]}", place)
        if not flags & _IGNORABLE:
            self._refuse(f"{events.name_of(kind)} events are not decoded, and may carry changes", place)

    def _rare_alone(self, kind: int, header: bytes, body: bytes, place: BinlogPosition) -> Iterator[Stretch]:
        """A rotation, a statement or a GTID with a tag."""
        if kind == events.ROTATE:
            # The first rotate of a dump comes before the format description that says whether it has a checksum.
            if not self._started and _has_checksum(header + body):
                body = body[:-CHECKSUM_SIZE]
            yield from self._rotate(*events.parse_rotate(body))
        elif kind in (events.QUERY, events.QUERY_COMPRESSED):
            query = events.parse_query(body, is_compressed=kind == events.QUERY_COMPRESSED)
            self._assembler.advance(header)
            yield from self._query(query, place)
        elif kind == events.GTID_TAGGED:
            self._begin_tagged(header, events.parse_tagged_gtid(body), place)

    def _payload(self, event: Bytes, header: bytes, place: BinlogPosition) -> Iterator[Stretch]:
        """A compressed transaction: its events are walked as if they stood here, at the place of the payload."""
        assembler = self._assembler
        if assembler.state[Field.INSIDE]:
            raise ValueError("a payload inside a payload")
        payload = parse_payload(event[HEADER_SIZE:])
        assembler.advance(header)
        self._payload_place = place
        assembler.state[Field.INSIDE] = 1
        for part in parts(payload, assembler.inner_index):
            assembler.keep(part.buffer.data)
            yield from self._walk(part)
        assembler.state[Field.INSIDE] = 0

    def _begin_tagged(self, header: bytes, gtid: events.TaggedGtid, place: BinlogPosition) -> None:
        """A transaction whose GTID has a tag; the walk knows only those without."""
        if gtid.key not in self._tagged:
            # Stands among the UUIDs that the walk compares with, and is none that a server has.
            digest = hashlib.blake2b(gtid.key.encode(), digest_size=16).digest()
            self._tagged[gtid.key] = self._assembler.add_key(digest, gtid.key)
        self._assembler.advance(header)
        self._assembler.begin(self._tagged[gtid.key], gtid.number, gtid.ts_us, place.pos)

    def _rotate(self, file: str, pos: int) -> Iterator[Stretch]:
        """The next file begins. The first of a dump only says where it begins, and each comes twice."""
        assembler = self._assembler
        if file == assembler.file and self._started:
            return
        if assembler.is_open:
            self._refuse(
                "the file ends inside a transaction, which the server will have rolled back", assembler.position
            )
        stretch = assembler.finish("rotation")
        assembler.rotate(file, pos)
        if not self._started:
            return
        self._catalog.tables.forget_ids()
        yield replace(stretch, checkpoint=replace(stretch.checkpoint, position=assembler.position))

    def _query(self, query: events.Query, place: BinlogPosition) -> Iterator[Stretch]:
        """A statement: part of a transaction, DDL, or something that touches no captured table."""
        statement = read_statement(query.sql, query.database)
        tables = tuple(table for table in statement.tables if self._options.captures(*table))
        if statement.kind == "transaction":
            return
        assembler = self._assembler
        if statement.kind in ("rollback", "partial rollback") and assembler.has_changes:
            assembler.take_back()
            self._refuse(
                "changes were rolled back after they were logged: the transaction mixes storage engines", place
            )
        if statement.kind == "partial rollback":
            return
        if statement.kind == "xa":
            self._refuse(_XA, place)
        if statement.kind == "other" and assembler.is_open and not assembler.is_alone:
            self._refuse(
                "a statement inside a transaction is logged as text, and may change rows: set binlog_format to ROW",
                place,
            )
        if statement.kind == "rows" and (tables or not statement.tables):
            name = ".".join(tables[0]) if tables else None
            self._refuse("a statement that changes rows is logged as text: set binlog_format to ROW", place, name)
        if assembler.is_alone or statement.kind == "rollback":
            assembler.state[Field.OPEN] = 0
        if not tables:
            return
        kind = cast(DDL, statement.kind)
        if kind == "rename":  # names in pairs, so that who knows one of them learns the other
            tables = statement.tables
        gtid, ts_us = assembler.last_gtid(), assembler.last_ts_us()
        change = SchemaChange(kind, tables, query.sql, 0, assembler.position, gtid, ts_us, query.database)
        yield assembler.finish("schema", (change,))

    def _read_format(self, buffer: Bytes, at: int) -> int:
        """A format description: whether the events behind it carry checksums; returns the offset behind it."""
        payload = _payload(buffer, at)
        header, body = payload[1 : HEADER_SIZE + 1], payload[HEADER_SIZE + 1 :]
        try:
            description = events.parse_format_description(body)
        except (ValueError, IndexError) as error:
            self._refuse(f"FORMAT_DESCRIPTION: {error}", self._place(header))
        if not _has_checksum(payload[1:]):  # it has one even where the events behind it have none
            self._refuse(_STOP_REASONS[Stop.BAD_CHECKSUM], self._place(header))
        self._checksum = description.checksum
        self._started = True
        self._assembler.advance(header)
        return at + 4 + len(payload)

    # Where and why

    def _place(self, header: bytes) -> BinlogPosition:
        """Where an event begins."""
        size, end = int.from_bytes(header[9:13], "little"), int.from_bytes(header[13:17], "little")
        here = self._assembler.position
        if self._assembler.state[Field.INSIDE]:
            return self._payload_place
        if not end or int.from_bytes(header[17:19], "little") & ARTIFICIAL:
            return here
        return BinlogPosition(here.file, max(full_position(here.pos, end) - size, 0))

    def _refuse(
        self, reason: str, place: BinlogPosition | None = None, table: str | None = None, column: str | None = None
    ) -> NoReturn:
        place = place or self._assembler.position
        raise DecodeError(reason, file=place.file, pos=place.pos, table=table, column=column)


def _has_checksum(event: bytes) -> bool:
    """True when the event ends with the CRC-32 of what is in front."""
    body = event[:-CHECKSUM_SIZE]
    return zlib.crc32(body) == int.from_bytes(event[-CHECKSUM_SIZE:], "little")


def _payload(buffer: Bytes, at: int) -> bytes:
    """The payload of the packet at `at`."""
    size = int.from_bytes(buffer[at : at + 3].tobytes(), "little")
    return buffer[at + 4 : at + 4 + size].tobytes()
