"""Reads the list of all tables with their columns and comments from INFORMATION_SCHEMA, in two queries."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from binlogsync.mysql.config import MySQLConfig, connect, fetch
from binlogsync.table_list import ListedColumn, ListedTable, TableList

_SYSTEM = "TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"
_TABLES = (
    "SELECT TABLE_SCHEMA AS in_database, TABLE_NAME AS name, TABLE_COMMENT AS comment FROM INFORMATION_SCHEMA.TABLES "
    f"WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND {_SYSTEM}"
)
_COLUMNS = (
    "SELECT TABLE_SCHEMA AS in_database, TABLE_NAME AS in_table, COLUMN_NAME AS name, COLUMN_TYPE AS type, "
    "IS_NULLABLE AS nullable, COLUMN_KEY AS in_key, COLUMN_COMMENT AS comment FROM INFORMATION_SCHEMA.COLUMNS "
    f"WHERE {_SYSTEM} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
)


def read_table_list(config: MySQLConfig, source: str) -> TableList:
    """All tables that the server shows to this account, views excluded. Raises SourceError."""
    with closing(connect(config)) as connection:
        tables = fetch(config, connection, _TABLES)
        columns = defaultdict[tuple[str, str], list[ListedColumn]](list)
        for row in fetch(config, connection, _COLUMNS):
            columns[_text(row["in_database"]), _text(row["in_table"])].append(_column(row))
    listed = [
        ListedTable(*name, tuple(columns[name]), _text(row["comment"]))
        for row in tables
        for name in [(_text(row["in_database"]), _text(row["name"]))]
    ]
    return TableList(source, datetime.now(UTC), tuple(sorted(listed, key=lambda table: table.name)))


def _column(row: dict[str, Any]) -> ListedColumn:
    return ListedColumn(
        _text(row["name"]),
        _text(row["type"]),
        _text(row["nullable"]) == "YES",
        _text(row["in_key"]) == "PRI",
        _text(row["comment"]),
    )


def _text(value: Any) -> str:
    """MySQL sends some of these columns as bytes, which a label may make no text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
