"""Row images -> the place of each value: one pass over the rows, so that columns can then be read one at a time.

A place is the address where a value's bytes begin, its length prefix included. A NULL, and a column of an image that
the operation has not, get a place too: zeros that belong to no event, so that reading them needs no question.

Source: Rows_event in libs/mysql/binlog/event/rows_event.h: null bits of the columns present, then their values.
"""

from __future__ import annotations

import numpy as np

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import int64, intp, uint64
from binlogsync.binlog.memory import load_i64, load_u8, load_u16, load_u24, load_u32, store_i64

# The place of a NULL is the first byte, that of an absent value the second; whatever reads there finds zeros.
NOTHING = np.zeros(256, np.uint8)
NOTHING.flags.writeable = False


@inner
def length(address: intp, size: int64) -> int64:
    """A length prefix of 1 to 4 bytes."""
    if size == 1:
        return int64(load_u8(address))
    if size == 2:
        return int64(load_u16(address))
    if size == 3:
        return int64(load_u24(address))
    return int64(load_u32(address))


@inner
def locate_values(
    at: intp, end: int64, columns: int64, steps: intp, places: intp, stride: int64, nothing: intp
) -> int64:
    """Write the places of one row image, `stride` bytes apart; nothing behind `end` is looked at.

    A column's step is its size, or below zero the size of its length prefix.
    Returns where the image ends, or -1 - column when that column reaches beyond `end`.
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
            store_i64(places, nothing if is_null else at)
            at += int64(0) if is_null else step
        elif is_null:
            store_i64(places, nothing)
        else:
            store_i64(places, at)
            if at - step > end:
                return int64(-1 - k)
            at += length(at, -step) - step
        if at > end:
            return int64(-1 - k)
        places += stride
    return int64(at)


@inner
def locate_absent_values(columns: int64, places: intp, stride: int64, nothing: intp) -> None:
    """The places of an image that the operation has not."""
    for k in range(columns):
        store_i64(places + k * stride, nothing + 1)
