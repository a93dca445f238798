"""Integers, FLOAT, DOUBLE, YEAR and BIT: fixed widths, copied or widened, a column at a time.

Source: Field_* ::pack in sql/field.cc; integers and floats are little-endian, BIT is big-endian.
"""

from __future__ import annotations

from numba import types

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.memory import (
    load_be,
    load_i64,
    load_u8,
    load_u16,
    load_u24,
    load_u32,
    load_u64,
    store_i32,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
)


@inner("void(intp, int64, intp, int64)", apart=True)
def copied(places, count, target, size):  # type: ignore[no-untyped-def]
    """Values of 1, 2, 4 or 8 bytes as they are."""
    if size == 8:
        for r in range(count):
            store_u64(target + 8 * r, load_u64(load_i64(places + 8 * r)))
    elif size == 4:
        for r in range(count):
            store_u32(target + 4 * r, load_u32(load_i64(places + 8 * r)))
    elif size == 2:
        for r in range(count):
            store_u16(target + 2 * r, load_u16(load_i64(places + 8 * r)))
    else:
        for r in range(count):
            store_u8(target + r, load_u8(load_i64(places + 8 * r)))


@inner("void(intp, int64, intp, boolean)", apart=True)
def widened_24(places, count, target, unsigned):  # type: ignore[no-untyped-def]
    """MEDIUMINT: three bytes to int32 or uint32."""
    sign = types.int64(0 if unsigned else 0x800000)
    for r in range(count):
        value = types.int64(load_u24(load_i64(places + 8 * r)))
        store_i32(target + 4 * r, types.int32((value ^ sign) - sign))


@inner("void(intp, int64, intp)", apart=True)
def years(places, count, target):  # type: ignore[no-untyped-def]
    """YEAR: years since 1900 in one byte to uint16, 0 stays 0 (the year 0000)."""
    for r in range(count):
        value = load_u8(load_i64(places + 8 * r))
        store_u16(target + 2 * r, types.uint16(0 if value == 0 else 1900 + types.int64(value)))


@inner("void(intp, int64, intp, int64)", apart=True)
def bits(places, count, target, size):  # type: ignore[no-untyped-def]
    """BIT(n): `size` bytes to uint64."""
    for r in range(count):
        store_u64(target + 8 * r, load_be(load_i64(places + 8 * r), size))
