"""Columns of JSON fragments: what every renderer of this package makes, and the kernel that weaves them into envelopes.

A `Fragments` holds one piece of JSON text for each row, end to end in one buffer. Renderers get an Arrow array (which
may be a slice) and write NULL as `null`. Nothing here works row by row in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit, types

from binlogsync.binlog.memory import INNER as INNER
from binlogsync.binlog.memory import KERNEL as KERNEL

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

R8 = types.Array(types.uint8, 1, "C", readonly=True)
R32 = types.Array(types.uint32, 1, "C", readonly=True)
R64 = types.Array(types.int64, 1, "C", readonly=True)
RU64 = types.Array(types.uint64, 1, "C", readonly=True)
RI32 = types.Array(types.int32, 1, "C", readonly=True)
W8 = types.Array(types.uint8, 1, "C")
W64 = types.Array(types.int64, 1, "C")
MADE = types.Tuple((W8, W64))


@dataclass(frozen=True, slots=True)
class Fragments:
    """Row i is data[offsets[i]:offsets[i + 1]]; offsets has one more element than there are rows."""

    data: Bytes
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def texts(self) -> list[bytes]:
        """The rows, for tests and for rare small columns."""
        whole = self.data.tobytes()
        return [whole[self.offsets[i] : self.offsets[i + 1]] for i in range(len(self))]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Fragments:
        """A small column from Python."""
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        return cls(np.frombuffer(b"".join(texts) or b"\0", np.uint8), offsets)


def validity(array: pa.Array) -> Bytes:
    """1 where there is a value, 0 where NULL."""
    if array.null_count == 0:
        return np.ones(len(array), np.uint8)
    flags: Bytes = array.is_valid().cast(pa.uint8()).to_numpy()
    return flags


def fixed_values(array: pa.Array, dtype: Any) -> npt.NDArray[Any]:
    """The value buffer of a fixed-width array, just its own slice; garbage where NULL."""
    if len(array) == 0:
        return np.empty(0, dtype)
    item = np.dtype(dtype).itemsize
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * item)


def text_values(array: pa.Array) -> tuple[Bytes, npt.NDArray[np.int32]]:
    """Data and int32 offsets of a string or binary array, just its own slice (the offsets need not begin at 0)."""
    _, offsets, data = array.buffers()
    if offsets is None or len(array) == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int32)
    own = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    return (np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)), own


@njit("int64(uint8[::1], int64)", **INNER)
def put_null(out, at):  # type: ignore[no-untyped-def]
    """Writes null; gives the place behind it."""
    out[at] = 110
    out[at + 1] = 117
    out[at + 2] = 108
    out[at + 3] = 108
    return at + 4


@njit("int64(uint8[::1], int64, int64, int64)", **INNER)
def put_digits(out, at, number, count):  # type: ignore[no-untyped-def]
    """Writes a number that is not negative with exactly `count` digits; gives the place behind it."""
    for place in range(count - 1, -1, -1):
        out[at + place] = 48 + number % 10
        number //= 10
    return at + count


@njit(MADE(R8, R64, R64, R8), **KERNEL)
def _take(data, offsets, indices, valid):  # type: ignore[no-untyped-def]
    rows = len(indices)
    ends = np.empty(rows + 1, np.int64)
    ends[0] = 0
    for i in range(rows):
        ends[i + 1] = ends[i] + (offsets[indices[i] + 1] - offsets[indices[i]] if valid[i] else 4)
    out = np.empty(max(ends[rows], 1), np.uint8)
    for i in range(rows):
        if not valid[i]:
            put_null(out, ends[i])
            continue
        start, at = offsets[indices[i]], ends[i]
        for k in range(ends[i + 1] - at):
            out[at + k] = data[start + k]
    return out, ends


def take(labels: Fragments, indices: npt.NDArray[Any], valid: Bytes) -> Fragments:
    """labels[indices[i]] for each valid row, null for the others."""
    return Fragments(*_take(labels.data, labels.offsets, np.where(valid, indices, 0).astype(np.int64), valid))


@njit(MADE(R8, RI32, R8), **KERNEL)
def _copy(data, offsets, valid):  # type: ignore[no-untyped-def]
    rows = len(valid)
    ends = np.empty(rows + 1, np.int64)
    ends[0] = 0
    for i in range(rows):
        ends[i + 1] = ends[i] + (offsets[i + 1] - offsets[i] if valid[i] else 4)
    out = np.empty(max(ends[rows], 1), np.uint8)
    for i in range(rows):
        if not valid[i]:
            put_null(out, ends[i])
            continue
        start, at = offsets[i], ends[i]
        for k in range(ends[i + 1] - at):
            byte = data[start + k]
            out[at + k] = 32 if byte == 10 or byte == 13 else byte
    return out, ends


def copy_text(array: pa.Array) -> Fragments:
    """String values that are JSON already. Line ends between tokens become blanks: an envelope is one line."""
    return Fragments(*_copy(*text_values(array), validity(array)))


@njit(MADE(R8, R64, R8, R64, R8), **KERNEL)
def _overlay(data, offsets, other, other_offsets, chosen):  # type: ignore[no-untyped-def]
    rows = len(chosen)
    ends = np.empty(rows + 1, np.int64)
    ends[0] = 0
    for i in range(rows):
        own = other_offsets[i + 1] - other_offsets[i] if chosen[i] else offsets[i + 1] - offsets[i]
        ends[i + 1] = ends[i] + own
    out = np.empty(max(ends[rows], 1), np.uint8)
    for i in range(rows):
        at = ends[i]
        for k in range(ends[i + 1] - at):
            out[at + k] = other[other_offsets[i] + k] if chosen[i] else data[offsets[i] + k]
    return out, ends


def overlay(below: Fragments, above: Fragments, chosen: Bytes) -> Fragments:
    """`above` where chosen, `below` elsewhere."""
    return Fragments(*_overlay(below.data, below.offsets, above.data, above.offsets, chosen))
