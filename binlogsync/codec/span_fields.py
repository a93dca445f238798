"""Fields: columns of JSON values, given as spans of a text, that one kernel converts to Arrow arrays together.

A field with a value in a format that the tail does not write raises UnusualValueError, or is left to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog.memory import address
from binlogsync.codec.field_layout import (
    ENDS,
    FIELD_BYTES,
    FLAGS,
    KIND,
    OFFSETS,
    PARAMETER,
    SLOT,
    TABLE,
    USED,
    VALID,
    VALUES,
    WIDTH,
    WRONG,
)
from binlogsync.codec.json_scan import ESCAPED, WIDE
from binlogsync.codec.json_texts import Bytes, validity_bitmap
from binlogsync.codec.lookup_tables import BASE64_VALUES, TABLES
from binlogsync.codec.span_kernels import (
    BASE64,
    BOOLEANS,
    DECIMALS,
    INTEGERS,
    LABELS,
    STRINGS,
    TIMES,
    measure_texts,
    read_fields,
)
from binlogsync.codec.time_kernels import DAYS, DURATIONS, INSTANTS, MICROSECONDS
from binlogsync.schema import BINARY_TYPES, INTEGER_BITS, Column, arrow_type

_WIDEST_DECIMAL, _MOST_LABELS = 18, 200
"""Digits of a decimal that fit into 64 bits; labels are searched in order, so not if there are many."""
_TIME_KINDS = {"date": DAYS, "datetime": MICROSECONDS, "timestamp": INSTANTS, "time": DURATIONS}
TEMPORAL_TYPES = frozenset(_TIME_KINDS)
_ALIGNED = 64
Spans = npt.NDArray[np.int32]


class UnusualValueError(ValueError):
    """A value that the tail does not write in this form."""


@dataclass(frozen=True, slots=True)
class JsonField:
    """What the values of a column become.

    Attributes:
        kind: the kernel that reads them (span_kernels.py).
        type: their Arrow type.
        width: bytes of a value, 0 for texts.
        parameter, limit: for the kernel; see number_kernels.py and text_kernels.py.
        labels: of a dictionary.
    """

    kind: int
    type: pa.DataType
    width: int = 0
    parameter: int = 0
    limit: int = 0
    labels: tuple[str, ...] = ()


STRING_FIELD = JsonField(STRINGS, pa.string())
BINARY_FIELD = JsonField(BASE64, pa.binary())
BOOLEAN_FIELD = JsonField(BOOLEANS, pa.bool_(), 1)


def integer_field(kind: pa.DataType) -> JsonField:
    """Any Arrow integer type, or a timestamp as a number."""
    return JsonField(INTEGERS, kind, kind.bit_width // 8, int(not pa.types.is_unsigned_integer(kind)))


def number_field(kind: pa.DataType) -> JsonField:
    """A floating-point type."""
    return JsonField(STRINGS, kind, parameter=1)


def label_field(labels: tuple[str, ...], kind: pa.DictionaryType) -> JsonField:
    """A dictionary of the labels, each of which is at most once among them."""
    return JsonField(LABELS, kind, kind.index_type.bit_width // 8, len(labels), labels=labels)


@lru_cache(maxsize=4096)
def column_field(column: Column) -> JsonField | None:
    """The field of a column; None if its values need more than one field, or another reader."""
    kind = arrow_type(column)
    if column.type in INTEGER_BITS or column.type == "year":
        return integer_field(kind)
    if column.type == "bit":
        return BOOLEAN_FIELD if column.length == 1 else integer_field(kind)
    if column.type in _TIME_KINDS:
        return JsonField(TIMES, kind, kind.bit_width // 8, _TIME_KINDS[column.type])
    if column.type in ("float", "double"):
        return number_field(kind)
    if column.type == "decimal":
        is_narrow = kind.precision <= _WIDEST_DECIMAL
        return JsonField(DECIMALS, kind, 16, kind.scale, 10**kind.precision) if is_narrow else JsonField(STRINGS, kind)
    if column.type == "enum":
        return label_field(column.labels, kind) if len(column.labels) <= _MOST_LABELS else None
    if column.type in BINARY_TYPES:
        return BINARY_FIELD
    return STRING_FIELD if kind == pa.string() and column.type != "json" else None


@lru_cache(maxsize=1024)
def _label_texts(labels: tuple[str, ...]) -> tuple[pa.Array, Bytes, npt.NDArray[np.int64]]:
    """The labels as an array; in JSON without quotes, joined; and the offset after each of these."""
    texts = [msgspec.json.encode(label)[1:-1] for label in labels]
    ends = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=ends[1:])
    return pa.array(labels, pa.string()), np.frombuffer(b"".join(texts) + b"\0", np.uint8), ends


@dataclass(frozen=True, slots=True)
class _Results:
    """Results of a field: NULLs as a bitmap or None, the numbers of field_layout.py, and the memory of its buffers."""

    rows: int
    bitmap: pa.Buffer | None
    numbers: list[int]
    memory: pa.Buffer

    def array(self, own: JsonField) -> pa.Array:
        """The Arrow array."""
        if own.kind in (STRINGS, BASE64):
            return self._texts(own)
        values = self._part(VALUES, own.width * self.rows)
        if own.kind == LABELS:
            indices = pa.Array.from_buffers(own.type.index_type, self.rows, [self.bitmap, values])
            return pa.DictionaryArray.from_arrays(indices, _label_texts(own.labels)[0])
        if own.kind == BOOLEANS:
            values = pa.py_buffer(np.packbits(np.frombuffer(values, np.uint8), bitorder="little"))
        return pa.Array.from_buffers(own.type, self.rows, [self.bitmap, values])

    def _texts(self, own: JsonField) -> pa.Array:
        kind = own.type if own.kind == BASE64 else pa.string()
        buffers = [self.bitmap, self._part(OFFSETS, 4 * (self.rows + 1)), self._part(VALUES, self.numbers[USED // 8])]
        texts = pa.Array.from_buffers(kind, self.rows, buffers)
        if self.numbers[FLAGS // 8] & (WIDE | ESCAPED):
            try:
                texts.validate(full=True)
            except pa.ArrowInvalid:
                raise UnusualValueError from None
        return texts if own.type == kind else texts.cast(own.type)

    def _part(self, what: int, size: int) -> pa.Buffer:
        """The buffer at an address of the field."""
        return self.memory.slice(self.numbers[what // 8] - self.memory.address, size)


class FieldPlan:
    """Fields that are read together, each from the spans of its slot."""

    def __init__(self, fields: Sequence[tuple[int, JsonField]]) -> None:
        self._fields = [own for _, own in fields]
        self._numbers = np.zeros((len(fields), FIELD_BYTES // 8), np.int64)
        self._tables: list[object] = []  # what the numbers have addresses of
        for row, (slot, own) in zip(self._numbers, fields, strict=True):
            row[[KIND // 8, SLOT // 8, WIDTH // 8, PARAMETER // 8]] = own.kind, slot, own.width, own.parameter
            if own.kind == LABELS:
                _, joined, ends = _label_texts(own.labels)
                row[[TABLE // 8, ENDS // 8]] = address(joined), address(ends)
                self._tables += joined, ends
            elif own.kind == BASE64:
                row[TABLE // 8] = address(TABLES) + BASE64_VALUES
            elif own.kind == DECIMALS:
                row[TABLE // 8] = own.limit
        # Fields whose results are converted again, and not kept.
        passes = [own.kind == BOOLEANS or (own.kind == STRINGS and own != STRING_FIELD) for own in self._fields]
        self._passes = np.array(passes, np.bool_)

    def read(self, data: Bytes, starts: Spans, sizes: Spans) -> list[pa.Array | None]:
        """The arrays; None for labels some of which are not declared. Impossible dates are NULL. The spans are those of
        all slots, by row.

        Raises UnusualValueError, or an exception of pyarrow for a number out of range.
        """
        rows = starts.shape[1]
        if not rows:
            return [pa.array([], own.type) for own in self._fields]
        numbers, stride = self._numbers.copy(), starts.strides[0] // 4
        spans = address(starts[0]), address(sizes[0]), stride, rows
        measure_texts(*spans[1:], address(numbers), len(numbers))
        valid = np.empty((len(numbers), rows), np.uint8)
        numbers[:, VALID // 8] = address(valid) + rows * np.arange(len(numbers))
        memory, passing = _make_room(numbers, rows, self._passes)
        read_fields(address(data), *spans, address(numbers), len(numbers))
        found: list[pa.Array | None] = []
        for number, (own, row) in enumerate(zip(self._fields, numbers.tolist(), strict=True)):
            wrong, flags = row[WRONG // 8], row[FLAGS // 8] & (WIDE | ESCAPED)
            if flags if own.kind == TIMES else wrong and own.kind != LABELS:
                raise UnusualValueError
            if wrong and own.kind == LABELS:
                found.append(None)
                continue
            own_memory = passing if self._passes[number] else memory
            found.append(_Results(rows, validity_bitmap(valid[number]), row, own_memory).array(own))
        return found


def read_field(own: JsonField, data: Bytes, starts: Spans, sizes: Spans) -> pa.Array:
    """The array of one field, whose spans are given; raises UnusualValueError for an undeclared label too."""
    [found] = _single_plan(own).read(data, starts[None, :], sizes[None, :])
    if found is None:
        raise UnusualValueError
    return found


@lru_cache(maxsize=4096)
def _single_plan(own: JsonField) -> FieldPlan:
    return FieldPlan([(0, own)])


def _make_room(numbers: npt.NDArray[np.int64], rows: int, passes: npt.NDArray[np.bool_]) -> tuple[pa.Buffer, pa.Buffer]:
    """Memory for the values and offsets of fields, and for those of fields where `passes` is True, which are not kept;
    stores the addresses in their `numbers`.
    """
    is_text = numbers[:, KIND // 8] >= STRINGS
    room = np.empty((len(numbers), 2), np.int64)
    room[:, 0] = np.where(is_text, _padded(numbers[:, USED // 8]), numbers[:, WIDTH // 8] * _padded(rows))
    room[:, 1] = np.where(is_text, _padded(4 * (rows + 1)), 0)
    memories = []
    for mask in (~passes, passes):
        own = room[mask]
        ends = np.cumsum(own)
        memory = pa.py_buffer(np.empty(int(ends[-1]) if len(own) else 0, np.uint8))
        begins = memory.address + (ends - own.ravel()).reshape(-1, 2)
        numbers[mask, VALUES // 8], numbers[mask, OFFSETS // 8] = begins.T
        memories.append(memory)
    return memories[0], memories[1]


def _padded(size: Any) -> Any:
    """A number of bytes, or several, rounded up."""
    return (size + _ALIGNED - 1) // _ALIGNED * _ALIGNED
