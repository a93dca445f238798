"""Scans indexed events in one kernel, and records their transactions and row events in the arrays of scan_state.py.

The kernel handles the frequent events: transactions, known TABLE_MAPs, row events. For a rare one (a new table, DDL, a
rotation) it returns to Python with the number of the event and the reason, a `ScanStop`. Each inner function handles
one type of event; it returns the number of a `ScanStop`, or 0 to continue.

Sources: as in scan_state.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.crc import TABLES, crc32
from binlogsync.binlog.event_index import HEADER_SIZE, IndexedEvents
from binlogsync.binlog.events import (
    ANONYMOUS_GTID,
    DELETE_ROWS,
    DELETE_ROWS_COMPRESSED,
    DELETE_ROWS_V1,
    GTID,
    HEARTBEAT,
    HEARTBEAT_V2,
    IGNORABLE,
    INTVAR,
    MARIADB_ANNOTATE_ROWS,
    MARIADB_BINLOG_CHECKPOINT,
    MARIADB_GTID,
    PARTIAL_UPDATE,
    QUERY,
    RAND,
    ROWS_QUERY,
    STOP,
    TABLE_MAP,
    TRANSACTION_CONTEXT,
    USER_VAR,
    VIEW_CHANGE,
    WRITE_ROWS,
    WRITE_ROWS_COMPRESSED,
    WRITE_ROWS_COMPRESSED_V1,
    WRITE_ROWS_V1,
    XID,
)
from binlogsync.binlog.kernel_types import boolean, int32, int64, intp, uint8, uint64
from binlogsync.binlog.memory import (
    address,
    copy,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    load_u48,
    same,
    store_i32,
    store_i64,
    store_u8,
)
from binlogsync.binlog.scan_state import (
    ARTIFICIAL,
    NO_TABLE,
    TABLE_IDS,
    RowEvents,
    ScanField,
    ScanStop,
    TableMapCache,
    Transactions,
    full_position,
)

_full_position = inner(full_position)


@inner
def all_bits(address: intp, count: intp) -> boolean:
    """True when the first `count` bits, lowest first, are set."""
    for i in range(count // 8):
        if load_u8(address + i) != 255:
            return False
    left = count % 8
    full = (1 << left) - 1
    return left == 0 or (load_u8(address + count // 8) & full) == full


@inner
def _operation(code: int64) -> int64:
    """What a row event does: 0 create, 1 update, 2 delete."""
    if code == PARTIAL_UPDATE:
        return 1
    if code >= WRITE_ROWS_COMPRESSED_V1:
        return (code - WRITE_ROWS_COMPRESSED_V1) % 3
    return code - WRITE_ROWS if code >= WRITE_ROWS else code - WRITE_ROWS_V1


# Byte offsets of the fields of `state`, and of the address tables that `scan_events` passes to the kernel: one for the
# arrays of Transactions, one for RowEvents, one for TableMapCache.
_POS, _OPEN, _TRANSACTIONS, _ROWS, _KEYS, _LAST_KEY, _ALONE, _INSIDE, _XA = (8 * field for field in list(ScanField)[:9])
_LAST_START, _LAST_END, _LAST_MARK = (8 * field for field in list(ScanField)[9:])
_BEGIN, _KEY, _NUMBER, _TS, _BEFORE, _MARK = range(0, 48, 8)
_AT, _END, _LAYOUT, _TRANSACTION, _EVENT_POS, _OP = range(0, 48, 8)
_SLOTS, _KNOWN, _KNOWN_AT, _KNOWN_SIZE, _KNOWN_LAYOUT, _KNOWN_COLUMNS = range(0, 48, 8)
_ID_BITS, _NO_TABLE = uint64(TABLE_IDS - 1), uint64(NO_TABLE)
_KEY_BYTES = 16
# Gtid_event in libs/mysql/binlog/event/control_events.h; the highest bit of its commit time announces a second one.
_LOGICAL_TIMESTAMP_TYPECODE, _COMMIT_TIMESTAMP = 2, (1 << 55) - 1
_FL_STANDALONE, _FL_PREPARED_XA = 1, 0x40  # flags2 of Gtid_log_event in MariaDB's sql/log_event.h
_PASSED_OVER = sum(
    1 << code
    for code in (STOP, INTVAR, RAND, USER_VAR, HEARTBEAT, IGNORABLE, ROWS_QUERY)
    + (TRANSACTION_CONTEXT, VIEW_CHANGE, HEARTBEAT_V2)
)


@inner
def _find_key(address: intp, size: int64, keys: intp, count: int64, last: int64) -> int64:
    """Number of the key with these bytes, or -1. Tries the key of the preceding GTID first, the most frequent one."""
    if last < count and same(address, keys + _KEY_BYTES * last, size):
        return last
    for k in range(count):
        if same(address, keys + _KEY_BYTES * k, size):
            return k
    return -1


@inner
def _begin_transaction(transactions: intp, state: intp, begin: int64, key: int64, number: int64, ts_us: int64) -> None:
    """Fill the next row of Transactions and mark the transaction as open."""
    t = load_i64(state + _TRANSACTIONS)
    store_i64(load_i64(transactions + _BEGIN) + 8 * t, begin)
    store_i32(load_i64(transactions + _KEY) + 4 * t, int32(key))
    store_i64(load_i64(transactions + _NUMBER) + 8 * t, number)
    store_i64(load_i64(transactions + _TS) + 8 * t, ts_us)
    is_known = load_i64(state + _LAST_END) == begin
    store_i64(load_i64(transactions + _BEFORE) + 8 * t, load_i64(state + _LAST_START) if is_known else int64(-1))
    store_i64(load_i64(transactions + _MARK) + 8 * t, load_i64(state + _LAST_MARK))
    store_i64(state + _TRANSACTIONS, t + 1)
    store_i64(state + _OPEN, 1)


@inner
def _gtid(
    code: int64, event: intp, end: intp, state: intp, begin: int64, transactions: intp, keys: intp, scratch: intp
) -> int64:
    """GTID event, anonymous GTID or MariaDB's: a transaction begins. Returns a ScanStop or 0."""
    body = event + HEADER_SIZE
    if (
        load_i64(state + _INSIDE) == 1
        or load_i64(state + _XA) == 1
        or end - body < (13 if code == MARIADB_GTID else 25)
    ):
        return 6
    if code == MARIADB_GTID and load_u8(body + 12) & _FL_PREPARED_XA:
        return 1
    ts_us = int64(load_u32(event)) * 1_000_000
    found, number = int64(-1), int64(0)
    if code == GTID:
        found = _find_key(body + 1, 16, keys, load_i64(state + _KEYS), load_i64(state + _LAST_KEY))
        number = load_i64(body + 17)
    elif code == MARIADB_GTID:
        # key: domain and server id
        copy(scratch, body + 8, 4)
        copy(scratch + 4, event + 5, 4)
        found = _find_key(scratch, 8, keys, load_i64(state + _KEYS), load_i64(state + _LAST_KEY))
        number = load_i64(body)
    if found < 0 and code != ANONYMOUS_GTID:
        return 3
    if code != MARIADB_GTID and end - body >= 50 and load_u8(body + 25) == _LOGICAL_TIMESTAMP_TYPECODE:
        ts_us = load_i64(body + 42) & _COMMIT_TIMESTAMP
    _begin_transaction(transactions, state, begin, found, number, ts_us)
    store_i64(state + _ALONE, int64(load_u8(body + 12) & _FL_STANDALONE) if code == MARIADB_GTID else int64(1))
    if found >= 0:
        store_i64(state + _LAST_KEY, found)
    return 0


