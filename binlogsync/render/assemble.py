"""One envelope a row: constant bytes and the columns' fragments in turn, in one pass over the output.

An envelope is a list of parts. A part writes its constant, then its column's fragment. Parts belong to no image, or to
one of two images; where that image is NULL the first of its parts writes `null` and the others nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, types

from binlogsync.binlog.memory import copy
from binlogsync.render.fragments import KERNEL, MADE, R8, R64, Bytes, Fragments

NO_IMAGE, BEFORE, AFTER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Part:
    """A constant, then a column's fragment (None: the constant only); `image` is NO_IMAGE, BEFORE or AFTER."""

    constant: bytes
    column: Fragments | None = None
    image: int = NO_IMAGE


_R2 = types.Array(types.int64, 2, "C", readonly=True)


@njit(MADE(types.int64, R8, R64, R64, R8, R8, R8, _R2), **KERNEL)
def _assemble(rows, constants, bounds, images, before, after, data, offsets):  # type: ignore[no-untyped-def]
    parts = len(images)
    ends = np.zeros(rows + 1, np.int64)
    for p in range(parts):
        size = bounds[p + 1] - bounds[p]
        image = images[p]
        is_first = image != 0 and (p == 0 or images[p - 1] != image)
        for i in range(rows):
            if (image == 1 and not before[i]) or (image == 2 and not after[i]):
                ends[i + 1] += 4 if is_first else 0
            else:
                ends[i + 1] += size + offsets[p, i + 1] - offsets[p, i]
    for i in range(rows):
        ends[i + 1] += ends[i]
    out = np.empty(max(ends[rows], 1), np.uint8)
    target, constant_source, data_source = out.ctypes.data, constants.ctypes.data, data.ctypes.data
    at = 0
    for i in range(rows):
        p = 0
        while p < parts:
            image = images[p]
            if (image == 1 and not before[i]) or (image == 2 and not after[i]):
                out[at] = 110
                out[at + 1] = 117
                out[at + 2] = 108
                out[at + 3] = 108
                at += 4
                while p < parts and images[p] == image:
                    p += 1
                continue
            size = bounds[p + 1] - bounds[p]
            copy(target + at, constant_source + bounds[p], size)
            at += size
            size = offsets[p, i + 1] - offsets[p, i]
            copy(target + at, data_source + offsets[p, i], size)
            at += size
            p += 1
    return out, ends


def assemble(rows: int, parts: Sequence[Part], before: Bytes, after: Bytes) -> Fragments:
    """The envelopes; `before` and `after` are 1 where the image is not NULL."""
    bounds = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part.constant) for part in parts], out=bounds[1:])
    constants = np.frombuffer(b"".join(part.constant for part in parts), np.uint8)
    offsets = np.zeros((len(parts), rows + 1), np.int64)
    pieces, base = [np.zeros(1, np.uint8)], 1
    for p, part in enumerate(parts):
        if part.column is not None:
            np.add(part.column.offsets, base, out=offsets[p])
            pieces.append(part.column.data)
            base += len(part.column.data)
    images = np.array([part.image for part in parts], np.int64)
    return Fragments(*_assemble(rows, constants, bounds, images, before, after, np.concatenate(pieces), offsets))
