"""Finds the tables of a dropped database: DROP DATABASE in the binlog does not name them.

Tables of the server are listed when a session starts, because they no longer exist when the statement is read. Tables
of the sinks are listed too: their database may have been dropped while no tail was running.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from binlogsync.binlog.known_tables import fold_tables
from binlogsync.filters import TableFilter
from binlogsync.mysql import MySQLConfig
from binlogsync.mysql.information_schema import list_tables
from binlogsync.sinks import Sink
from binlogsync.table_names import Fold


def captured_tables(config: MySQLConfig, captured: TableFilter, fold: Fold, sink: Sink) -> list[tuple[str, str]]:
    """Captured tables of the server or the sink, and those with a consumer.

    Raises SourceError, SinkError.
    """
    source = config.source
    names = {*fold_tables(tuple(list_tables(config)), fold), *sink.stored_tables(source), *sink.consumed_tables(source)}
    return sorted(name for name in names if captured.captures(*name))


class ExistingTables:
    """A `TableLookup` (binlog/known_tables.py) of what one session captures. Raises SourceError when it is made,
    SinkError when it is called.
    """

    def __init__(self, config: MySQLConfig, captured: TableFilter, fold: Fold, sinks: Sequence[Sink]) -> None:
        """The names in `captured`, and the database names passed to a call, are folded."""
        self._source = config.source
        self._sinks = tuple(sinks)
        self._at_start: dict[str, set[str]] = {}
        for database, table in fold_tables(tuple(list_tables(config)), fold):
            if captured.captures(database, table):
                self._at_start.setdefault(database, set()).add(table)

    def __call__(self, database: str) -> Iterable[str]:
        names = set(self._at_start.pop(database, ()))
        for sink in self._sinks:
            names |= {table for its_database, table in sink.stored_tables(self._source) if its_database == database}
        return names
