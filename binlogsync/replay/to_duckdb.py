"""Replay targets in a DuckDB file: the user's handler, or a separate table `replay_<database>.<table>`.

The handler is called for each change of the range as the live consumer calls it, with separate progress: each replay
applies exactly once what the handler writes over the connection that it is given. A replay never writes to a mirror,
because older row images would overwrite newer ones; it builds a separate table from the changes of the range only. To
rebuild the mirror itself, rewind its consumer.

    backfills (in META_SCHEMA)    one row per replay: plan, checkpoint after the last change stored, start and end time

That row is updated in the transaction of the rows and of the progress, so killing the process loses or repeats nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from binlogsync.change import ChangeBatch
from binlogsync.consume.progress import ConsumerProgress, ProgressKey, ProgressStore, Tracker
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.errors import ConfigError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.reader import StreamBatch
from binlogsync.position import Checkpoint
from binlogsync.replay.ranges import ReplayPlan, checkpoint_after
from binlogsync.replay.targets import ReplayState
from binlogsync.targets.duckdb.file import META_SCHEMA, DuckFile, first_row
from binlogsync.targets.duckdb.state import drop_mirror
from binlogsync.targets.duckdb.upgrade import REPLAY_MARK

_TABLE = f"{META_SCHEMA}.backfills"
_CREATE = (
    f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}; CREATE TABLE IF NOT EXISTS {_TABLE} (number VARCHAR, source VARCHAR, "
    "database VARCHAR, table_name VARCHAR, words VARCHAR, target VARCHAR, plan JSON, done JSON, begun_at TIMESTAMPTZ, "
    "finished_at TIMESTAMPTZ)"
)


class HandlerTarget:
    """A `ReplayTarget` that calls a user's handler; `make` returns its Target, with progress in a DuckDB file."""

    def __init__(self, make: Callable[[], Target], name: str = "the table's handler") -> None:
        self.name = name
        self._target = make()
        file = self._target.store.duck_file
        if file is None:
            raise ConfigError("a replay can call only a handler that keeps its progress in a DuckDB file")
        self.file: DuckFile = file
        self._tracker: _ReplayTracker | None = None

    def begin(self, plan: ReplayPlan) -> ReplayState:
        """See ReplayTarget."""
        with self.file.transaction() as connection:
            connection.execute(_CREATE)
            stored = first_row(
                connection,
                f"SELECT plan, done FROM {_TABLE} WHERE source = ? AND database = ? AND table_name = ? AND words = ? "
                "AND target = ? AND finished_at IS NULL",
                [plan.source, plan.database, plan.table, plan.request, self.name],
            )
            done = None
            if stored is not None:
                plan, done = (
                    ReplayPlan.from_text(stored[0]),
                    None if stored[1] is None else Checkpoint.from_text(stored[1]),
                )
            else:
                self._prepare(connection, plan)
                values = [plan.number, plan.source, plan.database, plan.table, plan.request, self.name, plan.to_text()]
                connection.execute(f"INSERT INTO {_TABLE} VALUES (?, ?, ?, ?, ?, ?, ?, NULL, now(), NULL)", values)
            key = ProgressKey(f"backfill {plan.number}", plan.source, plan.database, plan.table)
            self._tracker = _ReplayTracker(key, key.load(connection), self.file, plan.number)
        return ReplayState(plan, done)

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Call the handler with the changes. Raises ConsumeError and its subclasses."""
        assert self._tracker is not None
        self._target.take([TableChanges(self._tracker, items)], stop)

    def finish(self) -> None:
        """Store the end time, and delete the progress of the replay."""
        assert self._tracker is not None
        with self.file.transaction() as connection:
            number = self._tracker.number
            connection.execute(f"UPDATE {_TABLE} SET finished_at = now() WHERE number = ?", [number])
            self._tracker.key.forget(connection)

    def close(self) -> None:
        """Close the file."""
        self.file.release()

    def _prepare(self, connection: duckdb.DuckDBPyConnection, plan: ReplayPlan) -> None:
        """Prepare the file for a new replay."""


class TableTarget(HandlerTarget):
    """A `ReplayTarget` that creates the table `replay_<database>.<table>` in the DuckDB file `path`."""

    def __init__(self, path: str | Path, database: str, table: str) -> None:
        self.database = _replay_database(database)
        super().__init__(lambda: Mirror(path, self.database, table), f"table replay_{database}.{table}")

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Apply the changes as a mirror does."""
        super().write([replace(item, batch=self._rename(item.batch)) for item in items], stop)

    def _rename(self, batch: ChangeBatch) -> ChangeBatch:
        """The batch with its database replaced by that of the replay."""
        ddl = batch.ddl
        if ddl is not None:
            ddl = replace(ddl, tables=tuple((_replay_database(database), table) for database, table in ddl.tables))
        return replace(batch, schema=replace(batch.schema, database=self.database), ddl=ddl)

    def _prepare(self, connection: duckdb.DuckDBPyConnection, plan: ReplayPlan) -> None:
        drop_mirror(connection, self.database, plan.table)


def _replay_database(database: str) -> str:
    """The database of a replay in the mirror state; the mark keeps it apart from a MySQL database `replay_...`."""
    return f"replay_{database}{REPLAY_MARK}"


class _ReplayTracker(Tracker):
    """Updates the row of the replay together with the progress."""

    def __init__(self, key: ProgressKey, progress: ConsumerProgress, file: DuckFile, number: str) -> None:
        super().__init__(key, progress)
        self.number = number
        self._file = file

    def move(self, connection: duckdb.DuckDBPyConnection, done: Sequence[tuple[ChangeBatch, int]]) -> ConsumerProgress:
        moved = super().move(connection, done)
        checkpoint = checkpoint_after(done[-1][0]).to_text()
        connection.execute(f"UPDATE {_TABLE} SET done = ? WHERE number = ?", [checkpoint, self.number])
        return moved

    def advance(self, store: ProgressStore, done: Sequence[tuple[ChangeBatch, int]]) -> None:
        with self._file.transaction() as connection:
            moved = self.move(connection, done)
        self.confirm(moved, [batch for batch, _ in done])
