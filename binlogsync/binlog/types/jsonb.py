"""Converts MySQL's binary JSON to the text that SELECT returns.

Sources: the format comment of sql-common/json_binary.h; the text of Json_wrapper::to_string in sql-common/json_dom.cc.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from decimal import Decimal
from math import isfinite
from struct import error as StructError
from struct import unpack_from

from binlogsync.binlog.types.decimals import decimal_text
from binlogsync.binlog.types.temporal import packed_datetime_text, packed_time_text

_LITERALS = {0: "null", 1: "true", 2: "false"}
# JSONB_TYPE_... in sql-common/json_binary.cc.
_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = 0, 1, 2, 3, 4
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING, _OPAQUE = 5, 6, 7, 8, 9, 10, 11, 12, 15
_NUMBERS = {
    _INT16: ("<h", 2),
    _UINT16: ("<H", 2),
    _INT32: ("<i", 4),
    _UINT32: ("<I", 4),
    _INT64: ("<q", 8),
    _UINT64: ("<Q", 8),
}
# Types whose values are in their entry instead of at an offset, in small and in large containers.
_INLINE_SMALL = frozenset({_LITERAL, _INT16, _UINT16})
_INLINE_LARGE = _INLINE_SMALL | {_INT32, _UINT32}
_DEPTH_LIMIT = 100  # MySQL's own limit for JSON documents


def json_text(data: bytes) -> str:
    """The document as text; raises ValueError for invalid bytes. A value of 0 bytes is the JSON null."""
    if not data:
        return "null"
    try:
        return _value(data[0], data, 1, 0)
    except (IndexError, StructError, UnicodeDecodeError) as error:
        raise ValueError(f"not binary JSON: {error}") from error


def _value(kind: int, data: bytes, at: int, depth: int) -> str:
    """The value of type `kind` whose bytes begin at `at`."""
    if depth > _DEPTH_LIMIT:
        raise ValueError(f"binary JSON is nested deeper than {_DEPTH_LIMIT}")
    if kind <= _LARGE_ARRAY:
        return _container(kind, data, at, depth)
    if kind == _LITERAL:
        return _literal(data[at])
    if kind in _NUMBERS:
        return str(unpack_from(_NUMBERS[kind][0], data, at)[0])
    if kind == _DOUBLE:
        return double_text(unpack_from("<d", data, at)[0])
    if kind == _STRING:
        size, start = _size(data, at)
        return _quoted(_bytes(data, start, size).decode())
    if kind == _OPAQUE:
        size, start = _size(data, at + 1)
        return _opaque(data[at], _bytes(data, start, size))
    raise ValueError(f"binary JSON has no type {kind}")


def _container(kind: int, data: bytes, at: int, depth: int) -> str:
    """An object or array: number of members, size in bytes, key entries, value entries, then keys and values.

    Entries refer to keys and values by their offsets from `at`.
    """
    large = kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    number, width = ("<I", 4) if large else ("<H", 2)
    count: int = unpack_from(number, data, at)[0]
    entry = at + 2 * width
    if count > len(data):
        raise ValueError(f"binary JSON declares {count} members in {len(data)} bytes")
    keys: list[str] = []
    if kind <= _LARGE_OBJECT:
        for i in range(count):
            place = entry + i * (width + 2)
            start = at + unpack_from(number, data, place)[0]
            keys.append(_quoted(_bytes(data, start, unpack_from("<H", data, place + width)[0]).decode()))
        entry += count * (width + 2)
    values = [_entry(data, at, entry + i * (width + 1), large, depth) for i in range(count)]
    if kind <= _LARGE_OBJECT:
        return "{" + ", ".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True)) + "}"
    return "[" + ", ".join(values) + "]"


def _entry(data: bytes, base: int, at: int, large: bool, depth: int) -> str:
    """The value of the value entry at `at`, which contains a small scalar, or the offset of the value from `base`."""
    kind = data[at]
    if kind in (_INLINE_LARGE if large else _INLINE_SMALL):
        return _value(kind, data, at + 1, depth)
    offset = unpack_from("<I" if large else "<H", data, at + 1)[0]
    return _value(kind, data, base + offset, depth + 1)


def _size(data: bytes, at: int) -> tuple[int, int]:
    """(length, offset after it) of a length stored in groups of seven bits, lowest first."""
    size = 0
    for i in range(5):
        byte = data[at + i]
        size |= (byte & 0x7F) << (7 * i)
        if not byte & 0x80:
            return size, at + i + 1
    raise ValueError("binary JSON has a length of more than five bytes")


def _bytes(data: bytes, start: int, size: int) -> bytes:
    if start + size > len(data):
        raise ValueError("binary JSON ends inside a value")
    return data[start : start + size]


def _literal(code: int) -> str:
    if code not in _LITERALS:
        raise ValueError(f"binary JSON has no literal {code}")
    return _LITERALS[code]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def double_text(value: float) -> str:
    """A double as MySQL prints it in JSON: the shortest digits that read back, and ".0" after an integer.

    As in my_gcvt of strings/dtoa.cc, a number with more than 15 digits before the decimal point, or more than 14 zeros
    after it, is printed with an exponent.
    """
    if value == 0:
        return repr(value)
    if not isfinite(value):
        raise ValueError(f"binary JSON holds the number {value}")
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    point = len(digits) + int(exponent)
    text = "".join(map(str, digits)).rstrip("0")
    minus = "-" if sign else ""
    if point > 15 or point < -14:
        return f"{minus}{text[0]}{'.' + text[1:] if len(text) > 1 else ''}e{point - 1}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    return f"{minus}{text[:point].ljust(point, '0')}.{text[point:] or '0'}"


def _opaque(kind: int, data: bytes) -> str:
    """The text of a value of a MySQL type that JSON does not have; `kind` is a code of enum_field_types."""
    reader = _OPAQUE_READERS.get(kind)
    if reader is not None:
        return reader(data)
    return _quoted(f"base64:type{kind}:{base64.b64encode(data).decode()}")


def _packed(data: bytes) -> int:
    return int(unpack_from("<q", data, 0)[0])


_OPAQUE_READERS: dict[int, Callable[[bytes], str]] = {
    246: lambda data: decimal_text(data[0], data[1], data[2:]),  # NEWDECIMAL: precision, scale, digits
    10: lambda data: _quoted(packed_datetime_text(_packed(data), date_only=True)),  # DATE
    11: lambda data: _quoted(packed_time_text(_packed(data))),  # TIME
    12: lambda data: _quoted(packed_datetime_text(_packed(data), date_only=False)),  # DATETIME
    7: lambda data: _quoted(packed_datetime_text(_packed(data), date_only=False)),  # TIMESTAMP
}
