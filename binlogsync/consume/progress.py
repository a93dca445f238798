"""Progress of a consumer with a table, stored in the DuckDB file of its rows and in the transaction of those rows.

A consumer that does not write to DuckDB stores it elsewhere (ProgressStore), after it applied the changes. Progress
contains the source coordinates of the last applied change, and the stream sequence to seek by. If the two disagree, the
coordinates decide, because sequences repeat when a stream is recreated. An update is conditional on the progress that
was read before, so two consumers with one client id cannot both update it: the second raises and rolls back its rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np

from binlogsync.change import ChangeBatch
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.position import BinlogPosition, EventPosition
from binlogsync.targets.duckdb.file import META_SCHEMA, DuckFile, first_row

if TYPE_CHECKING:
    import duckdb

    from binlogsync.consume.gaps import ConsumerGap
    from binlogsync.consume.skips import Skip

PROGRESS = f"{META_SCHEMA}.progress"
"""The table of progress, as SQL."""
_FIELDS = "server_uuid, gtid, file, pos, row, txn_order, sequence, seen, changes, epoch"


@dataclass(frozen=True, slots=True)
class ConsumerProgress:
    """The last applied change.

    Attributes:
        server_uuid, gtid, file, pos, row, order: its source coordinates (see change.Source).
        sequence: stream sequence of the message that contained it.
        seen: stream sequence up to which the stream had no further changes of this table when this was stored.
        changes: number of changes applied since the consumer was created.
        epoch: number of updates; each update is conditional on it.
    """

    server_uuid: str
    gtid: str | None
    file: str
    pos: int
    row: int
    order: int
    sequence: int
    seen: int
    changes: int = 0
    epoch: int = 0

    @property
    def coordinates(self) -> tuple[int, int, int]:
        """(file number, pos, row): compares in the order of the changes of one server."""
        return (BinlogPosition(self.file, 0).file_number, self.pos, self.row)

    @property
    def at(self) -> EventPosition:
        """The same as a position, to be compared with others."""
        return EventPosition(BinlogPosition(self.file, self.pos), self.server_uuid, self.gtid, self.row, self.order)

    @property
    def is_new(self) -> bool:
        """True when the consumer has applied no change yet, whether or not its start is stored."""
        return not self.sequence

    def after(self, batch: ChangeBatch, sequence: int, seen: int) -> ConsumerProgress:
        """Progress after the last change of `batch`, which has that stream sequence."""
        rows = len(batch) if batch.ddl is None else 0
        return replace(
            progress_at(batch, len(batch) - 1, sequence, seen), changes=self.changes + rows, epoch=self.epoch
        )

    def __str__(self) -> str:
        return f"{self.file}:{self.pos} row {self.row} (stream sequence {self.sequence})"


NO_PROGRESS = ConsumerProgress("", None, "binlog.0", 0, 0, 0, 0, 0)
"""Progress of a consumer that has applied no change yet."""


def ensure_progress(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table of progress when it does not exist."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {PROGRESS} (client VARCHAR, source VARCHAR, database VARCHAR, "
        "table_name VARCHAR, server_uuid VARCHAR, gtid VARCHAR, file VARCHAR, pos UBIGINT, row UINTEGER, "
        "txn_order UBIGINT, sequence UBIGINT, seen UBIGINT, changes UBIGINT, epoch UBIGINT, moved_at TIMESTAMPTZ)"
    )


def progress_at(batch: ChangeBatch, index: int, sequence: int, seen: int) -> ConsumerProgress:
    """Progress after the change at `index` of `batch`."""
    gtid, file, pos, row, order = (
        batch.data.column(name)[index].as_py() for name in ("gtid", "file", "pos", "row", "order")
    )
    return ConsumerProgress(batch.server_uuid, gtid, file, pos, row, order, sequence, max(seen, sequence))


@dataclass(frozen=True, slots=True)
class ProgressKey:
    """Identifies a consumer of a table: the key of a row in the table `progress` of META_SCHEMA."""

    client: str
    source: str
    database: str
    table: str

    def __str__(self) -> str:
        return f"{self.database}.{self.table} of client {self.client!r}"

    def load(self, connection: duckdb.DuckDBPyConnection) -> ConsumerProgress:
        """The stored progress; NO_PROGRESS for a new consumer. Creates the table when it does not exist."""
        ensure_progress(connection)
        row = first_row(connection, f"SELECT {_FIELDS} FROM {PROGRESS} WHERE {self._where()}", self._values())
        return NO_PROGRESS if row is None else ConsumerProgress(*row)

    def move(
        self, connection: duckdb.DuckDBPyConnection, before: ConsumerProgress, after: ConsumerProgress
    ) -> ConsumerProgress:
        """Store `after` in the open transaction if `before` is still stored; returns it as stored.

        Raises ConsumeError when another consumer has updated it.
        """
        kept = self.load(connection)
        if kept != before:
            raise ConsumeError(
                f"{self}: progress was changed by another process: it was {before} and is {kept} now. If another "
                "consumer runs with this client id, stop one of the two or use another client id; if the consumer was "
                "rewound, run it again"
            )
        moved = replace(after, epoch=before.epoch + 1)
        connection.execute(f"DELETE FROM {PROGRESS} WHERE {self._where()}", self._values())
        values = [getattr(moved, name) for name in ("server_uuid", "gtid", "file", "pos", "row", "order", "sequence")]
        connection.execute(
            f"INSERT INTO {PROGRESS} VALUES ({', '.join('?' * 14)}, now())",
            [*self._values(), *values, moved.seen, moved.changes, moved.epoch],
        )
        return moved

    def forget(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Delete the progress: the consumer is new again."""
        connection.execute(f"DELETE FROM {PROGRESS} WHERE {self._where()}", self._values())

    def _where(self) -> str:
        return "client = ? AND source = ? AND database = ? AND table_name = ?"

    def _values(self) -> list[str]:
        return [self.client, self.source, self.database, self.table]