@inner
def _slot_of(table_id: uint64, tables: intp) -> int64:
    """Slot of the TABLE_MAP with these low bits of its table id, or -1."""
    return int64(load_i32(load_i64(tables + _SLOTS) + 4 * intp(table_id & _ID_BITS)))


@inner
def _known_body(slot: int64, tables: intp) -> intp:
    """The bytes of a known TABLE_MAP."""
    return load_i64(tables + _KNOWN) + load_i64(load_i64(tables + _KNOWN_AT) + 8 * slot)


@inner
def _table_map(body: intp, end: intp, tables: intp) -> int64:
    """TABLE_MAP event. Returns a ScanStop, or 0 when the TABLE_MAP is known."""
    if end - body < 8:
        return 6
    slot = _slot_of(load_u48(body), tables)
    if slot < 0 or load_i64(load_i64(tables + _KNOWN_SIZE) + 8 * slot) != end - body:
        return 2
    return 0 if same(_known_body(slot, tables), body, end - body) else 2


@inner
def _row_event(code: int64, body: intp, end: intp, rows: intp, tables: intp, state: intp) -> int64:
    """Row events of version 1 and 2, MariaDB's compressed ones of both versions, PARTIAL_UPDATE_ROWS. Returns a
    ScanStop or 0.
    """
    at = body + 8
    if at + 2 > end:
        return 6
    table_id = load_u48(body)
    if table_id == _NO_TABLE:
        return 0
    if load_i64(state + _OPEN) == 0:
        return 7
    slot = _slot_of(table_id, tables)
    if slot < 0 or load_u48(_known_body(slot, tables)) != table_id:
        return 4
    if WRITE_ROWS <= code <= PARTIAL_UPDATE or code >= WRITE_ROWS_COMPRESSED:  # version 2
        at += int64(load_u16(at))
    if at + 1 > end:
        return 6
    columns = int64(load_u8(at))
    at += 1
    if columns == 252 and at + 2 <= end:
        columns = int64(load_u16(at))
        at += 2
    elif columns > 250:
        return 6
    if columns != load_i64(load_i64(tables + _KNOWN_COLUMNS) + 8 * slot):
        return 6
    op, width = _operation(code), (columns + 7) >> 3
    images = 2 if op == 1 else 1
    if at + images * width > end:
        return 6
    r = load_i64(state + _ROWS)
    store_i64(load_i64(rows + _AT) + 8 * r, at + images * width)
    store_i64(load_i64(rows + _END) + 8 * r, end)
    store_i32(load_i64(rows + _LAYOUT) + 4 * r, load_i32(load_i64(tables + _KNOWN_LAYOUT) + 4 * slot))
    store_i64(load_i64(rows + _TRANSACTION) + 8 * r, load_i64(state + _TRANSACTIONS) - 1)
    store_i64(load_i64(rows + _EVENT_POS) + 8 * r, load_i64(state + _POS))
    store_u8(load_i64(rows + _OP) + r, uint8(op))
    store_i64(state + _ROWS, r + 1)
    is_partial = not all_bits(at, columns) or (images == 2 and not all_bits(at + width, columns))
    if code >= WRITE_ROWS_COMPRESSED_V1 or code == PARTIAL_UPDATE or is_partial:
        return 5
    return 0


