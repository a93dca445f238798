"""A column as CREATE and ALTER TABLE define it: name, type, attributes, default, and where it goes. Read strictly."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from binlogsync.mirror.types import Words, read_charset, read_type, string_literal
from binlogsync.schema import Column


class UnknownSQLError(Exception):
    """Something that is not known here."""


@dataclass(frozen=True, slots=True)
class Default:
    """What a column without a value gets.

    Attributes:
        kind: "implicit" when the statement says nothing, else what it says; "other" is what only the server can know.
        text: of a number or string.
    """

    kind: Literal["implicit", "null", "number", "string", "other"] = "implicit"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A column as a statement defines it.

    Attributes:
        column: its shape.
        default: of rows that are there already, when it is added.
        says_null: NULL is written out.
        is_key: PRIMARY KEY stands in it.
        counts_up: AUTO_INCREMENT.
        is_generated: the server computes it.
    """

    column: Column
    default: Default = field(default_factory=Default)
    says_null: bool = False
    is_key: bool = False
    counts_up: bool = False
    is_generated: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a column goes: FIRST, AFTER another one, or where it is or at the end when both are unset."""

    after: str | None = None
    is_first: bool = False


def read_definition(words: Words, mariadb: bool) -> tuple[Definition, Place]:
    """A column's name, type and attributes, and where it goes; raises UnknownSQLError."""
    name = words.name()
    column = read_type(words, mariadb=mariadb)
    if column is None or not name:
        raise UnknownSQLError
    made, place = Definition(replace(column, name=name)), Place()
    while words.token:
        if words.take("FIRST"):
            place = Place(is_first=True)
        elif words.take("AFTER"):
            place = Place(after=words.name())
        else:
            made = _attribute(words, made)
    return made, place


def _attribute(words: Words, made: Definition) -> Definition:
    """One attribute of a column; raises UnknownSQLError."""
    if words.take("NOT", "NULL"):
        return replace(made, column=replace(made.column, nullable=False))
    if words.take("NULL"):
        return replace(made, says_null=True)
    if words.take("DEFAULT"):
        return replace(made, default=_default(words))
    if words.take("AUTO_INCREMENT"):
        return replace(made, counts_up=True, column=replace(made.column, nullable=False))
    if words.take("PRIMARY", "KEY") or words.take("PRIMARY"):
        return replace(made, is_key=True, column=replace(made.column, nullable=False))
    if words.take("UNIQUE", "KEY") or words.take("UNIQUE"):
        return made
    if words.take("INVISIBLE"):
        return replace(made, column=replace(made.column, visible=False))
    if words.take("COMMENT") and string_literal(words.next().replace("\\", "")) is not None:
        return made
    if words.take("VISIBLE"):
        return made
    if words.word in ("CHARACTER", "CHARSET", "COLLATE"):
        charset = read_charset(words)
        if made.column.charset is None or charset in (None, "binary"):
            raise UnknownSQLError
        return replace(made, column=replace(made.column, charset=charset))
    if words.take("CHECK") and words.token == "(":
        words.inside()
        return made
    if words.take("ON", "UPDATE"):
        words.next()
        if words.token == "(":
            words.inside()
        return made
    if words.take("GENERATED", "ALWAYS", "AS") or words.take("AS"):
        words.inside()
        if words.word in ("VIRTUAL", "STORED", "PERSISTENT"):
            words.next()
        return replace(made, is_generated=True)
    raise UnknownSQLError


def _default(words: Words) -> Default:
    token = words.next()
    if token in ("-", "+"):
        return Default("number", ("-" if token == "-" else "") + _number(words, words.next()))
    if token.upper() == "NULL":
        return Default("null")
    if token.upper() in ("TRUE", "FALSE"):
        return Default("number", "1" if token.upper() == "TRUE" else "0")
    text = string_literal(token)
    if text is not None and words.token[:1] not in ("'", '"'):
        return Default("string", text)
    if token[:1].isdigit():
        number = _number(words, token)
        return Default("number", number) if number.replace(".", "", 1).isdigit() else _other(words)
    return _other(words)


def _number(words: Words, token: str) -> str:
    """A number, whose point is a token of its own."""
    if words.take("."):
        return f"{token}.{words.next()}"
    return token


def _other(words: Words) -> Default:
    """A default that only the server can work out, and whatever belongs to it."""
    while words.token and words.word not in ("FIRST", "AFTER"):
        words.next()
    return Default("other")
