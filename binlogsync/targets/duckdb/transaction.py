"""A transaction of a DuckDB file as a TableTransaction; each method has its SQL in the module of its subject."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import duckdb

from binlogsync.targets import TableTransaction
from binlogsync.targets.duckdb import progress, records
from binlogsync.targets.progress import ConsumerProgress, ProgressKey
from binlogsync.targets.records import ConsumerGap, ReplayRecord, RewindRecord, Skip


class DuckTransaction(TableTransaction):
    """The open transaction of a connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """See TableTransaction, also for the other methods."""
        return self._connection

    def load_progress(self, key: ProgressKey) -> ConsumerProgress:
        return progress.load_progress(self._connection, key)

    def move_progress(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        return progress.move_progress(self._connection, key, before, after)

    def forget_progress(self, key: ProgressKey) -> None:
        progress.forget_progress(self._connection, key)

    def load_gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        return records.load_gaps(self._connection, key)

    def insert_gap(self, key: ProgressKey, gap: ConsumerGap) -> None:
        records.insert_gap(self._connection, key, gap)

    def resolve_gaps(self, key: ProgressKey, resolution: str, by: str, until: datetime | None = None) -> None:
        records.resolve_gaps(self._connection, key, resolution, by, until)

    def load_skips(self, key: ProgressKey) -> Sequence[Skip]:
        return records.load_skips(self._connection, key)

    def insert_skip(self, skip: Skip) -> None:
        records.insert_skip(self._connection, skip)

    def insert_rewind(self, record: RewindRecord) -> None:
        records.insert_rewind(self._connection, record)

    def load_replay(self, replay: ReplayRecord) -> ReplayRecord | None:
        return records.load_replay(self._connection, replay)

    def insert_replay(self, replay: ReplayRecord) -> None:
        records.insert_replay(self._connection, replay)

    def move_replay(self, number: str, done: str) -> None:
        records.move_replay(self._connection, number, done)

    def finish_replay(self, number: str) -> None:
        records.finish_replay(self._connection, number)
