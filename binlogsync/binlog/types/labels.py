"""ENUM and SET: numbers in the row, labels in the TABLE_MAP.

ENUM becomes dictionary<int16, string>, with numbers of int32 when its labels are many; number 0 is the empty string
that MySQL stores for an invalid value. SET becomes list<string>, members in the order of their declaration.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit, types

from binlogsync.binlog.memory import KERNEL, load_i64, load_u8, load_u16, store_u16, store_u64
from binlogsync.schema import MANY_LABELS

INVALID = 0xFFFF


@njit("void(intp, int64, intp, intp, int64)", **KERNEL)
def enums(places, count, nothing, target, size):  # type: ignore[no-untyped-def]
    """ENUM: numbers of one or two bytes; 0 is written as INVALID, so that 0 remains what no value holds."""
    for r in range(count):
        at = load_i64(places + 8 * r)
        number = types.uint16(load_u8(at)) if size == 1 else load_u16(at)
        is_invalid = number == 0 and types.uint64(at - nothing) > 1
        store_u16(target + 2 * r, types.uint16(INVALID) if is_invalid else number)


@njit("void(intp, int64, intp, int64)", **KERNEL)
def sets(places, count, target, size):  # type: ignore[no-untyped-def]
    """SET: a bit mask of one to eight bytes."""
    for r in range(count):
        at = load_i64(places + 8 * r)
        value = types.uint64(load_u8(at))
        for i in range(1, size):
            value |= types.uint64(load_u8(at + i)) << types.uint64(8 * i)
        store_u64(target + 8 * r, value)


def enum_array(
    numbers: npt.NDArray[np.uint16], labels: tuple[str, ...], validity: pa.Buffer | None, nulls: int
) -> pa.DictionaryArray:
    """Numbers from 1 to labels, as the kernel writes them: INVALID for number 0, and 0 where there is no value.

    Raises ValueError for a number without a label.
    """
    invalid = numbers == INVALID
    codes = np.maximum(numbers.astype(np.int32) - 1, 0)
    names = list(labels)
    if invalid.any():
        if "" not in names:
            names.append("")
        codes[invalid] = names.index("")
    if len(codes) and int(codes.max()) >= max(len(names), 1):
        raise ValueError(f"number {int(codes.max()) + 1} has no label, the type has {len(labels)}")
    if len(labels) <= MANY_LABELS:
        codes = codes.astype(np.int16)
    indices = pa.Array.from_buffers(
        pa.from_numpy_dtype(codes.dtype), len(codes), [validity, pa.py_buffer(codes)], nulls
    )
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def set_array(
    masks: npt.NDArray[np.uint64], labels: tuple[str, ...], validity: pa.Buffer | None, nulls: int
) -> pa.ListArray:
    """Bit masks (NULLs zero) to lists of labels; raises ValueError for a bit without a label."""
    offsets = np.empty(len(masks) + 1, np.int32)
    members = np.empty(int(_count(masks)), np.int32)
    if not _spread(masks, len(labels), offsets, members):
        raise ValueError(f"a member number above {len(labels)} has no label")
    values = pa.array(labels, pa.string()).take(pa.array(members))
    return pa.Array.from_buffers(
        pa.list_(pa.string()), len(masks), [validity, pa.py_buffer(offsets)], nulls, children=[values]
    )


@njit("int64(uint64[::1])", **KERNEL)
def _count(masks):  # type: ignore[no-untyped-def]
    """Members of all sets together."""
    total = types.int64(0)
    for mask in masks:
        left = mask
        while left:
            left &= left - types.uint64(1)
            total += 1
    return total


@njit("boolean(uint64[::1], int64, int32[::1], int32[::1])", **KERNEL)
def _spread(masks, count, offsets, members):  # type: ignore[no-untyped-def]
    """Write the numbers of each set's members, from 0; False at a bit that has no label."""
    at = 0
    for row in range(len(masks)):
        offsets[row] = at
        left = masks[row]
        member = 0
        while left:
            if left & types.uint64(1):
                if member >= count:
                    return False
                members[at] = member
                at += 1
            left >>= types.uint64(1)
            member += 1
    offsets[len(masks)] = at
    return True
