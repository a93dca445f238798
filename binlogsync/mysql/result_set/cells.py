"""Finds the cells of rows in the binary protocol, so that columns can then be decoded one at a time.

A row is a byte 0, a bitmap of NULLs with an offset of two bits, and the cells that are not NULL: integers, FLOAT and
DOUBLE in a fixed number of bytes, all others with a length prefix of 1, 3, 4 or 9 bytes. A pointer is the address of a
cell's first byte, length prefix included; a NULL points to ZEROS.

Source: "Binary Protocol Resultset Row" in the documentation of MySQL's protocol.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import int64, intp, uint8
from binlogsync.binlog.memory import equal8, load_i64, load_u8, load_u16, load_u24, ones, store_i64, store_u8

PREFIXED = -1
"""Step of a column whose cells have a length prefix; of others it is the size of a cell."""


@inner
def cell_size(at: intp, end: intp) -> int64:
    """Bytes of a cell with its length prefix; -1 if it does not end at or before `end`."""
    if at >= end:
        return int64(-1)
    first = int64(load_u8(at))
    if first < 251:
        return first + 1
    prefix = int64(3 if first == 252 else 4 if first == 253 else 9)
    if first == 251 or first == 255 or end - at < prefix:
        return int64(-1)
    size = int64(load_u16(at + 1)) if first == 252 else int64(load_u24(at + 1)) if first == 253 else load_i64(at + 1)
    return prefix + size if 0 <= size <= end - at - prefix else int64(-1)


@inner
def cell(at: intp) -> tuple[int64, int64]:
    """(address, size) of the bytes of a cell with a length prefix, which cell_size has checked."""
    first = int64(load_u8(at))
    if first < 251:
        return at + 1, first
    if first == 252:
        return at + 3, int64(load_u16(at + 1))
    if first == 253:
        return at + 4, int64(load_u24(at + 1))
    return at + 9, load_i64(at + 1)


@inner
def locate_cells(at: intp, end: intp, columns: int64, steps: intp, pointers: intp, stride: int64, zeros: intp) -> int64:
    """Write the pointers of one row, `stride` bytes apart. Reads no byte at or after `end`, where the row must end.

    Returns -1, or the number of the first column that extends beyond `end`, or `columns` if bytes follow the last one.
    """
    bits = at
    at += (columns + 9) >> 3
    if at > end:
        return int64(0)
    for k in range(columns):
        step = load_i64(steps + 8 * k)
        if load_u8(bits + ((k + 2) >> 3)) >> ((k + 2) & 7) & 1:
            store_i64(pointers, zeros)
        else:
            store_i64(pointers, at)
            if step < 0:
                step = cell_size(at, end)
            at += step
            if step < 0 or at > end:
                return int64(k)
        pointers += stride
    return int64(-1) if at == end else columns


@inner
def mark_nulls(pointers: intp, count: int64, zeros: intp, row: int64, valid: intp) -> int64:
    """Write bits row..row+count-1 of the validity bitmap; returns the number of NULLs. May set bits after these."""
    found, r = int64(0), int64(0)
    while r < count and (row + r) & 7:
        byte, bit = valid + ((row + r) >> 3), (row + r) & 7
        is_null = int64(load_i64(pointers + 8 * r) == zeros)
        store_u8(byte, uint8((int64(load_u8(byte)) | (1 << bit)) & ~(is_null << bit)))
        found += is_null
        r += 1
    while r < count:
        nulls = int64(equal8(pointers + 8 * r, zeros))
        if count - r < 8:
            nulls &= (1 << (count - r)) - 1
        store_u8(valid + ((row + r) >> 3), uint8(~nulls))
        found += ones(uint8(nulls))
        r += 8
    return found
