"""An ALTER TABLE applied to a schema: the schema behind it, and what becomes of each column's values.

As the server does it (mysql_prepare_alter_table in sql/sql_table.cc): every clause speaks of the table as it was; first
the old columns, without the dropped and with the changed ones in their place, then those that are added or moved, in
the order of the clauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from binlogsync.binlog.sql import SqlDialect
from binlogsync.duckfile import quote
from binlogsync.mirror.clauses import (
    AddColumn,
    ChangeColumn,
    Clause,
    ConvertCharset,
    DropColumn,
    RenameColumn,
    SetKey,
)
from binlogsync.mirror.column_definition import ColumnDefinition, ColumnPosition
from binlogsync.mirror.convert import Conversion, convert, initial_value
from binlogsync.mirror.key_dates import is_date, key_date_condition
from binlogsync.schema import TEXT_TYPES, Column, TableSchema

_WIDE = {"ucs2", "utf16", "utf16le", "utf32"}


@dataclass(frozen=True, slots=True)
class AlteredColumn:
    """A column behind the statement.

    Attributes:
        column: its shape.
        old: name of the column that its values come from; None for an added one.
        values: what they become; None where only the server knows.
    """

    column: Column
    old: str | None
    values: Conversion | None

    @property
    def is_as_it_was(self) -> bool:
        """True when nothing becomes of its name and values."""
        return self.values is not None and self.values.value == quote(self.column.name)


@dataclass(frozen=True, slots=True)
class AlteredSchema:
    """A schema behind a statement, and where the values of its columns come from, in the same order."""

    schema: TableSchema
    columns: tuple[AlteredColumn, ...]

    @property
    def unknown(self) -> list[str]:
        """Names of the columns whose values only the server knows."""
        return [one.column.name for one in self.columns if one.values is None]

    @property
    def guard(self) -> str:
        """SQL that is true for rows in which a conversion is not proven; "" when there can be none."""
        guards = [one.values.guard for one in self.columns if one.values is not None and one.values.guard]
        return " OR ".join(f"({guard})" for guard in guards)


class _MissingColumnError(Exception):
    """A clause names a column that is not there: the schema is not what the statement was written for."""


def apply_alter(old: TableSchema, clauses: Sequence[Clause], dialect: SqlDialect) -> AlteredSchema | None:
    """The schema behind the clauses; None when they do not fit the old one."""
    try:
        return _apply_alter(old, clauses, dialect)
    except _MissingColumnError:
        return None


def _apply_alter(old: TableSchema, clauses: Sequence[Clause], dialect: SqlDialect) -> AlteredSchema:
    known = {column.name.lower(): column for column in old.columns}
    dropped, changed, renamed = _sorted(clauses, known)
    charset = next((clause.charset for clause in clauses if isinstance(clause, ConvertCharset)), None)
    columns: list[AlteredColumn] = []
    for column in old.columns:
        key = column.name.lower()
        if key in dropped:
            continue
        if key in changed:
            columns.append(_changed(column, changed[key].definition, dialect))
        else:
            columns.append(_kept(column, renamed.get(key, column.name), charset, dialect))
    for clause in clauses:
        if isinstance(clause, AddColumn) and not (
            clause.if_not_exists and clause.definition.column.name.lower() in known
        ):
            _place(columns, _added(clause.definition, dialect), clause.place)
        elif isinstance(clause, ChangeColumn) and clause.place != ColumnPosition() and clause.old.lower() in changed:
            name = clause.definition.column.name.lower()
            moved = next(one for one in columns if one.column.name.lower() == name)
            columns.remove(moved)
            _place(columns, moved, clause.place)
    key_columns = _key(old, clauses, columns)
    made = tuple(_in_key(one) if one.column.name in key_columns else one for one in columns)
    made = tuple(_with_key_dates(one, old, key_columns) for one in made)
    return AlteredSchema(replace(old, columns=tuple(one.column for one in made), primary_key=key_columns), made)


def _sorted(
    clauses: Sequence[Clause], known: dict[str, Column]
) -> tuple[set[str], dict[str, ChangeColumn], dict[str, str]]:
    """(dropped, changed by old name, new names by old name); raises _MissingColumnError."""
    dropped: set[str] = set()
    changed: dict[str, ChangeColumn] = {}
    renamed: dict[str, str] = {}
    for clause in clauses:
        if isinstance(clause, DropColumn):
            if clause.name.lower() in known:
                dropped.add(clause.name.lower())
            elif not clause.if_exists:
                raise _MissingColumnError
        elif isinstance(clause, ChangeColumn):
            if clause.old.lower() in known:
                changed[clause.old.lower()] = clause
            elif not clause.if_exists:
                raise _MissingColumnError
        elif isinstance(clause, RenameColumn):
            if clause.old.lower() in known:
                renamed[clause.old.lower()] = clause.new
            elif not clause.if_exists:
                raise _MissingColumnError
    return dropped, changed, renamed


def _kept(column: Column, name: str, charset: str | None, dialect: SqlDialect) -> AlteredColumn:
    """A column that no clause speaks of, but perhaps of its name, or of the character set of all."""
    kept = replace(column, name=name)
    if charset is not None and column.labels:
        # Servers keep the bytes of the labels as they are, so that other labels come out of them.
        is_plain = all(map(str.isascii, column.labels)) and not {charset, column.charset} & _WIDE
        return AlteredColumn(
            replace(kept, charset=charset), column.name, Conversion(quote(column.name)) if is_plain else None
        )
    if charset is None or column.type not in TEXT_TYPES:
        return AlteredColumn(kept, column.name, Conversion(quote(column.name)))
    kept = replace(kept, charset=charset, type=_grown(kept.type))
    return AlteredColumn(kept, column.name, convert(column, kept, dialect))


def _in_key(one: AlteredColumn) -> AlteredColumn:
    """The primary key makes its columns NOT NULL, and what that makes of a NULL depends on the SQL mode."""
    column, values = replace(one.column, nullable=False), one.values
    if one.column.nullable and one.old is not None and values is not None:
        guards = [guard for guard in (values.guard, f"{quote(one.old)} IS NULL") if guard]
        values = replace(values, guard=" OR ".join(f"({guard})" for guard in guards))
    return replace(one, column=column, values=values)


def _with_key_dates(one: AlteredColumn, old: TableSchema, key: Sequence[str]) -> AlteredColumn:
    """An impossible date is NULL or not, by whether its column is in the key (mirror/key_dates.py)."""
    if one.old is None or one.values is None or not is_date(old.column(one.old)):
        return one
    was_key, is_key = one.old in old.primary_key, one.column.name in key
    if was_key == is_key and (not is_key or one.values.value == quote(one.old)):
        return one
    guards = [guard for guard in (one.values.guard, key_date_condition([one.old])) if guard]
    return replace(one, values=replace(one.values, guard=" OR ".join(f"({guard})" for guard in guards)))


def _changed(old: Column, definition: ColumnDefinition, dialect: SqlDialect) -> AlteredColumn:
    values = (
        None
        if definition.is_generated
        else convert(old, definition.column, dialect, is_auto_increment=definition.is_auto_increment)
    )
    return AlteredColumn(definition.column, old.name, values)


def _added(definition: ColumnDefinition, dialect: SqlDialect) -> AlteredColumn:
    value = initial_value(definition, dialect)
    return AlteredColumn(definition.column, None, None if value is None else Conversion(value))


def _grown(kind: str) -> str:
    """A text may get a larger type with another character set; which one does not matter to a mirror."""
    return {"tinytext": "longtext", "text": "longtext", "mediumtext": "longtext", "varchar": "varchar"}.get(kind, kind)


def _place(columns: list[AlteredColumn], column: AlteredColumn, place: ColumnPosition) -> None:
    """Insert it; raises _MissingColumnError."""
    if place.is_first:
        columns.insert(0, column)
    elif place.after is None:
        columns.append(column)
    else:
        names = [one.column.name.lower() for one in columns]
        if place.after.lower() not in names:
            raise _MissingColumnError
        columns.insert(names.index(place.after.lower()) + 1, column)


def _key(old: TableSchema, clauses: Sequence[Clause], columns: Sequence[AlteredColumn]) -> tuple[str, ...]:
    """The primary key behind the clauses: renamed columns under their new names, dropped ones gone."""
    by_old = {one.old.lower(): one.column.name for one in columns if one.old is not None}
    key = tuple(by_old[name.lower()] for name in old.primary_key if name.lower() in by_old)
    for clause in clauses:
        if isinstance(clause, SetKey):
            by_name = {one.column.name.lower(): one.column.name for one in columns}
            if any(name.lower() not in by_name for name in clause.columns):
                raise _MissingColumnError
            key = tuple(by_name[name.lower()] for name in clause.columns)
        elif isinstance(clause, ChangeColumn) and clause.definition.is_key:
            key = (clause.definition.column.name,)
    return key
