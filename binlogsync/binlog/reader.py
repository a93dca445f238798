"""Decodes a binlog dump: bytes in, decoded ranges out.

    reader = BinlogReader(options, checkpoint)
    for decoded in reader.feed(buffer, start, end): ...

`feed` takes bytes as a socket returns them, split at any byte, and keeps an incomplete event for the next call. A
`DecodedRange` ends with the bytes of a `feed`, at a rotation, after a DDL statement on a captured table, or at
`split_at`. No change is skipped: data that cannot be decoded exactly raises DecodeError, after which the reader cannot
be used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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
from binlogsync.binlog.rendered import ImageRenderer
from binlogsync.binlog.scan_state import ARTIFICIAL, ScanField, ScanStop, full_position
from binlogsync.binlog.table_declaration import AlterationLookup, DeclarationLookup, no_alteration, no_declaration
from binlogsync.binlog.transaction_payload import parse_payload, payload_events
from binlogsync.errors import DecodeError
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.table_names import Fold, keep_case

__all__ = ["BinlogReader", "ReaderOptions", "DecodedRange"]

_INDEX_REASONS = {
    IndexStop.BAD_LENGTH: "the event's length is not the length of its packet",
    IndexStop.BAD_CHECKSUM: "the event's checksum is wrong: it was damaged in the binlog or during transmission",
    IndexStop.BAD_PACKET: "a packet that is neither an event nor an error nor the end of the dump",
}
_SCAN_REASONS = {
    ScanStop.NEW_KEY: "a GTID of MariaDB from MySQL, or the other way round",
    ScanStop.NO_TABLE_MAP: "rows without their TABLE_MAP; start at the beginning of a transaction",
    ScanStop.MALFORMED: "the event is shorter than its contents",
    ScanStop.NO_TRANSACTION: "rows outside a transaction; start at the beginning of a transaction",
}


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """What a reader has to know besides the events.

    Attributes:
        server_uuid, server_id: identify the server that sends the dump.
        mariadb: True for MariaDB.
        captures: whether changes of (database, table) are captured; the others are counted and skipped.
        declared: returns the current declaration of a table; called only for an incomplete TABLE_MAP.
        altered: returns whether a table was altered since; called only for a TABLE_MAP without column names.
        fold: how the server compares names of databases and tables; changes have the folded names.
        existing: returns the tables that a database has or had; called when the database is dropped.
        stored: the checkpoint up to which all changes are stored, if reading starts before it; else None.
        renderer: renders the images of few row events as JSON, for a consumer that wants JSON; None for columns only.
    """

    server_uuid: str
    server_id: int
    mariadb: bool = False
    captures: Callable[[str, str], bool] = lambda database, table: True
    declared: DeclarationLookup = no_declaration
    altered: AlterationLookup = no_alteration
    existing: TableLookup = no_tables
    fold: Fold = keep_case
    stored: Checkpoint | None = None
    renderer: ImageRenderer | None = None


class BinlogReader:
    """Decodes one dump, from `checkpoint` on; see the module."""

    def __init__(self, options: ReaderOptions, checkpoint: Checkpoint) -> None:
        self._catalog = Catalog(
            options.captures, mariadb=options.mariadb, declared=options.declared, altered=options.altered,
            existing=options.existing, fold=options.fold,
        )  # fmt: skip
        server = (options.server_uuid, options.server_id)
        self._assembler = Assembler(
            self._catalog, checkpoint, server, mariadb=options.mariadb, renderer=options.renderer
        )
        self._is_mariadb = options.mariadb
        self._dispatcher = EventDispatcher(
            self._assembler, self._catalog, mariadb=options.mariadb, stored=options.stored
        )
        self._parser = DumpParser(self._assembler.index, self._read_format)
        self._payload_position = checkpoint.position  # start of the TRANSACTION_PAYLOAD whose events are scanned
        self._last_readable = checkpoint.position.pos  # end of the last event that was scanned without an error
        self.split_at: BinlogPosition | None = None
        """A range of the next `feed` ends there, if an event does."""

    @property
    def position(self) -> BinlogPosition:
        """The position after the last complete event."""
        return self._assembler.position

    def feed(self, buffer: Bytes, start: int, end: int) -> Iterator[DecodedRange]:
        """Decode buffer[start:end]. These bytes, and those before them, may be overwritten. Raises DecodeError.

        The results do not refer to the buffer, so the caller may reuse it.
        """
        try:
            for indexed in self._parser.parse(buffer, start, end):
                yield from self._decode_ranges(indexed)
        except BrokenLogError as error:
            refuse(_INDEX_REASONS[error.stop], self.position)

    @property
    def server_error(self) -> bytes | None:
        """Payload of the error packet with which the server ended the dump."""
        return self._parser.server_error

    @property
    def ended(self) -> bool:
        """True when the server has no more events to send."""
        return self._parser.ended

    def _decode_ranges(self, indexed: IndexedEvents) -> Iterator[DecodedRange]:
        """Scan and decode the events of the buffer; the last range ends with the buffer."""
        assembler = self._assembler
        try:
            first = 0
            for count in (*self._find_splits(indexed), indexed.count):
                yield from self._scan(replace(indexed, count=count), first)
                first = count
                if assembler.events:
                    yield assembler.finish_range()
        except DecodeError:
            # The changes before the event that cannot be decoded are complete: yield them before raising the error.
            assembler.state[ScanField.POS] = min(self._last_readable, assembler.state[ScanField.POS])
            assembler.state[ScanField.IN_PAYLOAD] = 0
            before = assembler.decode_before_error()
            if before is not None:
                yield before
            raise

    def _find_splits(self, indexed: IndexedEvents) -> list[int]:
        """Numbers of the events before which a range ends for `split_at`.

        Its file is not compared: an additional end of a range in another file changes nothing.
        MariaDB logs no offset inside a transaction, so that an event may be known to begin there, or to end.
        """
        if self.split_at is None or not indexed.count:
            return []
        offsets, sizes = indexed.index.offset[: indexed.count], indexed.index.size[: indexed.count]
        ends = indexed.buffer[offsets[:, None] + np.arange(13, 17)].view("<u4")[:, 0].astype(np.int64)
        begins, at = ends - sizes - indexed.trailer, self.split_at.pos & 0xFFFFFFFF
        found = np.union1d(np.flatnonzero(ends == at) + 1, np.flatnonzero((begins == at) & (ends != 0)))
        numbers: list[int] = found.tolist()
        return numbers

    def _scan(self, indexed: IndexedEvents, at: int = 0) -> Iterator[DecodedRange]:
        """Scan the events from number `at` on; a rotation, DDL or full memory ends a range."""
        assembler = self._assembler
        while at < indexed.count:
            at, stop = assembler.scan_events(indexed, at)
            if not assembler.state[ScanField.IN_PAYLOAD]:
                self._last_readable = int(assembler.state[ScanField.POS])
            if stop == ScanStop.OTHER_EVENT:
                assembler.log.begin_event(indexed.event(at), indexed.checksum(at))
                yield from self._dispatch(indexed.event(at))
                assembler.events += 1
                at += 1
            elif stop not in (ScanStop.DONE, ScanStop.FULL):
                at = self._resolve_stop(indexed.event(at), at, stop)
            if stop == ScanStop.FULL or assembler.exceeds_memory:
                yield assembler.finish_range()

    # Events that the kernel leaves to Python

    def _resolve_stop(self, event: Bytes, i: int, stop: ScanStop) -> int:
        """Register a new table or GTID key, or convert rows; returns the number of the event to continue with."""
        header = event[:HEADER_SIZE].tobytes()
        kind = header[4]
        if stop == ScanStop.NEW_TABLE:
            self._add_table(header, event[HEADER_SIZE:].tobytes())
            return i
        if stop == ScanStop.NEW_KEY and self._is_mariadb == (kind == events.MARIADB_GTID):
            self._assembler.add_key(*events.gtid_key(kind, header, event[HEADER_SIZE:].tobytes()))
            return i
        if stop == ScanStop.CONVERT:
            self._convert_rows(event, header)
            self._assembler.events += 1
            return i + 1
        return refuse(f"{events.name_of(kind)}: {_SCAN_REASONS[stop]}", self._start_of(header))

    def _add_table(self, header: bytes, body: bytes) -> None:
        try:
            self._catalog.add(np.frombuffer(body, np.uint8), self._start_of(header))
        except ColumnError as error:
            refuse(str(error), self._start_of(header), table_name(body), error.column)
        except ValueError as error:
            refuse(f"TABLE_MAP: {error}", self._start_of(header), table_name(body))

    def _convert_rows(self, event: Bytes, header: bytes) -> None:
        """Convert the last row event, which has missing columns, compressed rows or partial JSON."""
        rows, last = self._assembler.rows, int(self._assembler.state[ScanField.ROWS]) - 1
        layout = self._catalog.layouts[int(rows.layout[last])]
        try:
            self._convert_event(event, header[4], last)
        except ColumnError as error:
            self._assembler.state[ScanField.ROWS] = last
            refuse(str(error), self._start_of(header), layout.schema.name, error.column or None)
        except ValueError as error:
            self._assembler.state[ScanField.ROWS] = last
            refuse(f"{events.name_of(header[4])}: {error}", self._start_of(header), layout.schema.name)

    def _convert_event(self, event: Bytes, kind: int, last: int) -> None:
        rows = self._assembler.rows
        begin, op = int(rows.at[last]) - int(event.ctypes.data), int(rows.op[last])
        full = int(rows.layout[last])
        width = (len(self._catalog.layouts[full].schema.columns) + 7) // 8 * (2 if op == UPDATE else 1)
        number = self._catalog.find_partial_layout(full, event[begin - width : begin].tobytes(), op)
        if number is None:
            self._assembler.dropped_rows += 1
            self._assembler.state[ScanField.ROWS] = last
            return
        rows.layout[last] = number
        if kind in events.COMPRESSED_ROWS:
            rows.at[last], rows.end[last] = self._assembler.keep_bytes(decompress_record(event[begin:].tobytes()))
        elif kind == events.PARTIAL_UPDATE:
            whole = self._catalog.partial_json_rows(number).restore(event[begin:].tobytes())
            rows.at[last], rows.end[last] = self._assembler.keep_bytes(whole)

    def _dispatch(self, event: Bytes) -> Iterator[DecodedRange]:
        """Handle an event that the kernel does not; yields the ranges that end with it."""
        header = event[:HEADER_SIZE].tobytes()
        position = self._start_of(header)
        try:
            if header[4] == events.TRANSACTION_PAYLOAD:
                yield from self._scan_payload(event, header, position)
            else:
                yield from self._dispatcher.handle(header, event[HEADER_SIZE:].tobytes(), position)
        except ValueError as error:
            refuse(f"{events.name_of(header[4])}: {error}", position)

    def _scan_payload(self, event: Bytes, header: bytes, position: BinlogPosition) -> Iterator[DecodedRange]:
        """Scan the events of a compressed transaction; all of them get the position of the payload."""
        assembler = self._assembler
        if assembler.state[ScanField.IN_PAYLOAD]:
            raise ValueError("a payload inside a payload")
        payload = parse_payload(event[HEADER_SIZE:])
        assembler.advance(header)
        self._payload_position = position
        assembler.state[ScanField.IN_PAYLOAD] = 1
        for indexed in payload_events(payload, assembler.inner_index):
            assembler.keep_bytes(indexed.buffer.data)
            yield from self._scan(indexed)
        assembler.state[ScanField.IN_PAYLOAD] = 0

    def _read_format(self, event: bytes) -> bool:
        """Handle a format description; returns whether the events after it have checksums."""
        header = event[:HEADER_SIZE]
        try:
            checksum = has_checksums(event)
        except (ValueError, IndexError) as error:
            refuse(f"FORMAT_DESCRIPTION: {error}", self._start_of(header))
        # It has a checksum even if the events after it have none, unless MariaDB created it for the dump.
        is_made_up = not checksum and header[13:17] == bytes(4)
        if not is_made_up and not events.has_checksum(event):
            refuse(_INDEX_REASONS[IndexStop.BAD_CHECKSUM], self._start_of(header))
        self._dispatcher.has_started = True
        self._assembler.advance(header)
        self._assembler.log.record_format(self._assembler.file, header)
        return checksum

    # Positions

    def _start_of(self, header: bytes) -> BinlogPosition:
        """The position at which an event begins."""
        size, end = int.from_bytes(header[9:13], "little"), int.from_bytes(header[13:17], "little")
        here = self._assembler.position
        if self._assembler.state[ScanField.IN_PAYLOAD]:
            return self._payload_position
        if not end or int.from_bytes(header[17:19], "little") & ARTIFICIAL:
            return here
        return BinlogPosition(here.file, max(full_position(here.pos, end) - size, 0))