@inner
def _query(event: intp, end: intp, state: intp, begin: int64, transactions: intp) -> int64:
    """QUERY event: handles BEGIN and COMMIT. Returns a ScanStop or 0."""
    body = event + HEADER_SIZE
    if end - body < 14:
        return 6
    text = body + 14 + int64(load_u16(body + 11)) + int64(load_u8(body + 8))
    if end - text == 5 and load_u32(text) == 0x49474542 and load_u8(text + 4) == 0x4E:  # BEGIN
        if load_i64(state + _OPEN) == 0:
            _begin_transaction(transactions, state, begin, -1, 0, int64(load_u32(event)) * 1_000_000)
        store_i64(state + _ALONE, 0)
        return 0
    if end - text == 6 and load_u32(text) == 0x4D4D4F43 and load_u16(text + 4) == 0x5449:  # COMMIT
        store_i64(state + _OPEN, 0)
        return 0
    return 1


@inner
def _is_passed_over(code: int64) -> boolean:
    """True for a heartbeat, the text or context of a statement, STOP, and MariaDB's checkpoints."""
    if code < 64:
        return (_PASSED_OVER >> code) & 1 == 1
    return MARIADB_ANNOTATE_ROWS <= code <= MARIADB_BINLOG_CHECKPOINT


@inner
def _mark(state: intp, event: intp, length: int64, trailer: int64, end: int64, crc_tables: intp) -> None:
    """Record the event that ends at offset `end`; no operation when `event` is 0."""
    if event == 0:
        return
    checksum = load_u32(event + length) if trailer else crc32(event, length, crc_tables)
    store_i64(state + _LAST_START, end - length - trailer)
    store_i64(state + _LAST_END, end)
    store_i64(state + _LAST_MARK, (int64(load_u32(event)) << 32) | int64(checksum))