class ProgressStore(Protocol):
    """Stores the progress of consumers.

    A store is a subclass: it implements `load` and `move`, and overrides the other methods if it supports them.
    """

    @property
    def duck_file(self) -> DuckFile | None:
        """The DuckDB file in which a target can store rows and progress in one transaction; None for other stores.

        Gaps, skips and rewinds of such a store are tables of the file, and the methods below are not called for them.
        """
        return None

    @property
    def is_held(self) -> bool:
        """True while a resource is open for which other processes wait."""
        return False

    def release(self) -> None:
        """Release that resource."""
        return

    @abstractmethod
    def load(self, key: ProgressKey) -> ConsumerProgress:
        """The stored progress; NO_PROGRESS for a new consumer."""

    @abstractmethod
    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """Store `after` if `before` is still stored; returns it as stored. Raises ConsumeError otherwise."""

    def gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        """All gaps of a consumer, in order; empty if the store does not store gaps."""
        return ()

    def put_gaps(self, key: ProgressKey, gaps: Sequence[ConsumerGap]) -> None:
        """Replace what `gaps` returned last. Raises ConsumeError when another process has changed it since."""
        return

    def skips(self, key: ProgressKey) -> Sequence[Skip]:
        """The skips of a consumer, in order; empty if the store does not support them."""
        return ()

    def skip(self, key: ProgressKey, tracker: Tracker, done: tuple[ChangeBatch, int], skip: Skip) -> ConsumerProgress:
        """Store the skip, and move progress past its change; returns progress as stored.

        Raises ConfigError if the store does not support skips.
        """
        raise ConfigError(f"{key}: its progress store does not support skips")

    def record_move(self, key: ProgressKey, line: str) -> None:
        """Append a line to the record of rewinds, if the store has one."""
        return


class DuckProgress(ProgressStore):
    """Progress in a DuckDB file; a target that writes rows to the file updates progress in the same transaction."""

    def __init__(self, file: DuckFile) -> None:
        self.file = file

    @property
    def duck_file(self) -> DuckFile:
        """The file."""
        return self.file

    @property
    def is_held(self) -> bool:
        """True while the file is open."""
        return self.file.is_open

    def release(self) -> None:
        """Close the file."""
        self.file.release()

    def load(self, key: ProgressKey) -> ConsumerProgress:
        """See ProgressStore."""
        with self.file.transaction() as connection:
            return key.load(connection)

    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """See ProgressStore."""
        with self.file.transaction() as connection:
            return key.move(connection, before, after)


class Tracker:
    """Progress of a running consumer: stored in a transaction, confirmed after its commit."""

    def __init__(self, key: ProgressKey, progress: ConsumerProgress) -> None:
        self.key = key
        self.progress = progress
        self.counts: dict[str, int] = {}
        self.first: ConsumerProgress | None = None
        self.lag_s: float | None = None

    def move(self, connection: duckdb.DuckDBPyConnection, done: Sequence[tuple[ChangeBatch, int]]) -> ConsumerProgress:
        """Store progress after these batches in the open transaction; each comes with its last change's sequence."""
        return self.key.move(connection, self.progress, self.after(done))

    def advance(self, store: ProgressStore, done: Sequence[tuple[ChangeBatch, int]]) -> None:
        """Store progress after these batches in a separate transaction, and confirm it."""
        moved = store.move(self.key, self.progress, self.after(done))
        self.confirm(moved, [batch for batch, _ in done])

    def after(self, done: Sequence[tuple[ChangeBatch, int]]) -> ConsumerProgress:
        """Progress after these batches."""
        moved = self.progress
        for batch, sequence in done:
            moved = moved.after(batch, sequence, moved.seen)
        return moved

    def confirm(self, moved: ConsumerProgress, batches: Sequence[ChangeBatch]) -> None:
        """Adopt the progress that `move` returned, after its transaction was committed."""
        self.progress = moved
        for batch in batches:
            if batch.ddl is not None:
                continue
            if self.first is None:
                self.first = progress_at(batch, 0, 0, 0)
            ops = batch.data.column("op")
            found = np.bincount(ops.indices.to_numpy(), minlength=len(ops.dictionary))
            for op, count in zip(ops.dictionary.to_pylist(), found.tolist(), strict=True):
                if count:
                    self.counts[op] = self.counts.get(op, 0) + count
        committed = batches[-1].data.column("ts_us")[-1].as_py()
        self.lag_s = (datetime.now(UTC) - committed).total_seconds()

    def begin(self, store: ProgressStore, sequence: int) -> None:
        """Store the start of a new consumer: messages before that stream sequence are not delivered to it."""
        self.progress = store.move(self.key, self.progress, replace(self.progress, seen=sequence - 1))

    def see(self, store: ProgressStore, sequence: int) -> None:
        """Store that the stream has no further changes of this table up to `sequence`."""
        if self.progress.epoch and sequence > self.progress.seen:
            self.progress = store.move(self.key, self.progress, replace(self.progress, seen=sequence))
