"""Integers, FLOAT, DOUBLE, YEAR and BIT: fixed widths, copied or widened.

Source: Field_* ::pack in sql/field.cc; integers and floats are little-endian, BIT is big-endian.
"""

from __future__ import annotations

from numba import njit, types

from binlogsync.binlog.memory import KERNEL, load_be, load_u8, load_u24, store_i32, store_u16, store_u64


@njit("void(intp, intp, boolean)", **KERNEL)
def widen_24(target, source, unsigned):  # type: ignore[no-untyped-def]
    """MEDIUMINT: three bytes to int32 or uint32."""
    value = types.int64(load_u24(source))
    if not unsigned and value & 0x800000:
        value -= 0x1000000
    store_i32(target, types.int32(value))


@njit("void(intp, intp)", **KERNEL)
def year(target, source):  # type: ignore[no-untyped-def]
    """YEAR: years since 1900 in one byte to uint16, 0 stays 0 (the year 0000)."""
    value = load_u8(source)
    store_u16(target, types.uint16(0 if value == 0 else 1900 + types.int64(value)))


@njit("void(intp, intp, intp)", **KERNEL)
def bit(target, source, size):  # type: ignore[no-untyped-def]
    """BIT(n): `size` bytes to uint64."""
    store_u64(target, load_be(source, size))
