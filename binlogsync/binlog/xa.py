"""XA transactions: their changes are logged at XA PREPARE and take effect at XA COMMIT.

The row events of a prepared transaction are kept in memory as logged. They become changes of the transaction of XA
COMMIT, with its position, GTID and time; XA ROLLBACK discards them. While a transaction is prepared, a restart has to
read from a position before it, so each checkpoint contains that position (`Checkpoint.resume`); sinks skip the changes
that they have stored already, by their coordinates.

Sources: XA_prepare_event in libs/mysql/binlog/event/control_events.h; MariaDB: Gtid_log_event::FL_PREPARED_XA in
sql/log_event.h; serialize_xid in both for the text of the statements.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, field

from binlogsync.binlog.bytes import ByteReader
from binlogsync.binlog.scan_state import RowEvents
from binlogsync.position import ResumePosition

HELD_LIMIT = 256 << 20
"""Limit on the bytes of row events that are prepared and not yet committed."""

_STATEMENT = re.compile(
    r"XA\s+(?P<verb>START|END|COMMIT|ROLLBACK)\s+X'(?P<gtrid>[0-9a-f]*)',X'(?P<bqual>[0-9a-f]*)',(?P<format>\d+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Xid:
    """The identifier of an XA transaction."""

    format_id: int
    gtrid: bytes
    bqual: bytes

    def __str__(self) -> str:
        return f"X'{self.gtrid.hex()}',X'{self.bqual.hex()}',{self.format_id}"


def parse_statement(sql: str) -> tuple[str, Xid]:
    """The verb (START, END, COMMIT, ROLLBACK) and the xid of a logged XA statement. Raises ValueError."""
    match = _STATEMENT.match(sql)
    if match is None:
        raise ValueError(f"{sql[:100]!r} is not an XA statement as servers log it")
    xid = Xid(int(match["format"]), bytes.fromhex(match["gtrid"]), bytes.fromhex(match["bqual"]))
    return match["verb"].upper(), xid


def parse_prepare(body: bytes) -> tuple[bool, Xid]:
    """Parse an XA_PREPARE event: whether it commits the transaction (ONE PHASE), and the xid. Raises ValueError."""
    reader = ByteReader(body)
    one_phase = reader.integer(1) != 0
    format_id, gtrid, bqual = reader.integer(4), reader.integer(4), reader.integer(4)
    return one_phase, Xid(format_id, reader.string(gtrid), reader.string(bqual))


@dataclass(frozen=True, slots=True)
class XaRowEvent:
    """A row event: number of its layout, op, and the bytes of its rows."""

    layout: int
    op: int
    data: bytes


@dataclass(slots=True)
class XaTransaction:
    """The row events of one XA transaction; `resume` is a position before it."""

    resume: ResumePosition
    rows: list[XaRowEvent] = field(default_factory=list)


class PreparedTransactions:
    """The prepared XA transactions, and the XA transaction whose events are being read.

    An xid can be reused once it is committed, so one range may commit and prepare it any number of times.
    """

    def __init__(self) -> None:
        self.needed: ResumePosition | None = None
        """A position before every transaction that was prepared at any time within the range."""
        self._open: XaTransaction | None = None
        self._held: dict[int, XaTransaction] = {}  # by number, in the order of being prepared
        self._numbers: dict[Xid, int] = {}
        self._committed: list[tuple[Xid, int]] = []
        self._next = self._size = 0

    def begin(self, resume: ResumePosition) -> None:
        """Begin an XA transaction at some position after `resume`."""
        self._open = XaTransaction(resume)

    def hold(self, rows: RowEvents, first: int, end: int) -> None:
        """Copy the row events first..end-1 of the current transaction. Raises ValueError."""
        assert self._open is not None
        for i in range(first, end):
            size = int(rows.end[i] - rows.at[i])
            self._size += size
            if self._size > HELD_LIMIT:
                raise ValueError(
                    f"XA transactions that are prepared and not committed have more than {HELD_LIMIT >> 20} MiB of "
                    "rows, the limit in memory; commit them sooner after XA PREPARE, or make them smaller"
                )
            data = ctypes.string_at(int(rows.at[i]), size)
            self._open.rows.append(XaRowEvent(int(rows.layout[i]), int(rows.op[i]), data))

    def prepare(self, xid: Xid) -> None:
        """End the current transaction: it is prepared."""
        assert self._open is not None
        self._held[self._next] = self._open
        self._numbers[xid] = self._next
        self._next += 1
        self.needed = self.needed or self._open.resume
        self._open = None

    def take_one_phase(self) -> list[XaRowEvent]:
        """End the current transaction, which is committed in one phase, and return its row events."""
        assert self._open is not None
        rows, self._open = self._open.rows, None
        self._size -= sum(len(each.data) for each in rows)
        return rows

    def find_rows(self, xid: Xid) -> list[XaRowEvent] | None:
        """The row events of a prepared transaction; None for an unknown xid."""
        return self._held[self._numbers[xid]].rows if xid in self._numbers else None

    def commit(self, xid: Xid) -> None:
        """Mark a transaction as committed; `forget_committed` drops it once the range is decoded."""
        self._committed.append((xid, self._numbers.pop(xid)))

    def roll_back(self, xid: Xid) -> None:
        """Discard a prepared transaction."""
        if xid in self._numbers:
            self._forget(self._numbers.pop(xid))

    def restore_committed(self) -> None:
        """Return the transactions committed in this range to prepared, because the range could not be decoded."""
        self._numbers.update(reversed(self._committed))
        self._committed.clear()

    def forget_committed(self) -> ResumePosition | None:
        """Drop the transactions committed in this range; returns a position before those that remain prepared."""
        for _, number in self._committed:
            self._forget(number)
        self._committed.clear()
        return next(iter(self._held.values())).resume if self._held else None

    def _forget(self, number: int) -> None:
        self._size -= sum(len(each.data) for each in self._held.pop(number).rows)
