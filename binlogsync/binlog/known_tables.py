"""Which tables a database may hold at a place in the log, for statements that concern them without naming any.

DROP DATABASE is logged as one statement, and a statement that is not understood may concern every table. The tables
are those that the log has shown so far (rows of theirs, or the statements that made them), and those that `TableLookup`
returns. A name too many does no harm: a mirror of it stays empty, or is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from binlogsync.binlog.ddl import ALL_TABLES, Kind, Statement, Tables
from binlogsync.table_names import Fold, keep_case

TableLookup = Callable[[str], Iterable[str]]
"""Names of tables that a database has or had; asked when it is dropped."""


def no_tables(database: str) -> Iterable[str]:
    """Nobody else knows any."""
    return ()


def fold_tables(tables: Tables, fold: Fold) -> Tables:
    """The names as the server stores them, of a statement that is logged as it was typed."""
    return tuple((fold(database), fold(table)) for database, table in tables)


class KnownTables:
    """Takes in what a log shows, in its order; `fold` is how the server compares names."""

    def __init__(self, existing: TableLookup = no_tables, fold: Fold = keep_case) -> None:
        self._existing = existing
        self.fold = fold
        self._seen: dict[str, set[str]] = {}

    def saw(self, database: str, table: str) -> None:
        """There are rows of this table."""
        self._seen.setdefault(database, set()).add(table)

    def spelled_out(self, statement: Statement) -> Statement:
        """The statement with the names of all tables that it touches as the server stores them, in alphabetical order
        where it names none.
        """
        statement = replace(statement, tables=fold_tables(statement.tables, self.fold))
        if not any(table == ALL_TABLES for _, table in statement.tables):
            self._take_in(statement)
            return statement
        tables: list[tuple[str, str]] = []
        for database, table in statement.tables:
            tables += self._all_of(database, statement.kind) if table == ALL_TABLES else [(database, table)]
        return Statement(statement.kind, tuple(dict.fromkeys(tables)))

    def _all_of(self, database: str, kind: Kind) -> Tables:
        """The tables of a database; the log has shown none of them any more when it is dropped."""
        names = self._seen.pop(database, set()) | set(self._existing(database))
        if kind != "drop":
            self._seen[database] = names
        return tuple((database, name) for name in sorted(names))

    def _take_in(self, statement: Statement) -> None:
        if statement.kind == "create":
            self._add(statement.tables)
        elif statement.kind == "rename":
            self._add(statement.tables[1::2])

    def _add(self, tables: Tables) -> None:
        for name in tables:
            self.saw(*name)
