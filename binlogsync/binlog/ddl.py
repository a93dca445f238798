"""Which tables a logged statement touches, and how: only TRUNCATE, DROP, RENAME and the like are looked at.

No schema is taken from a statement: each TABLE_MAP brings its own. A statement that changes rows is an error, because
the row changes it made are not in the binlog.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

DDL = Literal["create", "alter", "rename", "drop", "truncate", "other"]
Kind = DDL | Literal["rows", "rollback", "transaction"]

_TRANSACTION = re.compile(r"^(SAVEPOINT|RELEASE|ROLLBACK\s+(WORK\s+)?TO|XA\s+(START|END|BEGIN))\b", re.IGNORECASE)
_ROWS = re.compile(r"^(INSERT|UPDATE|DELETE|REPLACE|LOAD)\b", re.IGNORECASE)
_TABLE_DDL = re.compile(
    r"^(CREATE\s+(OR\s+REPLACE\s+)?(TEMPORARY\s+)?TABLE|ALTER\s+(ONLINE\s+|IGNORE\s+)*TABLE|DROP\s+(TEMPORARY\s+)?TABLES?|TRUNCATE|RENAME\s+TABLES?)\b",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"^(\s+|/\*(?!!).*?\*/|--[^\n]*\n|#[^\n]*\n)+", re.DOTALL)
_NAME = r"(?:`(?:[^`]|``)+`|[\w$\u0080-\uffff]+)"
_QUALIFIED = rf"{_NAME}(?:\s*\.\s*{_NAME})?"
_RENAME = re.compile(rf"({_QUALIFIED})\s+TO\s+({_QUALIFIED})", re.IGNORECASE)
_FIRST_TABLE = re.compile(rf"\b(?:TABLES?|TRUNCATE)\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?({_QUALIFIED})", re.IGNORECASE)

# sqlglot warns of every statement that it takes as a plain command; here that is expected.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement does to which tables, (database, table); for a rename old and new names in turn."""

    kind: Kind
    tables: tuple[tuple[str, str], ...] = ()


def read_statement(sql: str, database: str) -> Statement:
    """Classify a logged statement; names without a database belong to `database`."""
    text = _COMMENT.sub("", sql)
    if _TRANSACTION.match(text):
        return Statement("transaction")
    if re.match(r"ROLLBACK\b", text, re.IGNORECASE):
        return Statement("rollback")
    if _ROWS.match(text):
        return Statement("rows", _tables_of(text, database))
    head = _TABLE_DDL.match(text)
    if head is None:
        return Statement("other")
    verb = head[1].split()[0].lower()
    if verb == "rename":
        names = [name for pair in _RENAME.findall(text) for name in pair]
        return Statement("rename", tuple(_qualified(name, database) for name in names))
    tables = _tables_of(text, database)
    if verb == "truncate":
        return Statement("truncate", tables)
    if verb == "alter" and len(tables) > 1 and re.search(r"\bRENAME\b", text, re.IGNORECASE):
        return Statement("rename", tables)
    kinds: dict[str, Kind] = {"create": "create", "alter": "alter", "drop": "drop"}
    return Statement(kinds[verb], tables)


def _tables_of(text: str, database: str) -> tuple[tuple[str, str], ...]:
    """The tables a statement names, by sqlglot where it can read it, else the first one behind TABLE."""
    try:
        tree = sqlglot.parse_one(text, dialect="mysql")
        found = [(table.db or database, table.name) for table in tree.find_all(exp.Table) if table.name]
    except SqlglotError:
        found = []
    if not found:
        match = _FIRST_TABLE.search(text)
        found = [_qualified(match[1], database)] if match else []
    return tuple(dict.fromkeys(found))


def _qualified(name: str, database: str) -> tuple[str, str]:
    parts = [part[1:-1].replace("``", "`") if part.startswith("`") else part for part in re.findall(_NAME, name)]
    return (parts[0], parts[1]) if len(parts) == 2 else (database, parts[0])
