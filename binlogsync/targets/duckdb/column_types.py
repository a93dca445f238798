"""Maps MySQL's column types to DuckDB's.

DuckDB types: integers keep width and sign (MEDIUMINT as INTEGER); DECIMAL up to 38 digits stays DECIMAL, above it is
VARCHAR of MySQL's text; DATETIME is TIMESTAMP, TIMESTAMP is TIMESTAMP WITH TIME ZONE, TIME is INTERVAL (only
microseconds, up to 838 hours and negative); ENUM is VARCHAR, SET is VARCHAR[], JSON is JSON with MySQL's text, BIT(1)
BOOLEAN, BIT(n) UBIGINT, YEAR USMALLINT, BINARY and BLOB are BLOB, GEOMETRY is STRUCT(srid UINTEGER, wkb BLOB), VECTOR
is FLOAT[], MariaDB's UUID, INET4 and INET6 are VARCHAR. Mirrors have no constraints and no indexes, because these make
applying changes five times slower.
"""

from __future__ import annotations

from binlogsync.errors import ConsumeError
from binlogsync.schema import ADDRESS_TYPES, BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column, TableSchema

_INTEGERS = {8: "TINYINT", 16: "SMALLINT", 32: "INTEGER", 64: "BIGINT"}
_SIMPLE = {
    "float": "FLOAT",
    "double": "DOUBLE",
    "date": "DATE",
    "datetime": "TIMESTAMP",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "time": "INTERVAL",
    "year": "USMALLINT",
    "enum": "VARCHAR",
    "set": "VARCHAR[]",
    "json": "JSON",
    "vector": "FLOAT[]",
}


def duck_type(column: Column) -> str:
    """The DuckDB type of a column; raises ConsumeError for one that has none."""
    kind = column.type
    if kind in INTEGER_BITS:
        return ("U" if column.unsigned else "") + _INTEGERS[INTEGER_BITS[kind]]
    if kind in TEXT_TYPES or kind in ADDRESS_TYPES:
        return "VARCHAR"
    if kind in BINARY_TYPES:
        return "BLOB"
    if kind in GEOMETRY_TYPES:
        return "STRUCT(srid UINTEGER, wkb BLOB)"
    if kind == "decimal":
        precision, scale = column.precision or 10, column.scale or 0
        return f"DECIMAL({precision},{scale})" if precision <= 38 else "VARCHAR"
    if kind == "bit":
        return "BOOLEAN" if column.length == 1 else "UBIGINT"
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    raise ConsumeError(
        f"column {column.name}: a mirror does not support {column.declaration}; use a handler for this table"
    )


def has_same_shape(one: TableSchema, other: TableSchema) -> bool:
    """True when both schemas have the same column names and DuckDB types in the same order."""
    return _shape(one) == _shape(other)


def _shape(schema: TableSchema) -> list[tuple[str, str]]:
    return [(column.name, duck_type(column)) for column in schema.columns]
