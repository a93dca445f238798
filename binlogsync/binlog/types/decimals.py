"""DECIMAL: packed base-10^9 groups to the two's complement that Arrow's decimal128 and decimal256 hold.

The first bit is the inverted sign, and a negative number has all its bits inverted; each group of nine digits takes
four bytes, a shorter group at either end takes fewer. Source: bin2decimal in strings/decimal.cc.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int64, intp, uint32, uint64
from binlogsync.binlog.memory import (
    load_be16,
    load_be24,
    load_be32,
    load_i64,
    load_u8,
    load_u32,
    load_u64,
    store_u32,
    store_u64,
)

_GROUP_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def decimal_size(precision: int, scale: int) -> int:
    """Bytes that a DECIMAL(precision, scale) takes in a row."""
    whole, fraction = precision - scale, scale
    return int(
        whole // 9 * 4 + _GROUP_BYTES[whole % 9] + fraction // 9 * 4 + _GROUP_BYTES[fraction % 9]
    )  # 4 bytes for nine digits


@inner
def _group(source: intp, size: intp, first: boolean, negative: boolean) -> uint64:
    """One group of digits, most significant byte first; `first` marks the group that holds the sign bit."""
    value = uint64(0)
    for i in range(size):
        byte = uint64(load_u8(source + i))
        if first and i == 0:
            byte ^= uint64(0x80)
        if negative:
            byte ^= uint64(0xFF)
        value = (value << uint64(8)) | byte
    return value


@inner
def multiply_add(target: intp, width: intp, factor: uint64, summand: uint64) -> None:
    """The number of `width` bytes at `target` times `factor` plus `summand`, both below 2^32."""
    carry = summand
    for k in range(0, width, 4):
        product = uint64(load_u32(target + k)) * factor + carry
        store_u32(target + k, uint32(product))
        carry = product >> uint64(32)


@inner
def negate(target: intp, width: intp) -> None:
    """The two's complement of the number of `width` bytes at `target`."""
    carry = uint64(1)
    for k in range(0, width, 8):
        value = ~load_u64(target + k) + carry
        store_u64(target + k, value)
        carry = uint64(1) if carry == 1 and value == 0 else uint64(0)


@inner
def _group_size(digits: int64) -> int64:
    """Bytes of a group of 1 to 9 digits."""
    return (digits + 1) >> 1 if digits < 7 else 4


@inner
def power_of_ten(digits: int64) -> uint64:
    """10 to the power of 0 to 9."""
    power = uint64(1)
    for _ in range(digits):
        power *= uint64(10)
    return power


@inner(apart=True)
def decimal(target: intp, width: intp, source: intp, precision: intp, scale: intp) -> boolean:
    """Write `width` (16 or 32) bytes; returns False when a group has too many digits."""
    negative = (load_u8(source) & 0x80) == 0
    at = source
    high = uint64(0)
    value = uint64(0)
    wide = precision > 18
    if wide:
        for k in range(0, width, 8):
            store_u64(target + k, uint64(0))
    left = precision - scale
    in_fraction = left == 0
    if in_fraction:
        left = scale
    while left > 0:
        digits = (left if left < 9 else 9) if in_fraction else (left % 9 if left % 9 else 9)
        size = 4 if digits == 9 else _group_size(digits)
        power = uint64(1_000_000_000) if digits == 9 else power_of_ten(digits)
        group = _group(at, size, at == source, negative)
        if group >= power:
            return False
        if wide:
            multiply_add(target, width, power, group)
        else:
            value = value * power + group
        at += size
        left -= digits
        if left == 0 and not in_fraction:
            in_fraction = True
            left = scale
    if wide:
        if negative:
            negate(target, width)
        return True
    if negative and value != 0:
        value = uint64(0) - value
        high = uint64(0xFFFFFFFFFFFFFFFF)
    store_u64(target, value)
    for k in range(8, width, 8):
        store_u64(target + k, high)
    return True


