"""An index of events -> which row events to decode under which layout, and which transactions they belong to.

What a plan holds, and why the walk over the events (event_scan.py) stops.

Sources: libs/mysql/binlog/event/control_events.h (Gtid_event, Xid_event), rows_event.h, statement_events.h
(Query_event); MariaDB: "Replication Protocol", GTID_EVENT.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

TABLE_IDS = 1 << 16  # table ids count up, so that their low bits tell apart the last 65,536
NO_TABLE = 0xFFFFFF  # the row event that only ends a statement
ARTIFICIAL = 0x20  # header flag: the event was made for this dump and is not in the file


class ScanStop(IntEnum):
    """Why the walk stopped before an event."""

    DONE = 0
    RARE = 1  # an event that Python handles
    NEW_TABLE = 2  # a TABLE_MAP not seen before
    NEW_KEY = 3  # a GTID of a server, or domain, not seen before
    NO_TABLE_MAP = 4  # rows whose table id has no TABLE_MAP in this binlog
    LOOK = 5  # rows that Python makes ready: they lack columns, are compressed, or hold partial JSON
    MALFORMED = 6  # an event too short for what it says it holds
    NO_TRANSACTION = 7  # rows outside a transaction
    FULL = 8  # no room for what the events may hold


class ScanField(IntEnum):
    """Numbers that the walk carries from call to call."""

    POS = 0  # offset in the file behind the last event
    OPEN = 1  # 1 while a transaction has begun and not ended
    TRANSACTIONS = 2  # rows in use of Transactions
    ROWS = 3  # rows in use of RowEvents
    KEYS = 4  # rows in use of `keys`
    LAST_KEY = 5  # of the last GTID
    ALONE = 6  # 1 when the open transaction is a single statement, without BEGIN
    INSIDE = 7  # 1 while the events of a payload are walked: they stand where the payload does
    XA = 8  # 1 while the open transaction is prepared when it ends, and not committed
    LAST_START = 9  # offset of the last event of the file itself
    LAST_END = 10  # offset behind it; where this is not the position in question, the event before that is not known
    LAST_MARK = 11  # its time and checksum, as EventMark.packed has them


@dataclass(frozen=True, slots=True)
class Transactions:
    """Begin offset, GTID key number (-1 without) and sequence, commit time in microseconds; offset of the event before
    the transaction (-1 when it is not known), and its mark (EventMark.packed).
    """

    begin: npt.NDArray[np.int64]
    key: npt.NDArray[np.int32]
    number: npt.NDArray[np.int64]
    ts_us: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    mark: npt.NDArray[np.int64]

    @classmethod
    def room_for(cls, count: int) -> Transactions:
        """Room for so many transactions."""
        wide = [np.zeros(count, np.int64) for _ in range(5)]
        return cls(wide[0], np.zeros(count, np.int32), *wide[1:])

    def restart_with(self, index: int) -> None:
        """Make the transaction at `index` the first."""
        for column in (self.begin, self.key, self.number, self.ts_us, self.before, self.mark):
            column[0] = column[index]


@dataclass(frozen=True, slots=True)
class RowEvents:
    """Row events in order: addresses of first row and end, layout, transaction, offset behind it in the file, op (0 c,
    1 u, 2 d).
    """

    at: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    layout: npt.NDArray[np.int32]
    transaction: npt.NDArray[np.int64]
    pos: npt.NDArray[np.int64]
    op: npt.NDArray[np.int8]

    @classmethod
    def room_for(cls, count: int) -> RowEvents:
        """Room for so many events."""
        wide = [np.empty(count, np.int64) for _ in range(4)]
        return cls(wide[0], wide[1], np.empty(count, np.int32), wide[2], wide[3], np.empty(count, np.int8))


@dataclass(slots=True)
class TableMapCache:
    """TABLE_MAPs seen, by slot: their bytes lie one behind the other in `known`; `slots` maps low bits of an id to a
    slot or -1.
    """

    slots: npt.NDArray[np.int32]
    known: npt.NDArray[np.uint8]
    at: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    layout: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int64]

    @classmethod
    def empty(cls) -> TableMapCache:
        """No table seen yet."""
        none = np.zeros(0, np.int64)
        return cls(np.full(TABLE_IDS, -1, np.int32), np.zeros(0, np.uint8), none, none, np.zeros(0, np.int32), none)

    def add(self, body: npt.NDArray[np.uint8], table_id: int, layout: int, columns: int) -> int:
        """Remember a TABLE_MAP's body, the layout of its full rows and the number of its columns; returns its slot."""
        slot = len(self.at)
        self.at = np.append(self.at, len(self.known))
        self.size = np.append(self.size, len(body))
        self.layout = np.append(self.layout, np.int32(layout))
        self.columns = np.append(self.columns, np.int64(columns))
        self.known = np.concatenate([self.known, body])
        self.slots[table_id % TABLE_IDS] = slot
        return slot

    def rename(self, slot: int, body: npt.NDArray[np.uint8], table_id: int) -> None:
        """A TABLE_MAP that differs from the one in `slot` in its table id only: the table was opened anew."""
        at = int(self.at[slot])
        self.known[at : at + len(body)] = body
        self.slots[table_id % TABLE_IDS] = slot

    def forget_ids(self) -> None:
        """A new binlog file begins: ids mean nothing any more, until their TABLE_MAPs come again."""
        self.slots.fill(-1)


def full_position(previous: int, low: int) -> int:
    """The 64-bit offset whose low 32 bits an event header holds: binlogs of more than 4 GiB wrap around."""
    pos = (previous & ~0xFFFFFFFF) | low
    return pos if pos >= previous else pos + 0x100000000
