"""SQL text of a logged statement -> tokens, as the lexer of the server that logged it read them.

The one place where the project reads SQL of MySQL and MariaDB: comments in all forms, quotes by the SQL mode, strings
with their escapes resolved, neighbouring strings joined. The server replaces the "!" of an executable comment that it
did not execute, so what a log holds as `/*!80000 ... */` (on MariaDB `/*M!100100 ... */` too) is part of the statement.
Text that no lexer would accept is a token of kind "broken", which no parser takes.
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
_EMPTY_STRING_IS_NULL = 1 << 32  # of MariaDB; MySQL has another mode there
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_INTRODUCER = re.compile(r"_[a-z0-9]+\Z", re.IGNORECASE)
_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SqlDialect:
    """Which server executed a statement, and in which session.

    Attributes:
        mariadb: MariaDB, not MySQL.
        sql_mode: as the server's number; 0 where it is not known.
        recodes_literals: strings outside ASCII may mean another text than the one that is written.
    """

    mariadb: bool = False
    sql_mode: int = 0
    recodes_literals: bool = False

    @property
    def ansi_quotes(self) -> bool:
        """True when "x" is a name."""
        return bool(self.sql_mode & _ANSI_QUOTES)

    @property
    def has_escapes(self) -> bool:
        """True when a backslash in a string is an escape."""
        return not self.sql_mode & _NO_BACKSLASH_ESCAPES

    @property
    def is_strict(self) -> bool:
        """True when ALTER TABLE fails rather than change a value that does not fit."""
        return bool(self.sql_mode & _STRICT)

    @property
    def empty_is_null(self) -> bool:
        """True when '' is NULL."""
        return self.mariadb and bool(self.sql_mode & _EMPTY_STRING_IS_NULL)

    @property
    def pads_char(self) -> bool:
        """True when CHAR is read with its trailing blanks."""
        return bool(self.sql_mode & _PAD_CHAR)

    @property
    def real_is_float(self) -> bool:
        """True when REAL is FLOAT, not DOUBLE."""
        return bool(self.sql_mode & _REAL_AS_FLOAT)

    @property
    def foreign_types(self) -> frozenset[str]:
        """Names of types that mean another type in this mode, in lower case."""
        if self.sql_mode & _ORACLE and self.mariadb:
            return frozenset({"date", "blob", "number", "varchar2", "clob", "raw"})
        return frozenset({"timestamp"}) if self.sql_mode & _MAXDB else frozenset()


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: "word" is a keyword, a name without quotes, or a number; "name" is quoted; "bits" is x'..' or b'..'.
        text: a name or string as it is meant, without quotes and escapes; a word or sign as it is written.
        charset: what introduces a string, as it is written: _utf8mb4, N; "" without.
    """

    kind: Literal["word", "name", "string", "bits", "sign", "broken"]
    text: str
    charset: str = ""


NOTHING = Token("sign", "")
"""Stands after the last token."""


@lru_cache(maxsize=16)
def _pattern(ansi_quotes: bool, has_escapes: bool, mariadb: bool) -> re.Pattern[str]:
    # One run of plain characters after the other, so that a long string takes neither time nor memory.
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
    introducer, pieces = "", list[str]()  # of a string that may continue
    for token in _raw_tokens(sql, dialect):
        if token.kind == "string":
            pieces.append(token.text)
            continue
        if pieces:
            yield Token("string", "".join(pieces), introducer)
        elif introducer:
            yield Token("word", introducer)  # it only looked like one
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
    """Token by token, strings apart from what introduces them."""
    is_inside = False
    for match in _pattern(dialect.ansi_quotes, dialect.has_escapes, dialect.mariadb).finditer(sql):
        group, text = match.lastgroup, match[0]
        if group == "skip":
            continue
        if group == "open":
            is_inside = True
        elif group == "close" and is_inside:
            is_inside = False
        elif group == "broken":  # never closed: what comes after it may be anything
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
    """What a string means."""
    quote = literal[0]
    if not has_escapes or "\\" not in literal:
        return literal[1:-1].replace(quote * 2, quote)
    parts = _BACKSLASH.split(literal[1:-1])
    parts[::2] = [part.replace(quote * 2, quote) for part in parts[::2]]
    parts[1::2] = [_ESCAPES.get(escaped, escaped) for escaped in parts[1::2]]
    return "".join(parts)


class TokenCursor:
    """Tokens of a statement and a cursor in them; NOTHING comes after the last."""

    def __init__(self, tokens: Sequence[Token], dialect: SqlDialect) -> None:
        self.dialect = dialect
        self._tokens = tokens
        self._at = 0

    @classmethod
    def of(cls, sql: str, dialect: SqlDialect, limit: int | None = None) -> TokenCursor:
        """Of a text, or of its first `limit` tokens."""
        return cls(list(islice(tokenize(sql, dialect), limit)), dialect)

    @property
    def rest(self) -> Sequence[Token]:
        """The tokens to come."""
        return self._tokens[self._at :]

    @property
    def token(self) -> Token:
        """The next token."""
        return self._tokens[self._at] if self._at < len(self._tokens) else NOTHING

    @property
    def is_left(self) -> bool:
        """True while there is a token to come."""
        return self._at < len(self._tokens)

    @property
    def word(self) -> str:
        """The next token in capitals: a keyword or a sign; "" for anything in quotes, and after the last."""
        return _word(self.token)

    def next(self) -> Token:
        """The next token, and step over it."""
        token = self.token
        self._at += 1
        return token

    def take(self, *words: str) -> bool:
        """Step over these words if they come next, all of them."""
        ahead = self._tokens[self._at : self._at + len(words)]
        if len(ahead) != len(words) or any(_word(token) != word for token, word in zip(ahead, words, strict=True)):
            return False
        self._at += len(words)
        return True

    def take_any(self, *words: str) -> bool:
        """Step over the next word if it is one of these."""
        is_one = self.is_left and self.word in words
        self._at += is_one
        return is_one

    def name(self) -> str:
        """An identifier, and step over it; "" where none comes, with nothing stepped over."""
        token = self.token
        is_name = token.kind in ("word", "name")
        self._at += is_name
        return token.text if is_name else ""

    def string(self) -> Token | None:
        """A string, and step over it; None where none comes."""
        return self.next() if self.token.kind == "string" else None

    def inside(self) -> TokenCursor:
        """What stands between the parenthesis that comes next and its end, and step over them."""
        self._at += 1
        start, depth = self._at, 1
        while self.is_left and depth:
            depth += _DEPTH.get(_word(self.next()), 0)
        return TokenCursor(self._tokens[start : self._at - 1], self.dialect)

    def split(self) -> list[TokenCursor]:
        """What stands between the commas, those within parentheses left alone."""
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

    def before(self, *words: str) -> TokenCursor:
        """What stands before these words, parentheses left alone, and step over that; all that is left where they do
        not come."""
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
