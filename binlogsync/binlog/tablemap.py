"""Parses a TABLE_MAP event: the `TableSchema`, and the type codes and metadata that determine the format of a row.

With binlog_row_metadata=FULL the event has the complete schema: names, signs, character sets, labels, primary key,
visibility. Source: Table_map_event in libs/mysql/binlog/event/rows_event.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

from binlogsync.binlog.bytes import ByteReader
from binlogsync.binlog.charsets import BINARY, bytes_per_character, charset_of, collation_of
from binlogsync.binlog.types.label_text import label_text
from binlogsync.binlog.visible_tables import VisibleTable
from binlogsync.schema import GEOMETRY_TYPES, Column, TableSchema

# Type codes of the server, enum_field_types in include/field_types.h.
TINY, SHORT, LONG, FLOAT, DOUBLE, LONGLONG, INT24, DATE_OLD, YEAR = 1, 2, 3, 4, 5, 8, 9, 10, 13
DECIMAL_OLD, NULL, DATE = 0, 6, 14  # MYSQL_TYPE_DECIMAL, NULL, NEWDATE
TIMESTAMP_OLD, TIME_OLD, DATETIME_OLD = 7, 11, 12  # with fractions of a second MariaDB's only
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141  # MariaDB's
VARCHAR, BIT, TIMESTAMP2, DATETIME2, TIME2, VECTOR = 15, 16, 17, 18, 19, 242
JSON, NEWDECIMAL, ENUM, SET, BLOB, VAR_STRING, STRING, GEOMETRY = 245, 246, 247, 248, 252, 253, 254, 255

_SIGNED_OR_NOT = frozenset({DECIMAL_OLD, TINY, SHORT, INT24, LONG, LONGLONG, NEWDECIMAL, FLOAT, DOUBLE, YEAR})
"""Types with a bit in the bitmap of signs; that of a YEAR, which has no sign, is 0 on MySQL and 1 on MariaDB."""
_CHARACTER = frozenset({STRING, VAR_STRING, VARCHAR, BLOB})
_TWO_BYTES_OF_METADATA = frozenset({VARCHAR, BIT, NEWDECIMAL, ENUM, SET, VAR_STRING, STRING, VARCHAR_COMPRESSED})
_ONE_BYTE_OF_METADATA = frozenset(
    {FLOAT, DOUBLE, BLOB, GEOMETRY, JSON, VECTOR, TIMESTAMP2, DATETIME2, TIME2, BLOB_COMPRESSED}
)
_STRINGS = _CHARACTER | {BLOB_COMPRESSED, VARCHAR_COMPRESSED}
_BINARY_COLLATION = 63  # my_charset_bin
_BLOB_SIZES = {1: "tiny", 2: "", 3: "medium", 4: "long"}
_PLAIN = {
    DECIMAL_OLD: "decimal of before MySQL 5.0",
    TINY: "tinyint",
    SHORT: "smallint",
    INT24: "mediumint",
    LONG: "int",
    LONGLONG: "bigint",
    FLOAT: "float",
    DOUBLE: "double",
    DATE_OLD: "date",
    DATE: "date",
    YEAR: "year",
    JSON: "json",
    TIMESTAMP_OLD: "timestamp",
    DATETIME_OLD: "datetime",
    TIME_OLD: "time",
    TIMESTAMP2: "timestamp",
    DATETIME2: "datetime",
    TIME2: "time",
}


class Field(IntEnum):
    """Optional metadata fields: Optional_metadata_field_type in libs/mysql/binlog/event/rows_event.h."""

    SIGNEDNESS = 1
    DEFAULT_CHARSET = 2
    COLUMN_CHARSET = 3
    COLUMN_NAME = 4
    SET_STR_VALUE = 5
    ENUM_STR_VALUE = 6
    GEOMETRY_TYPE = 7
    SIMPLE_PRIMARY_KEY = 8
    PRIMARY_KEY_WITH_PREFIX = 9
    ENUM_AND_SET_DEFAULT_CHARSET = 10
    ENUM_AND_SET_COLUMN_CHARSET = 11
    COLUMN_VISIBILITY = 12
    VECTOR_DIMENSIONALITY = 13


@dataclass(frozen=True, slots=True)
class RawColumn:
    """The type of a column in the row format.

    Attributes:
        code: type code, the real one for ENUM and SET.
        meta: fsp of a temporal type; precision << 8 | scale of DECIMAL; bytes of BIT, ENUM, SET; bytes of the length
            prefix of a blob-like type; the greatest length in bytes of a string.
        bits: of BIT.
    """

    code: int
    meta: int
    bits: int = 0


@dataclass(frozen=True, slots=True)
class TableMap:
    """The contents of a TABLE_MAP event.

    Attributes:
        table_id, schema, raw: table id, schema, and the type codes and metadata of the columns.
        has_names: False when binlog_row_metadata is not FULL.
        is_declared: True when parts of `schema` are from the server's current declaration of the table, which may not
            fit the next event.
        visible_table: the table as SELECT returns it, if it has fewer columns or rows; else None.
    """

    table_id: int
    schema: TableSchema
    raw: tuple[RawColumn, ...]
    has_names: bool
    is_declared: bool = False
    visible_table: VisibleTable | None = None

    @property
    def visible_schema(self) -> TableSchema:
        """The schema of the table as SELECT returns it."""
        return self.schema if self.visible_table is None else self.visible_table.schema


def parse_name(body: bytes) -> tuple[str, str]:
    """Database and table in the body of a TABLE_MAP. Raises ValueError when they cannot be read."""
    return _read_name(ByteReader(body))


def _read_name(reader: ByteReader) -> tuple[str, str]:
    """Read the table id, flags, database and table."""
    reader.string(8)
    database = reader.string(reader.integer(1)).decode()
    reader.integer(1)
    table = reader.string(reader.integer(1)).decode()
    reader.integer(1)
    return database, table


def parse_table_map(
    body: bytes, *, mariadb: bool, captured: bool = True, declared: TableSchema | None = None
) -> TableMap:
    """Parse the body of a TABLE_MAP (without header and checksum). Raises ValueError when it is malformed.

    For a table that is not captured only the sizes of its columns are parsed, so that no unknown character set or label
    is an error. `declared` completes an event without column names.
    """
    reader = ByteReader(body)
    database, table = _read_name(reader)
    table_id = int.from_bytes(body[:6], "little")
    count = reader.packed()
    codes = reader.string(count)
    meta = ByteReader(reader.string(reader.packed()))
    raw = tuple(_raw_column(code, meta) for code in codes)
    null_bits = reader.string((count + 7) // 8)
    nullable = [bool(null_bits[i // 8] >> i % 8 & 1) for i in range(count)]
    if not captured:
        nothing = _OptionalMetadata((), frozenset(), {}, {}, (), frozenset(), {}, {})
        plain = tuple(nothing.column(i, raw[i], nullable[i]) for i in range(count))
        return TableMap(table_id, TableSchema(database, table, plain), raw, has_names=False)
    optional = _OptionalMetadata.parse(reader, raw, mariadb=mariadb)
    if optional.names and len(optional.names) != count:
        raise ValueError(f"{len(optional.names)} names for {count} columns")
    if len(set(optional.names)) != len(optional.names):
        raise ValueError("two columns have the same name")
    if declared is not None and not optional.names:
        if len(declared.columns) != count:
            raise ValueError(f"{count} columns, and the server declares {len(declared.columns)}")
        optional = optional.completed(declared)
    columns = tuple(optional.column(i, raw[i], nullable[i]) for i in range(count))
    if declared is not None:
        columns = tuple(replace(c, labels=d.labels) for c, d in zip(columns, declared.columns, strict=True))
    key = tuple(columns[i].name for i in optional.primary_key)
    return TableMap(table_id, TableSchema(database, table, columns, key), raw, bool(optional.names))


def _raw_column(code: int, meta: ByteReader) -> RawColumn:
    """The type code and metadata of a column; the metadata of STRING distinguishes ENUM, SET and long CHAR."""
    if code in _ONE_BYTE_OF_METADATA:
        return RawColumn(code, meta.integer(1))
    if code not in _TWO_BYTES_OF_METADATA:
        return RawColumn(code, 0)
    low, high = meta.integer(1), meta.integer(1)
    if code == STRING:
        if low & 0x30 != 0x30:  # a CHAR of more than 255 bytes has two inverted bits of its length in the type
            return RawColumn(STRING, high | ((low & 0x30) ^ 0x30) << 4)
        return RawColumn(low, high) if low in (ENUM, SET) else RawColumn(STRING, high)
    if code == NEWDECIMAL:
        return RawColumn(code, low << 8 | high)
    if code == BIT:
        return RawColumn(code, high + (low > 0), high * 8 + low)
    return RawColumn(code, high << 8 | low)


@dataclass(frozen=True, slots=True)
class _OptionalMetadata:
    """The optional metadata fields, by column number."""

    names: tuple[str, ...]
    unsigned: frozenset[int]
    collations: dict[int, int]
    labels: dict[int, tuple[bytes, ...]]
    primary_key: tuple[int, ...]
    hidden: frozenset[int]
    geometries: dict[int, int]
    dimensions: dict[int, int]
    signed: bool = False  # the event contains the signs of numeric columns
    mariadb: bool = False

    @classmethod
    def parse(cls, reader: ByteReader, raw: tuple[RawColumn, ...], *, mariadb: bool) -> _OptionalMetadata:
        fields: dict[int, bytes] = {}
        while reader.left:
            kind = reader.integer(1)
            fields[kind] = reader.string(reader.packed())
        also = {GEOMETRY, BLOB_COMPRESSED, VARCHAR_COMPRESSED} if mariadb else {VECTOR}
        characters = _numbers(raw, lambda code: code in _CHARACTER or code in also)
        labelled = _numbers(raw, lambda code: code in (ENUM, SET))
        collations = _collations(fields, Field.DEFAULT_CHARSET, Field.COLUMN_CHARSET, characters)
        collations |= _collations(
            fields, Field.ENUM_AND_SET_DEFAULT_CHARSET, Field.ENUM_AND_SET_COLUMN_CHARSET, labelled
        )
        labels = _labels(fields.get(Field.SET_STR_VALUE), _numbers(raw, lambda code: code == SET))
        labels |= _labels(fields.get(Field.ENUM_STR_VALUE), _numbers(raw, lambda code: code == ENUM))
        everything = list(range(len(raw)))
        visible = fields.get(Field.COLUMN_VISIBILITY)
        hidden = set() if visible is None else set(everything) - set(_bits(visible, everything))
        key = _primary_key(fields)
        if any(i >= len(raw) for i in key):
            raise ValueError(f"a primary key of column number {max(key) + 1} in a table of {len(raw)} columns")
        return cls(
            tuple(name.decode() for name in _strings(fields.get(Field.COLUMN_NAME, b""))),
            frozenset(_bits(fields.get(Field.SIGNEDNESS), _numbers(raw, lambda code: code in _SIGNED_OR_NOT))),
            collations,
            labels,
            key,
            frozenset(hidden),
            _by_column(fields.get(Field.GEOMETRY_TYPE), _numbers(raw, lambda code: code == GEOMETRY)),
            _by_column(fields.get(Field.VECTOR_DIMENSIONALITY), _numbers(raw, lambda code: code == VECTOR)),
            signed=Field.SIGNEDNESS in fields,
            mariadb=mariadb,
        )

    def completed(self, declared: TableSchema) -> _OptionalMetadata:
        """Add from the server's declaration what the event does not contain."""
        columns = dict(enumerate(declared.columns))
        names = tuple(column.name for column in declared.columns)
        unsigned = frozenset(i for i, c in columns.items() if c.unsigned)
        collations = {i: collation_of(column.charset) for i, column in columns.items() if column.charset}
        kinds = {i: GEOMETRY_TYPES.index(c.type) for i, c in columns.items() if c.type in GEOMETRY_TYPES}
        return replace(
            self,
            names=names,
            unsigned=self.unsigned if self.signed else unsigned,
            collations=collations | self.collations,
            primary_key=tuple(names.index(name) for name in declared.primary_key),
            hidden=frozenset(i for i, column in columns.items() if not column.visible),
            geometries=kinds | self.geometries,
            dimensions={i: c.length or 0 for i, c in columns.items() if c.type == "vector"} | self.dimensions,
        )

    def column(self, i: int, raw: RawColumn, nullable: bool) -> Column:
        """The i-th column of the schema."""
        name = self.names[i] if self.names else f"@{i + 1}"
        plain = Column(name, "", nullable, i in self.unsigned, visible=i not in self.hidden)
        code = raw.code
        if code in _STRINGS:
            return self._character(plain, raw, charset_of(self.collations.get(i, _BINARY_COLLATION)))
        if code in (ENUM, SET):
            charset = charset_of(self.collations.get(i, _BINARY_COLLATION))
            labels = tuple(label_text(label, charset, mariadb=self.mariadb) for label in self.labels.get(i, ()))
            return replace(plain, type="enum" if code == ENUM else "set", charset=charset, labels=labels)
        if code == NEWDECIMAL:
            return replace(plain, type="decimal", precision=raw.meta >> 8, scale=raw.meta & 0xFF)
        if code == BIT:
            return replace(plain, type="bit", length=raw.bits)
        if code in (TIMESTAMP2, DATETIME2, TIME2):
            return replace(plain, type=_PLAIN[code], fsp=raw.meta)
        if code == YEAR:
            return replace(plain, type="year", unsigned=False)
        if code == GEOMETRY:
            kind = self.geometries.get(i, 0)
            return replace(plain, type=GEOMETRY_TYPES[kind if kind < len(GEOMETRY_TYPES) else 0])
        if code == VECTOR:
            return replace(plain, type="vector", length=self.dimensions.get(i))
        return replace(plain, type=_PLAIN.get(code, f"type {code}"))

    def _character(self, plain: Column, raw: RawColumn, charset: str) -> Column:
        """CHAR, VARCHAR, TEXT, or the binary type that corresponds."""
        binary = charset == BINARY
        if raw.code in (BLOB, BLOB_COMPRESSED):
            if raw.meta not in _BLOB_SIZES:
                raise ValueError(f"a BLOB with a length of {raw.meta} bytes")
            kind = _BLOB_SIZES[raw.meta] + ("blob" if binary else "text")
            return replace(plain, type=kind, charset=None if binary else charset)
        kind = ("binary" if binary else "char") if raw.code == STRING else ("varbinary" if binary else "varchar")
        size = raw.meta - 1 if raw.code == VARCHAR_COMPRESSED else raw.meta  # one byte is the compression header
        length = size // bytes_per_character(charset)
        return replace(plain, type=kind, length=length, charset=None if binary else charset)


