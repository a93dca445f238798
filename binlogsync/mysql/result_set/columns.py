"""The columns of a table in a result set: how each is selected, how the server sends it, and its Arrow array.

`WIRE_TYPES` maps MySQL's types to the protocol's; a new type is a row here, and a kernel in values.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from pymysql.constants import FIELD_TYPE

from binlogsync.binlog.arena import Arena, aligned_size
from binlogsync.binlog.charsets import BINARY
from binlogsync.binlog.columns import ColumnBuffers, build_array
from binlogsync.binlog.rows import OFFSETS, USED, VALID, VALUES
from binlogsync.binlog.types.label_text import has_doubtful_labels, label_text, members
from binlogsync.binlog.types.labels import INVALID
from binlogsync.binlog.types.text import OVERRUN
from binlogsync.errors import SourceError
from binlogsync.mysql.result_set import decoding
from binlogsync.mysql.result_set.statement import ResultColumn
from binlogsync.schema import (
    ADDRESS_TYPES,
    BINARY_TYPES,
    GEOMETRY_TYPES,
    INTEGER_BITS,
    TEXT_TYPES,
    Column,
    TableSchema,
    arrow_type,
)
from binlogsync.sql_identifiers import quote_mysql

_VECTOR = 242  # MYSQL_TYPE_VECTOR
_BINARY_CHARSET = 63
_STRINGS = frozenset(
    {
        FIELD_TYPE.VARCHAR,
        FIELD_TYPE.VAR_STRING,
        FIELD_TYPE.STRING,
        FIELD_TYPE.TINY_BLOB,
        FIELD_TYPE.MEDIUM_BLOB,
        FIELD_TYPE.LONG_BLOB,
        FIELD_TYPE.BLOB,
        FIELD_TYPE.JSON,
        FIELD_TYPE.GEOMETRY,
        _VECTOR,
    }
)
Method = tuple[int, int, int, int]


def _copy(size: int) -> Callable[[Column], Method]:
    return lambda _: (decoding.COPY, 0, 0, size)


WIRE_TYPES: dict[str, tuple[frozenset[int], Callable[[Column], Method]]] = {
    "tinyint": (frozenset({FIELD_TYPE.TINY}), _copy(1)),
    "smallint": (frozenset({FIELD_TYPE.SHORT}), _copy(2)),
    "mediumint": (frozenset({FIELD_TYPE.INT24}), _copy(4)),
    "int": (frozenset({FIELD_TYPE.LONG}), _copy(4)),
    "bigint": (frozenset({FIELD_TYPE.LONGLONG}), _copy(8)),
    "year": (frozenset({FIELD_TYPE.YEAR}), _copy(2)),
    "float": (frozenset({FIELD_TYPE.FLOAT}), _copy(4)),
    "double": (frozenset({FIELD_TYPE.DOUBLE}), _copy(8)),
    "decimal": (frozenset({FIELD_TYPE.NEWDECIMAL}), lambda c: (decoding.DECIMAL, c.precision or 10, c.scale or 0, 0)),
    "date": (frozenset({FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE}), lambda _: (decoding.DATE, 0, 0, 0)),
    "datetime": (frozenset({FIELD_TYPE.DATETIME}), lambda _: (decoding.DATETIME, 0, 0, 0)),
    "timestamp": (frozenset({FIELD_TYPE.TIMESTAMP}), lambda _: (decoding.DATETIME, 0, 0, 0)),
    "time": (frozenset({FIELD_TYPE.TIME}), lambda _: (decoding.TIME, 0, 0, 0)),
    "bit": (frozenset({FIELD_TYPE.BIT}), lambda _: (decoding.BIT, 0, 0, 0)),
    "enum": (frozenset({FIELD_TYPE.LONGLONG}), lambda _: (decoding.ENUM, 0, 0, 8)),
    "set": (frozenset({FIELD_TYPE.LONGLONG}), _copy(8)),
}
_BYTES: Method = (decoding.BYTES, 0, 0, 0)
_TEXT: Method = (decoding.TEXT, 0, 0, 0)
_WIDTHS = {decoding.ENUM: 2, decoding.BIT: 8, decoding.TIME: 8, decoding.DATE: 4, decoding.DATETIME: 8}
_DATES = (decoding.DATE, decoding.DATETIME)


@dataclass(frozen=True, slots=True)
class WireColumn:
    """One column, as it is selected and sent.

    Attributes:
        column: of the table.
        mariadb: True for the rules of MariaDB for labels of invalid text.
        is_by_bytes: True for an ENUM or SET that is read as the bytes of its labels, because the declared labels may
            differ from the stored ones; others are read by number.
    """

    column: Column
    mariadb: bool
    is_by_bytes: bool = field(init=False)
    method: Method = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_by_bytes", has_doubtful_labels(self.column.labels))
        object.__setattr__(self, "method", self._method())

    def _method(self) -> Method:
        kind = self.column.type
        if len(self.column.labels) >= INVALID:
            raise SourceError(
                f"column {self.column.name}: an ENUM of {len(self.column.labels)} labels is not supported"
            )
        if self.is_by_bytes or kind in BINARY_TYPES or kind in GEOMETRY_TYPES or kind == "vector":
            return _BYTES
        if kind in TEXT_TYPES or kind in ADDRESS_TYPES or kind == "json":
            return _TEXT
        arrow_type(self.column)  # raises DecodeError for an unknown type
        return WIRE_TYPES[kind][1](self.column)

    @property
    def expression(self) -> str:
        """SQL that gives the exact value.

        It has no alias: ORDER BY would use it in place of the column, and then no index.
        """
        name = quote_mysql(self.column.name)
        if self.is_by_bytes:
            return f"UNHEX(HEX({name}))"
        # MariaDB's CAST gives an INT where that is wide enough, and its | always a BIGINT.
        return f"CAST({name} AS UNSIGNED) | 0" if self.column.type in ("enum", "set") else name

    @property
    def width(self) -> int:
        """Bytes of a value in memory; 0 for strings."""
        code, precision, _, size = self.method
        if code == decoding.DECIMAL:
            return 16 if precision <= 38 else 32
        return size if code == decoding.COPY else _WIDTHS.get(code, 0)

    def check(self, sent: ResultColumn) -> str:
        """How the column that the server sends differs from the schema; "" when it does not."""
        kind = self.column.type
        is_string = self.method[decoding.CODE] >= decoding.BYTES
        if sent.type not in (_STRINGS if is_string else WIRE_TYPES[kind][0]):
            return f"the server sends type {sent.type}"
        if kind in INTEGER_BITS and sent.unsigned != self.column.unsigned:
            return "the server sends it " + ("unsigned" if sent.unsigned else "signed")
        is_binary = sent.charset == _BINARY_CHARSET
        if (kind in TEXT_TYPES and is_binary) or (kind in BINARY_TYPES and not is_binary):
            return f"the server sends {'bytes' if is_binary else 'text'}"
        return ""

    def build_array(self, written: ColumnBuffers) -> pa.Array:
        """The array of type schema.arrow_type(column); raises ValueError, pa.ArrowInvalid for invalid values."""
        column = self.column
        if self.is_by_bytes:
            return self._from_labels(written.binary().to_pylist())
        if self.method[decoding.CODE] == decoding.TEXT:  # the server has converted it
            column = replace(column, type="longtext", charset="utf8mb4")
        return build_array(column, written)

    def _from_labels(self, values: list[bytes | None]) -> pa.Array:
        """The array of an ENUM or SET, from the stored bytes of its labels."""
        column, charset = self.column, self.column.charset or BINARY
        if column.type == "set":
            lists = {data: members(data, charset, mariadb=self.mariadb) for data in set(values) if data is not None}
            return pa.array([None if data is None else lists[data] for data in values], arrow_type(column))
        texts = {data: label_text(data, charset, mariadb=self.mariadb) for data in set(values) if data is not None}
        numbers = {label: i for i, label in enumerate(column.labels)}
        for text in texts.values():
            numbers.setdefault(text, len(numbers))
        codes = [None if data is None else numbers[texts[data]] for data in values]
        indices = pa.array(codes, arrow_type(column).index_type)
        return pa.DictionaryArray.from_arrays(indices, pa.array(list(numbers), pa.string()))


@dataclass(frozen=True, slots=True, eq=False)
class RowLayout:
    """The columns of a table, and the memory of a batch of its rows."""

    schema: TableSchema
    columns: tuple[WireColumn, ...]
    methods: decoding.Table
    dates: int

    @classmethod
    def of(cls, schema: TableSchema, *, mariadb: bool) -> RowLayout:
        """Raises SourceError, DecodeError for a type that is not supported."""
        columns = tuple(WireColumn(column, mariadb) for column in schema.columns)
        methods = np.array([column.method for column in columns], np.int64).reshape(-1, 4)
        return cls(schema, columns, methods, int(np.isin(methods[:, decoding.CODE], _DATES).sum()))

    @property
    def strings(self) -> int:
        """Number of columns of strings."""
        return int((self.methods[:, decoding.CODE] >= decoding.BYTES).sum())

    def reserve(self, most: int, room: int) -> tuple[Arena, decoding.Table, int]:
        """(memory for `most` rows with `room` bytes, the targets in it, address of the list of impossible dates)."""
        sizes = [column.width * most if column.width else room + OVERRUN for column in self.columns]
        extra = aligned_size(4 * (most + 1)) + aligned_size((most + 7) // 8)
        list_bytes = 8 + 24 * most * self.dates
        total = sum(aligned_size(size) + extra for size in sizes) + aligned_size(list_bytes)
        arena = Arena(total, ("rows", tuple(sizes)))
        targets = np.zeros((len(self.columns), 6), np.int64)
        for column, size, target in zip(self.columns, sizes, targets, strict=True):
            target[VALUES] = arena.take(size)
            target[VALID] = arena.take((most + 7) // 8)
            if not column.width:
                target[OFFSETS] = arena.take(4 * (most + 1))
                arena.view(int(target[OFFSETS]), 1, np.int32)[0] = 0
        date_list = arena.take(list_bytes)
        arena.view(date_list, 1, np.int64)[0] = 0
        return arena, targets, date_list

    def written_bytes(self, targets: decoding.Table, count: int) -> int:
        """Bytes that were written for `count` rows."""
        return sum(column.width + 5 for column in self.columns) * count + int(targets[:, USED].sum())
