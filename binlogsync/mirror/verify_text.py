"""Renders values as text for a comparison: in Python from what the server prints, in DuckDB from a mirror.

This module shares no code with the path that writes a mirror, so a value that was decoded, converted or written
incorrectly has a different text. The hash of a row is the MD5 of the texts of its columns, each prefixed with its
length. NULL has no text; neither has an invalid date, except in a primary key (see targets/duckdb/key_dates.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from hashlib import md5
from typing import Any

from binlogsync.binlog.charsets import BINARY
from binlogsync.binlog.types.label_text import has_doubtful_labels, label_text, members
from binlogsync.schema import BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, Column, TableSchema
from binlogsync.sql_identifiers import quote_mysql

Render = Callable[[Any], str | None]
DATES = frozenset({"date", "datetime", "timestamp"})
_INVALID_DATES_START = -8_024_012  # DATE '20000-01-01 (BC)', in days since 1970
_DAY_US = 86_400_000_000
NO_DATE = "no such date "
_LONGEST_DECIMAL = 38  # longer decimals are text in a mirror


def server_select(schema: TableSchema) -> str:
    """SQL of the columns, in forms that the server prints exactly."""
    return ", ".join(_server_form(column).format(quote_mysql(column.name)) for column in schema.columns)


def _server_form(column: Column) -> str:
    if column.type == "float":
        return "{} * 1e0"  # a FLOAT would be printed with six digits
    if column.type in ("bit", "year"):
        return "{} + 0"
    if column.type in BINARY_TYPES or column.type in GEOMETRY_TYPES or has_doubtful_labels(column.labels):
        return "HEX({})"
    return "HEX(CAST({} AS BINARY))" if column.type == "vector" else "{}"


def server_texts(schema: TableSchema, rows: Sequence[Sequence[Any]], *, mariadb: bool) -> list[list[str | None]]:
    """The text of each value, as a list per column."""
    found = []
    for column, values in zip(schema.columns, zip(*rows, strict=True), strict=True):
        render = _renderer(column, is_key=column.name in schema.primary_key, mariadb=mariadb)
        found.append([None if value is None else render(value) for value in values])
    return found


def hash_texts(texts: Sequence[Sequence[str | None]]) -> list[str]:
    """The MD5 of each row, from the texts of its columns."""
    marked = [["n" if text is None else f"v{len(text)}:{text}" for text in column] for column in texts]
    return [md5("".join(row).encode(), usedforsecurity=False).hexdigest() for row in zip(*marked, strict=True)]


def _renderer(column: Column, *, is_key: bool, mariadb: bool) -> Render:
    kind = column.type
    if kind in DATES:
        return lambda text: _date(text, is_key=is_key)
    if has_doubtful_labels(column.labels):
        return lambda text: _labels(column, bytes.fromhex(text), mariadb=mariadb)
    if kind in INTEGER_BITS or kind in ("bit", "year"):
        return lambda text: str(int(text))
    if kind in ("float", "double"):
        return lambda text: repr(float(text))
    if kind == "decimal" and column.precision == column.scale and (column.scale or 0) <= _LONGEST_DECIMAL:
        return lambda text: f"{Decimal(text):f}".replace(
            "0.", ".", 1
        )  # as DuckDB prints a decimal without integer digits
    if kind == "decimal":
        return lambda text: f"{Decimal(text):f}"
    simple: dict[str, Render] = {"time": _time, "vector": _vector}
    if kind in GEOMETRY_TYPES:
        return _geometry
    return simple.get(kind, str)


def _date(text: str, *, is_key: bool) -> str | None:
    day, _, time = text.partition(" ")
    year, month, number = map(int, day.split("-"))
    time = time.rstrip("0").rstrip(".") if "." in time else time
    try:
        date(year, month, number)
    except ValueError:
        if not is_key:
            return None
        days = _INVALID_DATES_START + (year * 16 + month) * 32 + number
        return f"{NO_DATE}{days * _DAY_US + (int(_time(time)) if time else 0)}"
    return f"{day} {time}" if time else day


def read_date(text: str) -> str:
    """The date of a key as the server prints it, from its text; other texts are returned as they are."""
    if not text.startswith(NO_DATE):
        return text
    number, micros = divmod(int(text.removeprefix(NO_DATE)), _DAY_US)
    months, day = divmod(number - _INVALID_DATES_START, 32)
    year, month = divmod(months, 16)
    seconds, fraction = divmod(micros, 1_000_000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:06d}"
    return f"{year:04d}-{month:02d}-{day:02d}" + (f" {clock}" if micros else "")


def _time(text: str) -> str:
    """A TIME as microseconds."""
    hours, minutes, seconds = text.lstrip("-").split(":")
    whole, _, fraction = seconds.partition(".")
    micros = ((int(hours) * 60 + int(minutes)) * 60 + int(whole)) * 1_000_000 + int(fraction.ljust(6, "0") or 0)
    return str(-micros if text.startswith("-") else micros)


def _vector(text: str) -> str:
    return ",".join(repr(value) for (value,) in struct.iter_unpack("<f", bytes.fromhex(text)))


def _geometry(text: str) -> str:
    return f"{int.from_bytes(bytes.fromhex(text[:8]), 'little')}:{text[8:].upper()}"


def _labels(column: Column, data: bytes, *, mariadb: bool) -> str:
    charset = column.charset or BINARY
    if column.type == "set":
        return ",".join(members(data, charset, mariadb=mariadb))
    return label_text(data, charset, mariadb=mariadb)
