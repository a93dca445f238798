"""Builds a `DecodedRange` from scanned events: decodes the rows, numbers the changes, fills in the source columns, and
determines the checkpoint.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog import scan_state
from binlogsync.binlog.catalog import Catalog
from binlogsync.binlog.decoded_range import DecodedRange, EndReason
from binlogsync.binlog.event_index import EventIndex, IndexedEvents
from binlogsync.binlog.event_scan import scan_events
from binlogsync.binlog.layout import ColumnError
from binlogsync.binlog.log_tracker import LogTracker
from binlogsync.binlog.numbering import number_changes
from binlogsync.binlog.rendered import ImageRenderer
from binlogsync.binlog.row_parts import ColumnPart, Memories, TextPart, decode_parts
from binlogsync.binlog.scan_state import RowEvents, ScanField, ScanStop, Transactions
from binlogsync.binlog.source_columns import SourceColumns
from binlogsync.binlog.visible_tables import visible_changes
from binlogsync.binlog.xa import PreparedTransactions, XaRowEvent
from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch, build_batch, build_schema_batch
from binlogsync.errors import DecodeError
from binlogsync.flush import TransactionRun
from binlogsync.position import BinlogPosition, Checkpoint, ResumePosition

Longs = npt.NDArray[np.int64]
CAPACITY = 1 << 17  # events of one index; a range has room for twice as many
KEPT_LIMIT = 32 << 20  # bytes of decompressed events held in memory, above which a range ends


class Assembler:
    """Builds ranges, and holds the state that continues from one to the next: open transaction, GTID keys, numbers."""

    def __init__(
        self,
        catalog: Catalog,
        checkpoint: Checkpoint,
        server: tuple[str, int],
        *,
        mariadb: bool,
        renderer: ImageRenderer | None = None,
    ) -> None:
        self.index = EventIndex.room_for(CAPACITY)
        self.inner_index = EventIndex.room_for(CAPACITY)  # of the events inside a TRANSACTION_PAYLOAD
        self.rows = RowEvents.room_for(2 * CAPACITY)
        self.transactions = Transactions.room_for(2 * CAPACITY)
        self.state = np.zeros(len(ScanField), np.int64)
        self.state[ScanField.POS] = checkpoint.position.pos
        self.file = checkpoint.position.file
        self.seq = 0
        self.events = 0
        """Number of events in the range so far."""
        self.dropped_rows = 0
        """Number of statements in the range that change rows of tables that are not captured, and of history rows."""
        self._kept: list[npt.NDArray[np.uint8]] = []  # bytes with row events, other than the buffer passed to `feed`
        self._kept_bytes = 0
        self._undecodable: int | None = None  # the row event at which the last finish failed
        self._catalog = catalog
        self._server = server
        self._mariadb = mariadb
        self._renderer = renderer
        self.log = LogTracker(self.state, checkpoint)
        self._gtids = checkpoint.gtids
        self._ts_us = checkpoint.ts_us
        self._keys = np.zeros((0, 16), np.uint8)
        self._names: list[str] = []
        self._carried = False
        self._first_seq = 0  # of the carried transaction
        self.prepared = PreparedTransactions()
        self._boundary = ResumePosition(checkpoint.position, checkpoint.gtids)  # of the last checkpoint
        self._last_position = (-1, 0)  # of the last row event: its offset, and the changes that have it

    @property
    def position(self) -> BinlogPosition:
        """The position after the last event that was scanned."""
        return BinlogPosition(self.file, int(self.state[ScanField.POS]))

    @property
    def server_uuid(self) -> str:
        """The server that sends the dump."""
        return self._server[0]

    @property
    def is_open(self) -> bool:
        """True while a transaction has begun but not ended."""
        return bool(self.state[ScanField.OPEN])

    @property
    def is_single_statement(self) -> bool:
        """True while the open transaction is a single statement without BEGIN."""
        return bool(self.state[ScanField.SINGLE_STATEMENT])

    @property
    def has_changes(self) -> bool:
        """True when the open transaction has rows of captured tables, in this range or possibly in earlier ones."""
        if not self.is_open:
            return False
        planned, last = int(self.state[ScanField.ROWS]), int(self.state[ScanField.TRANSACTIONS]) - 1
        numbers = np.unique(self.rows.layout[:planned][self.rows.transaction[:planned] == last])
        return any(self._catalog.layouts[number].captured for number in numbers.tolist()) or (
            self._carried and last == 0 and self.seq > self._first_seq
        )

    def advance(self, header: bytes) -> None:
        """Advance the position over an event that Python handles."""
        end, flags = int.from_bytes(header[13:17], "little"), int.from_bytes(header[17:19], "little")
        if flags & scan_state.ARTIFICIAL or self.state[ScanField.IN_PAYLOAD]:
            return
        if end:
            self.state[ScanField.POS] = scan_state.full_position(int(self.state[ScanField.POS]), end)
        elif self.is_open:  # MariaDB logs no offset inside a transaction; the scan adds the size in the same way
            self.state[ScanField.POS] += int.from_bytes(header[9:13], "little")
        self.log.end_event(header)

    def rotate(self, file: str, pos: int) -> None:
        """Continue in another file."""
        self.log.rotate(moves=(file, pos) != (self.file, int(self.state[ScanField.POS])))
        self.file = file
        self._last_position = (-1, 0)
        self.state[ScanField.POS] = pos
        self._boundary = ResumePosition(self.position, self._gtids)

    def scan_events(self, part: IndexedEvents, first: int) -> tuple[int, ScanStop]:
        """Scan the events from number `first` on; see event_scan.py."""
        left = part.count - first
        if max(self.state[ScanField.ROWS], self.state[ScanField.TRANSACTIONS]) + left > 2 * CAPACITY:
            return first, ScanStop.FULL
        tables, keys = self._catalog.tables, self._keys
        at, stop = scan_events(part, first, self.transactions, self.rows, tables, keys, self.state)
        self.events += at - first
        return at, stop

    def keep_bytes(self, data: bytes | memoryview) -> tuple[int, int]:
        """Keep bytes with row events until they are decoded. Returns the address of their start and of their end."""
        buffer = np.frombuffer(data, np.uint8)
        self._kept.append(buffer)
        self._kept_bytes += len(buffer)
        begin = int(buffer.ctypes.data)
        return begin, begin + len(buffer)

    def begin_xa(self) -> None:
        """Mark the open transaction as an XA transaction, whose changes take effect at XA COMMIT."""
        self.prepared.begin(self._boundary)
        self.state[ScanField.XA], self.state[ScanField.SINGLE_STATEMENT] = 1, 0

    def hold_xa_rows(self) -> None:
        """Move the row events of the open XA transaction to `prepared`. Raises DecodeError when they are too large."""
        planned = int(self.state[ScanField.ROWS])
        last = int(self.state[ScanField.TRANSACTIONS]) - 1
        first = int(np.searchsorted(self.rows.transaction[:planned], last))
        self.state[ScanField.ROWS] = first
        try:
            self.prepared.hold(self.rows, first, planned)
        except ValueError as error:
            raise DecodeError(str(error), file=self.file, pos=int(self.transactions.begin[last])) from error

    def release_xa_rows(self, held: XaRowEvent) -> None:
        """Add a row event of a prepared transaction to the open transaction, at the position of its XA COMMIT."""
        r = int(self.state[ScanField.ROWS])
        rows = self.rows
        rows.at[r], rows.end[r] = self.keep_bytes(held.data)
        rows.layout[r], rows.op[r] = held.layout, held.op
        rows.transaction[r], rows.pos[r] = self.state[ScanField.TRANSACTIONS] - 1, self.state[ScanField.POS]
        self.state[ScanField.ROWS] = r + 1

    @property
    def is_full(self) -> bool:
        """True when there is no room for another row event."""
        return bool(self.state[ScanField.ROWS] == 2 * CAPACITY)

    @property
    def exceeds_memory(self) -> bool:
        """True when the kept bytes exceed the limit, so that the range has to end."""
        return self._kept_bytes > KEPT_LIMIT

    def add_key(self, key: bytes, name: str) -> int:
        """Register a GTID key: the 16 bytes that the scan compares, and its text in a GtidSet. Returns its number."""
        self._keys = np.concatenate([self._keys, np.frombuffer(key, np.uint8).reshape(1, 16)])
        self._names.append(name)
        self.state[ScanField.KEYS] = len(self._names)
        return len(self._names) - 1

    def find_or_add_key(self, key: bytes, name: str) -> int:
        """The number of a GTID key, which is registered if it is new."""
        return self._names.index(name) if name in self._names else self.add_key(key, name)

    def begin_transaction(self, key: int, number: int, ts_us: int, begin: int) -> None:
        """Begin a transaction whose GTID event Python handles; `key` is a number from add_key. Raises ValueError."""
        if not (0 <= number < 2**63 and 0 <= ts_us < 2**63):
            raise ValueError(f"a transaction has an invalid number {number} or commit time {ts_us}")
        at = int(self.state[ScanField.TRANSACTIONS])
        self.transactions.begin[at], self.transactions.key[at] = begin, key
        self.transactions.number[at], self.transactions.ts_us[at] = number, ts_us
        self.transactions.before[at], self.transactions.mark[at] = self.log.event_before(begin)
        self.state[ScanField.TRANSACTIONS], self.state[ScanField.OPEN], self.state[ScanField.SINGLE_STATEMENT] = (
            at + 1,
            1,
            1,
        )

    def discard_transaction(self) -> None:
        """Discard the open transaction, unless some of its changes were delivered in an earlier range."""
        last = int(self.state[ScanField.TRANSACTIONS]) - 1
        if self._carried and last == 0:
            return
        planned = self.rows.transaction[: int(self.state[ScanField.ROWS])]
        self.state[ScanField.ROWS] = int((planned < last).sum())
        self.state[ScanField.TRANSACTIONS], self.state[ScanField.OPEN] = last, 0
        self.state[ScanField.POS] = self.transactions.begin[last]

    def finish_range(self, end: EndReason = "more", statements: tuple[SchemaChange, ...] = ()) -> DecodedRange:
        """Decode the scanned row events into a range, and start the next one.

        `statements` are the DDL statements that end the range. Raises DecodeError.
        """
        if self.state[ScanField.XA]:
            self.hold_xa_rows()
        planned, total = int(self.state[ScanField.ROWS]), int(self.state[ScanField.TRANSACTIONS])
        parts, counts = self._decode(planned)
        numbers = number_changes(self.rows, counts, total, self.seq, self._last_position)
        self.seq, self._last_position, first_seq = numbers.next_seq, numbers.last_position, numbers.first_seq
        if self._carried:
            first_seq[0] = self._first_seq
        sources = SourceColumns(
            self.file, self.transactions, total, numbers, self._names, self._mariadb, self.log.head(self.file)
        )
        gtids = sources.gtid_texts() if any(isinstance(part, ColumnPart) for part in parts) else None
        batches = [self._batch(part, sources, gtids) for part in parts]
        batches += self._statements(statements, int(first_seq[total - 1]) if total else self.seq)
        runs = sources.runs()
        result = DecodedRange(
            batches=tuple(batch for batch in batches if batch is not None),
            runs=runs,
            carried=self._carried,
            schema_changes=tuple(replace(statement, seq=self.seq) for statement in statements),
            checkpoint=self._checkpoint(runs, first_seq, total, self.prepared.forget_committed()),
            end=end,
            events=self.events,
            transactions=total - self._carried,
            dropped=self.dropped_rows + sum(part.count for part in parts if not part.layout.captured),
            resume=self.prepared.needed,
        )
        self._boundary = ResumePosition(result.checkpoint.position, result.checkpoint.gtids)
        self.prepared.needed = result.checkpoint.resume
        self._start_next(first_seq, total)
        return result

    def _decode(self, planned: int) -> tuple[list[ColumnPart | TextPart], Longs]:
        """The rows decoded, by layout, and the number of changes of each row event."""
        layouts = self._catalog.layouts
        try:
            return decode_parts(self.rows, planned, layouts, self._renderer, Memories(self._kept))
        except ColumnError as error:
            event = self._undecodable = error.event
            pos = int(self.transactions.begin[self.rows.transaction[event]])
            raise DecodeError(
                f"{error}, in the row event that ends at {int(self.rows.pos[event])}, of the transaction that begins",
                file=self.file,
                pos=pos,
                table=layouts[self.rows.layout[event]].schema.name,
                column=error.column,
            ) from error

    def _batch(self, part: ColumnPart | TextPart, sources: SourceColumns, gtids: pa.Array | None) -> ChangeBatch | None:
        if isinstance(part, TextPart):
            return part.batch(self.rows, sources, self._server)
        batch = part.batch(self.rows, sources, gtids, self._server)
        if batch is None or part.layout.visible_table is None:
            return batch
        shown = visible_changes(batch, part.layout.visible_table)
        self.dropped_rows += len(batch) - len(shown)
        return shown if len(shown) else None

    def _statements(self, statements: tuple[SchemaChange, ...], first_seq: int) -> list[ChangeBatch]:
        """One change for each captured table that a statement affects; a TRUNCATE has op t.

        They are changes of the statement's transaction, whose first change has the number `first_seq`.
        """
        batches = []
        for statement in statements:
            last = int(self.state[ScanField.TRANSACTIONS]) - 1
            captured = [table for table in dict.fromkeys(statement.tables) if self._catalog.captures(*table)]
            for number, (database, table) in enumerate(captured):
                source = {
                    "ts_us": int(self.transactions.ts_us[last]),
                    "gtid": statement.gtid,
                    "file": statement.position.file,
                    "pos": statement.position.pos,
                    "row": number,
                    "txn_pos": int(self.transactions.begin[last]),
                    "order": self.seq - first_seq,
                    "seq": self.seq,
                }
                if statement.kind == "truncate":
                    schema = self._catalog.latest_schema(database, table)
                    nothing = pa.nulls(1, schema.image_type())
                    columns = {name: [value] for name, value in source.items()}
                    batches.append(build_batch(schema, ["t"], (nothing, nothing), columns, self._server))
                else:
                    batches.append(build_schema_batch(statement, (database, table), source, self._server))
                self.seq += 1
        return batches

    def last_ts_us(self) -> int:
        """Commit time of the last transaction."""
        last = int(self.state[ScanField.TRANSACTIONS]) - 1
        return int(self.transactions.ts_us[last]) if last >= 0 else self._ts_us

    def last_gtid(self) -> str | None:
        """The GTID of the last transaction, in the notation of the server."""
        last = int(self.state[ScanField.TRANSACTIONS]) - 1
        key = int(self.transactions.key[last])
        if last < 0 or key < 0:
            return None
        return f"{self._names[key]}{'-' if self._mariadb else ':'}{int(self.transactions.number[last])}"

    def _checkpoint(
        self, runs: tuple[TransactionRun, ...], first_seq: Longs, total: int, resume: ResumePosition | None
    ) -> Checkpoint:
        """The checkpoint after the last complete transaction, or inside the open one."""
        gtids = self._gtids
        for number, run in enumerate(runs, 1):
            ended = len(run.begin) - (self.is_open and number == len(runs))
            if gtids is not None and run.key is not None and ended:
                gtids = gtids.with_run(run.key, run.first, run.first + ended - 1)
        self._gtids = gtids
        if total:
            self._ts_us = int(self.transactions.ts_us[total - 1])
        if not self.is_open:
            log = self.log.identity(self.file)
            return Checkpoint(self.position, self._server[0], gtids, 0, self._ts_us, resume, log=log)
        begin = BinlogPosition(self.file, int(self.transactions.begin[total - 1]))
        skip, inside = self.seq - int(first_seq[total - 1]), self.last_gtid()
        log = runs[-1].log_before(len(runs[-1].begin) - 1)
        inside = inside if skip else None
        return Checkpoint(begin, self._server[0], gtids, skip, self._ts_us, resume, inside, log)

    def decode_before_error(self) -> DecodedRange | None:
        """The range that ends before the row event that could not be decoded; None when it would be empty."""
        while True:
            if self._undecodable is not None:
                self._cut(self._undecodable)
            if not self.events:
                return None
            with suppress(DecodeError):
                return self.finish_range()

    def _cut(self, event: int) -> None:
        """Discard the row event of that number and all events after it; its transaction becomes the open one."""
        self._undecodable = None
        self.prepared.restore_committed()
        transaction = int(self.rows.transaction[event])
        self.state[ScanField.ROWS], self.state[ScanField.TRANSACTIONS] = event, transaction + 1
        self.state[ScanField.OPEN] = 1

    def _start_next(self, first_seq: Longs, total: int) -> None:
        """Start an empty range; an open transaction becomes its first."""
        self.events = self.dropped_rows = 0
        self._kept.clear()
        self._kept_bytes = 0
        self._carried = self.is_open
        self.state[ScanField.ROWS] = 0
        self.state[ScanField.TRANSACTIONS] = int(self._carried)
        if self._carried:
            self._first_seq = int(first_seq[total - 1])
            self.transactions.move_to_first(total - 1)
