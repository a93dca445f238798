"""How the server declares a table now, from INFORMATION_SCHEMA, for the little that binlog events leave open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from binlogsync.binlog.charsets import BINARY
from binlogsync.binlog.declared import Declaration, Declared
from binlogsync.mysql.config import MySQLConfig, connect, fetch, translated
from binlogsync.mysql.session import Connection
from binlogsync.schema import TEXT_TYPES, Column, TableSchema

_COLUMNS = (
    "SELECT COLUMN_NAME AS name, DATA_TYPE AS type, COLUMN_TYPE AS declared, IS_NULLABLE AS nullable, EXTRA AS extra, "
    "CHARACTER_MAXIMUM_LENGTH AS length, CHARACTER_SET_NAME AS charset, NUMERIC_PRECISION AS digits, "
    "NUMERIC_SCALE AS scale, DATETIME_PRECISION AS fsp FROM INFORMATION_SCHEMA.COLUMNS "
    "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
_KEY = (
    "SELECT COLUMN_NAME AS name FROM INFORMATION_SCHEMA.STATISTICS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s "
    "AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX"
)
_GENERATED = (
    "SELECT COLUMN_NAME AS name FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s "
    "AND IS_GENERATED = 'ALWAYS' ORDER BY ORDINAL_POSITION"
)
_TABLES = (
    "SELECT TABLE_SCHEMA AS in_database, TABLE_NAME AS name FROM INFORMATION_SCHEMA.TABLES "
    "WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN "
    "('mysql', 'information_schema', 'performance_schema', 'sys')"
)
_LABEL = re.compile(r"(x?)'((?:[^']|'')*)'")  # x'ffff' of MySQL for bytes that are no text
_FIXED = frozenset({"char", "varchar", "binary", "varbinary"})
_TEMPORAL = frozenset({"time", "datetime", "timestamp"})


def declared_by(config: MySQLConfig) -> Declared:
    """Asks the server at each call, over a connection of its own; the calls raise SourceError."""

    def ask(database: str, table: str) -> Declaration | None:
        connection = connect(config)
        try:
            rows = _fetch_rows(config, connection, database, table)
            key = _fetch_key(config, connection, database, table)
        finally:
            connection.close()
        if not rows:
            return None
        with translated(config):
            old = frozenset(str(row["name"]) for row in rows if "mariadb-5.3" in _text(row["declared"]))
            return Declaration(TableSchema(database, table, tuple(map(_column, rows)), key), old)

    return ask


def describe_table(config: MySQLConfig, connection: Connection, database: str, table: str) -> TableSchema:
    """The schema of a table as a TABLE_MAP of now would say it; without columns when there is no such table.

    Raises SourceError.
    """
    rows = _fetch_rows(config, connection, database, table)
    with translated(config):
        return TableSchema(database, table, tuple(map(_column, rows)), _fetch_key(config, connection, database, table))


def generated_columns(config: MySQLConfig, connection: Connection, database: str, table: str) -> tuple[str, ...]:
    """Names of the columns that the server computes; of MariaDB only. Raises SourceError."""
    return tuple(_text(row["name"]) for row in fetch(config, connection, _GENERATED, (database, table)))


def list_tables(config: MySQLConfig) -> list[tuple[str, str]]:
    """(database, table) of all that the server shows to this account. Raises SourceError."""
    connection = connect(config)
    try:
        return [(_text(row["in_database"]), _text(row["name"])) for row in fetch(config, connection, _TABLES)]
    finally:
        connection.close()


def _fetch_rows(config: MySQLConfig, connection: Connection, database: str, table: str) -> list[dict[str, Any]]:
    return fetch(config, connection, _COLUMNS, (database, table))


def _fetch_key(config: MySQLConfig, connection: Connection, database: str, table: str) -> tuple[str, ...]:
    return tuple(str(row["name"]) for row in fetch(config, connection, _KEY, (database, table)))


def _text(value: Any) -> str:
    """MySQL sends some of these columns as bytes, which a label may make no text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _column(row: Mapping[str, Any]) -> Column:
    kind, declared = _text(row["type"]).lower(), _text(row["declared"])
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
        visible="INVISIBLE" not in _text(row["extra"]).upper(),
    )


def _label(hexadecimal: str, text: str) -> str:
    return f"x'{text}'" if hexadecimal else text.replace("''", "'")
