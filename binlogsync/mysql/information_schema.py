"""Current table definitions from INFORMATION_SCHEMA, for properties that binlog events do not contain."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from binlogsync.binlog.charsets import BINARY
from binlogsync.binlog.sequences import add_sequence_key, is_like_sequence
from binlogsync.binlog.table_declaration import DeclarationLookup, TableDeclaration
from binlogsync.binlog.visible_tables import HIDDEN_COLUMNS
from binlogsync.mysql.config import MySQLConfig, connect, fetch, translate_errors
from binlogsync.mysql.session import Connection
from binlogsync.schema import TEXT_TYPES, Column, TableSchema

_COLUMNS = (
    "SELECT COLUMN_NAME AS name, DATA_TYPE AS type, COLUMN_TYPE AS declared, IS_NULLABLE AS nullable, EXTRA AS extra, "
    "CHARACTER_MAXIMUM_LENGTH AS length, CHARACTER_SET_NAME AS charset, NUMERIC_PRECISION AS digits, "
    "NUMERIC_SCALE AS scale, DATETIME_PRECISION AS fsp, GENERATION_EXPRESSION AS expression "
    "FROM INFORMATION_SCHEMA.COLUMNS "
    "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
_KEY = (
    "SELECT COLUMN_NAME AS name FROM INFORMATION_SCHEMA.STATISTICS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s "
    "AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX"
)
_GENERATED = (
    "SELECT COLUMN_NAME AS name FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s "
    "AND IS_GENERATED = 'ALWAYS' AND GENERATION_EXPRESSION NOT IN ('ROW START', 'ROW END') ORDER BY ORDINAL_POSITION"
)
_KIND = "SELECT TABLE_TYPE AS kind FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
NOT_OF_SYSTEM = "TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"
"""Condition for tables that are not the server's own."""
_TABLES = (
    "SELECT TABLE_SCHEMA AS in_database, TABLE_NAME AS name FROM INFORMATION_SCHEMA.TABLES "
    f"WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') AND {NOT_OF_SYSTEM}"
)
_LABEL = re.compile(r"(x?)'((?:[^']|'')*)'")  # x'ffff' of MySQL for bytes that are no text
_HIDDEN = Column("", "timestamp", nullable=False, fsp=6, visible=False)
_FIXED = frozenset({"char", "varchar", "binary", "varbinary"})
_TEMPORAL = frozenset({"time", "datetime", "timestamp"})


def declaration_reader(config: MySQLConfig) -> DeclarationLookup:
    """A function that queries the server over a new connection at each call, and raises SourceError."""

    def ask(database: str, table: str) -> TableDeclaration | None:
        connection = connect(config)
        try:
            rows = _fetch_rows(config, connection, database, table)
            key = _fetch_key(config, connection, database, table)
            kind = _fetch_kind(config, connection, database, table)
        finally:
            connection.close()
        if not rows:
            return None
        with translate_errors(config):
            return _declaration(TableSchema(database, table, tuple(map(_column, rows)), key), rows, kind)

    return ask


def describe_table(config: MySQLConfig, connection: Connection, database: str, table: str) -> TableSchema:
    """The schema of changes of the table that are logged now; without columns if the table does not exist.

    Raises SourceError.
    """
    rows = _fetch_rows(config, connection, database, table)
    with translate_errors(config):
        period, key = _period(rows), _fetch_key(config, connection, database, table)
        key = tuple(name for name in key if period is None or name != period[1])
        schema = TableSchema(database, table, tuple(map(_column, rows)), key)
        is_sequence = is_like_sequence(schema) and _fetch_kind(config, connection, database, table) == "SEQUENCE"
        return add_sequence_key(schema) if is_sequence else schema


def generated_columns(config: MySQLConfig, connection: Connection, database: str, table: str) -> tuple[str, ...]:
    """Names of the columns that the server computes; of MariaDB only. Raises SourceError."""
    return tuple(to_text(row["name"]) for row in fetch(config, connection, _GENERATED, (database, table)))


def list_tables(config: MySQLConfig) -> list[tuple[str, str]]:
    """(database, table) of all that the server shows to this account. Raises SourceError."""
    connection = connect(config)
    try:
        return [(to_text(row["in_database"]), to_text(row["name"])) for row in fetch(config, connection, _TABLES)]
    finally:
        connection.close()


def _fetch_rows(config: MySQLConfig, connection: Connection, database: str, table: str) -> list[dict[str, Any]]:
    return fetch(config, connection, _COLUMNS, (database, table))


def _fetch_key(config: MySQLConfig, connection: Connection, database: str, table: str) -> tuple[str, ...]:
    return tuple(str(row["name"]) for row in fetch(config, connection, _KEY, (database, table)))


def _fetch_kind(config: MySQLConfig, connection: Connection, database: str, table: str) -> str:
    rows = fetch(config, connection, _KIND, (database, table))
    return to_text(rows[0]["kind"]) if rows else ""


def _declaration(schema: TableSchema, rows: Sequence[Mapping[str, Any]], kind: str) -> TableDeclaration:
    """The table with the columns that are logged, and listed nowhere."""
    old = frozenset(str(row["name"]) for row in rows if "mariadb-5.3" in to_text(row["declared"]))
    period = _period(rows)
    hides_period = kind == "SYSTEM VERSIONED" and period is None
    if hides_period:
        period = HIDDEN_COLUMNS
        columns = schema.columns + tuple(replace(_HIDDEN, name=name) for name in HIDDEN_COLUMNS)
        key = (*schema.primary_key, HIDDEN_COLUMNS[1]) if schema.primary_key else ()
        schema = replace(schema, columns=columns, primary_key=key)
    return TableDeclaration(schema, old, period, hides_period, kind == "SEQUENCE")


def _period(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Names of the columns that hold when a row's version began and ended; None where none is declared."""
    names = {to_text(row["expression"]): str(row["name"]) for row in rows}
    return (names["ROW START"], names["ROW END"]) if "ROW START" in names and "ROW END" in names else None


def to_text(value: Any) -> str:
    """MySQL sends some of these columns as bytes, which a label may make no text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _column(row: Mapping[str, Any]) -> Column:
    kind, declared = to_text(row["type"]).lower(), to_text(row["declared"])
    kind = "geometrycollection" if kind == "geomcollection" else kind
    in_brackets = re.match(r"\w+\((\d+)", declared)
    length = (
        row["length"] if kind in _FIXED else int(in_brackets[1]) if kind in ("bit", "vector") and in_brackets else None
    )
    has_labels = kind in ("enum", "set")
    return Column(
        name=str(row["name"]),
        type=kind,
        nullable=row["nullable"] == "YES",
        unsigned="unsigned" in declared,
        length=None if length is None else int(length),
        precision=int(row["digits"]) if kind == "decimal" else None,
        scale=int(row["scale"]) if kind == "decimal" else None,
        fsp=int(row["fsp"] or 0) if kind in _TEMPORAL else None,
        charset=(row["charset"] or BINARY) if has_labels else row["charset"] if kind in TEXT_TYPES else None,
        labels=tuple(_label(*found) for found in _LABEL.findall(declared)) if has_labels else (),
        visible="INVISIBLE" not in to_text(row["extra"]).upper(),
    )


def _label(hexadecimal: str, text: str) -> str:
    return f"x'{text}'" if hexadecimal else text.replace("''", "'")
