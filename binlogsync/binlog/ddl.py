"""Which tables a logged statement touches, and how: only TRUNCATE, DROP, RENAME and the like are looked at.

No schema is taken from a statement: each TABLE_MAP brings its own. A statement that changes rows is an error, because
the row changes it made are not in the binlog. Statements are read token by token from their start, so that a clause
that is not known here costs nothing; sqlglot reads those that change rows in several tables.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

DDL = Literal["create", "alter", "rename", "drop", "truncate", "other"]
"""Of statements that change tables, as SchemaChange has them."""
Kind = DDL | Literal["rows", "rollback", "partial rollback", "xa", "transaction"]
Tables = tuple[tuple[str, str], ...]
ALL_TABLES = "*"
"""In place of a table's name: every table of the database."""

# Comments are left out, but what stands in /*! */ is executed.
TOKEN = re.compile(
    r"""(?P<skip>/\*M?!\d*|\*/|/\*.*?\*/|--(?=\s)[^\n]*|\#[^\n]*)"""
    r"""|`(?:[^`]|``)*`|"(?:[^"\\]|\\.|"")*"|'(?:[^'\\]|\\.|'')*'|[\w$\u0080-\U0010ffff]+|\S""",
    re.DOTALL,
)
_MODIFIERS = frozenset(
    ["OR", "REPLACE", "TEMPORARY", "ONLINE", "IGNORE", "IF", "NOT", "EXISTS"]
    + ["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "QUICK", "INTO"]
)
_NO_NEW_NAME = frozenset(["COLUMN", "INDEX", "KEY", "CONSTRAINT"])
_CHANGES_ROWS = frozenset(["INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "WITH"])
_SQLGLOT_LIMIT = 100_000  # characters; it is slow, and a longer statement is an error anyway

# sqlglot warns of every statement that it takes as a plain command; here that is expected.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement does to which tables, (database, table); for a rename old and new names in turn, for a database
    that is dropped ALL_TABLES in place of a name.

    A statement that changes rows and names no table is one whose tables are not known.
    """

    kind: Kind
    tables: Tables = ()


class _Tokens:
    """The words and signs of a statement, one after the other."""

    def __init__(self, sql: str, database: str) -> None:
        found = (match[0] for match in TOKEN.finditer(sql) if match["skip"] is None)
        self._rest: Iterator[str] = found
        self._database = database
        self.token = ""
        self.next()

    @property
    def word(self) -> str:
        """The token in capitals; "" behind the last."""
        return self.token.upper()

    def next(self) -> None:
        """Go on to the next token."""
        self.token = next(self._rest, "")

    def skip(self, words: frozenset[str]) -> set[str]:
        """Step over all of these; returns those that were there."""
        skipped = set()
        while self.word in words:
            skipped.add(self.word)
            self.next()
        return skipped

    def skip_set_statement(self) -> None:
        """Step over MariaDB's SET STATEMENT variable = value, ... FOR; another SET is not logged."""
        self.next()
        while self.token and self.word != "FOR":
            self.next()
        self.next()

    def name(self) -> tuple[str, str]:
        """A table's name, and step over it."""
        first = self.identifier()
        if self.token != ".":
            return self._database, first
        self.next()
        return first, self.identifier()

    def identifier(self) -> str:
        """A name of one part, and step over it."""
        token = self.token
        self.next()
        return _unquoted(token)


def _unquoted(token: str) -> str:
    """A name without its quotes."""
    quote = token[:1]
    return token[1:-1].replace(quote * 2, quote) if quote in ("`", '"') else token


def read_statement(sql: str, database: str) -> Statement:
    """Classify a logged statement; names without a database belong to `database`."""
    tokens = _Tokens(sql, database)
    if tokens.word == "SET":
        tokens.skip_set_statement()
    verb = tokens.word
    if verb in ("SAVEPOINT", "RELEASE"):
        return Statement("transaction")
    if verb == "ROLLBACK":
        tokens.next()
        tokens.skip(frozenset({"WORK"}))
        return Statement("partial rollback" if tokens.word == "TO" else "rollback")
    if verb == "XA":
        return Statement("xa")
    if verb in _CHANGES_ROWS:
        return Statement("rows", _tables_of(sql, tokens, database))
    return _table_statement(verb, tokens)


def altered_tables(sql: str, database: str) -> Tables:
    """The tables whose shape a logged statement may change; ALL_TABLES of a database that it drops."""
    statement = read_statement(sql, database)
    return statement.tables if statement.kind in ("alter", "rename", "drop") else ()


def _table_statement(verb: str, tokens: _Tokens) -> Statement:
    """CREATE, ALTER, DROP, TRUNCATE and RENAME of tables, DROP of a database; all else is "other"."""
    tokens.next()
    if verb == "TRUNCATE":
        tokens.skip(frozenset({"TABLE"}))
        return Statement("truncate", (tokens.name(),))
    modifiers = tokens.skip(_MODIFIERS)
    if verb == "DROP" and tokens.word in ("DATABASE", "SCHEMA"):
        tokens.next()
        tokens.skip(_MODIFIERS)
        return Statement("drop", ((tokens.identifier(), ALL_TABLES),))
    if verb not in ("CREATE", "ALTER", "DROP", "RENAME") or tokens.word not in ("TABLE", "TABLES"):
        return Statement("other")
    if "TEMPORARY" in modifiers:
        return Statement("drop" if verb == "DROP" else "create")  # of the session alone: no table of the schema
    tokens.next()
    tokens.skip(_MODIFIERS)
    if verb == "CREATE":
        return Statement("create", (tokens.name(),))
    if verb == "ALTER":
        return _alter(tokens)
    if verb == "DROP":
        return Statement("drop", tuple(_listed(tokens)))
    return Statement("rename", tuple(_renamed(tokens)))


def _alter(tokens: _Tokens) -> Statement:
    old = tokens.name()
    while tokens.token:
        if tokens.word == "RENAME":
            tokens.next()
            if tokens.word not in _NO_NEW_NAME:
                tokens.skip(frozenset({"TO", "AS", "="}))
                return Statement("rename", (old, tokens.name()))
        tokens.next()
    return Statement("alter", (old,))


def _listed(tokens: _Tokens) -> Iterator[tuple[str, str]]:
    """Names with commas between them."""
    yield tokens.name()
    while tokens.token == ",":
        tokens.next()
        yield tokens.name()


def _renamed(tokens: _Tokens) -> Iterator[tuple[str, str]]:
    """Old and new name, and so on."""
    while tokens.token:
        yield tokens.name()
        while tokens.token and tokens.word != "TO":  # WAIT n, NOWAIT
            tokens.next()
        tokens.next()
        yield tokens.name()
        while tokens.token and tokens.token != ",":
            tokens.next()
        tokens.next()


def _tables_of(sql: str, tokens: _Tokens, database: str) -> Tables:
    """The tables that a statement changes or reads; none when they cannot be told."""
    if tokens.word in ("INSERT", "REPLACE"):
        tokens.next()
        tokens.skip(_MODIFIERS)
        return (tokens.name(),)
    if tokens.word == "LOAD":
        while tokens.token and tokens.word != "INTO":
            tokens.next()
        tokens.next()
        tokens.skip(frozenset({"TABLE"}))
        return (tokens.name(),) if tokens.token else ()
    if len(sql) > _SQLGLOT_LIMIT:
        return ()
    try:
        tree = sqlglot.parse_one(sql, dialect="mysql")
        found = ((table.db or database, table.name) for table in tree.find_all(exp.Table) if table.name)
        return tuple(dict.fromkeys(islice(found, 1000)))
    except (SqlglotError, RecursionError):
        return ()
