"""Splits the SQL text of a logged statement into tokens, as the lexer of the server does.

All SQL parsers of the project use this lexer. It handles all forms of comments, quotes according to the SQL mode,
escapes in strings, and adjacent strings, which it joins. The server replaces the "!" of an executable comment that it
did not execute, so a logged `/*!80000 ... */` (on MariaDB also `/*M!100100 ... */`) is part of the statement. Invalid
text becomes a token of kind "broken", which no parser accepts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

_REAL_AS_FLOAT, _ANSI_QUOTES, _ORACLE, _MAXDB = 1, 1 << 2, 1 << 9, 1 << 12
_NO_BACKSLASH_ESCAPES, _STRICT, _PAD_CHAR = 1 << 20, 3 << 21, 1 << 31
_EMPTY_STRING_IS_NULL = 1 << 32  # on MariaDB; this bit is another mode on MySQL
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_INTRODUCER = re.compile(r"_[a-z0-9]+\Z", re.IGNORECASE)
_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SqlDialect:
    """The kind of server that executed a statement, and settings of the session.

    Attributes:
        mariadb: True for MariaDB.
        sql_mode: the SQL mode as a number; 0 if unknown.
        recodes_literals: True when the value of non-ASCII strings may differ from their text.
    """

    mariadb: bool = False
    sql_mode: int = 0
    recodes_literals: bool = False

    @property
    def ansi_quotes(self) -> bool:
        """True when double quotes enclose names, not strings."""
        return bool(self.sql_mode & _ANSI_QUOTES)

    @property
    def has_escapes(self) -> bool:
        """True when a backslash in a string is an escape."""
        return not self.sql_mode & _NO_BACKSLASH_ESCAPES

    @property
    def is_strict(self) -> bool:
        """True when ALTER TABLE fails if a value does not fit, instead of changing the value."""
        return bool(self.sql_mode & _STRICT)

    @property
    def empty_is_null(self) -> bool:
        """True when '' is NULL."""
        return self.mariadb and bool(self.sql_mode & _EMPTY_STRING_IS_NULL)

    @property
    def pads_char(self) -> bool:
        """True when the server returns CHAR values with trailing blanks."""
        return bool(self.sql_mode & _PAD_CHAR)

    @property
    def real_is_float(self) -> bool:
        """True when REAL is FLOAT, not DOUBLE."""
        return bool(self.sql_mode & _REAL_AS_FLOAT)

    @property
    def foreign_types(self) -> frozenset[str]:
        """Names of types, in lower case, that stand for another type in this SQL mode."""
        if self.sql_mode & _ORACLE and self.mariadb:
            return frozenset({"date", "blob", "number", "varchar2", "clob", "raw"})
        return frozenset({"timestamp"}) if self.sql_mode & _MAXDB else frozenset()


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: "word" is a keyword, an unquoted name, or a number; "name" is quoted; "bits" is x'..' or b'..'.
        text: the value of a name or string, without quotes and escapes; the text of a word or sign.
        charset: the introducer of a string, such as _utf8mb4 or N; "" without one.
    """

    kind: Literal["word", "name", "string", "bits", "sign", "broken"]
    text: str
    charset: str = ""


END = Token("sign", "")
"""The token after the last one."""


@lru_cache(maxsize=16)
def _pattern(ansi_quotes: bool, has_escapes: bool, mariadb: bool) -> re.Pattern[str]:
    # Matches runs of ordinary characters, not single ones, so that a long string takes little time and memory.
    inside = r"[^{0}\\]*(?:(?:\\.|{0}{0})[^{0}\\]*)*" if has_escapes else r"[^{0}]*(?:{0}{0}[^{0}]*)*"
    single, double = (quote + inside.format(quote) + quote for quote in ("'", '"'))
    if ansi_quotes:
        name, string = r'`(?:[^`]|``)*`|"(?:[^"]|"")*"', single  # no escape in a name
    else:
        name, string = r"`(?:[^`]|``)*`", f"{single}|{double}"
    executed = r"/\*M?!" if mariadb else r"/\*!"
    return re.compile(
        rf"(?P<open>{executed}(?:\d{{5,6}})?)|(?P<close>\*/)"
        rf"|(?P<skip>/\*.*?\*/|--(?=[\0-\x20\x7f]|\Z)[^\n]*|\#[^\n]*|[\0-\x20\x7f]+)"
        rf"|(?P<bits>[xXbB]'[0-9a-fA-F]*')|(?P<national>[nN](?='))"
        rf"|(?P<name>{name})|(?P<string>{string})"
        r"|(?P<word>[0-9A-Za-z_$\u0080-\U0010ffff]+)|(?P<broken>['\"`]|/\*)|(?P<sign>.)",
        re.DOTALL,
    )


def tokenize(sql: str, dialect: SqlDialect) -> Iterator[Token]:
    """The tokens of a statement; comments are left out."""
    introducer, pieces = "", list[str]()  # of a string that the next token may continue
    for token in _raw_tokens(sql, dialect):
        if token.kind == "string":
            pieces.append(token.text)
            continue
        if pieces:
            yield Token("string", "".join(pieces), introducer)
        elif introducer:
            yield Token("word", introducer)  # no string follows, so it is a word
        introducer, pieces = "", []
        if token.charset or (token.kind == "word" and _INTRODUCER.match(token.text)):
            introducer = token.text
        else:
            yield token
    if pieces:
        yield Token("string", "".join(pieces), introducer)
    elif introducer:
        yield Token("word", introducer)