@inner
def _digits(source: intp, size: int64, flip: uint64) -> uint64:
    """A group of 0 to 4 bytes, most significant first, with the bits of `flip` inverted."""
    if size == 4:
        value = load_be32(source)
    elif size == 1:
        value = uint64(load_u8(source))
    elif size == 2:
        value = load_be16(source)
    elif size == 3:
        value = load_be24(source)
    else:
        return uint64(0)
    return value ^ (flip >> uint64(64 - 8 * size))


@inner
def _shape(precision: int64, scale: int64, number: int64) -> tuple[int64, int64]:
    """(bytes, digits) of group 0, 1 or 2 of a DECIMAL of up to 18 digits; (0, 0) for a group that does not exist."""
    whole, part = precision - scale, scale
    for _ in range(number + 1):
        if whole > 0:
            digits = int64(whole % 9 if whole % 9 else 9)
            whole -= digits
        else:
            digits = int64(min(part, 9))
            part -= digits
    return (_group_size(digits) if digits < 9 else int64(4)), digits


@inner(apart=True)
def _short_decimals(pointers: intp, count: int64, zeros: intp, target: intp, precision: int64, scale: int64) -> int64:
    """DECIMAL of up to 18 digits, which has up to three groups; see `decimals`."""
    size_a, digits_a = _shape(precision, scale, 0)
    size_b, digits_b = _shape(precision, scale, 1)
    size_c, digits_c = _shape(precision, scale, 2)
    power_a, power_b, power_c = power_of_ten(digits_a), power_of_ten(digits_b), power_of_ten(digits_c)
    bad = int64(-1)
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        flip = uint64(0) if load_u8(at) & 0x80 else uint64(0xFFFFFFFFFFFFFFFF)
        a = _digits(at, size_a, flip ^ uint64(1 << 63))
        b = _digits(at + size_a, size_b, flip)
        c = _digits(at + size_a + size_b, size_c, flip)
        is_nothing = uint64(at - zeros) <= 1
        if (a >= power_a or b >= power_b or c >= power_c) and not is_nothing and bad < 0:
            bad = int64(r)
        value = (((a * power_b + b) * power_c + c) ^ flip) - flip
        value = uint64(0) if is_nothing else value
        store_u64(target + 16 * r, value)
        store_u64(target + 16 * r + 8, uint64(int64(value) >> 63))
    return bad


@inner(apart=True)
def decimals(pointers: intp, count: int64, zeros: intp, target: intp, precision: int64, scale: int64) -> int64:
    """DECIMAL to 16 bytes per row, or 32 for more than 38 digits; 0 for NULL.

    Returns -1, or the row of a value in which a group has too many digits.
    """
    if precision <= 18:
        return _short_decimals(pointers, count, zeros, target, precision, scale)
    width = 16 if precision <= 38 else 32
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        if uint64(at - zeros) <= 1:
            for k in range(0, width, 8):
                store_u64(target + width * r + k, uint64(0))
        elif not decimal(target + width * r, width, at, precision, scale):
            return r
    return int64(-1)


def decimal_text(precision: int, scale: int, data: bytes) -> str:
    """The number as MySQL prints it, for a DECIMAL inside JSON; raises ValueError for invalid bytes."""
    if not 0 <= scale <= precision or precision == 0:
        raise ValueError(f"DECIMAL({precision},{scale}) is not a valid type")
    if len(data) < decimal_size(precision, scale):
        raise ValueError(f"DECIMAL({precision},{scale}) needs {decimal_size(precision, scale)} bytes, got {len(data)}")
    whole, part = precision - scale, scale
    flip = 0 if data[0] & 0x80 else 0xFF
    plain = bytes(byte ^ flip for byte in (data[0] ^ 0x80, *data[1:]))
    text, at = "", 0
    for digits in (whole % 9, *[9] * (whole // 9), *[9] * (part // 9), part % 9):
        group = int.from_bytes(plain[at : at + _GROUP_BYTES[digits]], "big")
        if group >= 10**digits:
            raise ValueError(f"not a DECIMAL({precision},{scale}): {data.hex()}")
        text += f"{group:0{digits}}" if digits else ""
        at += _GROUP_BYTES[digits]
    sign = "-" if flip and text.strip("0") else ""
    return f"{sign}{text[:whole].lstrip('0') or '0'}{'.' + text[whole:] if scale else ''}"
