"""Finds the address of each value in row images, in one pass, so that columns can then be decoded one at a time.

A pointer is the address of a value's first byte, including its length prefix. A NULL, and a column of an image that the
operation does not have, point to zero bytes that belong to no event, so that the decoder needs no branch for them.

Source: Rows_event in libs/mysql/binlog/event/rows_event.h: null bits of the columns present, then their values.
"""

from __future__ import annotations

import numpy as np

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import int64, intp, uint64
from binlogsync.binlog.memory import load_i64, load_u8, load_u16, load_u24, load_u32, store_i64

# A NULL points to the first byte, an absent value to the second one; a decoder reads zeros at both.
ZEROS = np.zeros(256, np.uint8)
ZEROS.flags.writeable = False


@inner
def length(address: intp, size: int64) -> int64:
    """Read a length prefix of 1 to 4 bytes."""
    if size == 1:
        return int64(load_u8(address))
    if size == 2:
        return int64(load_u16(address))
    if size == 3:
        return int64(load_u24(address))
    return int64(load_u32(address))


@inner
def locate_values(
    at: intp, end: int64, columns: int64, steps: intp, pointers: intp, stride: int64, zeros: intp
) -> int64:
    """Write the pointers of one row image, `stride` bytes apart; reads no byte at or after `end`.

    The step of a column is the size of its values, or minus the size of its length prefix.
    Returns where the image ends, or -1 - column for a column that extends beyond `end`.
    """
    bits = at
    at += (columns + 7) >> 3
    if at > end:
        return int64(-1)
    byte = uint64(0)
    for k in range(columns):
        if k & 7 == 0:
            byte = uint64(load_u8(bits + (k >> 3)))
        step = load_i64(steps + 8 * k)
        is_null = byte & uint64(1)
        byte >>= uint64(1)
        if step >= 0:
            store_i64(pointers, zeros if is_null else at)
            at += int64(0) if is_null else step
        elif is_null:
            store_i64(pointers, zeros)
        else:
            store_i64(pointers, at)
            if at - step > end:
                return int64(-1 - k)
            at += length(at, -step) - step
        if at > end:
            return int64(-1 - k)
        pointers += stride
    return int64(at)


@inner
def locate_absent_values(columns: int64, pointers: intp, stride: int64, zeros: intp) -> None:
    """Write the pointers of an image that the operation does not have."""
    for k in range(columns):
        store_i64(pointers + k * stride, zeros + 1)
