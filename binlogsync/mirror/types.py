"""Column types as SQL writes them ("decimal(10,2) unsigned", "ENUM('a','b') CHARACTER SET latin1") -> `Column`.

The same reading serves a DDL statement of the binlog and COLUMN_TYPE of information_schema. What is not known here is
None, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from binlogsync.binlog.ddl import TOKEN
from binlogsync.schema import ADDRESS_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

UNKNOWN_CHARSET = "unknown"
"""Character set of a text column whose table's default is not known."""

_SYNONYMS = {
    "INTEGER": "int",
    "BOOL": "tinyint",
    "BOOLEAN": "tinyint",
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
_BINARY_TWINS = {"char": "binary", "varchar": "varbinary"} | {f"{size}text": f"{size}blob" for size in _BLOBS}
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


class Words:
    """Tokens of SQL text, one after the other; "" behind the last."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @classmethod
    def of(cls, sql: str) -> Words:
        """Of a text, its comments left out."""
        return cls([match[0] for match in TOKEN.finditer(sql) if match["skip"] is None])

    @property
    def token(self) -> str:
        """The next token as it is written."""
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    @property
    def word(self) -> str:
        """The next token in capitals."""
        return self.token.upper()

    def next(self) -> str:
        """The next token, and step over it."""
        token = self.token
        self._at += 1
        return token

    def take(self, *words: str) -> bool:
        """Step over these words if they come next, all of them."""
        ahead = tuple(token.upper() for token in self._tokens[self._at : self._at + len(words)])
        if ahead != words:
            return False
        self._at += len(words)
        return True

    def name(self) -> str:
        """An identifier, and step over it."""
        token = self.next()
        quote = token[:1]
        return token[1:-1].replace(quote * 2, quote) if quote in ("`", '"') else token

    def inside(self) -> Words:
        """What stands between the parenthesis that comes next and its end, and step over them."""
        self._at += 1
        start, depth = self._at, 1
        while self.token and depth:
            depth += {"(": 1, ")": -1}.get(self.next(), 0)
        return Words(self._tokens[start : self._at - 1])

    def split(self) -> list[Words]:
        """What stands between the commas, those within parentheses left alone."""
        parts: list[list[str]] = [[]]
        depth = 0
        while self.token:
            token = self.next()
            depth += {"(": 1, ")": -1}.get(token, 0)
            if token == "," and not depth:
                parts.append([])
            else:
                parts[-1].append(token)
        return [Words(part) for part in parts]


def string_literal(token: str) -> str | None:
    """The text of a quoted string; None for what is none, or has escapes that depend on the SQL mode."""
    quote = token[:1]
    if quote not in ("'", '"') or len(token) < 2 or "\\" in token:
        return None
    return token[1:-1].replace(quote * 2, quote)


def read_type(words: Words, *, mariadb: bool) -> Column | None:
    """The type that comes next, with its sign, labels and character set, as a column without a name; None if unknown.

    A text without a character set of its own has UNKNOWN_CHARSET.
    """
    first = words.next()
    kind = _SYNONYMS.get(first.upper(), first.lower())
    if kind == "double":
        words.take("PRECISION")
    if kind == "char" and words.take("VARYING"):
        kind = "varchar"
    inside = [part.next() for part in words.inside().split()] if words.token == "(" else []
    if kind in ("enum", "set"):
        return _labelled(kind, inside, words)
    if kind not in _KNOWN and not (mariadb and kind in ADDRESS_TYPES):
        return None
    numbers = [int(text) for text in inside if text.isdigit()]
    if len(numbers) != len(inside):
        return None
    column = _sized(kind, numbers)
    if column is None:
        return None
    if kind == "json" and mariadb:
        return replace(column, type="longtext", charset="utf8mb4")
    if kind in INTEGER_BITS or kind in ("decimal", "float", "double"):
        return replace(column, unsigned=_sign(words))
    return _with_charset(column, read_charset(words)) if kind in TEXT_TYPES else column


def _sized(kind: str, numbers: list[int]) -> Column | None:
    """With what its type has in parentheses."""
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


def _sign(words: Words) -> bool:
    unsigned = False
    while words.word in ("UNSIGNED", "SIGNED", "ZEROFILL"):
        unsigned = words.next().upper() != "SIGNED" or unsigned
    return unsigned


def _labelled(kind: str, inside: list[str], words: Words) -> Column | None:
    labels = [string_literal(token) for token in inside]
    if not labels or None in labels:
        return None
    # Trailing blanks of a label are not kept.
    kept = tuple((label or "").rstrip(" ") for label in labels)
    return _with_charset(Column("", kind, labels=kept), read_charset(words))


def read_charset(words: Words) -> str | None:
    """The character set that comes next, named itself or by a collation; None when there is none."""
    found: str | None = None
    while True:
        if words.take("CHARACTER", "SET") or words.take("CHARSET"):
            words.take("=")
            found = words.name().lower()
        elif words.take("COLLATE"):
            words.take("=")
            collation = words.name().lower()
            found = found or (UNKNOWN_CHARSET if collation.startswith("uca") else collation.partition("_")[0])
        else:
            return None if found is None else _CHARSETS.get(found, found)


def _with_charset(column: Column, charset: str | None) -> Column | None:
    """With the character set; `binary` makes the binary twin of a text."""
    if charset != "binary":
        return replace(column, charset=charset or UNKNOWN_CHARSET)
    twin = _BINARY_TWINS.get(column.type)
    return None if twin is None else replace(column, type=twin)
