"""How the server declares a table now, from INFORMATION_SCHEMA, for the little that binlog events leave open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from binlogsync.binlog.declared import Declaration, Declared
from binlogsync.mysql.config import MySQLConfig, connect, fetch
from binlogsync.schema import TEXT_TYPES, Column, TableSchema

_COLUMNS = (
    "SELECT COLUMN_NAME AS name, DATA_TYPE AS type, COLUMN_TYPE AS declared, IS_NULLABLE AS nullable, EXTRA AS extra, "
    "CHARACTER_MAXIMUM_LENGTH AS length, CHARACTER_SET_NAME AS charset, NUMERIC_PRECISION AS digits, "
    "NUMERIC_SCALE AS scale, DATETIME_PRECISION AS fsp FROM INFORMATION_SCHEMA.COLUMNS "
    "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
_LABEL = re.compile(r"'((?:[^']|'')*)'")
_FIXED = frozenset({"char", "varchar", "binary", "varbinary"})
_TEMPORAL = frozenset({"time", "datetime", "timestamp"})


def declared_by(config: MySQLConfig) -> Declared:
    """Asks the server at each call, over a connection of its own; the calls raise SourceError."""

    def ask(database: str, table: str) -> Declaration | None:
        connection = connect(config)
        try:
            rows = fetch(config, connection, _COLUMNS, (database, table))
        finally:
            connection.close()
        if not rows:
            return None
        columns = tuple(_column(row) for row in rows)
        old = frozenset(str(row["name"]) for row in rows if "mariadb-5.3" in _text(row["declared"]))
        return Declaration(TableSchema(database, table, columns), old)

    return ask


def _text(value: Any) -> str:
    """MySQL sends some of these columns as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


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
        charset=row["charset"] if kind in TEXT_TYPES or has_labels else None,
        labels=tuple(text.replace("''", "'") for text in _LABEL.findall(declared)) if has_labels else (),
        visible="INVISIBLE" not in _text(row["extra"]).upper(),
    )
