"""Decodes the packets of a result set into column buffers, in one kernel call per receive buffer.

The rows are processed in blocks that fit in the processor cache: the kernel finds the address of each cell, then
decodes the block column by column. It checks each cell against the end of its packet before reading it. A call ends at
a packet that is incomplete, that is no row of a single packet, or for which the batch has no room; the next call
resumes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import int64, intp, uint8
from binlogsync.binlog.memory import address, load_i64, load_u8, load_u24, store_i64, store_u8
from binlogsync.binlog.rows import DOUBTFUL, NULLS, OFFSETS, USED, VALID
from binlogsync.binlog.types import numbers, temporal, text
from binlogsync.binlog.value_pointers import ZEROS
from binlogsync.mysql.result_set import cells, values

# Decode methods; DECIMAL has precision and scale as A and B, COPY the size of a value as SIZE. BYTES and TEXT are last.
COPY, ENUM, BIT, DECIMAL, TIME, DATE, DATETIME, BYTES, TEXT = range(9)
CODE, A, B, SIZE = range(4)

LONG_PACKET = 0xFFFFFF
HEADER = 4
_BLOCK_ROWS = 128
_BLOCK_POINTERS = 1 << 14

Table = npt.NDArray[np.int64]


class Status(IntEnum):
    """Why a call ended."""

    MORE = 0
    END = 1
    SERVER_ERROR = 2
    FULL = 3
    LONG = 4
    OUT_OF_STEP = 5
    BAD_PACKET = 6
    BAD_ROW = 7
    BAD_VALUE = 8


# Fields of the kernel's parameters: addresses of the tables of methods, targets and steps, of the pointers, of ZEROS,
# of the months, of the impossible dates of a block, of the list of all (their number, then column, row and packed value
# of each); bytes between the pointers of adjacent columns, number of columns, rows in a block, rows in a batch.
_METHODS, _TARGETS, _STEPS, _POINTERS, _ZEROS, _MONTHS, _WRONG, _LIST, _STRIDE, _COLUMNS, _ROOM, _MOST = range(12)
# Fields of the state: next sequence number, rows in the batch, bytes that the batch has room for, column of an error.
SEQUENCE, ROWS, BYTES_LEFT, COLUMN = range(4)


@inner
def _append_impossible(found: int64, k: int64, row: int64, out: intp, given: intp) -> None:
    """Set impossible dates to NULL and append them to the list."""
    wrong, listed = load_i64(given + 8 * _WRONG), load_i64(given + 8 * _LIST)
    count = load_i64(listed)
    for i in range(found):
        r = row + load_i64(wrong + 16 * i)
        entry = listed + 8 + 24 * (count + i)
        store_i64(entry, k)
        store_i64(entry + 8, r)
        store_i64(entry + 16, load_i64(wrong + 16 * i + 8))
        valid = load_i64(out + 8 * VALID) + (r >> 3)
        store_u8(valid, uint8(int64(load_u8(valid)) & ~(1 << (r & 7))))
    store_i64(listed, count + found)
    store_i64(out + 8 * NULLS, load_i64(out + 8 * NULLS) + found)


@inner
def _decode_strings(code: int64, pointers: intp, count: int64, row: int64, out: intp, limit: intp) -> None:
    used, ends = load_i64(out + 8 * USED), load_i64(out + 8 * OFFSETS) + 4 * (row + 1)
    done = values.strings(pointers, count, limit, load_i64(out), ends, used)
    if code == TEXT and not text.are_utf8(load_i64(out), used, done, ends, count):
        store_i64(out + 8 * DOUBTFUL, 1)
    store_i64(out + 8 * USED, done)


@inner
def _decode_block(count: int64, row: int64, limit: intp, given: intp) -> tuple[int64, int64]:
    """Decode the cells that the pointers refer to, to the rows from `row` on; returns (-1, or the row in the block of
    an invalid value, its column).
    """
    zeros, months, wrong = load_i64(given + 8 * _ZEROS), load_i64(given + 8 * _MONTHS), load_i64(given + 8 * _WRONG)
    for k in range(load_i64(given + 8 * _COLUMNS)):
        method, out = load_i64(given + 8 * _METHODS) + 32 * k, load_i64(given + 8 * _TARGETS) + 48 * k
        pointers = load_i64(given + 8 * _POINTERS) + load_i64(given + 8 * _STRIDE) * k
        code, target = load_i64(method), load_i64(out)
        nulls = cells.mark_nulls(pointers, count, zeros, row, load_i64(out + 8 * VALID))
        store_i64(out + 8 * NULLS, load_i64(out + 8 * NULLS) + nulls)
        bad, found = int64(-1), int64(0)
        if code >= BYTES:
            _decode_strings(code, pointers, count, row, out, limit)
        elif code == COPY:
            size = load_i64(method + 8 * SIZE)
            numbers.copied(pointers, count, target + size * row, size)
        elif code == DECIMAL:
            precision = load_i64(method + 8 * A)
            into = target + (16 if precision <= 38 else 32) * row
            bad = values.decimals(pointers, count, zeros, into, precision, load_i64(method + 8 * B))
        elif code == DATETIME:
            bad, found = values.datetimes(pointers, count, zeros, months, target + 8 * row, wrong)
        elif code == DATE:
            bad, found = values.dates(pointers, count, zeros, months, target + 4 * row, wrong)
        elif code == TIME:
            bad = values.times(pointers, count, target + 8 * row)
        elif code == ENUM:
            bad = values.enums(pointers, count, zeros, target + 2 * row)
        elif code == BIT:
            bad = values.bits(pointers, count, target + 8 * row)
        if bad >= 0:
            return bad, k
        if found > 0:
            _append_impossible(found, k, row, out, given)
    return int64(-1), int64(0)


@inner
def _find_row(at: intp, end: intp, row: int64, given: intp, state: intp) -> tuple[int64, int64]:
    """(-1, size) of the payload of the row in the packet at `at`, or (Status, size) of what else it is."""
    if end - at < HEADER:
        return int64(0), int64(0)
    size = int64(load_u24(at))
    if int64(load_u8(at + 3)) != load_i64(state + 8 * SEQUENCE):
        return int64(5), size
    if size == LONG_PACKET:
        return int64(4), size
    if end - at - HEADER < size:
        return int64(0), size
    first = int64(load_u8(at + HEADER)) if size > 0 else int64(1)
    if first == 0xFE and size < 9:
        return int64(1), size
    if first == 0xFF:
        return int64(2), size
    if first != 0:
        return int64(6), size
    if row == load_i64(given + 8 * _MOST) or size > load_i64(state + 8 * BYTES_LEFT):
        return int64(3), size
    return int64(-1), size


@kernel
def _decode(at: intp, end: intp, is_payload: int64, given: intp, state: intp) -> tuple[int64, int64]:
    """Decode the rows of the packets from `at` on, or the one row whose payload is at..end.

    Returns (Status, address of the first packet not decoded).
    """
    columns, stride = load_i64(given + 8 * _COLUMNS), load_i64(given + 8 * _STRIDE)
    steps, pointers = load_i64(given + 8 * _STEPS), load_i64(given + 8 * _POINTERS)
    zeros, room = load_i64(given + 8 * _ZEROS), load_i64(given + 8 * _ROOM)
    row, count = load_i64(state + 8 * ROWS), int64(0)
    while True:
        status, size, body = int64(-1), int64(end - at), at
        if is_payload == 0:
            status, size = _find_row(at, end, row + count, given, state)
            body = at + HEADER
        if status < 0:
            bad = cells.locate_cells(body + 1, body + size, columns, steps, pointers + 8 * count, stride, zeros)
            if bad >= 0:
                store_i64(state + 8 * COLUMN, bad)
                status = int64(7)
            else:
                at = body + size
                count += 1
                store_i64(state + 8 * SEQUENCE, (load_i64(state + 8 * SEQUENCE) + 1) & 255)
                store_i64(state + 8 * BYTES_LEFT, load_i64(state + 8 * BYTES_LEFT) - size)
                if is_payload != 0:
                    status = int64(3)
        if count > 0 and (status >= 0 or count == room):
            bad, column = _decode_block(count, row, end, given)
            if bad >= 0:
                store_i64(state + 8 * COLUMN, column)
                return int64(8), at
            row += count
            count = int64(0)
            store_i64(state + 8 * ROWS, row)
        if status >= 0:
            return status, at


@dataclass(frozen=True, slots=True, eq=False)
class BatchDecoder:
    """Decodes into the targets of one batch.

    Attributes:
        given: the kernel's parameters.
        state: its state, by SEQUENCE, ROWS, BYTES_LEFT and COLUMN.
        kept: the arrays that `given` has the addresses of.
    """

    given: Table
    state: Table
    kept: tuple[npt.NDArray[np.int64], ...]

    @classmethod
    def of(cls, methods: Table, targets: Table, date_list: int, most: int, room: tuple[int, int]) -> BatchDecoder:
        """For at most `most` rows; `room` is the next sequence number and the bytes that the batch has room for."""
        columns = len(methods)
        size = max(8, min(_BLOCK_ROWS, _BLOCK_POINTERS // max(columns, 1) & ~7))
        # The distance between columns is not a power of two, which would map all of them to the same cache lines.
        pointers, wrong = np.empty((columns, size + 8), np.int64), np.empty((size + 1, 2), np.int64)
        steps = np.where(methods[:, SIZE] > 0, methods[:, SIZE], cells.PREFIXED)
        kept = (methods, targets, steps, pointers, wrong)
        places = [address(array) for array in (methods, targets, steps, pointers, ZEROS, temporal.MONTHS, wrong)]
        given = np.array([*places, date_list, 8 * (size + 8), columns, size, most], np.int64)
        return cls(given, np.array([room[0], 0, room[1], 0], np.int64), kept)

    def decode(self, data: npt.NDArray[np.uint8], start: int, end: int) -> tuple[Status, int]:
        """Decode the packets in data[start:end]; returns why it ended, and where."""
        base = address(data)
        status, at = _decode(base + start, base + end, 0, address(self.given), address(self.state))
        return Status(status), at - base

    def decode_long(self, payload: npt.NDArray[np.uint8]) -> Status:
        """Decode one row, whose packet or packets the caller has read; FULL, or the Status of an error."""
        base = address(payload)
        status, _ = _decode(base, base + len(payload), 1, address(self.given), address(self.state))
        return Status(status)