def _numbers(raw: tuple[RawColumn, ...], wanted: Callable[[int], bool]) -> list[int]:
    return [i for i, column in enumerate(raw) if wanted(column.code)]


def _bits(field: bytes | None, columns: list[int]) -> list[int]:
    """Those of `columns` whose bit is set, most significant bit first; none without the field."""
    if field is None:
        return []
    if len(field) != (len(columns) + 7) // 8:
        raise ValueError(f"a bitmap of {len(field)} bytes for {len(columns)} columns")
    return [column for k, column in enumerate(columns) if field[k // 8] >> (7 - k % 8) & 1]


def _strings(field: bytes) -> list[bytes]:
    reader = ByteReader(field)
    strings: list[bytes] = []
    while reader.left:
        strings.append(reader.string(reader.packed()))
    return strings


def _packed_numbers(field: bytes) -> list[int]:
    reader = ByteReader(field)
    numbers: list[int] = []
    while reader.left:
        numbers.append(reader.packed())
    return numbers


def _collations(fields: dict[int, bytes], default: int, each: int, columns: list[int]) -> dict[int, int]:
    """Collations by column: the field lists all of them, or a default and the exceptions."""
    if each in fields:
        return dict(zip(columns, _packed_numbers(fields[each]), strict=True))
    if default not in fields:
        return {}
    collation, *pairs = _packed_numbers(fields[default])
    found = dict.fromkeys(columns, collation)
    for k, other in zip(pairs[::2], pairs[1::2], strict=True):
        if k >= len(columns):
            raise ValueError(f"a character set of text column {k + 1} of {len(columns)}")
        found[columns[k]] = other
    return found


def _by_column(field: bytes | None, columns: list[int]) -> dict[int, int]:
    """A number for each of the columns; none without the field."""
    return {} if field is None else dict(zip(columns, _packed_numbers(field), strict=True))


def _labels(field: bytes | None, columns: list[int]) -> dict[int, tuple[bytes, ...]]:
    """The labels of each of the columns; none without the field."""
    if field is None:
        return {}
    reader = ByteReader(field)
    found = {column: tuple(reader.string(reader.packed()) for _ in range(reader.packed())) for column in columns}
    if reader.left:
        raise ValueError(f"labels of more than {len(columns)} columns")
    return found


def _primary_key(fields: dict[int, bytes]) -> tuple[int, ...]:
    """Column numbers of the key; a key over prefixes is still the key of the whole columns."""
    if (prefixed := fields.get(Field.PRIMARY_KEY_WITH_PREFIX)) is not None:
        return tuple(_packed_numbers(prefixed)[::2])
    return tuple(_packed_numbers(fields.get(Field.SIMPLE_PRIMARY_KEY, b"")))
