"""Tracks which tables a database may have at the current position, for statements that affect tables without naming
them.

DROP DATABASE is logged as one statement, and a statement of unknown syntax may affect every table. The tables are those
found in the log so far (in row events and CREATE or RENAME statements), and those that `TableLookup` returns. An extra
name does no harm: its mirror stays empty, or is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from binlogsync.binlog.ddl import ALL_TABLES, Kind, Statement, Tables
from binlogsync.table_names import Fold, keep_case

TableLookup = Callable[[str], Iterable[str]]
"""Returns the names of the tables that a database has or had; called when the database is dropped."""


def no_tables(database: str) -> Iterable[str]:
    """A TableLookup for logs without any other source of names."""
    return ()


def fold_tables(tables: Tables, fold: Fold) -> Tables:
    """The names as the server stores them; statements contain them as the user typed them."""
    return tuple((fold(database), fold(table)) for database, table in tables)


class KnownTables:
    """The tables of each database, updated in the order of the log; `fold` is how the server compares names."""

    def __init__(self, existing: TableLookup = no_tables, fold: Fold = keep_case) -> None:
        self._existing = existing
        self.fold = fold
        self._seen: dict[str, set[str]] = {}

    def add(self, database: str, table: str) -> None:
        """Record that the table exists."""
        self._seen.setdefault(database, set()).add(table)

    def resolve_names(self, statement: Statement) -> Statement:
        """The statement with the names of all affected tables as the server stores them. ALL_TABLES is replaced by the
        names of all tables of the database, in alphabetical order.
        """
        statement = replace(statement, tables=fold_tables(statement.tables, self.fold))
        if not any(table == ALL_TABLES for _, table in statement.tables):
            self._register(statement)
            return statement
        tables: list[tuple[str, str]] = []
        for database, table in statement.tables:
            tables += self._all_of(database, statement.kind) if table == ALL_TABLES else [(database, table)]
        return Statement(statement.kind, tuple(dict.fromkeys(tables)))

    def _all_of(self, database: str, kind: Kind) -> Tables:
        """The tables of a database, which are forgotten if it is dropped."""
        names = self._seen.pop(database, set()) | set(self._existing(database))
        if kind != "drop":
            self._seen[database] = names
        return tuple((database, name) for name in sorted(names))

    def _register(self, statement: Statement) -> None:
        if statement.kind == "create":
            self._add_all(statement.tables)
        elif statement.kind == "rename":
            self._add_all(statement.tables[1::2])

    def _add_all(self, tables: Tables) -> None:
        for name in tables:
            self.add(*name)
