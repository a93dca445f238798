"""The shape of a mirror: MySQL's columns as DuckDB's, and what happens to rows when the table's schema changes.

DuckDB types: integers keep width and sign (MEDIUMINT as INTEGER); DECIMAL up to 38 digits stays DECIMAL, above it is
VARCHAR of MySQL's text; DATETIME is TIMESTAMP, TIMESTAMP is TIMESTAMP WITH TIME ZONE, TIME is INTERVAL (of microseconds
alone, up to 838 hours and negative); ENUM is VARCHAR, SET is VARCHAR[], JSON is JSON with MySQL's text, BIT(1) BOOLEAN,
BIT(n) UBIGINT, YEAR USMALLINT, BINARY and BLOB are BLOB, GEOMETRY is STRUCT(srid UINTEGER, wkb BLOB), VECTOR is
FLOAT[], MariaDB's UUID, INET4 and INET6 are VARCHAR. No constraint and no index is made: they cost four fifths of
the speed.

A new schema is matched to the old one by column name, then by position where nothing but the name changed (a rename).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import duckdb

from binlogsync.duckfile import META_SCHEMA, first_row, quote
from binlogsync.errors import ConsumeError
from binlogsync.schema import ADDRESS_TYPES, BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column, TableSchema

log = logging.getLogger(__name__)

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
_MIRRORS = f"{META_SCHEMA}.mirrors"


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
    raise ConsumeError(f"column {column.name}: a mirror cannot hold {column.declaration}; use a handler for this table")


def match_columns(old: TableSchema, new: TableSchema) -> list[Column | None]:
    """For each column of `new` the one of `old` that its values come from; None for an added one."""
    by_name = {column.name.lower(): column for column in old.columns}
    taken = {column.name.lower() for column in new.columns} & set(by_name)
    sources: list[Column | None] = []
    for position, column in enumerate(new.columns):
        source = by_name.get(column.name.lower())
        if source is None and len(old.columns) == len(new.columns):
            there = old.columns[position]
            if there.name.lower() not in taken and replace(there, name=column.name) == column:
                source = there
        sources.append(source)
    return sources


def ensure_table(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> None:
    """Make the mirror, or bring it to this schema with its rows kept; nothing when it has it already.

    Raises ConsumeError when a table of that name is there that is no mirror, or that mirrors a table whose name differs
    in case only.
    """
    target = quote(schema.database, schema.table)
    known = first_row(
        connection,
        "SELECT database, table_name, fingerprint, schema_json FROM binlogsync.mirrors "
        "WHERE lower(database) = lower(?) AND lower(table_name) = lower(?)",
        [schema.database, schema.table],
    )
    if known is None:
        _create(connection, schema, target)
    elif (known[0], known[1]) != (schema.database, schema.table):
        raise ConsumeError(
            f"{schema.name}: this file mirrors {known[0]}.{known[1]} already, and DuckDB does not tell their names "
            "apart; mirror one of them into another file"
        )
    elif known[2] != schema.fingerprint:
        _rebuild(connection, TableSchema.from_json(known[3]), schema, target)
    else:
        return
    connection.execute(
        f"INSERT OR REPLACE INTO {_MIRRORS} VALUES (?, ?, ?, ?, now())",
        [schema.database, schema.table, schema.fingerprint, schema.to_json()],
    )


def ensure_meta(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table that remembers which schema each mirror has."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_MIRRORS} (database VARCHAR, table_name VARCHAR, "
        "fingerprint VARCHAR, schema_json VARCHAR, changed_at TIMESTAMPTZ, PRIMARY KEY (database, table_name))"
    )


def _create(connection: duckdb.DuckDBPyConnection, schema: TableSchema, target: str) -> None:
    there = first_row(
        connection,
        "SELECT count(*) FROM information_schema.tables "
        "WHERE lower(table_schema) = lower(?) AND lower(table_name) = lower(?)",
        [schema.database, schema.table],
    )
    if there != (0,):
        raise ConsumeError(
            f"{schema.name}: the file has a table of this name that is not a mirror; rename or drop it, or mirror into "
            "another file"
        )
    columns = ", ".join(f"{quote(column.name)} {duck_type(column)}" for column in schema.columns)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema.database)}")
    connection.execute(f"CREATE TABLE {target} ({columns})")


def _rebuild(connection: duckdb.DuckDBPyConnection, old: TableSchema, new: TableSchema, target: str) -> None:
    """Write the table anew under the new schema: one way for every ALTER, and the order of columns is MySQL's."""
    connection.execute("SET TimeZone = 'UTC'")
    sources = match_columns(old, new)
    picked = []
    for column, source in zip(new.columns, sources, strict=True):
        value = f"CAST(NULL AS {duck_type(column)})" if source is None else _convert(quote(source.name), source, column)
        picked.append(f"{value} AS {quote(column.name)}")
    log.info(
        "%s: schema changed, the mirror is rebuilt: added %s, dropped %s",
        new.name,
        [c.name for c, s in zip(new.columns, sources, strict=True) if s is None],
        [c.name for c in old.columns if c not in sources],
    )
    spare = quote(new.database, new.table + "__rebuilt")
    connection.execute(f"CREATE TABLE {spare} AS SELECT {', '.join(picked)} FROM {target}")
    connection.execute(f"DROP TABLE {target}")
    connection.execute(f"ALTER TABLE {spare} RENAME TO {quote(new.table)}")


def _convert(value: str, old: Column, new: Column) -> str:
    """SQL that turns a value of the old column into what MySQL's ALTER makes of it."""
    wanted, had = duck_type(new), duck_type(old)
    if old.type == new.type and (new.fsp or 0) < (old.fsp or 0):
        return _rounded(value, new)
    if wanted == had:
        return value
    if new.type == "set":
        return f"CASE WHEN {value} = '' THEN [] ELSE string_split({value}::VARCHAR, ',') END"
    if old.type == "set" and wanted == "VARCHAR":
        return f"array_to_string({value}, ',')"
    if new.type == "uuid" and had == "BLOB":
        return f"CAST(CAST(hex({value}) AS UUID) AS VARCHAR)"
    if old.type == "uuid" and wanted == "BLOB":
        return f"unhex(replace({value}, '-', ''))"
    if had == "BLOB" and wanted == "VARCHAR":
        return f"decode({value})"
    if had == "VARCHAR" and wanted == "BLOB":
        return f"encode({value})"
    if had == "BOOLEAN" or wanted == "BOOLEAN":
        return f"CAST(CAST({value} AS UBIGINT) AS {wanted})"
    return f"CAST({value} AS {wanted})"


def _rounded(value: str, column: Column) -> str:
    """Fewer fraction digits: MySQL rounds half away from zero."""
    step = 10 ** (6 - (column.fsp or 0))
    micros = f"epoch_us({value})"
    whole = f"((abs({micros}) + {step // 2}) // {step} * {step} * sign({micros})::BIGINT)"
    if column.type == "time":
        return f"to_microseconds({whole})"
    return f"make_timestamp({whole})" if column.type == "datetime" else f"make_timestamptz({whole})"
