"""Finds the ends of JSON values, in kernels: nothing is copied or converted.

A text outside the grammar below gives -1, also where a lenient parser would accept it; a slower decoder then decides.
Values are on one line, because a line end separates envelopes.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int64, intp, uint8, uint64
from binlogsync.binlog.memory import load_u8, load_u32, load_u64, lowest_bit

ESCAPED, WIDE = 1 << 30, 1 << 29
"""Flags in the size of a string: it contains escapes, or bytes above 0x7f."""
LENGTH = WIDE - 1
_DEEPEST = 60  # nested arrays and objects, one bit each
_LOW = uint64(0x0101010101010101)
_HIGH = uint64(0x8080808080808080)
_BLANKS, _QUOTES, _BACKSLASHES = _LOW * uint64(32), _LOW * uint64(34), _LOW * uint64(92)
_NULL, _TRUE, _ALSE = (int.from_bytes(text, "little") for text in (b"null", b"true", b"alse"))


@inner
def is_null_text(at: intp) -> boolean:
    """True when the four bytes are `null`."""
    return load_u32(at) == _NULL


@inner
def _is_hexadecimal(byte: uint8) -> boolean:
    return 48 <= byte <= 57 or 65 <= byte <= 70 or 97 <= byte <= 102


@inner
def _escape_end(at: intp, stop: intp) -> intp:
    """The address after the escape that begins at `at`, or -1."""
    if at + 2 > stop:
        return -1
    letter = load_u8(at + 1)
    if letter == 117:
        if at + 6 > stop:
            return -1
        for k in range(2, 6):
            if not _is_hexadecimal(load_u8(at + k)):
                return -1
        return at + 6
    for known in (34, 92, 47, 98, 102, 110, 114, 116):
        if letter == known:
            return at + 2
    return -1


@inner(apart=True)
def string_end(begin: intp, stop: intp) -> tuple[intp, int64]:
    """(address of the closing quote, flags) of the string whose first character is at `begin`; -1 if it has none, or
    contains a control character or an unknown escape.
    """
    at, flags = begin, int64(0)
    while at < stop:
        if at + 8 <= stop:
            word = load_u64(at)
            quotes, backslashes = word ^ _QUOTES, word ^ _BACKSLASHES
            # The lowest bit is right: what is subtracted borrows only from the bytes above a byte that was found.
            found = ((word - _BLANKS) & ~word) | ((quotes - _LOW) & ~quotes) | ((backslashes - _LOW) & ~backslashes)
            found &= _HIGH
            if found == 0:
                if word & _HIGH != 0:
                    flags |= WIDE
                at += 8
                continue
            place = lowest_bit(found)
            if word & _HIGH & ((uint64(1) << place) - uint64(1)) != 0:
                flags |= WIDE
            at += intp(place >> uint64(3))
        byte = load_u8(at)
        if byte == 34:
            return at, flags
        if byte == 92:
            flags |= ESCAPED
            at = _escape_end(at, stop)
            if at < 0:
                return -1, flags
        elif byte < 32:
            return -1, flags
        else:
            if byte > 127:
                flags |= WIDE
            at += 1
    return -1, flags


@inner
def _digits_end(at: intp, stop: intp) -> intp:
    """The address after the digits at `at`; -1 if there is none."""
    begin = at
    while at < stop and 48 <= load_u8(at) <= 57:
        at += 1
    return at if at > begin else -1


@inner(apart=True)
def number_end(at: intp, stop: intp) -> intp:
    """The address after the number at `at`, or -1."""
    if at < stop and load_u8(at) == 45:
        at += 1
    if at < stop and load_u8(at) == 48:
        at += 1
    else:
        at = _digits_end(at, stop)
    if at >= 0 and at < stop and load_u8(at) == 46:
        at = _digits_end(at + 1, stop)
    if at >= 0 and at < stop and load_u8(at) | 32 == 101:
        at += 1
        if at < stop and (load_u8(at) == 43 or load_u8(at) == 45):
            at += 1
        at = _digits_end(at, stop)
    return at


@inner(apart=True)
def scalar_end(at: intp, stop: intp) -> intp:
    """The address after the number, true, false or null at `at`, or -1."""
    byte = load_u8(at)
    if byte == 45 or 48 <= byte <= 57:
        return number_end(at, stop)
    if at + 4 > stop:
        return -1
    word = load_u32(at)
    if word in (_NULL, _TRUE):
        return at + 4
    if byte == 102 and at + 5 <= stop and load_u32(at + 1) == _ALSE:
        return at + 5
    return -1


@inner
def _skip_blanks(at: intp, stop: intp) -> intp:
    while at < stop and (load_u8(at) == 32 or load_u8(at) == 9):
        at += 1
    return at


@inner
def _key_end(at: intp, stop: intp) -> intp:
    """The address of the value after the key at `at`, or -1."""
    at = _skip_blanks(at, stop)
    if at >= stop or load_u8(at) != 34:
        return -1
    at, _ = string_end(at + 1, stop)
    if at < 0:
        return -1
    at = _skip_blanks(at + 1, stop)
    return at + 1 if at < stop and load_u8(at) == 58 else -1


@inner(apart=True)
def value_end(at: intp, stop: intp) -> tuple[intp, int64]:
    """(address after the JSON value that begins at `at`, WIDE or 0); -1 if it is none."""
    depth, objects, flags = int64(0), uint64(0), int64(0)
    while True:
        at = _skip_blanks(at, stop) if depth > 0 else at
        if at >= stop:
            return -1, flags
        byte = load_u8(at)
        is_open = byte == 123 or byte == 91
        if is_open:
            if depth >= _DEEPEST:
                return -1, flags
            objects = (objects << uint64(1)) | uint64(byte == 123)
            depth += 1
            at = _skip_blanks(at + 1, stop)
            is_empty = at < stop and (load_u8(at) == 125 or load_u8(at) == 93)
            if not is_empty:
                if objects & uint64(1) != 0:
                    at = _key_end(at, stop)
                    if at < 0:
                        return -1, flags
                continue
        elif byte == 34:
            at, own = string_end(at + 1, stop)
            flags |= own & WIDE
            if at < 0:
                return -1, flags
            at += 1
        else:
            at = scalar_end(at, stop)
            if at < 0:
                return -1, flags
        while True:
            if depth == 0:
                return at, flags
            at = _skip_blanks(at, stop)
            if at >= stop:
                return -1, flags
            byte = load_u8(at)
            is_object = objects & uint64(1) != 0
            at += 1
            if byte == 44:
                if is_object:
                    at = _key_end(at, stop)
                    if at < 0:
                        return -1, flags
                break
            if byte != (125 if is_object else 93):
                return -1, flags
            objects >>= uint64(1)
            depth -= 1
