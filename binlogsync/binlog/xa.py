"""XA transactions: changes that are logged when they are prepared and take effect when XA COMMIT is logged.

Rows of a prepared transaction are kept as they were logged and become changes of the transaction that its XA COMMIT
is, with that one's place, GTID and time; those of XA ROLLBACK never become any. While something is prepared a restart
has to read from before it on, so each checkpoint names that place (`Checkpoint.resume`); what sinks hold already they
drop by its coordinates.

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
"""Bytes of rows that may be prepared and not yet committed."""

_STATEMENT = re.compile(
    r"XA\s+(?P<verb>START|END|COMMIT|ROLLBACK)\s+X'(?P<gtrid>[0-9a-f]*)',X'(?P<bqual>[0-9a-f]*)',(?P<format>\d+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Xid:
    """Names a distributed transaction."""

    format_id: int
    gtrid: bytes
    bqual: bytes

    def __str__(self) -> str:
        return f"X'{self.gtrid.hex()}',X'{self.bqual.hex()}',{self.format_id}"


def parse_statement(sql: str) -> tuple[str, Xid]:
    """The verb (START, END, COMMIT, ROLLBACK) of a logged XA statement and the transaction. Raises ValueError."""
    match = _STATEMENT.match(sql)
    if match is None:
        raise ValueError(f"{sql[:100]!r} is not an XA statement as servers log it")
    xid = Xid(int(match["format"]), bytes.fromhex(match["gtrid"]), bytes.fromhex(match["bqual"]))
    return match["verb"].upper(), xid


def parse_prepare(body: bytes) -> tuple[bool, Xid]:
    """An XA_PREPARE event: whether the transaction is committed with it (ONE PHASE), and which. Raises ValueError."""
    reader = ByteReader(body)
    one_phase = reader.integer(1) != 0
    format_id, gtrid, bqual = reader.integer(4), reader.integer(4), reader.integer(4)
    return one_phase, Xid(format_id, reader.string(gtrid), reader.string(bqual))


@dataclass(frozen=True, slots=True)
class XaRowEvent:
    """One row event: number of its layout, op, and its rows as they were logged."""

    layout: int
    op: int
    data: bytes


@dataclass(slots=True)
class XaTransaction:
    """The rows of one XA transaction; `resume` is a place before it."""

    resume: ResumePosition
    rows: list[XaRowEvent] = field(default_factory=list)


class PreparedTransactions:
    """The XA transactions that are prepared, and the one that is being logged.

    An xid is free again once it is committed, so one stretch may commit and prepare it any number of times.
    """

    def __init__(self) -> None:
        self.needed: ResumePosition | None = None
        """A place before everything that was prepared at some time of the stretch."""
        self._open: XaTransaction | None = None
        self._held: dict[int, XaTransaction] = {}  # by number, in the order of being prepared
        self._numbers: dict[Xid, int] = {}
        self._committed: list[tuple[Xid, int]] = []
        self._next = self._size = 0

    def begin(self, resume: ResumePosition) -> None:
        """An XA transaction begins, somewhere behind `resume`."""
        self._open = XaTransaction(resume)

    def hold(self, rows: RowEvents, first: int, end: int) -> None:
        """Copy the row events first..end-1 of the transaction that is being logged. Raises ValueError."""
        assert self._open is not None
        for i in range(first, end):
            size = int(rows.end[i] - rows.at[i])
            self._size += size
            if self._size > HELD_LIMIT:
                raise ValueError(
                    f"XA transactions that are prepared and not committed hold more than {HELD_LIMIT >> 20} MiB, which "
                    "is more than is kept in memory; commit them soon after they are prepared, or in smaller pieces"
                )
            data = ctypes.string_at(int(rows.at[i]), size)
            self._open.rows.append(XaRowEvent(int(rows.layout[i]), int(rows.op[i]), data))

    def prepare(self, xid: Xid) -> None:
        """The transaction that is being logged is whole."""
        assert self._open is not None
        self._held[self._next] = self._open
        self._numbers[xid] = self._next
        self._next += 1
        self.needed = self.needed or self._open.resume
        self._open = None

    def one_phase(self) -> list[XaRowEvent]:
        """The rows of the transaction that is being logged and is committed at once."""
        assert self._open is not None
        rows, self._open = self._open.rows, None
        self._size -= sum(len(each.data) for each in rows)
        return rows

    def rows(self, xid: Xid) -> list[XaRowEvent] | None:
        """Of a prepared transaction; None when it is not known. It stays prepared until it is committed and settled."""
        return self._held[self._numbers[xid]].rows if xid in self._numbers else None

    def commit(self, xid: Xid) -> None:
        """Its rows have become changes; they count when the stretch is decoded."""
        self._committed.append((xid, self._numbers.pop(xid)))

    def roll_back(self, xid: Xid) -> None:
        """Its rows never become changes."""
        if xid in self._numbers:
            self._forget(self._numbers.pop(xid))

    def unsettle(self) -> None:
        """The stretch cannot be decoded as a whole: what was committed in it remains prepared."""
        self._numbers.update(reversed(self._committed))
        self._committed.clear()

    def settle(self) -> ResumePosition | None:
        """The stretch is decoded: forget what was committed in it; returns a place before what remains prepared."""
        for _, number in self._committed:
            self._forget(number)
        self._committed.clear()
        return next(iter(self._held.values())).resume if self._held else None

    def _forget(self, number: int) -> None:
        self._size -= sum(len(each.data) for each in self._held.pop(number).rows)
