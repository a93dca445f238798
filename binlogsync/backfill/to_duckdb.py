"""A backfill into DuckDB: through the user's handler once more, or into a table of its own beside the mirror.

The handler is called for each change of the range as the live consumer calls it, under a progress of its own: what it
writes over the connection that it is given, it writes once for each backfill. A mirror is never written to by a
backfill: older images would take the place of newer ones. What the range alone makes is built from nothing in
`replay_<database>.<table>` of the same file instead; to have the mirror itself made anew, rewind its consumer.

    backfills (in META_SCHEMA)    one row a backfill: plan, the place behind the last change done, begun and finished

That row changes in the transaction of the rows and of the progress, so a kill at any moment loses or repeats nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from binlogsync.backfill.ranges import Plan, place_behind
from binlogsync.backfill.targets import Begun
from binlogsync.change import ChangeBatch
from binlogsync.consume.progress import ConsumerProgress, DuckProgress, ProgressKey, ProgressStore, Tracker
from binlogsync.consume.targets import Mirror, Target
from binlogsync.duckfile import META_SCHEMA, DuckFile, first_row
from binlogsync.duckfile_upgrade import REPLAY_MARK
from binlogsync.errors import ConfigError
from binlogsync.mirror.state import forget
from binlogsync.position import Checkpoint
from binlogsync.stream.reader import StreamBatch

_TABLE = f"{META_SCHEMA}.backfills"
_CREATE = (
    f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}; CREATE TABLE IF NOT EXISTS {_TABLE} (number VARCHAR, source VARCHAR, "
    "database VARCHAR, table_name VARCHAR, words VARCHAR, target VARCHAR, plan JSON, done JSON, begun_at TIMESTAMPTZ, "
    "finished_at TIMESTAMPTZ)"
)


class HandlerTarget:
    """A `BackfillTarget` that calls a user's handler; `make` gives its Target, whose progress lies in a DuckDB file."""

    def __init__(self, make: Callable[[], Target], name: str = "the table's handler") -> None:
        self.name = name
        self._target = make()
        if not isinstance(self._target.store, DuckProgress):
            raise ConfigError("a handler that a backfill calls keeps its progress in a DuckDB file; give one")
        self.file: DuckFile = self._target.store.file
        self._tracker: _Tracker | None = None

    def begin(self, plan: Plan) -> Begun:
        """See BackfillTarget."""
        with self.file.transaction() as connection:
            connection.execute(_CREATE)
            kept = first_row(
                connection,
                f"SELECT plan, done FROM {_TABLE} WHERE source = ? AND database = ? AND table_name = ? AND words = ? "
                "AND target = ? AND finished_at IS NULL",
                [plan.source, plan.database, plan.table, plan.words, self.name],
            )
            done = None
            if kept is not None:
                plan, done = Plan.from_text(kept[0]), None if kept[1] is None else Checkpoint.from_text(kept[1])
            else:
                self._prepare(connection, plan)
                values = [plan.number, plan.source, plan.database, plan.table, plan.words, self.name, plan.to_text()]
                connection.execute(f"INSERT INTO {_TABLE} VALUES (?, ?, ?, ?, ?, ?, ?, NULL, now(), NULL)", values)
            key = ProgressKey(f"backfill {plan.number}", plan.source, plan.database, plan.table)
            self._tracker = _Tracker(key, key.load(connection), self.file, plan.number)
        return Begun(plan, done)

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Hand the changes to the handler. Raises ConsumeError and its children."""
        assert self._tracker is not None
        self._target.take(items, self._tracker, stop)

    def finish(self) -> None:
        """The row says so, and the progress that is of no use any more goes."""
        assert self._tracker is not None
        with self.file.transaction() as connection:
            number = self._tracker.number
            connection.execute(f"UPDATE {_TABLE} SET finished_at = now() WHERE number = ?", [number])
            self._tracker.key.forget(connection)

    def close(self) -> None:
        """Let go of the file."""
        self.file.release()

    def _prepare(self, connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
        """What a new backfill begins with."""


class TableTarget(HandlerTarget):
    """A `BackfillTarget` that builds the table `replay_<database>.<table>` of the DuckDB file `path` from nothing."""

    def __init__(self, path: str | Path, database: str, table: str) -> None:
        self.database = _replayed(database)
        super().__init__(lambda: Mirror(path, self.database, table), f"table replay_{database}.{table}")

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Apply the changes as a mirror does."""
        super().write([replace(item, batch=self._moved(item.batch)) for item in items], stop)

    def _moved(self, batch: ChangeBatch) -> ChangeBatch:
        """The batch as if its database had the name of the replay."""
        ddl = batch.ddl
        if ddl is not None:
            ddl = replace(ddl, tables=tuple((_replayed(database), table) for database, table in ddl.tables))
        return replace(batch, schema=replace(batch.schema, database=self.database), ddl=ddl)

    def _prepare(self, connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
        forget(connection, self.database, plan.table)


def _replayed(database: str) -> str:
    """What the state of mirrors calls the database of a replay: told from a MySQL database called `replay_...`."""
    return f"replay_{database}{REPLAY_MARK}"


class _Tracker(Tracker):
    """Moves the row of the backfill with the progress."""

    def __init__(self, key: ProgressKey, progress: ConsumerProgress, file: DuckFile, number: str) -> None:
        super().__init__(key, progress)
        self.number = number
        self._file = file

    def move(self, connection: duckdb.DuckDBPyConnection, done: Sequence[tuple[ChangeBatch, int]]) -> ConsumerProgress:
        moved = super().move(connection, done)
        place = place_behind(done[-1][0]).to_text()
        connection.execute(f"UPDATE {_TABLE} SET done = ? WHERE number = ?", [place, self.number])
        return moved

    def advance(self, store: ProgressStore, done: Sequence[tuple[ChangeBatch, int]]) -> None:
        with self._file.transaction() as connection:
            moved = self.move(connection, done)
        self.confirm(moved, [batch for batch, _ in done])
