"""Integers, FLOAT, DOUBLE, YEAR and BIT: fixed widths, copied or widened, a column at a time.

Source: Field_* ::pack in sql/field.cc; integers and floats are little-endian, BIT is big-endian.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int32, int64, intp, uint16
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


@inner(apart=True)
def copied(pointers: intp, count: int64, target: intp, size: int64) -> None:
    """Values of 1, 2, 4 or 8 bytes, copied without conversion."""
    if size == 8:
        for r in range(count):
            store_u64(target + 8 * r, load_u64(load_i64(pointers + 8 * r)))
    elif size == 4:
        for r in range(count):
            store_u32(target + 4 * r, load_u32(load_i64(pointers + 8 * r)))
    elif size == 2:
        for r in range(count):
            store_u16(target + 2 * r, load_u16(load_i64(pointers + 8 * r)))
    else:
        for r in range(count):
            store_u8(target + r, load_u8(load_i64(pointers + 8 * r)))


@inner(apart=True)
def widened_24(pointers: intp, count: int64, target: intp, unsigned: boolean) -> None:
    """MEDIUMINT: three bytes to int32 or uint32."""
    sign = int64(0 if unsigned else 0x800000)
    for r in range(count):
        value = int64(load_u24(load_i64(pointers + 8 * r)))
        store_i32(target + 4 * r, int32((value ^ sign) - sign))


@inner(apart=True)
def years(pointers: intp, count: int64, target: intp) -> None:
    """YEAR: years since 1900 in one byte to uint16, 0 stays 0 (the year 0000)."""
    for r in range(count):
        value = load_u8(load_i64(pointers + 8 * r))
        store_u16(target + 2 * r, uint16(0 if value == 0 else 1900 + int64(value)))


@inner(apart=True)
def bits(pointers: intp, count: int64, target: intp, size: int64) -> None:
    """BIT(n): `size` bytes to uint64."""
    for r in range(count):
        store_u64(target + 8 * r, load_be(load_i64(pointers + 8 * r), size))
