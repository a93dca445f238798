"""ENUM and SET: numbers in the row, labels in the TABLE_MAP.

ENUM becomes dictionary<int16, string>, with numbers of int32 when its labels are many; number 0 is the empty string
that MySQL stores for an invalid value. SET becomes list<string>, members in the order of their declaration.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit, types

from binlogsync.binlog.memory import (
    INNER,
    KERNEL,
    copy,
    copy64,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    lowest_bit,
    store_i32,
    store_u16,
    store_u64,
)
from binlogsync.schema import MANY_LABELS

INVALID = 0xFFFF
_FEW_LABELS = 8


@njit("void(intp, int64, intp, intp, int64)", **INNER)
def enums(places, count, nothing, target, size):  # type: ignore[no-untyped-def]
    """ENUM: numbers of one or two bytes; 0 is written as INVALID, so that 0 remains what no value holds."""
    for r in range(count):
        at = load_i64(places + 8 * r)
        number = types.uint16(load_u8(at)) if size == 1 else load_u16(at)
        is_invalid = number == 0 and types.uint64(at - nothing) > 1
        store_u16(target + 2 * r, types.uint16(INVALID) if is_invalid else number)


@njit("void(intp, int64, intp, int64)", **INNER)
def sets(places, count, target, size):  # type: ignore[no-untyped-def]
    """SET: a bit mask of one to eight bytes."""
    for r in range(count):
        at = load_i64(places + 8 * r)
        value = types.uint64(load_u8(at))
        for i in range(1, size):
            value |= types.uint64(load_u8(at + i)) << types.uint64(8 * i)
        store_u64(target + 8 * r, value)


def refuse_unreadable(
    values: npt.NDArray[np.uint16] | npt.NDArray[np.uint64], unreadable: frozenset[int], charset: str | None
) -> None:
    """Raises ValueError when a value, as the kernels write them, has one of these labels, counted from 1."""
    for number in sorted(unreadable):
        bit = np.uint64(1 << number - 1)
        if (values & bit if values.dtype == np.uint64 else values == number).any():
            raise ValueError(
                f"the bytes of label {number} are no text in {charset}, as ALTER TABLE ... CONVERT TO CHARACTER SET "
                "leaves labels of another one. Spell the labels again with ALTER TABLE ... MODIFY, and begin behind "
                "these rows with a new copy of the table, or leave it out with a filter"
            )


def enum_array(
    numbers: npt.NDArray[np.uint16], labels: tuple[str, ...], validity: pa.Buffer | None, nulls: int
) -> pa.DictionaryArray:
    """Numbers from 1 to labels, as the kernel writes them: INVALID for number 0, and 0 where there is no value.

    Raises ValueError for a number without a label.
    """
    names = list(labels)
    most = int(numbers.max(initial=0))
    if most == INVALID:
        invalid = numbers == INVALID
        most = int(numbers[~invalid].max(initial=0))
        if "" not in names:
            names.append("")
        numbers = np.where(invalid, np.uint16(names.index("") + 1), numbers)
    if most > len(labels):
        raise ValueError(f"number {most} has no label, the type has {len(labels)}")
    if not names:
        names.append("")  # for rows without a value
    codes = numbers - (numbers > 0)
    indices = codes.view(np.int16) if len(labels) <= MANY_LABELS else codes.astype(np.int32)
    array = pa.Array.from_buffers(
        pa.from_numpy_dtype(indices.dtype), len(indices), [validity, pa.py_buffer(indices)], nulls
    )
    return pa.DictionaryArray.from_arrays(array, pa.array(names, pa.string()), safe=False)


def set_array(
    masks: npt.NDArray[np.uint64], labels: tuple[str, ...], validity: pa.Buffer | None, nulls: int
) -> pa.ListArray:
    """Bit masks (NULLs zero) to lists of labels; raises ValueError for a bit without a label."""
    if int(np.bitwise_or.reduce(masks)) >> len(labels):
        raise ValueError(f"a member number above {len(labels)} has no label")
    encoded = [label.encode() for label in labels]
    sizes = np.array([len(label) for label in encoded], np.int64)
    begins = np.cumsum(sizes) - sizes
    texts = np.frombuffer(b"".join(encoded) + bytes(8), np.uint8)
    if len(labels) > _FEW_LABELS or len(masks) < 1 << len(labels):
        offsets, ends, data = _spread(masks, sizes, begins, texts)
    else:
        # Of a few labels every set there can be is put together once, and then copied.
        offsets, ends, data = _repeat(
            masks, *_spread(np.arange(1 << len(labels), dtype=np.uint64), sizes, begins, texts)
        )
    members = pa.StringArray.from_buffers(int(offsets[-1]), pa.py_buffer(ends), pa.py_buffer(data))
    places = [validity, pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(pa.string()), len(masks), places, nulls, children=[members])


_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_MASKS, _NUMBERS = types.uint64[::1], types.int64[::1]
_LISTS = types.Tuple((types.int32[::1], types.int32[::1], types.uint8[::1]))


@njit(_LISTS(_MASKS, _NUMBERS, _NUMBERS, _BYTES), **KERNEL)
def _spread(masks, sizes, begins, texts):  # type: ignore[no-untyped-def]
    """(where each set's members begin, where each member's label ends, the labels); `texts` are all labels, end to end.

    `ends` has eight numbers and the labels 64 bytes more than are used, for _repeat.
    """
    count, size = types.int64(0), types.int64(0)
    for mask in masks:
        left = mask
        while left:
            size += sizes[lowest_bit(left)]
            left &= left - types.uint64(1)
            count += 1
    offsets, ends = np.empty(len(masks) + 1, np.int32), np.empty(count + 9, np.int32)
    data = np.empty(size + 64, np.uint8)
    member, at = types.int64(0), types.int64(0)
    ends[0] = 0
    for row in range(len(masks)):
        offsets[row] = member
        left = masks[row]
        while left:
            number = lowest_bit(left)
            copy(data.ctypes.data + at, texts.ctypes.data + begins[number], sizes[number])
            at += sizes[number]
            member += 1
            ends[member] = at
            left &= left - types.uint64(1)
    offsets[len(masks)] = member
    return offsets, ends, data


@njit(_LISTS(_MASKS, types.int32[::1], types.int32[::1], types.uint8[::1]), **KERNEL)
def _repeat(masks, offsets, ends, data):  # type: ignore[no-untyped-def]
    """As _spread, out of what _spread made of every mask of up to eight bits."""
    count, size = types.int64(0), types.int64(0)
    for mask in masks:
        count += offsets[mask + 1] - offsets[mask]
        size += ends[offsets[mask + 1]] - ends[offsets[mask]]
    o_offsets, o_ends = np.empty(len(masks) + 1, np.int32), np.empty(count + 9, np.int32)
    o_data = np.empty(size + 64, np.uint8)
    # All by address, and all loads before the stores: the compiler then does four at once.
    source, target, texts, out = offsets.ctypes.data, o_ends.ctypes.data, data.ctypes.data, o_data.ctypes.data
    member, at = types.int64(0), types.int64(0)
    o_ends[0] = 0
    for row in range(len(masks)):
        o_offsets[row] = member
        place = source + 4 * types.intp(masks[row])
        first, last = types.int64(load_i32(place)), types.int64(load_i32(place + 4))
        entry = ends.ctypes.data + 4 * first
        begin = load_i32(entry)
        size = types.int64(load_i32(entry + 4 * (last - first)) - begin)
        moved = types.int32(at) - begin
        k = types.int64(4)
        while True:
            e = (
                load_i32(entry + 4 * k - 12),
                load_i32(entry + 4 * k - 8),
                load_i32(entry + 4 * k - 4),
                load_i32(entry + 4 * k),
            )
            to = target + 4 * (member + k)
            store_i32(to - 12, e[0] + moved)
            store_i32(to - 8, e[1] + moved)
            store_i32(to - 4, e[2] + moved)
            store_i32(to, e[3] + moved)
            if k >= last - first:
                break
            k += 4
        copy64(out + at, texts + types.int64(begin))
        for i in range(64, size, 64):
            copy64(out + at + i, texts + types.int64(begin) + i)
        member += last - first
        at += size
    o_offsets[len(masks)] = member
    return o_offsets, o_ends, o_data
