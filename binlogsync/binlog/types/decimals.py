"""DECIMAL: packed base-10^9 groups to the two's complement that Arrow's decimal128 and decimal256 hold.

The first bit is the inverted sign, and a negative number has all its bits inverted; each group of nine digits takes four
bytes, a shorter group at either end takes fewer. Source: bin2decimal in strings/decimal.cc.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from binlogsync.binlog.memory import KERNEL, load_u8, store_u64

DIGITS_PER_GROUP = 9
GROUP_BYTES = np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 4], np.int64)
POWERS = np.array([10**k for k in range(10)], np.uint64)


def decimal_size(precision: int, scale: int) -> int:
    """Bytes that a DECIMAL(precision, scale) takes in a row."""
    whole, fraction = precision - scale, scale
    return int(
        whole // 9 * 4 + GROUP_BYTES[whole % 9] + fraction // 9 * 4 + GROUP_BYTES[fraction % 9]
    )  # 4 bytes for nine digits


@njit("uint64(intp, intp, boolean, boolean)", **KERNEL)
def _group(source, size, first, negative):  # type: ignore[no-untyped-def]
    """One group of digits, most significant byte first; `first` marks the group that holds the sign bit."""
    value = types.uint64(0)
    for i in range(size):
        byte = types.uint64(load_u8(source + i))
        if first and i == 0:
            byte ^= types.uint64(0x80)
        if negative:
            byte ^= types.uint64(0xFF)
        value = (value << types.uint64(8)) | byte
    return value


@njit("boolean(intp, intp, intp, intp, intp, int64[::1], uint64[::1], uint64[::1])", **KERNEL)
def decimal(target, width, source, precision, scale, group_bytes, powers, limbs):  # type: ignore[no-untyped-def]
    """Write `width` (16 or 32) bytes; False when a group holds more digits than it may. `limbs` is scratch of 8 words."""
    whole = precision - scale
    negative = (load_u8(source) & 0x80) == 0
    narrow = precision <= 18
    value = types.uint64(0)
    if not narrow:
        for k in range(8):
            limbs[k] = 0
    at = source
    first = True
    left = whole
    in_fraction = False
    while True:
        if left == 0:
            if in_fraction or scale == 0:
                break
            in_fraction = True
            left = scale
        if in_fraction:
            digits = left if left < 9 else 9
        else:
            digits = left % 9
            if digits == 0:
                digits = 9
        size = group_bytes[digits]
        group = _group(at, size, first, negative)
        if group >= powers[digits]:
            return False
        if narrow:
            value = value * powers[digits] + group
        else:
            carry = group
            for k in range(8):
                product = limbs[k] * powers[digits] + carry
                limbs[k] = product & types.uint64(0xFFFFFFFF)
                carry = product >> types.uint64(32)
        first = False
        at += size
        left -= digits
    if narrow:
        low = types.uint64(-types.int64(value)) if negative else value
        store_u64(target, low)
        high = types.uint64(0xFFFFFFFFFFFFFFFF) if negative and value != 0 else types.uint64(0)
        for k in range(8, width, 8):
            store_u64(target + k, high)
        return True
    carry = types.uint64(1)
    for k in range(0, width // 4, 2):
        low = limbs[k]
        high = limbs[k + 1]
        if negative:
            low = (low ^ types.uint64(0xFFFFFFFF)) + carry
            carry = low >> types.uint64(32)
            high = (high ^ types.uint64(0xFFFFFFFF)) + carry
            carry = high >> types.uint64(32)
            low &= types.uint64(0xFFFFFFFF)
            high &= types.uint64(0xFFFFFFFF)
        store_u64(target + 4 * k, low | (high << types.uint64(32)))
    return True


def decimal_text(precision: int, scale: int, data: bytes) -> str:
    """The number as MySQL prints it, for the DECIMALs inside JSON; raises ValueError when bytes are missing."""
    if len(data) < decimal_size(precision, scale):
        raise ValueError(f"DECIMAL({precision},{scale}) needs {decimal_size(precision, scale)} bytes, got {len(data)}")
    buffer = np.frombuffer(data, np.uint8)
    target = np.zeros(32, np.uint8)
    if not decimal(
        target.ctypes.data, 32, buffer.ctypes.data, precision, scale, GROUP_BYTES, POWERS, np.zeros(8, np.uint64)
    ):
        raise ValueError(f"not a DECIMAL({precision},{scale}): {data.hex()}")
    digits = int.from_bytes(target.tobytes(), "little", signed=True)
    text = f"{abs(digits):0{scale + 1}}"
    whole, part = text[: len(text) - scale], text[len(text) - scale :]
    return f"{'-' if digits < 0 else ''}{whole}{'.' + part if scale else ''}"
