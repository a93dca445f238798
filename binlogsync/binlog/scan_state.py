"""The input, state and output of the scan over indexed events (event_scan.py).

The output lists the row events with the layout that decodes them, and the transactions that they belong to.

Sources: libs/mysql/binlog/event/control_events.h (Gtid_event, Xid_event), rows_event.h, statement_events.h
(Query_event); MariaDB: "Replication Protocol", GTID_EVENT.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.memory import addresses

TABLE_IDS = 1 << 16  # table ids are sequential, so that their low bits distinguish the last 65,536
NO_TABLE = 0xFFFFFF  # table id of the dummy row event that only ends a statement
ARTIFICIAL = 0x20  # header flag LOG_EVENT_ARTIFICIAL_F: the server created the event for this dump


class ScanStop(IntEnum):
    """Why the scan stopped before an event."""

    DONE = 0
    OTHER_EVENT = 1  # an event that Python handles
    NEW_TABLE = 2  # a new TABLE_MAP
    NEW_KEY = 3  # a GTID of a new server or domain
    NO_TABLE_MAP = 4  # a row event whose table id has no TABLE_MAP in this file
    CONVERT = 5  # rows that Python converts: they have missing columns, compression or partial JSON
    MALFORMED = 6  # an event that is shorter than its contents
    NO_TRANSACTION = 7  # rows outside a transaction
    FULL = 8  # no room for the transactions and row events that may follow


class ScanField(IntEnum):
    """Indexes of the numbers in the state of the scan, which continues from call to call."""

    POS = 0  # offset in the file after the last event
    OPEN = 1  # 1 while a transaction has begun but not ended
    TRANSACTIONS = 2  # number of rows used in Transactions
    ROWS = 3  # number of rows used in RowEvents
    KEYS = 4  # number of rows used in `keys`
    LAST_KEY = 5  # of the last GTID
    SINGLE_STATEMENT = 6  # 1 when the open transaction is a single statement, without BEGIN
    IN_PAYLOAD = 7  # 1 while scanning the events of a TRANSACTION_PAYLOAD, which have the position of the payload
    XA = 8  # 1 while the open transaction ends with XA PREPARE, not with a commit
    LAST_START = 9  # start offset of the last event that is in the file
    LAST_END = 10  # its end offset; the event before a position is known only if this equals the position
    LAST_MARK = 11  # its time and checksum (EventMark.packed)


@dataclass(frozen=True, slots=True)
class Transactions:
    """Start offset, number of the GTID key (-1 without GTID), sequence number, commit time in microseconds; offset of
    the event that precedes the transaction (-1 if unknown) and its mark (EventMark.packed).
    """

    begin: npt.NDArray[np.int64]
    key: npt.NDArray[np.int32]
    number: npt.NDArray[np.int64]
    ts_us: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    mark: npt.NDArray[np.int64]
    addresses: npt.NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns = (self.begin, self.key, self.number, self.ts_us, self.before, self.mark)
        object.__setattr__(self, "addresses", addresses(*columns))

    @classmethod
    def room_for(cls, count: int) -> Transactions:
        """Room for this number of transactions."""
        wide = [np.zeros(count, np.int64) for _ in range(5)]
        return cls(wide[0], np.zeros(count, np.int32), *wide[1:])

    def move_to_first(self, index: int) -> None:
        """Move the transaction at `index` to the first row."""
        for column in (self.begin, self.key, self.number, self.ts_us, self.before, self.mark):
            column[0] = column[index]


@dataclass(frozen=True, slots=True)
class RowEvents:
    """Row events in order: addresses of the first row and of the end, layout, transaction, end offset in the file, op
    (0 c, 1 u, 2 d).
    """

    at: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    layout: npt.NDArray[np.int32]
    transaction: npt.NDArray[np.int64]
    pos: npt.NDArray[np.int64]
    op: npt.NDArray[np.int8]
    addresses: npt.NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns = (self.at, self.end, self.layout, self.transaction, self.pos, self.op)
        object.__setattr__(self, "addresses", addresses(*columns))

    @classmethod
    def room_for(cls, count: int) -> RowEvents:
        """Room for this number of events."""
        wide = [np.empty(count, np.int64) for _ in range(4)]
        return cls(wide[0], wide[1], np.empty(count, np.int32), wide[2], wide[3], np.empty(count, np.int8))


@dataclass(slots=True)
class TableMapCache:
    """The known TABLE_MAPs, by slot. `known` has their bodies, concatenated; `slots` maps the low bits of a table id to
    a slot or -1.
    """

    slots: npt.NDArray[np.int32]
    known: npt.NDArray[np.uint8]
    at: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    layout: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int64]
    addresses: npt.NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._locate()

    def _locate(self) -> None:
        self.addresses = addresses(self.slots, self.known, self.at, self.size, self.layout, self.columns)

    @classmethod
    def empty(cls) -> TableMapCache:
        """A cache without tables."""
        none = np.zeros(0, np.int64)
        return cls(np.full(TABLE_IDS, -1, np.int32), np.zeros(0, np.uint8), none, none, np.zeros(0, np.int32), none)

    def add(self, body: npt.NDArray[np.uint8], table_id: int, layout: int, columns: int) -> int:
        """Add the body of a TABLE_MAP, the number of its layout and the number of its columns; returns its slot."""
        slot = len(self.at)
        self.at = np.append(self.at, len(self.known))
        self.size = np.append(self.size, len(body))
        self.layout = np.append(self.layout, np.int32(layout))
        self.columns = np.append(self.columns, np.int64(columns))
        self.known = np.concatenate([self.known, body])
        self._locate()
        self.slots[table_id % TABLE_IDS] = slot
        return slot

    def rename(self, slot: int, body: npt.NDArray[np.uint8], table_id: int) -> None:
        """Change the table id of the TABLE_MAP in `slot`: the server assigns a new id whenever it reopens a table."""
        at = int(self.at[slot])
        self.known[at : at + len(body)] = body
        self.slots[table_id % TABLE_IDS] = slot

    def forget_ids(self) -> None:
        """Forget all table ids: they are valid within one binlog file only."""
        self.slots.fill(-1)


def full_position(previous: int, low: int) -> int:
    """The 64-bit offset for the low 32 bits in an event header, which wrap around in a binlog of more than 4 GiB."""
    pos = (previous & ~0xFFFFFFFF) | low
    return pos if pos >= previous else pos + 0x100000000
