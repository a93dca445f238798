"""What a TABLE_MAP leaves open, and the server's own declaration of the table settles.

With binlog_row_metadata other than FULL, or a server older than it, that is most of it: the names of the columns, the
labels of ENUM and SET, the primary key, and on MariaDB signs and character sets. The declaration is taken only while
the table's shape is the one of the event and no statement is logged behind it that may have altered the table.

MariaDB logs UUID and INET6 as BINARY(16), INET4 as BINARY(4) and VECTOR(n) as VARBINARY(4n); of a temporal column in
the format of before MariaDB 10.1 (mysql56_temporal_format=OFF) it does not log how many digits its fraction has, and
so not how many bytes it takes. For such columns, and only for them, the server is asked how it declares the table now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from binlogsync.binlog.layout import ColumnError
from binlogsync.binlog.sequences import is_like_sequence, with_key
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
    "the event has no column names; run: SET GLOBAL binlog_row_metadata = 'FULL' and begin behind these rows, or "
    "leave the table out with a filter. The names were asked of the server"
)
_BEYOND_UTF8MB3 = frozenset({"utf8mb4", "utf16", "utf16le", "utf32", "gb18030"})  # INFORMATION_SCHEMA is in utf8mb3
_CHARSET_NAMES: dict[str | None, str | None] = {"utf8": "utf8mb3"}
_OLD_TEMPORAL = frozenset({TIMESTAMP_OLD, TIME_OLD, DATETIME_OLD})


@dataclass(frozen=True, slots=True)
class TableDeclaration:
    """A table as the server declares it now.

    Attributes:
        schema: its columns, hidden ones included, in order, and its primary key.
        old_temporal: names of the columns that are still in the format of before MariaDB 10.1.
        period: names of the columns of a system-versioned table that hold when a row's version began and ended.
        hides_period: these are the last two, and no client sees them.
        is_sequence: it is a SEQUENCE of MariaDB.
    """

    schema: TableSchema
    old_temporal: frozenset[str] = frozenset()
    period: tuple[str, str] | None = None
    hides_period: bool = False
    is_sequence: bool = False


DeclarationLookup = Callable[[str, str], TableDeclaration | None]
AlterationLookup = Callable[[str, str, BinlogPosition], BinlogPosition | None]
"""The place behind the first statement after a place that may have altered the table; None when none is logged."""


def no_declaration(database: str, table: str) -> TableDeclaration | None:
    """For dumps without a server to ask."""
    return None


def no_alteration(database: str, table: str, place: BinlogPosition) -> BinlogPosition | None:
    """For dumps without a server to ask."""
    return None


def name_columns(
    body: bytes, place: BinlogPosition, asking: tuple[DeclarationLookup, AlterationLookup], *, mariadb: bool
) -> TableMap:
    """A TABLE_MAP without names (binlog_row_metadata is not FULL), at `place`, with those that the server declares.

    Raises ValueError when the declaration is, or may be, of another shape of the table than that of the event.
    """
    database, name = parse_name(body)
    declared, altered = asking
    declaration = declared(database, name)
    if declaration is None:
        raise ValueError(f"{_UNNAMED}, and the server shows no such table any more (or not to this account)")
    for column in declaration.schema.columns:
        if column.charset in _BEYOND_UTF8MB3 and any("?" in label for label in column.labels):
            reason = "shows a character beyond the basic plane, or a question mark, as ?"
            raise ValueError(f"{_UNNAMED}, and of the labels of {column.name} it {reason}")
    behind = altered(database, name, place)
    if behind is not None:
        raise ValueError(f"{_UNNAMED}, and the table was altered before {behind}, so that its names then are not known")
    if mariadb:
        plain = parse_table_map(body, mariadb=True, captured=False).schema
        declaration = replace(declaration, schema=with_hash_columns(declaration.schema, plain.columns))
    try:
        table = parse_table_map(body, mariadb=mariadb, declared=declaration.schema)
        table = resolve_columns(table, declared, mariadb=mariadb, captured=True)
    except ValueError as error:
        raise ValueError(f"{_UNNAMED}, and the table now has another shape than the rows: {error}") from error
    for logged, now in zip(table.schema.columns, declaration.schema.columns, strict=True):
        if _shape(logged) != _shape(now):
            raise ValueError(
                f"{_UNNAMED}, and the table now has another shape than the rows: {logged.name} is "
                f"{now.declaration} now, {logged.declaration} in the rows"
            )
    return replace(table, named=True, asked=True)


def _shape(column: Column) -> tuple[object, ...]:
    """What has to be equal; of strings that is all, of others the event says less."""
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
    """The table with its open columns settled; of one that is not captured only what its columns' sizes depend on.

    Raises ColumnError for a temporal column whose size cannot be known. Bytes that may be a UUID, an address or a
    vector stay bytes, with a warning, when the server no longer has their column.
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
        return replace(table, schema=with_key(schema), asked=True)
    shown_as = _shown(schema, declaration) if may_be_kind else None
    return replace(table, schema=schema, asked=True, shown_as=shown_as)


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
    """The types that a column of these bytes may have."""
    if column.type == "varbinary":
        return ("vector",)
    return ("inet4",) if column.length == 4 else ("uuid", "inet6")


def _settled(table: TableMap, i: int, declaration: TableDeclaration | None) -> Column:
    column = table.schema.columns[i]
    now = _now(table, i, declaration)
    if table.raw[i].code in _OLD_TEMPORAL:
        if now is None or declaration is None or now.name not in declaration.old_temporal or now.type != column.type:
            raise ColumnError(
                f"a {column.type} in the format of before MariaDB 10.1, of which the binlog does not say how many "
                "digits its fraction has, and the server has no such column any more; start behind these rows, or "
                "with a new copy of the table",
                column.name,
                0,
            )
        return _old(column, now.fsp or 0)
    if now is not None and now.type in _candidates(column):
        if now.type != "vector" or now.length == (column.length or 0) // 4:
            return replace(column, type=now.type, length=now.length, charset=None)
    elif now is None or (now.type, now.length) != (column.type, column.length):
        log.warning(
            "%s.%s: delivered as %s, which is how MariaDB logs a column of type %s too; the server has no such column "
            "any more that tells which it was",
            table.schema.name,
            column.name,
            column.declaration,
            " or ".join(_candidates(column)),
        )
    return column


def _now(table: TableMap, i: int, declaration: TableDeclaration | None) -> Column | None:
    """The column as it is declared now: by its name, or by its place where names were not logged."""
    if declaration is None:
        return None
    columns = declaration.schema.columns
    if table.named:
        return next((column for column in columns if column.name == table.schema.columns[i].name), None)
    return columns[i] if len(columns) == len(table.raw) else None
