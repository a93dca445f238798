"""The schema of a table, from the TABLE_MAP event before the change, and its Arrow types.

`Column` describes a column in MySQL's terms; `arrow_type` maps each MySQL type to its Arrow type (the type table of the
docs/types.md is tested against it). A schema has a fingerprint: equal schemas, equal fingerprints, in every process and
release. Arrow is imported with the first type, because definitions of Dagster use schemas without it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import msgspec

from binlogsync.errors import DecodeError, WireError, excerpt

if TYPE_CHECKING:
    import pyarrow as pa

DATE_TYPES = frozenset({"date", "datetime", "timestamp"})
INTEGER_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 32, "int": 32, "bigint": 64}
TEXT_TYPES = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
BINARY_TYPES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
GEOMETRY_TYPES = (
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
)
"""By the number that a TABLE_MAP has for each. All have the same Arrow type, a struct of SRID and WKB, because the SRID
may differ between values."""
ADDRESS_TYPES = frozenset({"uuid", "inet4", "inet6"})
"""MariaDB's types that are bytes in it and text for everyone else."""
MANY_LABELS = 32767
"""What a dictionary<int16> can number; an ENUM of more labels is a dictionary<int32>."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: as in MySQL.
        type: MySQL's name of the type, lower case, without length or sign: "int", "varchar", "enum", ...
        nullable, unsigned: as declared.
        length: characters of CHAR/VARCHAR, bytes of BINARY/VARBINARY, bits of BIT, numbers of VECTOR;
            else None.
        precision, scale: of DECIMAL; else None.
        fsp: fractional second digits 0-6 of TIME, DATETIME, TIMESTAMP; else None.
        charset: MySQL's name of the character set of a text, ENUM or SET column; else None.
        labels: of ENUM and SET, in order.
        visible: False for an invisible column.
    """

    name: str
    type: str
    nullable: bool = True
    unsigned: bool = False
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    fsp: int | None = None
    charset: str | None = None
    labels: tuple[str, ...] = ()
    visible: bool = True

    @property
    def declaration(self) -> str:
        """The type as MySQL would print it: "int unsigned", "decimal(10,2)", "datetime(6)", "enum('a','b')"."""
        text = self.type
        if self.precision is not None:
            text += f"({self.precision},{self.scale})"
        elif self.length is not None:
            text += f"({self.length})"
        elif self.fsp:
            text += f"({self.fsp})"
        elif self.labels:
            text += "(" + ",".join("'" + label.replace("'", "''") + "'" for label in self.labels) + ")"
        return text + (" unsigned" if self.unsigned else "")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One shape of one table. `primary_key` holds column names in key order; empty when the table has none."""

    database: str
    table: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()

    def __hash__(self) -> int:
        """Of the name alone: a schema is looked up several times for each small flush."""
        return hash((self.database, self.table))

    @property
    def name(self) -> str:
        """ "database.table"."""
        return f"{self.database}.{self.table}"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when the schema does."""
        return _fingerprint(self)

    def column(self, name: str) -> Column:
        """The column of that name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def image_type(self, names: tuple[str, ...] | None = None) -> pa.StructType:
        """The Arrow struct of a full image, or of a partial one that holds just the columns `names`.

        Every child is nullable in Arrow, also where the column is NOT NULL: the `before` of an insert is all NULL.
        """
        import pyarrow as pa

        return pa.struct([pa.field(c.name, arrow_type(c)) for c in self.columns if names is None or c.name in names])

    def to_json(self) -> str:
        """One line of JSON; from_json reads it back to an equal schema."""
        return _document(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> TableSchema:
        """Read what to_json wrote; raises WireError. The same text gives the same object, most of the time."""
        return _parsed(text)


_COLUMN_KEYS = {field.name for field in fields(Column)}


# Every message of the stream carries the document or its fingerprint, and few tables make nearly all of them.
@lru_cache(maxsize=512)
def _document(schema: TableSchema) -> str:
    return json.dumps(asdict(schema), ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=512)
def _parsed(text: str | bytes) -> TableSchema:
    try:
        record = json.loads(text)
        schema = msgspec.convert(record, TableSchema)
        if unknown := {key for column in record["columns"] for key in column} - _COLUMN_KEYS:
            raise ValueError(f"columns have {sorted(unknown)}, which this version does not know")
        if len({column.name for column in schema.columns if arrow_type(column)}) != len(schema.columns):
            raise ValueError("columns of one name")
    except (msgspec.MsgspecError, DecodeError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"not a table schema: {excerpt(text)} ({excerpt(str(error))})") from error
    return schema


@lru_cache(maxsize=4096)
def _fingerprint(schema: TableSchema) -> str:
    return hashlib.sha256(schema.to_json().encode()).hexdigest()[:16]


def arrow_type(column: Column) -> pa.DataType:
    """The Arrow type of a column's values; raises DecodeError for a type that has none.

    TIMESTAMP is timestamp[us, UTC], DATETIME timestamp[us], TIME duration[us], YEAR uint16, ENUM dictionary<int16,
    string> (int32 above 32,767 labels), SET list<string>, BIT(1) bool, other BIT uint64, JSON string (of JSON text),
    DECIMAL decimal128 up to 38 digits, else decimal256, GEOMETRY struct<srid: uint32, wkb: binary>, VECTOR list<float>,
    MariaDB's UUID, INET4 and INET6 string.
    """
    import pyarrow as pa

    kind = column.type
    if kind in INTEGER_BITS:
        return pa.type_for_alias(f"{'u' if column.unsigned else ''}int{INTEGER_BITS[kind]}")
    if kind in TEXT_TYPES or kind in ADDRESS_TYPES or kind == "json":
        return pa.string()
    if kind in BINARY_TYPES:
        return pa.binary()
    if kind == "decimal":
        precision, scale = column.precision or 10, column.scale or 0
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    if kind == "bit":
        return pa.bool_() if column.length == 1 else pa.uint64()
    if kind == "enum" and len(column.labels) > MANY_LABELS:
        return pa.dictionary(pa.int32(), pa.string())
    found = _fixed_types().get("geometry" if kind in GEOMETRY_TYPES else kind)
    if found is None:
        raise DecodeError(f"columns of type {column.declaration} are not supported", column=column.name)
    return found


@cache
def _fixed_types() -> dict[str, pa.DataType]:
    """The Arrow types that do not depend on the declaration, by MySQL type."""
    import pyarrow as pa

    return {
        "float": pa.float32(),
        "double": pa.float64(),
        "date": pa.date32(),
        "datetime": pa.timestamp("us"),
        "timestamp": pa.timestamp("us", "UTC"),
        "time": pa.duration("us"),
        "year": pa.uint16(),
        "enum": pa.dictionary(pa.int16(), pa.string()),
        "set": pa.list_(pa.string()),
        "vector": pa.list_(pa.float32()),
        "geometry": pa.struct([("srid", pa.uint32()), ("wkb", pa.binary())]),
    }


@lru_cache(maxsize=1000)
def remove_columns(schema: TableSchema, names: tuple[str, ...]) -> TableSchema:
    """The schema without these columns; names ignore case."""
    removed = {name.lower() for name in names}
    return replace(schema, columns=tuple(column for column in schema.columns if column.name.lower() not in removed))


def date_keys(schema: TableSchema) -> frozenset[str]:
    """Names of the date columns in the primary key."""
    return frozenset(c.name for c in schema.columns if c.type in DATE_TYPES and c.name in schema.primary_key)


def is_date(column: Column) -> bool:
    """True for a column whose values may be invalid dates."""
    return column.type in DATE_TYPES
