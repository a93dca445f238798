"""Columns of few different texts (ENUM, operations, GTIDs, file names) and SET, an array of them; other arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numba import njit

from binlogsync.render.fragments import KERNEL, MADE, R8, R64, RI32, Fragments, fixed_values, put_null, take, validity
from binlogsync.render.text import render_strings


def render_labels(array: pa.DictionaryArray) -> Fragments:
    """dictionary of strings: each label is rendered once."""
    labels = render_strings(array.dictionary.cast(pa.string()))
    indices = array.indices.cast(pa.int64())
    if len(labels) == 0:
        labels = Fragments.of([b"null"])
    return take(labels, fixed_values(indices, np.int64), validity(array))


@njit(MADE(RI32, R8, R64, R8), **KERNEL)
def _arrays(lists, data, offsets, valid):  # type: ignore[no-untyped-def]
    rows = len(valid)
    base = np.int64(lists[0])
    ends = np.empty(rows + 1, np.int64)
    ends[0] = 0
    for i in range(rows):
        count = np.int64(lists[i + 1]) - np.int64(lists[i])
        size = np.int64(4)
        if valid[i]:
            size = offsets[lists[i + 1] - base] - offsets[lists[i] - base] + 2 + max(count - 1, 0)
        ends[i + 1] = ends[i] + size
    out = np.empty(max(ends[rows], 1), np.uint8)
    for i in range(rows):
        at = ends[i]
        if not valid[i]:
            put_null(out, at)
            continue
        out[at] = 91
        at += 1
        for item in range(lists[i] - base, lists[i + 1] - base):
            if item > lists[i] - base:
                out[at] = 44
                at += 1
            for k in range(offsets[item], offsets[item + 1]):
                out[at] = data[k]
                at += 1
        out[at] = 93
    return out, ends


def render_label_arrays(array: pa.ListArray) -> Fragments:
    """list of strings."""
    return render_arrays(array, render_strings)


def render_arrays(array: pa.ListArray, render_items: Callable[[pa.Array], Fragments]) -> Fragments:
    """Lists whose items `render_items` renders."""
    if len(array) == 0:
        return Fragments.of([])
    lists = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    items = render_items(array.values.slice(lists[0], lists[-1] - lists[0]))
    return Fragments(*_arrays(lists, items.data, items.offsets, validity(array)))
