"""Kernels that write single values as JSON text, at an address, and return the address after the text.

They do not check for room: the caller provides it, and OVERRUN more bytes, which may be overwritten. `tables` is the
address of lookup_tables.TABLES.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int64, intp, uint8, uint32, uint64
from binlogsync.binlog.memory import (
    copy,
    leading_zeros,
    load_u8,
    load_u16,
    load_u64,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
)
from binlogsync.codec.lookup_tables import BASE64, ESCAPES, HEXADECIMAL, PAIRS, POWERS

OVERRUN = 64

_60, _100, _10_000, _MILLION = uint64(60), uint64(100), uint64(10_000), uint64(1_000_000)
_DAY = uint64(86_400_000_000)
_LOW = uint64(0x0101010101010101)
_HIGH = uint64(0x8080808080808080)
_BLANKS, _QUOTES, _BACKSLASHES = _LOW * uint64(32), _LOW * uint64(34), _LOW * uint64(92)
_NULL = uint32(int.from_bytes(b"null", "little"))


@inner
def put_null(at: intp) -> intp:
    """null."""
    store_u32(at, _NULL)
    return at + 4


@inner
def put_pair(at: intp, number: uint64, tables: intp) -> intp:
    """A number below 100, with two digits."""
    store_u16(at, load_u16(tables + PAIRS + 2 * intp(number)))
    return at + 2


@inner
def put_number(at: intp, number: uint64, tables: intp) -> intp:
    """A number that is not negative."""
    # 1233 / 4096 approximates the logarithm of 2; for all 64-bit numbers the product is correct or one too low.
    shown = number | uint64(1)
    digits = ((64 - intp(leading_zeros(shown))) * 1233) >> 12
    digits += intp(shown >= load_u64(tables + POWERS + 8 * digits))
    end = at + digits
    while number >= _100:
        rest = number // _100
        end -= 2
        put_pair(end, number - rest * _100, tables)
        number = rest
    if number >= uint64(10):
        put_pair(end - 2, number, tables)
    else:
        store_u8(end - 1, uint8(number + uint64(48)))
    return at + digits


@inner
def put_signed(at: intp, number: int64, tables: intp) -> intp:
    """A number of either sign."""
    if number < 0:
        store_u8(at, uint8(45))
        return put_number(at + 1, uint64(0) - uint64(number), tables)
    return put_number(at, uint64(number), tables)


@inner
def put_pointed(at: intp, digits: intp, count: intp, scale: intp) -> intp:
    """A JSON string of the `count` characters at `digits`, an optional sign and digits, with a decimal point before the
    last `scale` digits.
    """
    store_u8(at, uint8(34))
    at += 1
    if load_u8(digits) == 45:
        store_u8(at, uint8(45))
        at += 1
        digits += 1
        count -= 1
    whole = count - scale
    if whole > 0:
        copy(at, digits, whole)
        at += whole
        digits += whole
    else:
        store_u8(at, uint8(48))
        at += 1
    if scale > 0:
        store_u8(at, uint8(46))
        at += 1
        for _ in range(whole, 0):
            store_u8(at, uint8(48))
            at += 1
        left = min(count, scale)
        copy(at, digits, left)
        at += left
    store_u8(at, uint8(34))
    return at + 1


@inner
def put_date(at: intp, days: int64, tables: intp) -> intp:
    """YYYY-MM-DD of a day since 1970, in the proleptic Gregorian calendar; the calculation uses years from March."""
    shifted = uint64(days + 719468)
    era = shifted // uint64(146097)
    day_of_era = shifted - era * uint64(146097)
    year_of_era = (
        day_of_era - day_of_era // uint64(1460) + day_of_era // uint64(36524) - day_of_era // uint64(146096)
    ) // uint64(365)
    day_of_year = day_of_era - (uint64(365) * year_of_era + (year_of_era >> uint64(2)) - year_of_era // uint64(100))
    month = (uint64(5) * day_of_year + uint64(2)) // uint64(153)
    day = day_of_year - (uint64(153) * month + uint64(2)) // uint64(5) + uint64(1)
    is_next = month >= uint64(10)
    month = month - uint64(9) if is_next else month + uint64(3)
    year = (year_of_era + era * uint64(400) + uint64(is_next)) % _10_000
    put_pair(at, year // _100, tables)
    put_pair(at + 2, year % _100, tables)
    store_u8(at + 4, uint8(45))
    put_pair(at + 5, month, tables)
    store_u8(at + 7, uint8(45))
    return put_pair(at + 8, day, tables)


@inner
def put_time(at: intp, micros: uint64, fsp: int64, tables: intp) -> intp:
    """HH:MM:SS or HHH:MM:SS, and the first `fsp` digits of the fraction."""
    seconds = micros // _MILLION
    part = micros - seconds * _MILLION
    minutes = seconds // _60
    hours = minutes // _60
    seconds -= minutes * _60
    minutes -= hours * _60
    if hours >= _100:
        store_u8(at, uint8(hours // _100 + uint64(48)))
        at += 1
        hours %= _100
    put_pair(at, hours, tables)
    store_u8(at + 2, uint8(58))
    put_pair(at + 3, minutes, tables)
    store_u8(at + 5, uint8(58))
    put_pair(at + 6, seconds, tables)
    if fsp == 0:
        return at + 8
    store_u8(at + 8, uint8(46))
    high = part // _10_000
    low = part - high * _10_000
    put_pair(at + 9, high, tables)
    put_pair(at + 11, low // _100, tables)
    put_pair(at + 13, low % _100, tables)
    return at + 9 + fsp


@inner
def put_day(at: intp, days: int64, tables: intp) -> intp:
    """A JSON string of a day since 1970."""
    store_u8(at, uint8(34))
    at = put_date(at + 1, days, tables)
    store_u8(at, uint8(34))
    return at + 1


@inner
def put_datetime(at: intp, micros: int64, fsp: int64, zone: int64, tables: intp) -> intp:
    """A JSON string of microseconds since 1970, with a `Z` if `zone` is 1."""
    shifted = uint64(micros) + uint64(719468) * _DAY
    days = shifted // _DAY
    store_u8(at, uint8(34))
    at = put_date(at + 1, int64(days) - 719468, tables)
    store_u8(at, uint8(84))
    at = put_time(at + 1, shifted - days * _DAY, fsp, tables)
    store_u8(at, uint8(90))
    at += zone
    store_u8(at, uint8(34))
    return at + 1


@inner
def put_duration(at: intp, micros: int64, fsp: int64, tables: intp) -> intp:
    """A JSON string of microseconds, from -838:59:59 to 838:59:59."""
    store_u8(at, uint8(34))
    at += 1
    if micros < 0:
        store_u8(at, uint8(45))
        at += 1
        micros = -micros
    at = put_time(at, uint64(micros), fsp, tables)
    store_u8(at, uint8(34))
    return at + 1


@inner
def put_boolean(at: intp, is_set: boolean) -> intp:
    """true or false."""
    store_u64(at, uint64(0x65757274) if is_set else uint64(0x65736C6166))
    return at + 5 - intp(is_set)


@inner
def put_escaped(at: intp, source: intp, size: intp, tables: intp) -> intp:
    """The bytes with control characters, quotes and backslashes escaped, byte by byte."""
    for k in range(size):
        byte = load_u8(source + k)
        escape = load_u8(tables + ESCAPES + intp(byte))
        if escape == 0:
            store_u8(at, byte)
            at += 1
            continue
        store_u8(at, uint8(92))
        at += 2
        store_u8(at - 1, escape)
        if escape == 1:
            store_u32(at - 1, uint32(0x30303075))  # u00 and a digit
            store_u8(at + 2, uint8(48 + (byte >> 4)))
            store_u8(at + 3, load_u8(tables + HEXADECIMAL + intp(byte & 15)))
            at += 4
    return at


@inner
def _is_plain(word: uint64) -> boolean:
    """True when none of eight bytes is a control character, a quote or a backslash."""
    quotes, backslashes = word ^ _QUOTES, word ^ _BACKSLASHES
    found = ((word - _BLANKS) & ~word) | ((quotes - _LOW) & ~quotes) | ((backslashes - _LOW) & ~backslashes)
    return found & _HIGH == 0


@inner
def put_string(at: intp, source: intp, size: intp, tables: intp) -> intp:
    """UTF-8 as a JSON string."""
    store_u8(at, uint8(34))
    at += 1
    left = size
    while left >= 8:
        word = load_u64(source)
        if _is_plain(word):
            store_u64(at, word)
            at += 8
        else:
            at = put_escaped(at, source, 8, tables)
        source += 8
        left -= 8
    if left > 0:
        # Load the last eight bytes: if they need no escapes, store them all, which repeats those already written.
        word = load_u64(source + left - 8) if size >= 8 else uint64(0)
        if _is_plain(word):
            at += left
            store_u64(at - 8, word)
        else:
            at = put_escaped(at, source, left, tables)
    store_u8(at, uint8(34))
    return at + 1


@inner
def put_base64(at: intp, source: intp, size: intp, tables: intp) -> intp:
    """Bytes as a JSON string of base64 (RFC 4648, padded)."""
    store_u8(at, uint8(34))
    at += 1
    for k in range(0, size, 3):
        left = size - k
        bits = intp(load_u8(source + k)) << 16
        if left > 1:
            bits |= intp(load_u8(source + k + 1)) << 8
        if left > 2:
            bits |= intp(load_u8(source + k + 2))
        store_u16(at, load_u16(tables + BASE64 + 2 * (bits >> 12)))
        store_u16(at + 2, load_u16(tables + BASE64 + 2 * (bits & 0xFFF)))
        if left < 3:
            store_u8(at + 3, uint8(61))
            if left == 1:
                store_u8(at + 2, uint8(61))
        at += 4
    store_u8(at, uint8(34))
    return at + 1


@inner
def put_line(at: intp, source: intp, size: intp) -> intp:
    """Text that is already JSON. Line breaks between its tokens become blanks, because an envelope is one line."""
    for k in range(size):
        byte = load_u8(source + k)
        store_u8(at + k, uint8(32) if byte == 10 or byte == 13 else byte)
    return at + size
