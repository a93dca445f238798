"""Row images -> the place of each value: one pass over the rows, so that columns can then be read one at a time.

A place is the address where a value's bytes begin, its length prefix included. A NULL, and a column of an image that
the operation has not, get a place too: zeros that belong to no event, so that reading them needs no question.

Source: Rows_event in libs/mysql/binlog/event/rows_event.h: null bits of the columns present, then their values.
"""

from __future__ import annotations

import numpy as np
from numba import types

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.memory import load_i64, load_u8, load_u16, load_u24, load_u32, store_i64

# The place of a NULL is the first byte, that of an absent value the second; whatever reads there finds zeros.
NOTHING = np.zeros(256, np.uint8)
NOTHING.flags.writeable = False


@inner("int64(intp, int64)")
def length(address, size):  # type: ignore[no-untyped-def]
    """A length prefix of 1 to 4 bytes."""
    if size == 1:
        return types.int64(load_u8(address))
    if size == 2:
        return types.int64(load_u16(address))
    if size == 3:
        return types.int64(load_u24(address))
    return types.int64(load_u32(address))


@inner("int64(intp, int64, int64, intp, intp, int64, intp)")
def locate_values(at, end, columns, steps, places, stride, nothing):  # type: ignore[no-untyped-def]
    """Write the places of one row image, `stride` bytes apart; nothing behind `end` is looked at.

    A column's step is its size, or below zero the size of its length prefix.
    Returns where the image ends, or -1 - column when that column reaches beyond `end`.
    """
    bits = at
    at += (columns + 7) >> 3
    if at > end:
        return types.int64(-1)
    byte = types.uint64(0)
    for k in range(columns):
        if k & 7 == 0:
            byte = types.uint64(load_u8(bits + (k >> 3)))
        step = load_i64(steps + 8 * k)
        is_null = byte & types.uint64(1)
        byte >>= types.uint64(1)
        if step >= 0:
            store_i64(places, nothing if is_null else at)
            at += types.int64(0) if is_null else step
        elif is_null:
            store_i64(places, nothing)
        else:
            store_i64(places, at)
            if at - step > end:
                return types.int64(-1 - k)
            at += length(at, -step) - step
        if at > end:
            return types.int64(-1 - k)
        places += stride
    return types.int64(at)


@inner("void(int64, intp, int64, intp)")
def locate_absent_values(columns, places, stride, nothing):  # type: ignore[no-untyped-def]
    """The places of an image that the operation has not."""
    for k in range(columns):
        store_i64(places + k * stride, nothing + 1)
