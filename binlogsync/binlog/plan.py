"""An index of events -> which row events to decode under which layout, and which transactions they belong to.

One kernel walks the events and does all that is the same a million times: transactions, known TABLE_MAPs, row events.
What is rare (a new table, DDL, a rotation) it leaves to Python: it returns the number of the event and a `Halt` that
says why.

Sources: libs/mysql/binlog/event/control_events.h (Gtid_event, Xid_event), rows_event.h, statement_events.h
(Query_event); MariaDB: "Replication Protocol", GTID_EVENT.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from numba import njit, types

from binlogsync.binlog.frames import Part
from binlogsync.binlog.memory import INNER, KERNEL, copy, load_i64, load_u8, load_u16, load_u32, load_u48, same

TABLE_IDS = 1 << 16  # table ids count up, so that their low bits tell apart the last 65,536
NO_TABLE = 0xFFFFFF  # the row event that only ends a statement
ARTIFICIAL = 0x20  # header flag: the event was made for this dump and is not in the file


class Halt(IntEnum):
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


class Field(IntEnum):
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


@dataclass(frozen=True, slots=True)
class Transactions:
    """Begin offset, GTID key number (-1 without) and sequence, commit time in microseconds."""

    begin: npt.NDArray[np.int64]
    key: npt.NDArray[np.int32]
    number: npt.NDArray[np.int64]
    ts_us: npt.NDArray[np.int64]

    @classmethod
    def room_for(cls, count: int) -> Transactions:
        """Room for so many transactions."""
        wide = [np.zeros(count, np.int64) for _ in range(3)]
        return cls(wide[0], np.zeros(count, np.int32), wide[1], wide[2])

    def restart_with(self, index: int) -> None:
        """Make the transaction at `index` the first."""
        for column in (self.begin, self.key, self.number, self.ts_us):
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
class Tables:
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
    def empty(cls) -> Tables:
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


@njit("boolean(intp, intp)", **INNER)
def all_bits(address, count):  # type: ignore[no-untyped-def]
    """True when the first `count` bits, lowest first, are set."""
    for i in range(count // 8):
        if load_u8(address + i) != 255:
            return False
    left = count % 8
    full = (1 << left) - 1
    return left == 0 or (load_u8(address + count // 8) & full) == full


@njit("int64(int64, int64)", **KERNEL)
def full_position(previous, low):  # type: ignore[no-untyped-def]
    """The 64-bit offset whose low 32 bits an event header holds: binlogs of more than 4 GiB wrap around."""
    pos = (previous & ~0xFFFFFFFF) | low
    return pos if pos >= previous else pos + 0x100000000


@njit("int64(uint8)", **INNER)
def _operation(code):  # type: ignore[no-untyped-def]
    """What a row event does: 0 create, 1 update, 2 delete."""
    if code == 39:
        return 1
    if code >= 166:
        return (code - 166) % 3
    return code - 30 if code >= 30 else code - 23


_EVENTS = "int64[::1], int64[::1], uint8[::1]"
_TRANSACTIONS = "int64[::1], int32[::1], int64[::1], int64[::1]"
_ROWS = "int64[::1], int64[::1], int32[::1], int64[::1], int64[::1], int8[::1]"
_TABLES = "int32[::1], intp, int64[::1], int64[::1], int32[::1], int64[::1]"


@njit("int64(intp, int64, uint8[:,::1], int64, int64)", **INNER)
def _find_key(address, size, keys, count, last):  # type: ignore[no-untyped-def]
    """Number of the key whose bytes these are, or -1; most events carry the key of the event before."""
    if last < count and same(address, keys[last:].ctypes.data, size):
        return last
    for k in range(count):
        if same(address, keys[k:].ctypes.data, size):
            return k
    return -1


@njit(
    f"UniTuple(int64, 2)(intp, {_EVENTS}, int64, int64, int64, {_TRANSACTIONS}, {_ROWS}, {_TABLES}, "
    "uint8[:,::1], uint8[::1], int64[::1])",
    **KERNEL,
)
def _walk(  # type: ignore[no-untyped-def]  # noqa: PLR0915
    base, offset, size, kind, first, count, trailer,
    t_begin, t_key, t_number, t_ts,
    r_at, r_end, r_layout, r_transaction, r_pos, r_op,
    slots, known, known_at, known_size, known_layout, known_columns, keys, scratch, state,
):  # fmt: skip
    """Returns (number of the event stopped at, Halt)."""
    for i in range(first, count):
        event = base + offset[i]
        body = event + 19
        end = event + size[i]
        code = kind[i]
        low = types.int64(load_u32(event + 13))
        flags = load_u16(event + 17)
        before = state[0]
        if state[7] == 0 and not flags & 0x20 and code != 27 and code != 41:
            if low != 0:
                state[0] = full_position(state[0], low)
            elif state[1] == 1:
                state[0] += size[i] + trailer  # MariaDB 11 and newer log no offsets inside a transaction
        begin = state[0] - size[i] - trailer
        if code == 33 or code == 34 or code == 162:  # GTID, anonymous GTID, MariaDB's GTID
            if state[7] == 1 or state[8] == 1 or end - body < (13 if code == 162 else 25):
                state[0] = before
                return i, 6
            if code == 162 and load_u8(body + 12) & 0x40:  # the changes of an XA transaction that is only prepared
                state[0] = before
                return i, 1
            ts_us = types.int64(load_u32(event)) * 1_000_000
            found = types.int64(-1)
            number = types.int64(0)
            if code == 33:
                found = _find_key(body + 1, 16, keys, state[4], state[5])
                number = load_i64(body + 17)
            elif code == 162:
                # key: domain and server id
                copy(scratch.ctypes.data, body + 8, 4)
                copy(scratch.ctypes.data + 4, event + 5, 4)
                found = _find_key(scratch.ctypes.data, 8, keys, state[4], state[5])
                number = load_i64(body)
            if found < 0 and code != 34:
                state[0] = before
                return i, 3
            if code != 162 and end - body >= 50 and load_u8(body + 25) == 2:
                ts_us = load_i64(body + 42) & 0x7FFFFFFFFFFFFF
            t = state[2]
            t_begin[t], t_key[t], t_number[t], t_ts[t] = begin, found, number, ts_us
            state[2] = t + 1
            state[1] = 1
            state[6] = load_u8(body + 12) & 1 if code == 162 else 1
            if found >= 0:
                state[5] = found
        elif code == 19:  # TABLE_MAP
            if end - body < 8:
                state[0] = before
                return i, 6
            slot = slots[load_u48(body) % 65536]
            if slot < 0 or known_size[slot] != end - body or not same(known + known_at[slot], body, end - body):
                state[0] = before
                return i, 2
        elif 30 <= code <= 32 or 23 <= code <= 25 or 166 <= code <= 171 or code == 39:
            # rows: version 2 and 1, MariaDB's compressed ones of version 1 and 2, update of partial JSON
            at = body + 8
            if at + 2 > end:
                state[0] = before
                return i, 6
            table_id = load_u48(body)
            if table_id == 0xFFFFFF:
                continue
            if state[1] == 0:
                state[0] = before
                return i, 7
            slot = slots[table_id % 65536]
            if slot < 0 or load_u48(known + known_at[slot]) != table_id:
                state[0] = before
                return i, 4
            if 30 <= code <= 39 or code >= 169:  # version 2
                at += load_u16(at)
            if at + 1 > end:
                state[0] = before
                return i, 6
            op = _operation(code)
            columns = types.int64(load_u8(at))
            at += 1
            if columns == 252 and at + 2 <= end:
                columns = types.int64(load_u16(at))
                at += 2
            elif columns > 250:
                state[0] = before
                return i, 6
            if columns != known_columns[slot]:
                state[0] = before
                return i, 6
            width = (columns + 7) // 8
            images = 2 if op == 1 else 1
            if at + images * width > end:
                state[0] = before
                return i, 6
            r = state[3]
            r_at[r], r_end[r], r_layout[r], r_op[r] = at + images * width, end, known_layout[slot], op
            r_transaction[r], r_pos[r] = state[2] - 1, state[0]
            state[3] = r + 1
            if code >= 166 or code == 39:
                return i, 5
            for k in range(images):
                if not all_bits(at + k * width, columns):
                    return i, 5
        elif code == 16:  # XID
            state[1] = 0
        elif code == 2:  # QUERY
            if end - body < 14:
                state[0] = before
                return i, 6
            text = body + 13 + load_u16(body + 11) + load_u8(body + 8) + 1
            if end - text == 5 and load_u32(text) == 0x49474542 and load_u8(text + 4) == 0x4E:  # BEGIN
                if state[1] == 0:
                    t = state[2]
                    t_begin[t], t_key[t], t_number[t] = begin, -1, 0
                    t_ts[t] = types.int64(load_u32(event)) * 1_000_000
                    state[2] = t + 1
                    state[1] = 1
                state[6] = 0
            elif end - text == 6 and load_u32(text) == 0x4D4D4F43 and load_u16(text + 4) == 0x5449:  # COMMIT
                if state[1] == 1:
                    state[1] = 0
            else:
                state[0] = before
                return i, 1
        elif not (
            code == 27 or code == 41 or code == 35 or code == 29 or code == 3 or code == 28 or code == 36 or code == 37
            or code == 5 or code == 13 or code == 14 or code == 160 or code == 161 or code == 163
        ):  # fmt: skip
            # Not a heartbeat, previous GTIDs, the statement's text, a stop, or a statement's context.
            state[0] = before
            return i, 1
    return count, 0


def walk(
    part: Part,
    first: int,
    transactions: Transactions,
    rows: RowEvents,
    tables: Tables,
    keys: npt.NDArray[np.uint8],
    state: npt.NDArray[np.int64],
) -> tuple[int, Halt]:
    """Walk the events of the part from number `first` on; see _walk."""
    scratch = np.zeros(16, np.uint8)
    index = part.index
    at, halt = _walk(
        int(part.buffer.ctypes.data), index.offset, index.size, index.kind, first, part.count, part.trailer,
        transactions.begin, transactions.key, transactions.number, transactions.ts_us,
        rows.at, rows.end, rows.layout, rows.transaction, rows.pos, rows.op,
        tables.slots, tables.known.ctypes.data, tables.at, tables.size, tables.layout, tables.columns,
        keys, scratch, state,
    )  # fmt: skip
    return at, Halt(halt)
