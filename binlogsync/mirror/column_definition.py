"""Parses a column in CREATE and ALTER TABLE: name, type, attributes, default and position.

Unknown syntax raises UnsupportedSQLError.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from binlogsync.binlog.sql import TokenCursor
from binlogsync.mirror.types import read_charset, read_type
from binlogsync.targets.conversion import ColumnDefault, ColumnDefinition

# Introducers of character sets in which ASCII text has different bytes.
_OTHER_BYTES = ("_utf16", "_utf32", "_ucs2", "_binary")


class UnsupportedSQLError(Exception):
    """The statement contains syntax that the parser does not support."""


@dataclass(frozen=True, slots=True)
class ColumnPosition:
    """The position of a column: FIRST, AFTER another column, or unchanged (at the end for a new column)."""

    after: str | None = None
    is_first: bool = False


def read_definition(words: TokenCursor) -> tuple[ColumnDefinition, ColumnPosition]:
    """A column's definition and position; raises UnsupportedSQLError."""
    name = words.name()
    column = read_type(words)
    if column is None or not name:
        raise UnsupportedSQLError
    made, position = ColumnDefinition(replace(column, name=name)), ColumnPosition()
    while words.is_left:
        if words.take("FIRST"):
            position = ColumnPosition(is_first=True)
        elif words.take("AFTER"):
            position = ColumnPosition(after=words.name())
        else:
            made = _read_attribute(words, made)
    return made, position


def _read_attribute(words: TokenCursor, made: ColumnDefinition) -> ColumnDefinition:
    """Read one attribute of a column; raises UnsupportedSQLError."""
    if words.take("NOT", "NULL"):
        return replace(made, column=replace(made.column, nullable=False))
    if words.take("NULL"):
        return replace(made, is_explicit_null=True)
    if words.take("DEFAULT"):
        return replace(made, default=_read_default(words))
    if words.take("AUTO_INCREMENT"):
        return replace(made, is_auto_increment=True, column=replace(made.column, nullable=False))
    if words.take("PRIMARY", "KEY") or words.take("PRIMARY") or words.take("KEY"):
        return replace(made, is_key=True, column=replace(made.column, nullable=False))
    if words.take("UNIQUE", "KEY") or words.take("UNIQUE"):
        return made
    if words.take("INVISIBLE"):
        return replace(made, column=replace(made.column, visible=False))
    if words.word in ("CHARACTER", "CHARSET", "COLLATE"):
        charset = read_charset(words)
        if made.column.charset is None or charset in (None, "binary"):
            raise UnsupportedSQLError
        return replace(made, column=replace(made.column, charset=charset))
    if words.take("GENERATED", "ALWAYS", "AS") or words.take("AS"):
        if words.word != "(":  # ROW START and ROW END of MariaDB's system versioning
            raise UnsupportedSQLError
        words.take_parentheses()
        words.take_any("VIRTUAL", "STORED", "PERSISTENT")
        return replace(made, is_generated=True)
    if _skip_attribute(words):
        return made
    raise UnsupportedSQLError


def _skip_attribute(words: TokenCursor) -> bool:
    """Skip an attribute that changes neither the column nor its values; False if the next one is another."""
    if words.take_any("COMMENT", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"):
        words.take("=")
        return words.string() is not None
    if words.take_any("COLUMN_FORMAT", "STORAGE", "SRID"):
        return bool(words.name())
    if words.take("CONSTRAINT") and words.word != "CHECK":
        words.name()
    if words.take("CHECK"):
        if words.word != "(":
            raise UnsupportedSQLError
        words.take_parentheses()
        words.take("NOT")
        words.take("ENFORCED")
        return True
    if words.take("ON", "UPDATE"):
        _skip_call(words)
        return True
    if words.take("REFERENCES"):
        return _skip_reference(words)
    return words.take_any("VISIBLE") or words.take("NOT", "SECONDARY")


def _skip_reference(words: TokenCursor) -> bool:
    """Skip a REFERENCES clause."""
    words.name()
    if words.take("."):
        words.name()
    if words.word == "(":
        words.take_parentheses()
    if words.take("MATCH"):
        words.name()
    while words.take("ON", "DELETE") or words.take("ON", "UPDATE"):
        if not (words.take("SET", "NULL") or words.take("SET", "DEFAULT") or words.take("NO", "ACTION")):
            words.name()
    return True


def _skip_call(words: TokenCursor) -> None:
    """Skip a function call, with or without parentheses."""
    words.name()
    if words.word == "(":
        words.take_parentheses()


def _read_default(words: TokenCursor) -> ColumnDefault:
    if words.token.kind == "string":
        return _read_string(words)
    sign = words.word
    if words.take_any("-", "+"):
        return ColumnDefault("number", ("-" if sign == "-" else "") + _read_number(words))
    if words.take("NULL"):
        return ColumnDefault("null")
    if words.word in ("TRUE", "FALSE"):
        return ColumnDefault("number", "1" if words.next().text.upper() == "TRUE" else "0")
    if words.word[:1].isdigit():
        number = _read_number(words)
        return ColumnDefault("number", number) if number.replace(".", "", 1).isdigit() else ColumnDefault("other")
    if words.word == "(":
        words.take_parentheses()
    elif words.token.kind == "bits":
        words.next()
    elif not words.take("NEXT", "VALUE", "FOR"):
        _skip_call(words)
    else:
        words.name()
    return ColumnDefault("other")


def _read_string(words: TokenCursor) -> ColumnDefault:
    """Read a string default; "other" if its text depends on the character set of the client or an introducer."""
    token = words.next()
    if words.dialect.empty_is_null and not token.text:
        return ColumnDefault("null")
    is_ascii = token.text.isascii()
    is_plain = not token.charset or (is_ascii and not token.charset.lower().startswith(_OTHER_BYTES))
    is_exact = is_plain and (is_ascii or not words.dialect.recodes_literals)
    return ColumnDefault("string", token.text) if is_exact else ColumnDefault("other")


def _read_number(words: TokenCursor) -> str:
    """Read a number; the tokenizer returns its decimal point as a separate token."""
    whole = words.next().text
    return f"{whole}.{words.next().text}" if words.take(".") else whole
