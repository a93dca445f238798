"""Completes a TABLE_MAP with the declaration of the table that the server has now.

Unless binlog_row_metadata is FULL, a TABLE_MAP has no column names, no labels of ENUM and SET, no primary key, and on
MariaDB neither signs nor character sets. The same is true for servers without that variable. The current declaration
is used only if it has the same columns as the event, and no statement logged after the event may have altered the
table.

MariaDB logs UUID and INET6 as BINARY(16), INET4 as BINARY(4) and VECTOR(n) as VARBINARY(4n). For a temporal column in
the format before MariaDB 10.1 (mysql56_temporal_format=OFF) it does not log the number of fractional digits, on which
the size of a value depends. For such columns the server is asked even when the metadata is FULL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from binlogsync.binlog.layout import ColumnError
from binlogsync.binlog.sequences import add_sequence_key, is_like_sequence
from binlogsync.binlog.tablemap import (
    DATETIME_OLD,
    TIME_OLD,
    TIMESTAMP_OLD,
    RawColumn,
    TableMap,
    parse_name,
    parse_table_map,
)
from binlogsync.binlog.visible_tables import (
    VisibleTable,
    find_visible_table,
    may_have_hidden_columns,
    with_hash_columns,
)
from binlogsync.position import BinlogPosition
from binlogsync.schema import INTEGER_BITS, Column, TableSchema

log = logging.getLogger(__name__)

_UNNAMED = (
    "the event has no column names; run: SET GLOBAL binlog_row_metadata = 'FULL' and start after these rows, or "
    "exclude the table with a filter. The names were requested from the server"
)
_BEYOND_UTF8MB3 = frozenset({"utf8mb4", "utf16", "utf16le", "utf32", "gb18030"})  # INFORMATION_SCHEMA is in utf8mb3
_CHARSET_NAMES: dict[str | None, str | None] = {"utf8": "utf8mb3"}
_OLD_TEMPORAL = frozenset({TIMESTAMP_OLD, TIME_OLD, DATETIME_OLD})


@dataclass(frozen=True, slots=True)
class TableDeclaration:
    """The current declaration of a table on the server.

    Attributes:
        schema: all columns in order, including hidden ones, and the primary key.
        old_temporal: names of the columns that are still in the format before MariaDB 10.1.
        period: names of the row start and row end columns of a system-versioned table.
        hides_period: True when these are the last two columns and are hidden from clients.
        is_sequence: True for a SEQUENCE of MariaDB.
    """

    schema: TableSchema
    old_temporal: frozenset[str] = frozenset()
    period: tuple[str, str] | None = None
    hides_period: bool = False
    is_sequence: bool = False


DeclarationLookup = Callable[[str, str], TableDeclaration | None]
AlterationLookup = Callable[[str, str, BinlogPosition], BinlogPosition | None]
"""(database, table, position) -> the position after the first statement, logged after `position`, that may have altered
the table; None when there is no such statement."""


def no_declaration(database: str, table: str) -> TableDeclaration | None:
    """For dumps without a server to ask."""
    return None


def no_alteration(database: str, table: str, position: BinlogPosition) -> BinlogPosition | None:
    """For dumps without a server to ask."""
    return None


def name_columns(
    body: bytes, position: BinlogPosition, asking: tuple[DeclarationLookup, AlterationLookup], *, mariadb: bool
) -> TableMap:
    """Parse a TABLE_MAP without column names, of the event at `position`, and add what the server declares.

    Raises ValueError when the table has, or may have, other columns now than at the time of the event.
    """
    database, name = parse_name(body)
    declared, altered = asking
    declaration = declared(database, name)
    if declaration is None:
        raise ValueError(f"{_UNNAMED}, and the table no longer exists (or this account has no privilege on it)")
    for column in declaration.schema.columns:
        if column.charset in _BEYOND_UTF8MB3 and any("?" in label for label in column.labels):
            reason = "returned ?, which stands for a question mark or for a character outside the basic plane"
            raise ValueError(f"{_UNNAMED}, and in the labels of {column.name} it {reason}")
    altered_at = altered(database, name, position)
    if altered_at is not None:
        raise ValueError(f"{_UNNAMED}, but the table was altered before {altered_at}, so its earlier names are unknown")
    if mariadb:
        plain = parse_table_map(body, mariadb=True, captured=False).schema
        declaration = replace(declaration, schema=with_hash_columns(declaration.schema, plain.columns))
    try:
        table = parse_table_map(body, mariadb=mariadb, declared=declaration.schema)
        table = resolve_columns(table, declared, mariadb=mariadb, captured=True)
    except ValueError as error:
        raise ValueError(f"{_UNNAMED}, but the table now has other columns than the rows: {error}") from error
    for logged, now in zip(table.schema.columns, declaration.schema.columns, strict=True):
        if _shape(logged) != _shape(now):
            raise ValueError(
                f"{_UNNAMED}, but the table now has other columns than the rows: {logged.name} is now "
                f"{now.declaration}, and {logged.declaration} in the rows"
            )
    return replace(table, has_names=True, is_declared=True)


def _shape(column: Column) -> tuple[object, ...]:
    """The properties that have to be equal in the event and in the declaration."""
    numeric = column.type in INTEGER_BITS or column.type in ("decimal", "float", "double")
    return (
        column.type,
        column.nullable,
        column.unsigned and numeric,
        *(
            column.length,
            column.precision,
            column.scale,
            column.fsp,
            _CHARSET_NAMES.get(column.charset, column.charset),
        ),
    )


def resolve_columns(table: TableMap, declared: DeclarationLookup, *, mariadb: bool, captured: bool) -> TableMap:
    """The table with the types that MariaDB does not log; if it is not captured, only those that determine a size.

    Raises ColumnError for a temporal column of unknown size. A column that may be a UUID, an address or a vector stays
    a binary column, with a warning, when it no longer exists on the server.
    """
    columns = table.schema.columns
    if not mariadb:  # MySQL never had fractions in the old format
        plain = tuple(_old(c, 0) if r.code in _OLD_TEMPORAL else c for c, r in zip(columns, table.raw, strict=True))
        return replace(table, schema=replace(table.schema, columns=plain))
    open_ = [i for i, column in enumerate(columns) if _is_open(column, table.raw[i], captured)]
    may_be_kind = captured and (may_have_hidden_columns(columns) or is_like_sequence(table.schema))
    if not open_ and not may_be_kind:
        return table
    declaration = declared(table.schema.database, table.schema.table)
    settled = list(columns)
    for i in open_:
        settled[i] = _settled(table, i, declaration)
    schema = replace(table.schema, columns=tuple(settled))
    if is_like_sequence(schema) and (declaration is None or declaration.is_sequence):
        return replace(table, schema=add_sequence_key(schema), is_declared=True)
    visible_table = _shown(schema, declaration) if may_be_kind else None
    return replace(table, schema=schema, is_declared=True, visible_table=visible_table)


def _shown(schema: TableSchema, declaration: TableDeclaration | None) -> VisibleTable | None:
    if declaration is None:
        return find_visible_table(schema, None, ())
    columns = declaration.schema.columns[: -2 if declaration.hides_period else None]
    return find_visible_table(schema, declaration.period, [column.name for column in columns])


def _old(column: Column, fsp: int) -> Column:
    return replace(column, fsp=fsp)


def _is_open(column: Column, raw: RawColumn, captured: bool) -> bool:
    if raw.code in _OLD_TEMPORAL or not captured:
        return raw.code in _OLD_TEMPORAL
    if column.type == "binary":
        return column.length in (4, 16)
    return column.type == "varbinary" and bool(column.length) and (column.length or 0) % 4 == 0


def _candidates(column: Column) -> tuple[str, ...]:
    """The types that MariaDB logs like this column."""
    if column.type == "varbinary":
        return ("vector",)
    return ("inet4",) if column.length == 4 else ("uuid", "inet6")


def _settled(table: TableMap, i: int, declaration: TableDeclaration | None) -> Column:
    column = table.schema.columns[i]
    now = _now(table, i, declaration)
    if table.raw[i].code in _OLD_TEMPORAL:
        if now is None or declaration is None or now.name not in declaration.old_temporal or now.type != column.type:
            raise ColumnError(
                f"a {column.type} in the format before MariaDB 10.1, for which the binlog does not contain the number "
                "of fractional digits, and the column no longer exists on the server; start after these rows, or with "
                "a new snapshot of the table",
                column.name,
                0,
            )
        return _old(column, now.fsp or 0)
    if now is not None and now.type in _candidates(column):
        if now.type != "vector" or now.length == (column.length or 0) // 4:
            return replace(column, type=now.type, length=now.length, charset=None)
    elif now is None or (now.type, now.length) != (column.type, column.length):
        log.warning(
            "%s.%s: delivered as %s; MariaDB logs a column of type %s in the same way, and the column no longer exists "
            "on the server",
            table.schema.name,
            column.name,
            column.declaration,
            " or ".join(_candidates(column)),
        )
    return column


def _now(table: TableMap, i: int, declaration: TableDeclaration | None) -> Column | None:
    """The current declaration of the column: found by name, or by number when the event has no names."""
    if declaration is None:
        return None
    columns = declaration.schema.columns
    if table.has_names:
        return next((column for column in columns if column.name == table.schema.columns[i].name), None)
    return columns[i] if len(columns) == len(table.raw) else None
