"""Describes Arrow columns as `JsonColumn`, from which the kernel of envelope_writer.py writes each value as JSON.

There is one function per family of types. None has Python code per row, and none copies a column unless its Arrow
format has to be converted first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Codes: first the integers, by width; STRING and TEXT may also be the items of a list.
NOTHING, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64 = range(9)
BOOLEAN, DATE, DATETIME, TIME, DECIMAL, POINTED, STRING, TEXT, LINE, BASE64, GEOMETRY = range(9, 20)

_WIDTHS = {8: 0, 16: 1, 32: 2, 64: 3}
_WIDEST_INT64 = 18  # digits that an int64 always holds


@dataclass(frozen=True, slots=True)
class JsonColumn:
    """How the kernel writes the values of one column as JSON.

    Attributes:
        code: the format of a value.
        data: address of the first value, or of the data of texts.
        offsets: for texts, address of the first int32 offset.
        a, b: parameters of the code: TIME fsp; DATETIME fsp, and 1 for a `Z`; BOOLEAN first bit; DECIMAL bytes per
            value, and scale; POINTED scale; STRING in a dictionary the code of the indices; GEOMETRY address of the
            SRIDs.
        index: for a dictionary, address of the first index.
        lists: for lists, address of the first int32 offset.
        valid, bit: address of the validity bitmap, 0 without NULLs, and number of its first bit.
        room: maximum size of a value, without the text of strings.
        text: approximate size of all texts.
        instead: the column whose values replace NULLs.
        constant: the JSON text of the values, if all are equal.
        owner: the object that owns the memory.
    """

    code: int
    data: int = 0
    offsets: int = 0
    a: int = 0
    b: int = 0
    index: int = 0
    lists: int = 0
    valid: int = 0
    bit: int = 0
    room: int = 4
    text: int = 0
    instead: JsonColumn | None = None
    constant: bytes | None = None
    owner: object = None


def bitmap(array: pa.Array) -> tuple[int, int]:
    """Address of the validity bitmap, or 0 without NULLs, and number of its first bit."""
    return (array.buffers()[0].address, array.offset) if array.null_count else (0, 0)


def _address(array: pa.Array, width: int) -> int:
    """Address of the first value, or offset, of `width` bytes."""
    buffer = array.buffers()[1]
    return int(buffer.address) + array.offset * width if buffer is not None else 0


def _fixed(code: int, array: pa.Array, width: int, room: int, a: int = 0, b: int = 0) -> JsonColumn:
    valid, bit = bitmap(array)
    return JsonColumn(code, _address(array, width), a=a, b=b, valid=valid, bit=bit, room=room, owner=array)


def _texts(code: int, array: pa.Array, a: int = 0, room: int = 16) -> JsonColumn:
    """A string or binary array."""
    valid, bit = bitmap(array)
    data = array.buffers()[2]
    first, last = _bounds(array)
    base = int(data.address) if data is not None else 0
    return JsonColumn(
        code, base, _address(array, 4), a=a, valid=valid, bit=bit, room=room, text=last - first, owner=array
    )  # fmt: skip


def _bounds(array: pa.Array) -> tuple[int, int]:
    """The first and the last offset of strings or lists."""
    if not len(array):
        return 0, 0
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    return int(offsets[0]), int(offsets[-1])


def integers(array: pa.Array) -> JsonColumn:
    """Any Arrow integer type: JSON numbers."""
    first = INT8 if pa.types.is_signed_integer(array.type) else UINT8
    return _fixed(first + _WIDTHS[array.type.bit_width], array, array.type.bit_width // 8, 20)


def booleans(array: pa.BooleanArray) -> JsonColumn:
    """true and false."""
    return _fixed(BOOLEAN, array, 0, 8, a=array.offset)


def floats(array: pa.Array) -> JsonColumn:
    """float32 and float64 in the shortest form that reads back to the same value of the same width."""
    return _texts(TEXT, pc.cast(array, pa.string()))


def decimals(array: pa.Array) -> JsonColumn:
    """decimal128 and decimal256: strings with exactly their scale."""
    width, scale = array.type.byte_width, array.type.scale
    if array.type.precision > _WIDEST_INT64 and len(array):
        words = np.frombuffer(array.buffers()[1], np.int64, len(array) * width // 8, array.offset * width)
        words = words.reshape(len(array), width // 8)
        if (words[:, 1:] != words[:, :1] >> 63).any():
            whole = pa.decimal128(38, 0) if width == 16 else pa.decimal256(76, 0)
            numbers = pa.Array.from_buffers(whole, len(array), array.buffers(), offset=array.offset)
            return _texts(POINTED, numbers.cast(pa.string()), a=scale, room=48)
    return _fixed(DECIMAL, array, width, 48, a=width, b=scale)


def dates(array: pa.Array) -> JsonColumn:
    """date32."""
    return _fixed(DATE, array, 4, 16)


def datetimes(array: pa.Array, fsp: int) -> JsonColumn:
    """timestamp[us], `T` before the time of day; with `Z` when the type has a zone (which is UTC)."""
    return _fixed(DATETIME, array, 8, 40, a=fsp, b=int(array.type.tz is not None))


def durations(array: pa.Array, fsp: int) -> JsonColumn:
    """duration[us] of TIME, from -838:59:59 to 838:59:59."""
    return _fixed(TIME, array, 8, 32, a=fsp)


def strings(array: pa.Array) -> JsonColumn:
    """string."""
    return _texts(STRING, array)


def lines(array: pa.Array) -> JsonColumn:
    """string of JSON text; NULL and the JSON value null are written equally here, the envelope distinguishes them."""
    return _texts(LINE, array)


def raw(array: pa.Array) -> JsonColumn:
    """binary, written without conversion."""
    return _texts(TEXT, array)


def binaries(array: pa.Array) -> JsonColumn:
    """binary as base64 (RFC 4648, padded)."""
    return _texts(BASE64, array)


def labels(array: pa.DictionaryArray) -> JsonColumn:
    """dictionary of strings."""
    names, indices = array.dictionary.cast(pa.string()), array.indices
    if names.null_count:
        return strings(array.cast(pa.string()))
    if len(names) == 1 and not indices.null_count:
        return JsonColumn(NOTHING, constant=msgspec.json.encode(names[0].as_py()))
    own, rows = integers(indices), _texts(STRING, names, a=integers(indices).code)
    average = rows.text * len(array) // max(len(names), 1)
    return JsonColumn(
        STRING, rows.data, rows.offsets, rows.a, index=own.data, valid=own.valid, bit=own.bit, text=average,
        owner=(indices, names),
    )  # fmt: skip


def label_lists(array: pa.ListArray) -> JsonColumn:
    """list of strings."""
    return _lists(array, strings)


def float_lists(array: pa.ListArray) -> JsonColumn:
    """list of float32."""
    return _lists(array, floats)


def _lists(array: pa.ListArray, values_of: Callable[[pa.Array], JsonColumn]) -> JsonColumn:
    first, last = _bounds(array)
    items = values_of(array.values.slice(first, last - first))
    valid, bit = bitmap(array)
    return JsonColumn(
        items.code, items.data, items.offsets - 4 * first, lists=_address(array, 4), valid=valid, bit=bit, room=16,
        text=items.text + 3 * (last - first), owner=(array, items),
    )  # fmt: skip


def geometries(array: pa.StructArray) -> JsonColumn:
    """struct of srid and wkb: an object with the bytes in base64, as in Debezium's io.debezium.data.geometry."""
    srids, wkb = array.field(0), array.field(1)
    valid, bit = bitmap(array)
    values = _texts(GEOMETRY, wkb, a=_address(srids, 4), room=64)
    return replace(values, valid=valid, bit=bit, owner=(array, srids, wkb))