def _raw_tokens(sql: str, dialect: SqlDialect) -> Iterator[Token]:
    """The tokens, with introducers and adjacent strings as separate tokens."""
    is_inside = False
    for match in _pattern(dialect.ansi_quotes, dialect.has_escapes, dialect.mariadb).finditer(sql):
        group, text = match.lastgroup, match[0]
        if group == "skip":
            continue
        if group == "open":
            is_inside = True
        elif group == "close" and is_inside:
            is_inside = False
        elif group == "broken":  # a quote or comment that is never closed
            yield Token("broken", text)
            return
        elif group == "close":
            yield Token("broken", text)
        elif group == "name":
            yield Token("name", text[1:-1].replace(text[0] * 2, text[0]))
        elif group == "string":
            yield Token("string", _string_text(text, dialect.has_escapes))
        elif group == "national":
            yield Token("word", text, text)
        elif group == "bits":
            yield Token("bits", text)
        else:
            yield Token("word" if group == "word" else "sign", text)
    if is_inside:
        yield Token("broken", "/*!")


def _string_text(literal: str, has_escapes: bool) -> str:
    """The value of a string literal."""
    quote = literal[0]
    if not has_escapes or "\\" not in literal:
        return literal[1:-1].replace(quote * 2, quote)
    parts = _BACKSLASH.split(literal[1:-1])
    parts[::2] = [part.replace(quote * 2, quote) for part in parts[::2]]
    parts[1::2] = [_ESCAPES.get(escaped, escaped) for escaped in parts[1::2]]
    return "".join(parts)


class TokenCursor:
    """A cursor over the tokens of a statement; END follows the last one."""

    def __init__(self, tokens: Sequence[Token], dialect: SqlDialect) -> None:
        self.dialect = dialect
        self._tokens = tokens
        self._at = 0

    @classmethod
    def of(cls, sql: str, dialect: SqlDialect, limit: int | None = None) -> TokenCursor:
        """A cursor over all tokens of a text, or over the first `limit`."""
        return cls(list(islice(tokenize(sql, dialect), limit)), dialect)

    @property
    def rest(self) -> Sequence[Token]:
        """The remaining tokens."""
        return self._tokens[self._at :]

    @property
    def token(self) -> Token:
        """The next token."""
        return self._tokens[self._at] if self._at < len(self._tokens) else END

    @property
    def is_left(self) -> bool:
        """True while tokens remain."""
        return self._at < len(self._tokens)

    @property
    def word(self) -> str:
        """The next token in upper case, if it is a word or a sign; "" for a quoted token and at the end."""
        return _word(self.token)

    def next(self) -> Token:
        """Return the next token and advance."""
        token = self.token
        self._at += 1
        return token

    def take(self, *words: str) -> bool:
        """Advance over these words if all of them follow; returns whether they do."""
        ahead = self._tokens[self._at : self._at + len(words)]
        if len(ahead) != len(words) or any(_word(token) != word for token, word in zip(ahead, words, strict=True)):
            return False
        self._at += len(words)
        return True

    def take_any(self, *words: str) -> bool:
        """Advance over the next word if it is one of these; returns whether it is."""
        is_one = self.is_left and self.word in words
        self._at += is_one
        return is_one

    def name(self) -> str:
        """Return the next token and advance if it is an identifier; else return ""."""
        token = self.token
        is_name = token.kind in ("word", "name")
        self._at += is_name
        return token.text if is_name else ""

    def string(self) -> Token | None:
        """Return the next token and advance if it is a string; else return None."""
        return self.next() if self.token.kind == "string" else None

    def take_parentheses(self) -> TokenCursor:
        """Advance over the parenthesis that follows, and return a cursor over its contents."""
        self._at += 1
        start, depth = self._at, 1
        while self.is_left and depth:
            depth += _DEPTH.get(_word(self.next()), 0)
        return TokenCursor(self._tokens[start : self._at - 1], self.dialect)

    def split(self) -> list[TokenCursor]:
        """Advance to the end, and return a cursor for each part between commas that are outside parentheses."""
        parts: list[list[Token]] = [[]]
        depth = 0
        while self.is_left:
            token = self.next()
            word = _word(token)
            depth += _DEPTH.get(word, 0)
            if word == "," and not depth:
                parts.append([])
            else:
                parts[-1].append(token)
        return [TokenCursor(part, self.dialect) for part in parts]

    def take_until(self, *words: str) -> TokenCursor:
        """Advance to these words, outside parentheses, or to the end; returns a cursor over the tokens before them."""
        start, depth = self._at, 0
        while self.is_left:
            ahead = self._tokens[self._at : self._at + len(words)]
            if not depth and tuple(map(_word, ahead)) == words:
                break
            depth += _DEPTH.get(self.word, 0)
            self._at += 1
        return TokenCursor(self._tokens[start : self._at], self.dialect)


_DEPTH = {"(": 1, ")": -1}


def _word(token: Token) -> str:
    return token.text.upper() if token.kind in ("word", "sign") else ""
