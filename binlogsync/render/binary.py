"""BINARY, VARBINARY and BLOB as base64 (RFC 4648, padded)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit

from binlogsync.render.fragments import KERNEL, MADE, R8, RI32, Fragments, put_null, text_values, validity

_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)


@njit(MADE(R8, RI32, R8, R8), **KERNEL)
def _base64(data, offsets, valid, alphabet):  # type: ignore[no-untyped-def]
    rows = len(valid)
    ends = np.empty(rows + 1, np.int64)
    ends[0] = 0
    for i in range(rows):
        length = np.int64(offsets[i + 1]) - np.int64(offsets[i])
        ends[i + 1] = ends[i] + ((length + 2) // 3 * 4 + 2 if valid[i] else 4)
    out = np.empty(max(ends[rows], 1), np.uint8)
    for i in range(rows):
        at = ends[i]
        if not valid[i]:
            put_null(out, at)
            continue
        out[at] = 34
        at += 1
        stop = np.int64(offsets[i + 1])
        for k in range(np.int64(offsets[i]), stop, 3):
            left = stop - k
            bits = np.uint32(data[k]) << np.uint32(16)
            if left > 1:
                bits |= np.uint32(data[k + 1]) << np.uint32(8)
            if left > 2:
                bits |= np.uint32(data[k + 2])
            out[at] = alphabet[(bits >> np.uint32(18)) & np.uint32(63)]
            out[at + 1] = alphabet[(bits >> np.uint32(12)) & np.uint32(63)]
            out[at + 2] = alphabet[(bits >> np.uint32(6)) & np.uint32(63)] if left > 1 else 61
            out[at + 3] = alphabet[bits & np.uint32(63)] if left > 2 else 61
            at += 4
        out[at] = 34
    return out, ends


def render_base64(array: pa.Array) -> Fragments:
    """binary."""
    return Fragments(*_base64(*text_values(array), validity(array), _ALPHABET))
