"""Column types as SQL writes them ("decimal(10,2) unsigned", "ENUM('a','b') CHARACTER SET latin1") -> `Column`.

Returns None for an unknown type, or one whose meaning depends on the SQL mode.
"""

from __future__ import annotations

from dataclasses import replace

from binlogsync.binlog.sql import Token, TokenCursor
from binlogsync.schema import ADDRESS_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

UNKNOWN_CHARSET = "unknown"
"""Character set of a text column that uses the default of a table that is not known."""

_SYNONYMS = {
    "INTEGER": "int",
    "BOOL": "tinyint",
    "BOOLEAN": "tinyint",
    "INT1": "tinyint",
    "INT2": "smallint",
    "INT3": "mediumint",
    "INT4": "int",
    "INT8": "bigint",
    "MIDDLEINT": "mediumint",
    "DEC": "decimal",
    "NUMERIC": "decimal",
    "FIXED": "decimal",
    "CHARACTER": "char",
    "GEOMCOLLECTION": "geometrycollection",
}
_LENGTHS: dict[str, int | None] = {"char": 1, "binary": 1, "bit": 1, "varchar": None, "varbinary": None, "vector": None}
_TEMPORAL = frozenset({"time", "datetime", "timestamp"})
_BARE = frozenset({"date", "json", "float", "double", "year", "decimal"})
_BLOBS = ("tiny", "", "medium", "long")
_BINARY_TYPES = {"char": "binary", "varchar": "varbinary"} | {f"{size}text": f"{size}blob" for size in _BLOBS}
_CHARSETS = {"utf8": "utf8mb3"}
_KNOWN = (
    frozenset(INTEGER_BITS)
    | _BARE
    | _TEMPORAL
    | frozenset(_LENGTHS)
    | TEXT_TYPES
    | {f"{size}blob" for size in _BLOBS}
    | frozenset(GEOMETRY_TYPES)
)


def read_type(words: TokenCursor) -> Column | None:
    """Read a type with its sign, labels and character set, as a column without a name; None if unknown.

    A text type without an explicit character set has UNKNOWN_CHARSET.
    """
    dialect = words.dialect
    first = words.next()
    kind = _SYNONYMS.get(first.text.upper(), first.text.lower())
    if first.kind != "word" or first.text.lower() in dialect.foreign_types:
        return None
    if kind == "real":
        kind = "float" if dialect.real_is_float else "double"
    if kind == "double":
        words.take("PRECISION")
    if kind == "char" and words.take("VARYING"):
        kind = "varchar"
    inside = [part.next() for part in words.take_parentheses().split()] if words.word == "(" else []
    if kind in ("enum", "set"):
        return _read_labels(kind, inside, words)
    if kind not in _KNOWN and not (dialect.mariadb and kind in ADDRESS_TYPES):
        return None
    numbers = [int(token.text) for token in inside if token.text.isdigit()]
    if len(numbers) != len(inside):
        return None
    column = _apply_arguments(kind, numbers)
    if column is None:
        return None
    if kind == "json" and dialect.mariadb:
        return replace(column, type="longtext", charset="utf8mb4")
    if kind in INTEGER_BITS or kind in ("decimal", "float", "double"):
        return replace(column, unsigned=_read_sign(words))
    return _apply_charset(column, read_charset(words)) if kind in TEXT_TYPES else column


def _apply_arguments(kind: str, numbers: list[int]) -> Column | None:
    """The type with its arguments in parentheses; None if they do not fit."""
    plain = Column("", kind)
    if kind in INTEGER_BITS or kind == "year":
        return plain
    if kind == "float" and len(numbers) == 1:
        return replace(plain, type="double") if numbers[0] > 24 else plain
    if kind == "decimal" and len(numbers) <= 2:
        precision, scale = (*numbers, *(10, 0)[len(numbers) :])
        return replace(plain, precision=precision or 10, scale=scale)
    if kind in _TEMPORAL and len(numbers) <= 1:
        return replace(plain, fsp=numbers[0] if numbers else 0)
    if kind in _LENGTHS:
        length = numbers[0] if numbers else _LENGTHS[kind]
        return None if length is None else replace(plain, length=length)
    return None if numbers else plain


def _read_sign(words: TokenCursor) -> bool:
    unsigned = False
    while words.word in ("UNSIGNED", "SIGNED", "ZEROFILL"):
        unsigned = words.next().text.upper() != "SIGNED" or unsigned
    return unsigned


def _read_labels(kind: str, inside: list[Token], words: TokenCursor) -> Column | None:
    if not inside or any(token.kind != "string" or token.charset for token in inside):
        return None
    # The server removes trailing spaces of labels.
    kept = tuple(token.text.rstrip(" ") for token in inside)
    return _apply_charset(Column("", kind, labels=kept), read_charset(words))


def read_charset(words: TokenCursor) -> str | None:
    """Read a character set, given by name or by a collation; None if there is none."""
    found: str | None = None
    while True:
        if words.take("CHARACTER", "SET") or words.take("CHARSET"):
            words.take("=")
            found = _read_charset_name(words)
        elif words.take("COLLATE"):
            words.take("=")
            collation = _read_charset_name(words)
            found = found or (UNKNOWN_CHARSET if collation.startswith("uca") else collation.partition("_")[0])
        else:
            return None if found is None else _CHARSETS.get(found, found)


def _read_charset_name(words: TokenCursor) -> str:
    """Read a name, which may be quoted."""
    string = words.string()
    return (words.name() if string is None else string.text).lower()


def _apply_charset(column: Column, charset: str | None) -> Column | None:
    """The column with the character set; `binary` changes a text type to the corresponding binary type."""
    if charset != "binary":
        return replace(column, charset=charset or UNKNOWN_CHARSET)
    binary = _BINARY_TYPES.get(column.type)
    return None if binary is None else replace(column, type=binary)
