"""Integers, YEAR, BIT, FLOAT and DOUBLE as JSON numbers; BIT(1) as true and false."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit, types

from binlogsync.render.fragments import (
    KERNEL,
    MADE,
    R8,
    RU64,
    Fragments,
    copy_text,
    fixed_values,
    put_null,
    take,
    validity,
)

_FALSE_TRUE = Fragments.of((b"false", b"true"))
_LONGEST = 20


@njit(MADE(RU64, types.boolean, R8), **KERNEL)
def _integers(values, signed, valid):  # type: ignore[no-untyped-def]
    rows = len(values)
    out = np.empty(rows * _LONGEST + 1, np.uint8)
    ends = np.empty(rows + 1, np.int64)
    ends[0] = at = 0
    digits = np.empty(_LONGEST, np.uint8)
    for i in range(rows):
        if not valid[i]:
            at = put_null(out, at)
        else:
            number = values[i]
            if signed and np.int64(number) < 0:
                out[at] = 45
                at += 1
                number = np.uint64(0) - number
            count = 0
            while True:
                rest = number // np.uint64(10)
                digits[count] = np.uint8(48) + np.uint8(number - rest * np.uint64(10))
                count += 1
                number = rest
                if number == np.uint64(0):
                    break
            for k in range(count):
                out[at + k] = digits[count - 1 - k]
            at += count
        ends[i + 1] = at
    return out[:at].copy(), ends


def render_integers(array: pa.Array) -> Fragments:
    """Any Arrow integer type."""
    is_signed = pa.types.is_signed_integer(array.type)
    wide = array.cast(pa.int64() if is_signed else pa.uint64())
    return Fragments(*_integers(fixed_values(wide, np.uint64), is_signed, validity(wide)))


def render_floats(array: pa.Array) -> Fragments:
    """float32 and float64 in the shortest form that reads back to the same value of the same width."""
    return copy_text(pc.cast(array, pa.string()))


def render_booleans(array: pa.Array) -> Fragments:
    """true and false."""
    valid = validity(array)
    return take(_FALSE_TRUE, fixed_values(array.cast(pa.uint8()), np.uint8), valid)
