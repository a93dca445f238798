"""Applies an ALTER TABLE to a schema: the resulting schema, and how the values of each column are converted.

As in the server (mysql_prepare_alter_table in sql/sql_table.cc), every clause refers to the table before the statement.
The result has first the old columns, without the dropped ones and with the changed ones at their old positions, then
the columns that are added or moved, in the order of the clauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from binlogsync.binlog.sql import SqlDialect
from binlogsync.mirror.clauses import (
    AddColumn,
    ChangeColumn,
    Clause,
    ConvertCharset,
    DropColumn,
    RenameColumn,
    SetKey,
)
from binlogsync.mirror.column_definition import ColumnPosition
from binlogsync.schema import TEXT_TYPES, Column, TableSchema, is_date
from binlogsync.targets.conversion import ColumnConverter, ColumnDefinition, Conversion
from binlogsync.targets.mirror_options import with_key

_WIDE = {"ucs2", "utf16", "utf16le", "utf32"}


@dataclass(frozen=True, slots=True)
class AlteredColumn:
    """A column after the statement.

    Attributes:
        column: its definition.
        old: name of the column that has its values; None for an added column.
        values: how the values are converted; None if only the server knows.
        guards: conditions of the converter, besides that of `values`, for which the conversion is not proven.
    """

    column: Column
    old: str | None
    values: Conversion | None
    guards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlteredSchema:
    """The schema after a statement, and its columns, in the same order."""

    schema: TableSchema
    columns: tuple[AlteredColumn, ...]

    @property
    def unknown(self) -> list[str]:
        """Names of the columns whose values only the server knows."""
        return [one.column.name for one in self.columns if one.values is None]

    @property
    def guards(self) -> tuple[str, ...]:
        """Conditions of the converter: one is true for each row in which a conversion is not proven."""
        return tuple(
            guard
            for one in self.columns
            if one.values is not None
            for guard in (one.values.guard, *one.guards)
            if guard
        )


class _MissingColumnError(Exception):
    """A clause names a column that the schema does not have."""


@dataclass(frozen=True, slots=True)
class AlterRules:
    """The dialect of a statement, the converter of the target that it is applied to, and the `key` of the mirror."""

    dialect: SqlDialect
    converter: ColumnConverter
    key: tuple[str, ...] = ()


def apply_alter(old: TableSchema, clauses: Sequence[Clause], rules: AlterRules) -> AlteredSchema | None:
    """The schema after the clauses; None if they do not fit the old schema."""
    try:
        return _apply_alter(old, clauses, rules)
    except _MissingColumnError:
        return None


def _apply_alter(old: TableSchema, clauses: Sequence[Clause], rules: AlterRules) -> AlteredSchema:
    known = {column.name.lower(): column for column in old.columns}
    dropped, changed, renamed = _sort_clauses(clauses, known)
    charset = next((clause.charset for clause in clauses if isinstance(clause, ConvertCharset)), None)
    columns: list[AlteredColumn] = []
    for column in old.columns:
        key = column.name.lower()
        if key in dropped:
            continue
        if key in changed:
            columns.append(_change_column(column, changed[key].definition, rules))
        else:
            columns.append(_keep_column(column, renamed.get(key, column.name), charset, rules))
    for clause in clauses:
        if isinstance(clause, AddColumn) and not (
            clause.if_not_exists and clause.definition.column.name.lower() in known
        ):
            _insert_column(columns, _add_column(clause.definition, rules), clause.position)
        elif isinstance(clause, ChangeColumn) and clause.position != ColumnPosition() and clause.old.lower() in changed:
            name = clause.definition.column.name.lower()
            moved = next(one for one in columns if one.column.name.lower() == name)
            columns.remove(moved)
            _insert_column(columns, moved, clause.position)
    key_columns = _alter_key(old, clauses, columns)
    made = tuple(_make_not_null(one, rules.converter) if one.column.name in key_columns else one for one in columns)
    if rules.key:
        altered = replace(old, columns=tuple(one.column for one in made))
        key_columns = with_key(altered, rules.key).primary_key
    made = tuple(_guard_key_dates(one, old, key_columns, rules.converter) for one in made)
    return AlteredSchema(replace(old, columns=tuple(one.column for one in made), primary_key=key_columns), made)


def _sort_clauses(
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


def _keep_column(column: Column, name: str, charset: str | None, rules: AlterRules) -> AlteredColumn:
    """A column without its own clause; its name, or the character set of the table, may change."""
    unchanged = Conversion(rules.converter.keep(column.name))
    kept = replace(column, name=name)
    if charset is not None and column.labels:
        # Servers keep the bytes of the labels, so the labels are different text in another character set.
        is_plain = all(map(str.isascii, column.labels)) and not {charset, column.charset} & _WIDE
        return AlteredColumn(replace(kept, charset=charset), column.name, unchanged if is_plain else None)
    if charset is None or column.type not in TEXT_TYPES:
        return AlteredColumn(kept, column.name, unchanged)
    kept = replace(kept, charset=charset, type=_larger_text_type(kept.type))
    return AlteredColumn(kept, column.name, rules.converter.convert(column, kept, rules.dialect))


def _make_not_null(one: AlteredColumn, converter: ColumnConverter) -> AlteredColumn:
    """Make a column of the primary key NOT NULL; the conversion of a NULL depends on the SQL mode."""
    column = replace(one.column, nullable=False)
    if one.column.nullable and one.old is not None:
        return replace(one, column=column, guards=(*one.guards, converter.is_null(one.old)))
    return replace(one, column=column)


def _guard_key_dates(
    one: AlteredColumn, old: TableSchema, key: Sequence[str], converter: ColumnConverter
) -> AlteredColumn:
    """Guard invalid dates, whose value depends on whether the column is in the key (see ColumnConverter)."""
    if one.old is None or one.values is None or not is_date(old.column(one.old)):
        return one
    was_key, is_key = one.old in old.primary_key, one.column.name in key
    if was_key == is_key and (not is_key or one.values.value == converter.keep(one.old)):
        return one
    return replace(one, guards=(*one.guards, converter.key_date_condition([one.old])))


def _change_column(old: Column, definition: ColumnDefinition, rules: AlterRules) -> AlteredColumn:
    column, is_auto_increment = definition.column, definition.is_auto_increment
    if definition.is_generated:
        return AlteredColumn(column, old.name, None)
    values = rules.converter.convert(old, column, rules.dialect, is_auto_increment=is_auto_increment)
    return AlteredColumn(column, old.name, values)


def _add_column(definition: ColumnDefinition, rules: AlterRules) -> AlteredColumn:
    value = rules.converter.initial_value(definition, rules.dialect)
    return AlteredColumn(definition.column, None, None if value is None else Conversion(value))


def _larger_text_type(kind: str) -> str:
    """The type of a text column after CONVERT TO: MySQL may choose a larger one, which is the same in a mirror."""
    return {"tinytext": "longtext", "text": "longtext", "mediumtext": "longtext", "varchar": "varchar"}.get(kind, kind)


def _insert_column(columns: list[AlteredColumn], column: AlteredColumn, position: ColumnPosition) -> None:
    """Insert the column at its position; raises _MissingColumnError."""
    if position.is_first:
        columns.insert(0, column)
    elif position.after is None:
        columns.append(column)
    else:
        names = [one.column.name.lower() for one in columns]
        if position.after.lower() not in names:
            raise _MissingColumnError
        columns.insert(names.index(position.after.lower()) + 1, column)


def _alter_key(old: TableSchema, clauses: Sequence[Clause], columns: Sequence[AlteredColumn]) -> tuple[str, ...]:
    """The primary key after the clauses, with renamed columns and without dropped ones."""
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