@kernel
def _scan(
    base: intp,
    offset: intp,
    size: intp,
    kind: intp,
    first: int64,
    count: int64,
    trailer: int64,
    transactions: intp,
    rows: intp,
    tables: intp,
    keys: intp,
    scratch: intp,
    state: intp,
    crc_tables: intp,
) -> tuple[int64, int64]:
    """Returns (number of the event at which the scan stopped, ScanStop)."""
    last, last_length, last_end = intp(0), int64(0), int64(0)
    for i in range(first, count):
        event, length = base + load_i64(offset + 8 * i), load_i64(size + 8 * i)
        body, end = event + HEADER_SIZE, event + length
        code = int64(load_u8(kind + i))
        before = load_i64(state + _POS)
        pos, is_logged = before, False
        is_artificial = load_u16(event + 17) & ARTIFICIAL != 0
        if load_i64(state + _INSIDE) == 0 and not is_artificial and code != HEARTBEAT and code != HEARTBEAT_V2:
            low = int64(load_u32(event + 13))
            if low != 0:
                pos, is_logged = _full_position(pos, low), True
            elif load_i64(state + _OPEN) == 1:
                # MariaDB 11 and newer log no offsets inside a transaction
                pos, is_logged = pos + length + trailer, True
        store_i64(state + _POS, pos)
        begin = pos - length - trailer
        stop = int64(0)
        if GTID <= code <= ANONYMOUS_GTID or code == MARIADB_GTID:
            _mark(state, last, last_length, trailer, last_end, crc_tables)
            stop = _gtid(code, event, end, state, begin, transactions, keys, scratch)
        elif code == TABLE_MAP:
            stop = _table_map(body, end, tables)
        elif (
            WRITE_ROWS <= code <= DELETE_ROWS
            or WRITE_ROWS_V1 <= code <= DELETE_ROWS_V1
            or WRITE_ROWS_COMPRESSED_V1 <= code <= DELETE_ROWS_COMPRESSED
            or code == PARTIAL_UPDATE
        ):
            stop = _row_event(code, body, end, rows, tables, state)
        elif code == XID:
            store_i64(state + _OPEN, 0)
        elif code == QUERY:
            if load_i64(state + _OPEN) == 0:  # it may begin a transaction
                _mark(state, last, last_length, trailer, last_end, crc_tables)
            stop = _query(event, end, state, begin, transactions)
        elif not _is_passed_over(code):
            stop = int64(1)
        if is_logged and (stop == 0 or stop == 5):
            last, last_length, last_end = event, length, pos
        if stop != 0:
            if stop != 5:
                store_i64(state + _POS, before)
            _mark(state, last, last_length, trailer, last_end, crc_tables)
            return i, stop
    _mark(state, last, last_length, trailer, last_end, crc_tables)
    return count, 0


def scan_events(
    indexed: IndexedEvents,
    first: int,
    transactions: Transactions,
    rows: RowEvents,
    tables: TableMapCache,
    keys: npt.NDArray[np.uint8],
    state: npt.NDArray[np.int64],
) -> tuple[int, ScanStop]:
    """Scan the events from number `first` on. Returns the event at which the scan stopped, and why."""
    scratch = np.zeros(16, np.uint8)
    index = indexed.index
    columns = (
        transactions.addresses,
        rows.addresses,
        tables.addresses,
        keys,
        scratch,
        state,
        TABLES,
    )  # fmt: skip
    at, stop = _scan(
        address(indexed.buffer), *index.addresses, first, indexed.count, indexed.trailer,
        *(address(column) for column in columns),
    )  # fmt: skip
    return at, ScanStop(stop)
