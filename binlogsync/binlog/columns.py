"""The types of columns: how the kernel decodes the bytes of each, and how its output becomes an Arrow array.

`DECODE_METHODS` maps MySQL's types to the methods; a new type is a row here and a kernel in types/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog import rows
from binlogsync.binlog.arena import Arena
from binlogsync.binlog.tablemap import (
    BLOB,
    BLOB_COMPRESSED,
    DATETIME_OLD,
    GEOMETRY,
    JSON,
    NULL,
    STRING,
    TIME_OLD,
    TIMESTAMP_OLD,
    VAR_STRING,
    VARCHAR,
    VARCHAR_COMPRESSED,
    VECTOR,
    RawColumn,
)
from binlogsync.binlog.types.addresses import ADDRESS_BYTES, ADDRESS_TEXTS
from binlogsync.binlog.types.compressed import inflated
from binlogsync.binlog.types.decimals import decimal_size
from binlogsync.binlog.types.geometry import geometry_array
from binlogsync.binlog.types.jsonb import json_text
from binlogsync.binlog.types.labels import INVALID, enum_array, set_array
from binlogsync.binlog.types.old_temporal import old_size
from binlogsync.binlog.types.recoding import MULTI_BYTE, multi_byte_decoder
from binlogsync.binlog.types.text import RECODED_CHARSETS, UTF8_CHARSETS, decode_text
from binlogsync.binlog.types.vectors import vector_array
from binlogsync.schema import BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column, arrow_type

_PREFIXED = frozenset({BLOB_COMPRESSED, VECTOR, JSON, BLOB, GEOMETRY})  # the metadata is the size of the length
_COMPRESSED = frozenset({BLOB_COMPRESSED, VARCHAR_COMPRESSED})
_OLD_TEMPORAL = {TIME_OLD: rows.OLD_TIME, DATETIME_OLD: rows.OLD_DATETIME, TIMESTAMP_OLD: rows.OLD_TIMESTAMP}
_LABEL_LIMIT = INVALID - 1
_COPIES = {8: rows.COPY1, 16: rows.COPY2, 32: rows.COPY4, 64: rows.COPY8}


@dataclass(frozen=True, slots=True)
class ColumnBuffers:
    """The output of the kernel for one column: `length` rows, in memory of `arena`, at the addresses in `target`.

    `compressed` is True for the values of a MariaDB COMPRESSED column, which are not decompressed yet.
    """

    arena: Arena
    target: Sequence[int]
    length: int
    compressed: bool = False

    @property
    def nulls(self) -> int:
        """Number of NULLs, including impossible dates."""
        return self.target[rows.NULLS]

    def validity(self) -> pa.Buffer | None:
        """Arrow's bitmap; None when nothing is NULL."""
        if not self.nulls:
            return None
        return self.arena.buffer(self.target[rows.VALID], (self.length + 7) // 8)

    def values(self, dtype: type[np.generic]) -> np.ndarray:
        """The fixed-width values."""
        return self.arena.view(self.target[rows.VALUES], self.length, dtype)

    def buffers(self, width: int) -> list[pa.Buffer | None]:
        """Arrow's buffers of a column whose values are `width` bytes each."""
        return [self.validity(), self.arena.buffer(self.target[rows.VALUES], self.length * width)]

    def strings(self) -> list[pa.Buffer | None]:
        """Arrow's buffers of a column of strings or binaries."""
        offsets = self.arena.buffer(self.target[rows.OFFSETS], 4 * (self.length + 1))
        return [self.validity(), offsets, self.arena.buffer(self.target[rows.VALUES], self.target[rows.USED])]

    def bytes(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        """Offsets and data of a column of strings or binaries."""
        data = self.arena.view(self.target[rows.VALUES], self.target[rows.USED], np.uint8)
        return self.arena.view(self.target[rows.OFFSETS], self.length + 1, np.int32), data

    def binary(self) -> pa.BinaryArray:
        """A column of strings or binaries, as a binary array."""
        return pa.Array.from_buffers(pa.binary(), self.length, self.strings(), self.nulls)


def decode_method(column: Column, raw: RawColumn) -> tuple[int, int, int, int]:
    """(code, A, B, size) for the kernel to decode a captured column; raises ValueError when it cannot be decoded."""
    kind = column.type
    _check_metadata(column, raw)
    if kind in INTEGER_BITS:
        if kind == "mediumint":
            return rows.INT24, int(column.unsigned), 0, 3
        return _COPIES[INTEGER_BITS[kind]], 0, 0, INTEGER_BITS[kind] // 8
    if raw.code in _OLD_TEMPORAL:
        fsp = column.fsp or 0
        return _OLD_TEMPORAL[raw.code], fsp, 0, old_size(kind, fsp)
    if kind in ADDRESS_BYTES:
        return rows.PADDED, 0, ADDRESS_BYTES[kind], length_prefix(raw)
    if kind in GEOMETRY_TYPES or kind == "vector":
        return rows.BYTES, 0, 0, length_prefix(raw)
    if kind in TEXT_TYPES or kind in BINARY_TYPES or kind == "json":
        return _string_method(column, raw)
    reader = DECODE_METHODS.get(kind)
    if reader is None:
        raise ValueError(f"columns of type {column.declaration} are not supported; exclude the table with a filter")
    return reader(column, raw)


def _check_metadata(column: Column, raw: RawColumn) -> None:
    """Raises ValueError for sizes that no server logs; the kernel relies on this check."""
    precision, scale = column.precision, column.scale or 0
    wrong = (
        (precision is not None and not (1 <= precision <= 65 and scale <= min(38, precision)))
        or (column.fsp or 0) > 6
        or (column.type == "bit" and not 1 <= raw.bits <= 64)
        or (column.type == "enum" and raw.meta not in (1, 2))
        or (column.type == "set" and not 1 <= raw.meta <= 8)
        or (raw.code in _PREFIXED and not 1 <= raw.meta <= 4)
    )
    if wrong:
        raise ValueError(f"metadata {raw.meta:#x} is wrong for a column of type {column.type}")
    if len(column.labels) > _LABEL_LIMIT:
        raise ValueError(
            f"an ENUM of {len(column.labels)} labels is not supported, only of {_LABEL_LIMIT}; exclude the table "
            "with a filter"
        )


def _string_method(column: Column, raw: RawColumn) -> tuple[int, int, int, int]:
    prefix = length_prefix(raw)
    if raw.code in _COMPRESSED:
        return rows.BYTES, 1, 0, prefix
    if column.type == "binary":
        return rows.PADDED, 0, column.length or 0, prefix
    if column.charset is None:
        return rows.BYTES, 0, 0, prefix
    if column.charset in UTF8_CHARSETS:
        return rows.TEXT, 0, 0, prefix
    if column.charset in RECODED_CHARSETS:
        return rows.RECODED, 0, RECODED_CHARSETS.index(column.charset), prefix
    if column.charset in MULTI_BYTE:
        return rows.BYTES, 0, 0, prefix  # decoded value by value, when the array is built
    raise ValueError(f"character set {column.charset} is not supported yet; exclude the table with a filter")


def length_prefix(raw: RawColumn) -> int:
    """Size in bytes of the length prefix of a string: in the metadata of a BLOB; else 2 for columns over 255 bytes."""
    if raw.code in _PREFIXED:
        return raw.meta
    return 2 if raw.meta > 255 else 1


def _fraction_bytes(column: Column) -> int:
    return ((column.fsp or 0) + 1) // 2


DECODE_METHODS: dict[str, Callable[[Column, RawColumn], tuple[int, int, int, int]]] = {
    "float": lambda c, r: (rows.COPY4, 0, 0, 4),
    "double": lambda c, r: (rows.COPY8, 0, 0, 8),
    "year": lambda c, r: (rows.YEAR, 0, 0, 1),
    "date": lambda c, r: (rows.DATE, 0, 0, 3),
    "time": lambda c, r: (rows.TIME, c.fsp or 0, 0, 3 + _fraction_bytes(c)),
    "datetime": lambda c, r: (rows.DATETIME, c.fsp or 0, 0, 5 + _fraction_bytes(c)),
    "timestamp": lambda c, r: (rows.TIMESTAMP, c.fsp or 0, 0, 4 + _fraction_bytes(c)),
    "bit": lambda c, r: (rows.BIT, 0, 0, r.meta),
    "enum": lambda c, r: (rows.ENUM, 0, 0, r.meta),
    "set": lambda c, r: (rows.SET, 0, 0, r.meta),
    "decimal": lambda c, r: (
        rows.DECIMAL,
        c.precision or 0,
        c.scale or 0,
        decimal_size(c.precision or 0, c.scale or 0),
    ),
}


def skip_method(column: Column, raw: RawColumn) -> tuple[int, int, int, int]:
    """(code, 0, 0, size) for the kernel to skip a column; raises ValueError for a type whose size is unknown."""
    if raw.code in _PREFIXED or raw.code in (VARCHAR, VARCHAR_COMPRESSED, VAR_STRING, STRING):
        _check_metadata(column, raw)
        return rows.SKIP_BYTES, 0, 0, length_prefix(raw)
    if raw.code == NULL:
        return rows.SKIP, 0, 0, 0
    return rows.SKIP, 0, 0, decode_method(column, raw)[rows.SIZE]


def value_width(method: tuple[int, int, int, int]) -> int:
    """Bytes per value of a fixed-width column in memory; 0 for strings and skipped columns."""
    if method[rows.CODE] == rows.DECIMAL:
        return 16 if method[rows.A] <= 38 else 32
    return rows.WIDTHS.get(method[rows.CODE], 0)


def build_array(column: Column, written: ColumnBuffers) -> pa.Array:
    """The Arrow array of a column, of type schema.arrow_type(column). Raises ValueError for invalid values."""
    kind, target = column.type, arrow_type(column)
    if written.compressed:
        return _inflated(column, written.binary())
    if kind == "json" and column.charset is None:
        return _decoded(written, json_text)
    if column.charset in MULTI_BYTE and kind in TEXT_TYPES:
        return _decoded(written, multi_byte_decoder(column.charset))
    if kind in GEOMETRY_TYPES:
        return geometry_array(*written.bytes())
    if kind == "vector":
        return vector_array(*written.bytes(), written.validity(), written.nulls)
    if kind in ADDRESS_TEXTS:
        return _decoded(written, lambda data: ADDRESS_TEXTS[kind](data) if data else "")
    if kind == "enum":
        return enum_array(written.values(np.uint16), column.labels, written.validity(), written.nulls)
    if kind == "set":
        return set_array(written.values(np.uint64), column.labels, written.validity(), written.nulls)
    if kind == "bit" and column.length == 1:
        bits = pa.py_buffer(np.packbits(written.values(np.uint64) != 0, bitorder="little"))
        return pa.Array.from_buffers(target, written.length, [written.validity(), bits], written.nulls)
    if pa.types.is_string(target) or pa.types.is_binary(target):
        array = pa.Array.from_buffers(target, written.length, written.strings(), written.nulls)
        if written.target[rows.DOUBTFUL]:
            array.validate(full=True)
        return array
    buffers = written.buffers(target.bit_width // 8)
    return pa.Array.from_buffers(target, written.length, buffers, written.nulls)


def _decoded(written: ColumnBuffers, decode: Callable[[bytes], str]) -> pa.Array:
    """Decode binary values to text, value by value. Raises ValueError."""
    values = written.binary().to_pylist()
    return pa.array([None if value is None else decode(value) for value in values], pa.string())


def is_compressed(method: Sequence[int]) -> bool:
    """True for the decode method of a MariaDB COMPRESSED column."""
    return bool(method[rows.CODE] == rows.BYTES and method[rows.A])


def _inflated(column: Column, binary: pa.BinaryArray) -> pa.Array:
    """Decompress the values of a COMPRESSED column; raises ValueError."""
    values: list[bytes | str | None] = []
    total = 0
    for data in binary.to_pylist():
        value = None if data is None else inflated(data)
        total += len(value or b"")
        if total > rows.STRING_LIMIT:
            raise ValueError("more than 2 GiB of text in one event are not supported")
        values.append(value if value is None or column.charset is None else decode_text(value, column.charset))
    return pa.array(values, arrow_type(column))
