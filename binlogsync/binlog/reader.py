"""Decodes a binlog dump: bytes in, decoded ranges out.

    reader = BinlogReader(options, checkpoint)
    for decoded in reader.feed(buffer, start, end): ...

`feed` takes bytes as a socket returns them, split at any byte, and keeps an incomplete event for the next call. A
`DecodedRange` ends with the bytes of a `feed`, at a rotation, or after a DDL statement on a captured table. No change
is skipped: data that cannot be decoded exactly raises DecodeError, after which the reader cannot be used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from binlogsync.binlog import events
from binlogsync.binlog.assembler import Assembler
from binlogsync.binlog.catalog import Catalog, table_name
from binlogsync.binlog.decoded_range import DecodedRange
from binlogsync.binlog.dump_parser import BrokenLogError, Bytes, DumpParser, has_checksums
from binlogsync.binlog.event_dispatch import EventDispatcher, refuse
from binlogsync.binlog.event_index import HEADER_SIZE, IndexedEvents, IndexStop
from binlogsync.binlog.known_tables import TableLookup, no_tables
from binlogsync.binlog.layout import UPDATE, ColumnError
from binlogsync.binlog.mariadb_compression import decompress_record
from binlogsync.binlog.scan_state import ARTIFICIAL, ScanField, ScanStop, full_position
from binlogsync.binlog.table_declaration import AlterationLookup, DeclarationLookup, no_alteration, no_declaration
from binlogsync.binlog.transaction_payload import parse_payload, payload_events
from binlogsync.errors import DecodeError
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.table_names import Fold, keep_case

__all__ = ["BinlogReader", "ReaderOptions", "DecodedRange"]

_STOP_REASONS = {
    IndexStop.BAD_LENGTH: "the event's length is not the length of its packet",
    IndexStop.BAD_CHECKSUM: "the event's checksum is wrong: the binlog is damaged, or the bytes were on their way",
    IndexStop.BAD_PACKET: "a packet that is no event, no error and no end",
}
_HALT_REASONS = {
    ScanStop.NEW_KEY: "a GTID of the other family of servers",
    ScanStop.NO_TABLE_MAP: "rows whose TABLE_MAP was not seen; start at the beginning of a transaction",
    ScanStop.MALFORMED: "the event is shorter than what it says it holds",
    ScanStop.NO_TRANSACTION: "rows outside a transaction; start at the beginning of one",
}


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """What a reader has to know that no event says.

    Attributes:
        server_uuid, server_id: of the server that sends.
        mariadb: True for MariaDB.
        captures: whether changes of (database, table) are wanted; the others are counted and stepped over.
        declared: how the server declares a table now; asked only for what a TABLE_MAP leaves open.
        altered: whether the table was altered since; asked only for a TABLE_MAP without names.
        fold: how the server compares names of databases and tables; changes have the folded names.
        existing: which tables a database has or had; asked when the log says that it is dropped.
    """

    server_uuid: str
    server_id: int
    mariadb: bool = False
    captures: Callable[[str, str], bool] = lambda database, table: True
    declared: DeclarationLookup = no_declaration
    altered: AlterationLookup = no_alteration
    existing: TableLookup = no_tables
    fold: Fold = keep_case


class BinlogReader:
    """Decodes one dump from `checkpoint` on; see the module."""

    def __init__(self, options: ReaderOptions, checkpoint: Checkpoint) -> None:
        self._catalog = Catalog(
            options.captures, mariadb=options.mariadb, declared=options.declared, altered=options.altered,
            existing=options.existing, fold=options.fold,
        )  # fmt: skip
        server = (options.server_uuid, options.server_id)
        self._assembler = Assembler(self._catalog, checkpoint, server, mariadb=options.mariadb)
        self._is_mariadb = options.mariadb
        self._rare_events = EventDispatcher(self._assembler, self._catalog, mariadb=options.mariadb)
        self._log = DumpParser(self._assembler.index, self._read_format)
        self._payload_place = checkpoint.position  # where the payload begins whose events are walked
        self._place_before = checkpoint.position.pos  # behind the last event that could be read

    @property
    def position(self) -> BinlogPosition:
        """The place behind the last whole event."""
        return self._assembler.position

    def feed(self, buffer: Bytes, start: int, end: int) -> Iterator[DecodedRange]:
        """Decode buffer[start:end]; these bytes, and those in front of them, may be overwritten. Raises DecodeError.

        Nothing of the buffer is kept.
        """
        try:
            for part in self._log.parts(buffer, start, end):
                yield from self._decode_ranges(part)
        except BrokenLogError as error:
            refuse(_STOP_REASONS[error.stop], self.position)

    @property
    def server_error(self) -> bytes | None:
        """Payload of the error packet with which the server has ended the dump."""
        return self._log.server_error

    @property
    def ended(self) -> bool:
        """True when the server has no more to send."""
        return self._log.ended

    def _decode_ranges(self, part: IndexedEvents) -> Iterator[DecodedRange]:
        """Walk the events of the buffer; their stretches end before the buffer is given back."""
        assembler = self._assembler
        try:
            yield from self._walk(part)
            if assembler.events:
                yield assembler.finish()
        except DecodeError:
            # What lies before the event that cannot be read is good, and is handed over before the error.
            assembler.state[ScanField.POS] = min(self._place_before, assembler.state[ScanField.POS])
            assembler.state[ScanField.INSIDE] = 0
            before = assembler.what_precedes()
            if before is not None:
                yield before
            raise

    def _walk(self, part: IndexedEvents) -> Iterator[DecodedRange]:
        """Plan the events; a rotation or DDL ends a stretch, and so does memory that is full."""
        assembler = self._assembler
        at = 0
        while at < part.count:
            at, halt = assembler.scan_events(part, at)
            if not assembler.state[ScanField.INSIDE]:
                self._place_before = int(assembler.state[ScanField.POS])
            if halt == ScanStop.RARE:
                assembler.log.look_at(part.event(at), part.checksum(at))
                yield from self._rare(part.event(at))
                assembler.events += 1
                at += 1
            elif halt not in (ScanStop.DONE, ScanStop.FULL):
                at = self._learn(part.event(at), at, halt)
            if halt == ScanStop.FULL or assembler.is_heavy:
                yield assembler.finish()

    # What the walk leaves to Python

    def _learn(self, event: Bytes, i: int, halt: ScanStop) -> int:
        """Take in a new table, GTID key or kind of rows; returns the event to go on with."""
        header = event[:HEADER_SIZE].tobytes()
        kind = header[4]
        if halt == ScanStop.NEW_TABLE:
            self._add_table(header, event[HEADER_SIZE:].tobytes())
            return i
        if halt == ScanStop.NEW_KEY and self._is_mariadb == (kind == events.MARIADB_GTID):
            self._assembler.add_key(*events.gtid_key(kind, header, event[HEADER_SIZE:].tobytes()))
            return i
        if halt == ScanStop.LOOK:
            self._look_at_rows(event, header)
            self._assembler.events += 1
            return i + 1
        return refuse(f"{events.name_of(kind)}: {_HALT_REASONS[halt]}", self._place(header))

    def _add_table(self, header: bytes, body: bytes) -> None:
        try:
            self._catalog.add(np.frombuffer(body, np.uint8), self._place(header))
        except ColumnError as error:
            refuse(str(error), self._place(header), table_name(body), error.column)
        except ValueError as error:
            refuse(f"TABLE_MAP: {error}", self._place(header), table_name(body))

    def _look_at_rows(self, event: Bytes, header: bytes) -> None:
        """The row event planned last lacks columns, is compressed, or holds partial JSON: make it one that does not."""
        rows, last = self._assembler.rows, int(self._assembler.state[ScanField.ROWS]) - 1
        layout = self._catalog.layouts[int(rows.layout[last])]
        try:
            self._ready_rows(event, header[4], last)
        except ColumnError as error:
            self._assembler.state[ScanField.ROWS] = last
            refuse(str(error), self._place(header), layout.schema.name, error.column or None)
        except ValueError as error:
            self._assembler.state[ScanField.ROWS] = last
            refuse(f"{events.name_of(header[4])}: {error}", self._place(header), layout.schema.name)

    def _ready_rows(self, event: Bytes, kind: int, last: int) -> None:
        rows = self._assembler.rows
        begin, op = int(rows.at[last]) - int(event.ctypes.data), int(rows.op[last])
        full = int(rows.layout[last])
        width = (len(self._catalog.layouts[full].schema.columns) + 7) // 8 * (2 if op == UPDATE else 1)
        number = self._catalog.partial(full, event[begin - width : begin].tobytes(), op)
        if number is None:
            self._assembler.left_out += 1
            self._assembler.state[ScanField.ROWS] = last
            return
        rows.layout[last] = number
        if kind in events.COMPRESSED_ROWS:
            rows.at[last], rows.end[last] = self._assembler.keep(decompress_record(event[begin:].tobytes()))
        elif kind == events.PARTIAL_UPDATE:
            whole = self._catalog.partial_json(number).whole(event[begin:].tobytes())
            rows.at[last], rows.end[last] = self._assembler.keep(whole)

    def _rare(self, event: Bytes) -> Iterator[DecodedRange]:
        """Handle an event that comes seldom; gives the stretches that end with it."""
        header = event[:HEADER_SIZE].tobytes()
        place = self._place(header)
        try:
            if header[4] == events.TRANSACTION_PAYLOAD:
                yield from self._payload(event, header, place)
            else:
                yield from self._rare_events.handle(header, event[HEADER_SIZE:].tobytes(), place)
        except ValueError as error:
            refuse(f"{events.name_of(header[4])}: {error}", place)

    def _payload(self, event: Bytes, header: bytes, place: BinlogPosition) -> Iterator[DecodedRange]:
        """A compressed transaction: its events are walked as if they stood here, at the place of the payload."""
        assembler = self._assembler
        if assembler.state[ScanField.INSIDE]:
            raise ValueError("a payload inside a payload")
        payload = parse_payload(event[HEADER_SIZE:])
        assembler.advance(header)
        self._payload_place = place
        assembler.state[ScanField.INSIDE] = 1
        for part in payload_events(payload, assembler.inner_index):
            assembler.keep(part.buffer.data)
            yield from self._walk(part)
        assembler.state[ScanField.INSIDE] = 0

    def _read_format(self, event: bytes) -> bool:
        """A format description: whether the events behind it carry checksums."""
        header = event[:HEADER_SIZE]
        try:
            checksum = has_checksums(event)
        except (ValueError, IndexError) as error:
            refuse(f"FORMAT_DESCRIPTION: {error}", self._place(header))
        # It has one even where the events behind it have none, except where MariaDB made it up for a dump.
        is_made_up = not checksum and header[13:17] == bytes(4)
        if not is_made_up and not events.has_checksum(event):
            refuse(_STOP_REASONS[IndexStop.BAD_CHECKSUM], self._place(header))
        self._rare_events.has_started = True
        self._assembler.advance(header)
        self._assembler.log.see_format(self._assembler.file, header)
        return checksum

    # Where and why

    def _place(self, header: bytes) -> BinlogPosition:
        """Where an event begins."""
        size, end = int.from_bytes(header[9:13], "little"), int.from_bytes(header[13:17], "little")
        here = self._assembler.position
        if self._assembler.state[ScanField.INSIDE]:
            return self._payload_place
        if not end or int.from_bytes(header[17:19], "little") & ARTIFICIAL:
            return here
        return BinlogPosition(here.file, max(full_position(here.pos, end) - size, 0))
