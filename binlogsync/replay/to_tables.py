"""Replay targets where tables are stored: the user's handler, or a separate table `replay_<database>.<table>`.

The handler is called for each change of the range as the live consumer calls it, with separate progress: each replay
applies exactly once what the handler writes over the connection that it is given. A replay never writes to a mirror,
because older row images would overwrite newer ones; it builds a separate table from the changes of the range only. To
rebuild the mirror itself, rewind its consumer.

A replay has a consumer's progress, under a separate client id, so killing the process loses or repeats nothing. A
record (ReplayRecord) has its plan, and whether it is finished. Each start updates the progress, so a process that still
runs the same replay fails at its next write. A new replay to a table deletes the record and the progress of unfinished
ones to the same table: they fail too, and start from the beginning when they are started again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.boundaries import drop_first
from binlogsync.consume.patience import wait_while_busy
from binlogsync.consume.progress import ConsumerProgress, Tracker
from binlogsync.consume.seek import count_applied
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.errors import ConfigError, ConsumeError, ProgressConflictError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.reader import StreamBatch
from binlogsync.replay.ranges import ReplayPlan
from binlogsync.replay.targets import ReplayState, StoredChanges
from binlogsync.targets import TableStore, TableTransaction
from binlogsync.targets.mirror_state import REPLAY_MARK
from binlogsync.targets.records import ReplayRecord


class HandlerTarget:
    """A `ReplayTarget` that calls a user's handler; `make` returns its Target, with progress in a DuckDB file."""

    def __init__(self, make: Callable[[], Target], name: str = "the table's handler") -> None:
        self.name = name
        self._target = make()
        tables = self._target.store.tables
        if tables is None:
            raise ConfigError("a replay can call only a handler that keeps its progress in a DuckDB file")
        self.tables: TableStore = tables
        self._tracker: Tracker | None = None
        self._number = ""

    def begin(self, plan: ReplayPlan, stop: threading.Event) -> ReplayState:
        """See ReplayTarget."""
        self.tables.stop = stop
        record = ReplayRecord(
            plan.number, plan.source, plan.database, plan.table, plan.request, self.name, plan.to_text()
        )
        with self.tables.begin() as transaction:
            others = _find_replays(transaction, record)
            stored = self._find_unfinished(others, record)
            if stored is None:
                transaction.insert_replay(record)
            else:
                record, plan = stored, ReplayPlan.from_text(stored.plan)
            progress = transaction.load_progress(record.key)
            if progress.is_new:
                self._prepare(transaction, record, others)
            self._tracker = Tracker(record.key, transaction.move_progress(record.key, progress, progress))
        self._number = plan.number
        return ReplayState(plan, stored_up_to(progress))

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Call the handler with the changes; waits while another process has the file open.

        Raises ConsumeError, also if another process has started the same replay since.
        """
        tracker = self._tracker
        assert tracker is not None
        before = tracker.applied

        def take() -> None:
            with self.tables.begin() as transaction:  # the handler is not called again before the file can be opened
                tracker.key.check(tracker.progress, transaction.load_progress(tracker.key))
            self._target.take([TableChanges(tracker, drop_first(items, tracker.applied - before))], stop)

        try:
            with self._explained():
                wait_while_busy(take, stop, lambda: tracker.applied)
        finally:
            self.tables.release()

    def finish(self) -> None:
        """Store the end time, and delete the progress of the replay."""
        assert self._tracker is not None
        key = self._tracker.key
        with self._explained(), self.tables.begin() as transaction:
            key.check(self._tracker.progress, transaction.load_progress(key))
            transaction.finish_replay(self._number)
            transaction.forget_progress(key)

    def close(self) -> None:
        """Close the file."""
        self.tables.release()

    def _find_unfinished(self, replays: Sequence[ReplayRecord], record: ReplayRecord) -> ReplayRecord | None:
        """The replay to resume, among these to the same table; None if there is none."""
        for each in replays:
            if not each.is_finished and (each.source, each.request) == (record.source, record.request):
                return each
        return None

    def _prepare(self, transaction: TableTransaction, record: ReplayRecord, replays: Sequence[ReplayRecord]) -> None:
        """Prepare the tables for a replay that has stored nothing; `replays` are those to the same table before it."""

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise ConsumeError with the reason if the progress is not that of this process."""
        assert self._tracker is not None
        try:
            yield
        except ProgressConflictError as error:
            key = self._tracker.key
            raise ConsumeError(
                f"{key.database}.{key.table}: this replay to {self.name} was started again by another process, another "
                "one that replaces its output was started, or its source was removed; this one stores nothing more. "
                "If it is needed, start it again when no other one runs"
            ) from error


class TableTarget(HandlerTarget):
    """A `ReplayTarget` that creates the table `replay_<database>.<table>` in a store, or in the file of a path."""

    def __init__(self, tables: TableStore | str | Path, database: str, table: str) -> None:
        self.database = _replay_database(database)
        super().__init__(lambda: Mirror(tables, self.database, table), f"table replay_{database}.{table}")

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Apply the changes as a mirror does."""
        super().write([replace(item, batch=self._rename(item.batch)) for item in items], stop)

    def _rename(self, batch: ChangeBatch) -> ChangeBatch:
        """The batch with its database replaced by that of the replay."""
        renamed = batch.with_schema(replace(batch.schema, database=self.database))
        if (ddl := batch.ddl) is None:
            return renamed
        tables = tuple((_replay_database(database), table) for database, table in ddl.tables)
        return replace(renamed, ddl=replace(ddl, tables=tables))

    def _find_unfinished(self, replays: Sequence[ReplayRecord], record: ReplayRecord) -> ReplayRecord | None:
        """See HandlerTarget; the table has the rows of the newest replay only."""
        return super()._find_unfinished(replays[-1:], record)

    def _prepare(self, transaction: TableTransaction, record: ReplayRecord, replays: Sequence[ReplayRecord]) -> None:
        """Drop the table, and forget the unfinished replays that wrote to it."""
        for other in replays:
            if not other.is_finished and other.number != record.number:
                transaction.forget_replay(other)
        transaction.forget_mirror(self.database, record.table)


def _find_replays(transaction: TableTransaction, record: ReplayRecord) -> list[ReplayRecord]:
    """The replays of a table of that name to the same target, in the order in which they began."""
    same = (record.database, record.table, record.target)
    return [each for each in transaction.load_replays() if (each.database, each.table, each.target) == same]


def _replay_database(database: str) -> str:
    """The database of a replay in the mirror state; the mark keeps it apart from a MySQL database `replay_...`."""
    return f"replay_{database}{REPLAY_MARK}"


def stored_up_to(progress: ConsumerProgress) -> StoredChanges | None:
    """The changes up to that progress; None if it is new."""
    if progress.is_new:
        return None
    return StoredChanges(str(progress), progress.server_uuid, lambda batch: count_applied(batch, progress))
