"""Text as JSON strings: control characters, quotes and backslashes escaped, all else as the UTF-8 that it is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit

from binlogsync.binlog.memory import copy
from binlogsync.render.fragments import KERNEL, MADE, R8, RI32, Fragments, put_null, text_values, validity

_SHORT = {8: b"b", 9: b"t", 10: b"n", 12: b"f", 13: b"r", 34: b'"', 92: b"\\"}
# 0: as it is; 1: \u00XX; anything else: the letter behind the backslash
_ESCAPES = np.array([_SHORT[byte][0] if byte in _SHORT else int(byte < 32) for byte in range(256)], np.uint8)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


@njit(MADE(R8, RI32, R8, R8, R8), **KERNEL)
def _strings(data, offsets, valid, escapes, hexadecimal):  # type: ignore[no-untyped-def]
    rows = len(valid)
    ends = np.empty(rows + 1, np.int64)
    ends[0] = 0
    for i in range(rows):
        size = np.int64(4)
        if valid[i]:
            size = np.int64(offsets[i + 1]) - np.int64(offsets[i]) + 2
            for k in range(offsets[i], offsets[i + 1]):
                escape = escapes[data[k]]
                size += (5 if escape == 1 else 1) if escape else 0
        ends[i + 1] = ends[i] + size
    out = np.empty(max(ends[rows], 1), np.uint8)
    for i in range(rows):
        at = ends[i]
        if not valid[i]:
            put_null(out, at)
            continue
        start, length = np.int64(offsets[i]), np.int64(offsets[i + 1]) - np.int64(offsets[i])
        out[at] = 34
        out[ends[i + 1] - 1] = 34
        at += 1
        if ends[i + 1] - ends[i] == length + 2:
            copy(out.ctypes.data + at, data.ctypes.data + start, length)
            continue
        for k in range(start, start + length):
            byte = data[k]
            escape = escapes[byte]
            if escape == 0:
                out[at] = byte
                at += 1
                continue
            out[at] = 92
            if escape > 1:
                out[at + 1] = escape
                at += 2
                continue
            out[at + 1] = 117
            out[at + 2] = 48
            out[at + 3] = 48
            out[at + 4] = hexadecimal[byte >> 4]
            out[at + 5] = hexadecimal[byte & 15]
            at += 6
    return out, ends


def render_strings(array: pa.Array) -> Fragments:
    """string."""
    return Fragments(*_strings(*text_values(array), validity(array), _ESCAPES, _HEX))
