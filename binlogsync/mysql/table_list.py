"""Reads the list of all tables with their columns and comments from INFORMATION_SCHEMA, in two queries."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from binlogsync.mysql.config import MySQLConfig, connect, fetch
from binlogsync.mysql.information_schema import NOT_OF_SYSTEM, to_text
from binlogsync.table_list import ListedColumn, ListedTable, TableList

_TABLES = (
    "SELECT TABLE_SCHEMA AS in_database, TABLE_NAME AS name, TABLE_COMMENT AS comment FROM INFORMATION_SCHEMA.TABLES "
    f"WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND {NOT_OF_SYSTEM}"
)
_COLUMNS = (
    "SELECT TABLE_SCHEMA AS in_database, TABLE_NAME AS in_table, COLUMN_NAME AS name, COLUMN_TYPE AS type, "
    "IS_NULLABLE AS nullable, COLUMN_KEY AS in_key, COLUMN_COMMENT AS comment FROM INFORMATION_SCHEMA.COLUMNS "
    f"WHERE {NOT_OF_SYSTEM} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
)


def read_table_list(config: MySQLConfig, source: str) -> TableList:
    """All tables that the server shows to this account, views excluded. Raises SourceError."""
    with closing(connect(config)) as connection:
        tables = fetch(config, connection, _TABLES)
        columns = defaultdict[tuple[str, str], list[ListedColumn]](list)
        for row in fetch(config, connection, _COLUMNS):
            columns[to_text(row["in_database"]), to_text(row["in_table"])].append(_column(row))
    listed = [
        ListedTable(*name, tuple(columns[name]), to_text(row["comment"]))
        for row in tables
        for name in [(to_text(row["in_database"]), to_text(row["name"]))]
    ]
    return TableList(source, datetime.now(UTC), tuple(sorted(listed, key=lambda table: table.name)))


def _column(row: dict[str, Any]) -> ListedColumn:
    return ListedColumn(
        to_text(row["name"]),
        to_text(row["type"]),
        to_text(row["nullable"]) == "YES",
        to_text(row["in_key"]) == "PRI",
        to_text(row["comment"]),
    )
