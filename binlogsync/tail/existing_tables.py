"""Finds the tables of a dropped database: DROP DATABASE in the binlog does not name them.

Tables of the server are listed when a session starts, because they no longer exist when the statement is read. Tables
of the stream are listed too: their database may have been dropped while no tail was running.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from binlogsync.binlog.known_tables import fold_tables
from binlogsync.filters import TableFilter
from binlogsync.mysql import MySQLConfig
from binlogsync.mysql.information_schema import list_tables
from binlogsync.sinks import Sink
from binlogsync.sinks.jetstream import JetStreamSink
from binlogsync.stream.reader import StreamReader
from binlogsync.table_names import Fold


def captured_tables(
    config: MySQLConfig, captured: TableFilter, fold: Fold, sink: JetStreamSink
) -> list[tuple[str, str]]:
    """Captured tables of the server or the stream, and those with a consumer.

    Raises SourceError, SinkError.
    """
    with StreamReader(sink.options, config.source) as reader:
        names = {*fold_tables(tuple(list_tables(config)), fold), *reader.tables(), *reader.followed_tables()}
    return sorted(name for name in names if captured.captures(*name))


class ExistingTables:
    """A `TableLookup` (binlog/known_tables.py) of what one session captures. Raises SourceError when it is made,
    SinkError when it is called.
    """

    def __init__(self, config: MySQLConfig, captured: TableFilter, fold: Fold, sinks: Sequence[Sink]) -> None:
        """The names in `captured`, and the database names passed to a call, are folded."""
        self._source = config.source
        self._streams = [sink for sink in sinks if isinstance(sink, JetStreamSink)]
        self._at_start: dict[str, set[str]] = {}
        for database, table in fold_tables(tuple(list_tables(config)), fold):
            if captured.captures(database, table):
                self._at_start.setdefault(database, set()).add(table)

    def __call__(self, database: str) -> Iterable[str]:
        names = set(self._at_start.pop(database, ()))
        for sink in self._streams:
            with StreamReader(sink.options, self._source) as reader:
                names |= {table for its_database, table in reader.tables() if its_database == database}
        return names
