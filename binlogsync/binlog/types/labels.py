"""ENUM and SET: numbers in the row, labels in the TABLE_MAP.

ENUM becomes dictionary<int16, string>, with numbers of int32 when its labels are many; number 0 is the empty string
that MySQL stores for an invalid value. SET becomes list<string>, members in the order of their declaration.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import int32, int64, intp, uint16, uint64
from binlogsync.binlog.memory import (
    address,
    copy,
    copy64,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u64,
    lowest_bit,
    store_i32,
    store_i64,
    store_u16,
    store_u64,
)
from binlogsync.schema import MANY_LABELS

_Longs = npt.NDArray[np.int64]

INVALID = 0xFFFF
_FEW_LABELS = 8


@inner(apart=True)
def enums(pointers: intp, count: int64, zeros: intp, target: intp, size: int64) -> None:
    """ENUM: numbers of one or two bytes; 0 is written as INVALID, because 0 stands for NULL."""
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        number = uint16(load_u8(at)) if size == 1 else load_u16(at)
        is_invalid = number == 0 and uint64(at - zeros) > 1
        store_u16(target + 2 * r, uint16(INVALID) if is_invalid else number)


@inner(apart=True)
def sets(pointers: intp, count: int64, target: intp, size: int64) -> None:
    """SET: a bit mask of one to eight bytes."""
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        value = uint64(load_u8(at))
        for i in range(1, size):
            value |= uint64(load_u8(at + i)) << uint64(8 * i)
        store_u64(target + 8 * r, value)


def enum_array(
    numbers: npt.NDArray[np.uint16], labels: tuple[str, ...], validity: pa.Buffer | None, nulls: int
) -> pa.DictionaryArray:
    """Numbers as the kernel writes them (from 1; INVALID for number 0; 0 for NULL) to labels.

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
        offsets, ends, data = _lists(masks, sizes, begins, texts)
    else:
        # With few labels, every possible set is built once, and then copied.
        every = np.arange(1 << len(labels), dtype=np.uint64)
        offsets, ends, data = _repeated(masks, *_lists(every, sizes, begins, texts))
    members = pa.StringArray.from_buffers(int(offsets[-1]), pa.py_buffer(ends), pa.py_buffer(data))
    pointers = [validity, pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(pa.string()), len(masks), pointers, nulls, children=[members])


_Lists = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.uint8]]


def _lists(masks: npt.NDArray[np.uint64], sizes: _Longs, begins: _Longs, texts: npt.NDArray[np.uint8]) -> _Lists:
    """(offsets of each set's members, end of each member's label, the labels); `texts` are all labels, concatenated.

    `ends` has eight numbers and the labels 64 bytes more than are used, for _repeat.
    """
    total = np.zeros(2, np.int64)
    _measure(address(masks), len(masks), address(sizes), address(total))
    made = _room(len(masks), total)
    _spread(
        address(masks), len(masks), address(sizes), address(begins), address(texts),
        *(address(array) for array in made),
    )  # fmt: skip
    return made


def _repeated(
    masks: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
    data: npt.NDArray[np.uint8],
) -> _Lists:
    """The same as _lists, copied from its result for every mask of up to eight bits."""
    made = _room(len(masks), len(masks) * np.array([np.diff(offsets).max(), np.diff(ends[offsets]).max()], np.int64))
    _repeat(
        address(masks), len(masks), *(address(array) for array in (offsets, ends, data)),
        *(address(array) for array in made),
    )  # fmt: skip
    count = int(made[0][-1])
    return made[0], made[1][: count + 1], made[2][: int(made[1][count])]


def _room(rows: int, total: npt.NDArray[np.int64]) -> _Lists:
    count, size = total.tolist()
    return np.empty(rows + 1, np.int32), np.empty(count + 9, np.int32), np.empty(size + 64, np.uint8)


@kernel
def _measure(masks: intp, rows: int64, sizes: intp, total: intp) -> None:
    """Write the number of members of all sets, and the number of bytes of their labels."""
    count, size = int64(0), int64(0)
    for row in range(rows):
        left = load_u64(masks + 8 * row)
        while left:
            size += load_i64(sizes + 8 * intp(lowest_bit(left)))
            left &= left - uint64(1)
            count += 1
    store_i64(total, count)
    store_i64(total + 8, size)


@kernel
def _spread(
    masks: intp, rows: int64, sizes: intp, begins: intp, texts: intp, offsets: intp, ends: intp, data: intp
) -> None:
    """Write the result of _lists into memory of sufficient size."""
    member, at = int64(0), int64(0)
    store_i32(ends, int32(0))
    for row in range(rows):
        store_i32(offsets + 4 * row, int32(member))
        left = load_u64(masks + 8 * row)
        while left:
            number = intp(lowest_bit(left))
            size = load_i64(sizes + 8 * number)
            copy(data + at, texts + load_i64(begins + 8 * number), size)
            at += size
            member += 1
            store_i32(ends + 4 * member, int32(at))
            left &= left - uint64(1)
    store_i32(offsets + 4 * rows, int32(member))


@kernel
def _repeat(
    masks: intp, rows: int64, offsets: intp, ends: intp, data: intp, o_offsets: intp, o_ends: intp, o_data: intp
) -> None:
    """Write the result of _repeated into memory of sufficient size."""
    member, at = int64(0), int64(0)
    store_i32(o_ends, int32(0))
    for row in range(rows):
        store_i32(o_offsets + 4 * row, int32(member))
        place = offsets + 4 * intp(load_u64(masks + 8 * row))
        first, last = int64(load_i32(place)), int64(load_i32(place + 4))
        entry = ends + 4 * first
        begin = load_i32(entry)
        size = int64(load_i32(entry + 4 * (last - first)) - begin)
        moved = int32(at) - begin
        k = int64(4)
        while True:
            # All loads before the stores: the compiler then does four at once.
            one, two = load_i32(entry + 4 * k - 12), load_i32(entry + 4 * k - 8)
            three, four = load_i32(entry + 4 * k - 4), load_i32(entry + 4 * k)
            to = o_ends + 4 * (member + k)
            store_i32(to - 12, one + moved)
            store_i32(to - 8, two + moved)
            store_i32(to - 4, three + moved)
            store_i32(to, four + moved)
            if k >= last - first:
                break
            k += 4
        copy64(o_data + at, data + int64(begin))
        for i in range(64, size, 64):
            copy64(o_data + at + i, data + int64(begin) + i)
        member += last - first
        at += size
    store_i32(o_offsets + 4 * rows, int32(member))
