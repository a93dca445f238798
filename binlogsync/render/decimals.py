"""DECIMAL as a JSON string with exactly its scale, of any precision MySQL has."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit, types

from binlogsync.render.fragments import (
    INNER,
    KERNEL,
    MADE,
    R8,
    R32,
    Fragments,
    fixed_values,
    put_digits,
    put_null,
    validity,
)

_CHUNK = 1_000_000_000
_ROOM = 84


@njit("int64(uint32[::1], uint8[::1])", **INNER)
def _digits(limbs, digits):  # type: ignore[no-untyped-def]
    """Divides the number away, nine digits at a time, written from the end of `digits`; gives the place of the
    first.
    """
    place = len(digits)
    top = len(limbs) - 1
    while True:
        while top >= 0 and limbs[top] == 0:
            top -= 1
        if top < 0:
            return place
        rest = np.uint64(0)
        for k in range(top, -1, -1):
            whole = (rest << np.uint64(32)) | np.uint64(limbs[k])
            limbs[k] = np.uint32(whole // np.uint64(_CHUNK))
            rest = whole % np.uint64(_CHUNK)
        place -= 9
        put_digits(digits, place, np.int64(rest), 9)


@njit(MADE(R32, types.int64, types.int64, R8), **KERNEL)
def _decimals(words, width, scale, valid):  # type: ignore[no-untyped-def]
    rows = len(valid)
    out = np.empty(rows * _ROOM + 1, np.uint8)
    ends = np.empty(rows + 1, np.int64)
    ends[0] = at = 0
    limbs = np.empty(width, np.uint32)
    digits = np.empty(90, np.uint8)
    for i in range(rows):
        if not valid[i]:
            at = put_null(out, at)
            ends[i + 1] = at
            continue
        negative = (words[i * width + width - 1] >> np.uint32(31)) != 0
        carry = np.uint64(1)
        for k in range(width):
            limbs[k] = words[i * width + k]
            if negative:
                flipped = np.uint64(~limbs[k] & np.uint32(0xFFFFFFFF)) + carry
                limbs[k] = np.uint32(flipped & np.uint64(0xFFFFFFFF))
                carry = flipped >> np.uint64(32)
        first = _digits(limbs, digits)
        while first < len(digits) and digits[first] == 48:
            first += 1
        while len(digits) - first < scale + 1:
            first -= 1
            digits[first] = 48
        out[at] = 34
        at += 1
        if negative:
            out[at] = 45
            at += 1
        for k in range(first, len(digits)):
            if scale > 0 and k == len(digits) - scale:
                out[at] = 46
                at += 1
            out[at] = digits[k]
            at += 1
        out[at] = 34
        at += 1
        ends[i + 1] = at
    return out[:at].copy(), ends


def render_decimals(array: pa.Array) -> Fragments:
    """decimal128 and decimal256."""
    width = array.type.byte_width // 4
    if len(array) == 0:
        words = np.empty(0, np.uint32)
    else:
        words = fixed_values(array, np.dtype((np.void, width * 4))).view(np.uint32)
    return Fragments(*_decimals(words, width, array.type.scale, validity(array)))
