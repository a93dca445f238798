"""How far a consumer is with a table: kept in the DuckDB file of its rows, and moved in the transaction of those rows.

A consumer that writes no DuckDB file keeps it elsewhere (ProgressStore), behind what it did. Progress is the source
coordinates of the last change done; the stream's sequence is the way to seek there. Coordinates decide where the two
disagree, because sequences repeat when a stream is lost and filled anew. A move is conditional on what was last seen,
so two consumers of one name cannot both move it: the one that comes second raises, and its rows are rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import duckdb
import numpy as np

from binlogsync.change import ChangeBatch
from binlogsync.duckfile import META_SCHEMA, DuckFile, first_row
from binlogsync.errors import ConsumeError
from binlogsync.position import BinlogPosition

_TABLE = f"{META_SCHEMA}.progress"
_FIELDS = "server_uuid, gtid, file, pos, row, txn_order, sequence, seen, changes, epoch"


@dataclass(frozen=True, slots=True)
class ConsumerProgress:
    """The last change done.

    Attributes:
        server_uuid, gtid, file, pos, row, order: source coordinates of it (see change.Source).
        sequence: stream sequence of the message that held it.
        seen: stream sequence up to which the stream held nothing else of this table when this was written.
        changes: done since the consumer was new.
        epoch: counts the moves; what makes each conditional.
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
        """(file number, pos, row): ordered as the changes of one server are."""
        return (BinlogPosition(self.file, 0).file_number, self.pos, self.row)

    @property
    def is_new(self) -> bool:
        """True for a consumer that is new, or has only been told where to begin."""
        return not self.sequence

    def after(self, batch: ChangeBatch, sequence: int, seen: int) -> ConsumerProgress:
        """This progress when the last change of `batch`, of that stream sequence, is done."""
        rows = len(batch) if batch.ddl is None else 0
        return replace(
            progress_at(batch, len(batch) - 1, sequence, seen), changes=self.changes + rows, epoch=self.epoch
        )

    def __str__(self) -> str:
        return f"{self.file}:{self.pos} row {self.row} (stream sequence {self.sequence})"


NO_PROGRESS = ConsumerProgress("", None, "binlog.0", 0, 0, 0, 0, 0)
"""Progress of a consumer that has done nothing yet."""


def progress_at(batch: ChangeBatch, index: int, sequence: int, seen: int) -> ConsumerProgress:
    """Progress when the change at `index` of `batch` is the last one done."""
    gtid, file, pos, row, order = (
        batch.data.column(name)[index].as_py() for name in ("gtid", "file", "pos", "row", "order")
    )
    return ConsumerProgress(batch.server_uuid, gtid, file, pos, row, order, sequence, max(seen, sequence))


@dataclass(frozen=True, slots=True)
class ProgressKey:
    """Whose progress: one row of the table `progress` of META_SCHEMA."""

    client: str
    source: str
    database: str
    table: str

    def __str__(self) -> str:
        return f"{self.database}.{self.table} of client {self.client!r}"

    def load(self, connection: duckdb.DuckDBPyConnection) -> ConsumerProgress:
        """What is kept; NO_PROGRESS for a new consumer. Makes the table when the file is new."""
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {_TABLE} (client VARCHAR, source VARCHAR, database VARCHAR, "
            "table_name VARCHAR, server_uuid VARCHAR, gtid VARCHAR, file VARCHAR, pos UBIGINT, row UINTEGER, "
            "txn_order UBIGINT, sequence UBIGINT, seen UBIGINT, changes UBIGINT, epoch UBIGINT, moved_at TIMESTAMPTZ)"
        )
        row = first_row(connection, f"SELECT {_FIELDS} FROM {_TABLE} WHERE {self._where()}", self._values())
        return NO_PROGRESS if row is None else ConsumerProgress(*row)

    def move(
        self, connection: duckdb.DuckDBPyConnection, before: ConsumerProgress, after: ConsumerProgress
    ) -> ConsumerProgress:
        """Keep `after` in the open transaction if `before` is what is kept still; returns it as kept.

        Raises ConsumeError when another consumer has moved it.
        """
        kept = self.load(connection)
        if kept != before:
            raise ConsumeError(
                f"{self}: another consumer of the same name is at work: progress was {before}, and is {kept} now; "
                "stop one of the two, or give it a client id of its own; or somebody has rewound it; run it again"
            )
        moved = replace(after, epoch=before.epoch + 1)
        connection.execute(f"DELETE FROM {_TABLE} WHERE {self._where()}", self._values())
        values = [getattr(moved, name) for name in ("server_uuid", "gtid", "file", "pos", "row", "order", "sequence")]
        connection.execute(
            f"INSERT INTO {_TABLE} VALUES ({', '.join('?' * 14)}, now())",
            [*self._values(), *values, moved.seen, moved.changes, moved.epoch],
        )
        return moved

    def forget(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Keep it no longer: the consumer is new again."""
        connection.execute(f"DELETE FROM {_TABLE} WHERE {self._where()}", self._values())

    def _where(self) -> str:
        return "client = ? AND source = ? AND database = ? AND table_name = ?"

    def _values(self) -> list[str]:
        return [self.client, self.source, self.database, self.table]


class ProgressStore(Protocol):
    """Where the progress of consumers is kept."""

    @property
    def is_held(self) -> bool:
        """True while something is held open that others wait for."""

    def release(self) -> None:
        """Let go of what is held."""

    def load(self, key: ProgressKey) -> ConsumerProgress:
        """What is kept; NO_PROGRESS for a new consumer."""

    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """Keep `after` if `before` is what is kept still; returns it as kept. Raises ConsumeError when it is not."""


class DuckProgress:
    """Progress in a DuckDB file; a target that writes its rows there moves it in their transaction instead."""

    def __init__(self, file: DuckFile) -> None:
        self.file = file

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
    """Progress as the consumer at work knows it; moved in a transaction, confirmed when that is committed."""

    def __init__(self, key: ProgressKey, progress: ConsumerProgress) -> None:
        self.key = key
        self.progress = progress
        self.counts: dict[str, int] = {}
        self.first: ConsumerProgress | None = None
        self.lag_s: float | None = None

    def move(self, connection: duckdb.DuckDBPyConnection, done: Sequence[tuple[ChangeBatch, int]]) -> ConsumerProgress:
        """Store in the open transaction that these batches are done, each with the sequence of its last change."""
        return self.key.move(connection, self.progress, self.after(done))

    def advance(self, store: ProgressStore, done: Sequence[tuple[ChangeBatch, int]]) -> None:
        """Store the same by itself, and confirm it."""
        moved = store.move(self.key, self.progress, self.after(done))
        self.confirm(moved, [batch for batch, _ in done])

    def after(self, done: Sequence[tuple[ChangeBatch, int]]) -> ConsumerProgress:
        """Progress when these batches are done."""
        moved = self.progress
        for batch, sequence in done:
            moved = moved.after(batch, sequence, moved.seen)
        return moved

    def confirm(self, moved: ConsumerProgress, batches: Sequence[ChangeBatch]) -> None:
        """The transaction of `move` is committed."""
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
        """Store that nothing is done yet, and that what comes before that stream sequence is not wanted."""
        self.progress = store.move(self.key, self.progress, replace(self.progress, seen=sequence - 1))

    def see(self, store: ProgressStore, sequence: int) -> None:
        """Store that the stream holds nothing else of this table up to `sequence`."""
        if self.progress.epoch and sequence > self.progress.seen:
            self.progress = store.move(self.key, self.progress, replace(self.progress, seen=sequence))
