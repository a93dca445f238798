"""Converts values as ALTER TABLE does, as SQL of DuckDB, where the result provably equals the server's.

A `Conversion` has a guard: a condition on the old value for which the result is not proven (out of range, rounding that
depends on the SQL mode, a character that may be missing in the new character set). None: the result is never proven.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from binlogsync.binlog.sql import SqlDialect
from binlogsync.schema import BINARY_TYPES, INTEGER_BITS, TEXT_TYPES, Column, TableSchema
from binlogsync.sql_identifiers import literal
from binlogsync.targets.conversion import ColumnConverter, ColumnDefault, ColumnDefinition, Conversion
from binlogsync.targets.duckdb.column_types import duck_type, has_same_shape
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.key_dates import key_date_condition

_UNICODE = frozenset({"utf8mb4", "utf16", "utf16le", "utf32"})
_BYTES = {"tinytext": 255, "text": 65535, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1}
_BYTES |= {name.replace("text", "blob"): size for name, size in _BYTES.items()}
_DATE = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\Z")
_DATETIME = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]) ([01]\d|2[0-3]):[0-5]\d:[0-5]\d\Z")
_INTEGER = re.compile(r"-?\d{1,18}\Z")
_DECIMAL = re.compile(r"-?\d{1,18}(\.\d{1,18})?\Z")


def convert(old: Column, new: Column, dialect: SqlDialect, *, is_auto_increment: bool = False) -> Conversion | None:
    """The conversion of a column's values by MODIFY or CHANGE; None if it is never proven."""
    name = quote(old.name)
    is_text = old.type in TEXT_TYPES or old.type == "enum"
    found = _convert_text(name, old, new, dialect) if is_text else _convert_other(name, old, new)
    if found is None:
        return None
    guards = [found.guard] if found.guard else []
    if not new.nullable and old.nullable:
        guards.append(f"{name} IS NULL")
    if is_auto_increment:
        guards.append(f"{name} IS NULL OR {name} = 0")
    return Conversion(found.value, " OR ".join(f"({guard})" for guard in guards) or None)


def _convert_other(name: str, old: Column, new: Column) -> Conversion | None:
    if old.type in INTEGER_BITS:
        return _convert_integer(name, old, new)
    if old.type == new.type == "decimal":
        return _convert_decimal(name, old, new)
    if old.type in BINARY_TYPES and new.type in BINARY_TYPES:
        return _convert_bytes(name, old, new)
    if old.type == new.type == "set":
        return Conversion(name) if new.labels[: len(old.labels)] == old.labels else None
    if old.type == new.type and old.type in ("time", "datetime", "timestamp"):
        is_finer = (new.fsp or 0) >= (old.fsp or 0)
        step = 10 ** (6 - (new.fsp or 0))
        return Conversion(name, None if is_finer else f"epoch_us({name}) % {step} <> 0")
    if old.type == new.type == "bit":
        return Conversion(name) if old.length == new.length else None
    if old.type == "date" and new.type == "datetime":
        return Conversion(f"CAST({name} AS TIMESTAMP)")
    if old.type == "float" and new.type == "double":
        return Conversion(f"CAST({name} AS DOUBLE)")
    if old.type == new.type and old.type in ("float", "double") and not new.unsigned:
        return Conversion(name)
    return Conversion(name) if old.type == new.type and old.type in ("date", "year", "json") else None


def integer_range(column: Column) -> tuple[int, int]:
    """The minimum and the maximum of an integer column."""
    bits = 24 if column.type == "mediumint" else INTEGER_BITS[column.type]
    return (0, 2**bits - 1) if column.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _convert_integer(name: str, old: Column, new: Column) -> Conversion | None:
    if new.type in INTEGER_BITS:
        low, high = integer_range(new)
        return Conversion(
            f"CAST({name} AS {duck_type(new)})", f"{name}::HUGEINT < {low} OR {name}::HUGEINT > {high}::HUGEINT"
        )
    if new.type == "decimal" and (new.precision or 0) <= 38:
        limit = 10 ** ((new.precision or 0) - (new.scale or 0))
        guard = f"abs({name}::HUGEINT) >= {limit}::HUGEINT" + (f" OR {name} < 0" if new.unsigned else "")
        return Conversion(f"CAST({name} AS {duck_type(new)})", guard)
    if old.unsigned and new.type in TEXT_TYPES:
        return None  # the text would contain the zeros of ZEROFILL, which the schema does not record
    if new.type in ("varchar", "char"):
        return Conversion(f"CAST({name} AS VARCHAR)", f"length(CAST({name} AS VARCHAR)) > {new.length}")
    if new.type in ("text", "mediumtext", "longtext"):
        return Conversion(f"CAST({name} AS VARCHAR)")
    if new.type == "double" and not new.unsigned:
        return Conversion(f"CAST({name} AS DOUBLE)", f"abs({name}::HUGEINT) > {2**53}")
    return None


def _convert_text(name: str, old: Column, new: Column, dialect: SqlDialect) -> Conversion | None:
    if old.type == "char" and dialect.pads_char:
        return None
    if new.type == "enum":
        labels = ", ".join(literal(label) for label in new.labels)
        return Conversion(name, f"{name} NOT IN ({labels})")
    if new.type not in TEXT_TYPES:
        return None
    # In strict mode the server rejects a statement that would lose a character.
    is_kept = dialect.is_strict or new.charset in _UNICODE or new.charset == old.charset
    guards = [] if is_kept else [_not_ascii(name)]
    if new.type in ("varchar", "char"):
        guards.append(f"length({name}) > {new.length}")
    else:
        guards.append(f"strlen({name}) * 4 > {_BYTES[new.type]}")
    if new.type == "char":
        guards.append(f"{name} LIKE '% '")
    return Conversion(name, " OR ".join(guards))


def _not_ascii(name: str) -> str:
    return f"strlen({name}) <> length({name})"


def _convert_decimal(name: str, old: Column, new: Column) -> Conversion | None:
    precision, scale = new.precision or 10, new.scale or 0
    if precision > 38 or (old.precision or 10) > 38:
        return Conversion(name) if (precision, scale) == (old.precision, old.scale) else None
    guards = [f"{name} < 0"] if new.unsigned else []
    if precision - scale < (old.precision or 10) - (old.scale or 0) or scale < (old.scale or 0):
        guards.append(f"abs({name}) >= {10 ** (precision - scale)}::HUGEINT - 1")
    return Conversion(f"CAST({name} AS {duck_type(new)})", " OR ".join(guards) or None)


def _convert_bytes(name: str, old: Column, new: Column) -> Conversion | None:
    if new.type == "binary" and (old.type, old.length) != ("binary", new.length):
        return None
    limit = new.length if new.length is not None else _BYTES[new.type]
    return Conversion(name, f"octet_length({name}) > {limit}")


def initial_value(definition: ColumnDefinition, dialect: SqlDialect) -> str | None:
    """The value of an added column in existing rows, as SQL; None if only the server knows it."""
    column, default = definition.column, definition.default
    wanted = duck_type(column)
    if definition.is_auto_increment or definition.is_generated or default.kind == "other":
        return None
    is_null = default.kind == "null" or (default.kind == "implicit" and column.nullable)
    if is_null:
        # A TIMESTAMP without NULL is NOT NULL if explicit_defaults_for_timestamp=OFF.
        return None if column.type == "timestamp" and not definition.is_explicit_null else f"CAST(NULL AS {wanted})"
    value = _implicit_default(column) if default.kind == "implicit" else _constant_default(column, default, dialect)
    return None if value is None else f"CAST({value} AS {wanted})"


def _implicit_default(column: Column) -> str | None:
    """The implicit default of a NOT NULL column; None for dates, where it would be a zero date."""
    if column.type in INTEGER_BITS or column.type in ("decimal", "float", "double", "year", "bit"):
        return "0"
    if column.type in TEXT_TYPES:
        return "''"
    if column.type == "enum":
        return literal(column.labels[0])
    return {"set": "[]", "blob": "''::BLOB", "varbinary": "''::BLOB"}.get(column.type)


def _constant_default(column: Column, default: ColumnDefault, dialect: SqlDialect) -> str | None:
    """A constant default as SQL; None if its value depends on the SQL mode or the server."""
    text = default.text
    if column.type in INTEGER_BITS:
        low, high = integer_range(column)
        return text if _INTEGER.match(text) and low <= int(text) <= high else None
    if column.type == "decimal":
        whole, _, fraction = text.lstrip("-").partition(".")
        digits = (column.precision or 10) - (column.scale or 0)
        fits = len(whole.lstrip("0")) <= digits and len(fraction) <= (column.scale or 0) and column.precision != 0
        is_signed = text.startswith("-") and column.unsigned
        return literal(text) if _DECIMAL.match(text) and fits and not is_signed else None
    if column.type == "double":
        return literal(text) if _DECIMAL.match(text) and not column.unsigned else None
    if default.kind != "string":
        return None
    if column.type in ("varchar", "char"):
        is_kept = text.isascii() or dialect.is_strict or column.charset in _UNICODE
        fits = len(text) <= (column.length or 0) and not text.endswith(" ") and "\0" not in text
        return literal(text) if is_kept and fits else None
    if column.type == "enum":
        return literal(text) if text in column.labels else None
    if column.type == "date":
        return literal(text) if _DATE.match(text) and text[8:] <= "28" else None
    if column.type == "datetime":
        return literal(text) if _DATETIME.match(text) and text[8:10] <= "28" else None
    return None


class DuckConverter(ColumnConverter):
    """The conversions in DuckDB's SQL."""

    def keep(self, name: str) -> str:
        """See ColumnConverter, also for the other methods."""
        return quote(name)

    def is_null(self, name: str) -> str:
        return f"{quote(name)} IS NULL"

    def convert(
        self, old: Column, new: Column, dialect: SqlDialect, *, is_auto_increment: bool = False
    ) -> Conversion | None:
        return convert(old, new, dialect, is_auto_increment=is_auto_increment)

    def initial_value(self, definition: ColumnDefinition, dialect: SqlDialect) -> str | None:
        return initial_value(definition, dialect)

    def key_date_condition(self, names: Iterable[str]) -> str:
        return key_date_condition(names)

    def has_same_shape(self, one: TableSchema, other: TableSchema) -> bool:
        return has_same_shape(one, other)
