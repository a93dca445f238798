"""The target that keeps a mirror: applies what comes, and reads the table from its source where the stream cannot say.

A reading goes into a spare table, some thousand rows in a transaction, so that the file is never held for long; the
last transaction puts it in the mirror's place together with the place in the binlog that it was read at. Changes up to
that place, which the stream brings still, are then stepped over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from binlogsync.change import ChangeBatch
from binlogsync.consume.progress import DuckProgress, ProgressStore, Tracker
from binlogsync.duckfile import DuckFile, quote
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.flush import changes_after
from binlogsync.mirror import apply as mirror
from binlogsync.mirror.copies import CopyRequest, answer, count, ensure_requests, open_requests, rest_of, up_to
from binlogsync.mirror.fitting import ADVICE
from binlogsync.mirror.history import Moment, begin_all, end_all
from binlogsync.mirror.state import (
    MirrorOptions,
    MirrorState,
    column_list,
    drop_table,
    ensure_meta,
    keep_deleted,
    leave_table,
    load_state,
    store_state,
    with_deleted_at,
)
from binlogsync.mysql.config import MySQLConfig
from binlogsync.position import Checkpoint
from binlogsync.snapshot import TableSnapshot, read_table
from binlogsync.stream.messages import StreamBatch

log = logging.getLogger(__name__)


class Mirror:
    """A DuckDB table `database.table` in the file `path` that stays equal to MySQL's (see apply.py).

    With `source` a table that the stream does not tell from its beginning is read from the server first, and one that a
    schema change leaves in doubt is read again. Without it such a schema change is a ConsumeError, and the mirror
    begins empty.
    """

    def __init__(
        self,
        path: str | Path,
        database: str,
        table: str,
        source: MySQLConfig | None = None,
        options: MirrorOptions = mirror.PLAIN,
    ) -> None:
        self.file = DuckFile(path, error=ConsumeError)
        self.store: ProgressStore = DuckProgress(self.file)
        self.database = database
        self.table = table
        self.source = source
        self.options = options

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """All of them in one transaction, or in several where the table is read in between."""
        for item in batches:
            if (item.batch.schema.database, item.batch.schema.table) != (self.database, self.table):
                raise ConfigError(
                    f"the mirror of {self.database}.{self.table} was given changes of {item.batch.schema.name}"
                )
        todo = list(batches)
        while todo and not stop.is_set():
            with self.file.transaction(keep_open=True) as connection:
                part, request = self._until_asked(connection, todo)
                halt = mirror.apply(
                    connection, [item.batch for item in part], self.options, can_read=self.source is not None
                )
                done = part if halt is None else part[: halt.done]
                if request is not None and halt is None:
                    answer(connection, load_state(connection, self.database, self.table), request)
                moved = tracker.move(connection, [(item.batch, item.last_sequence) for item in done]) if done else None
            if moved is not None:
                tracker.confirm(moved, [item.batch for item in done])
            todo = rest_of(todo, count(done))
            if halt is not None:
                self.read_again(halt, todo[0].batch)

    def _until_asked(
        self, connection: duckdb.DuckDBPyConnection, todo: Sequence[StreamBatch]
    ) -> tuple[Sequence[StreamBatch], CopyRequest | None]:
        """Changes up to the first place in them at which somebody wants the mirror's fingerprint, and who does."""
        ensure_requests(connection)
        found: tuple[Sequence[StreamBatch], CopyRequest | None] = todo, None
        for request in open_requests(connection, self.database, self.table):
            part = up_to(todo, request.at)
            if count(part) < count(found[0]):
                found = part, request
        return found

    def read_again(self, halt: mirror.Halt, following: ChangeBatch) -> None:
        """Read the table, so that the batch that could not be applied is in it. Raises ConsumeError."""
        if self.source is None:
            raise ConsumeError(
                f"{halt.state.name}: {halt.reason}; give the mirror a connection to its source (in Dagster: the MySQL "
                "resource), and it reads the table again at a known place, or use a handler for this table"
            )
        log.warning("%s is read from %s: %s", halt.state.name, self.source.address, halt.reason)
        self.file.release()
        at = self.read()
        if len(changes_after(following, at)):
            raise ConsumeError(
                f"{halt.state.name} was read from {self.source.address} at {at}, which lies before the change that the "
                "stream brings next: that server is not the one that the stream is filled from, or lags behind it"
            )

    def read(self) -> Checkpoint:
        """Read the table from the source in place of what the mirror holds; returns the place it was read at."""
        assert self.source is not None
        spare = quote(self.database, self.table + "__reading")
        with read_table(self.source, self.database, self.table) as snapshot:
            rows = self._read_into(spare, snapshot)
            with self.file.transaction() as connection:
                state = load_state(connection, self.database, self.table)
                state = with_deleted_at(connection, state, self.options.deleted_at)
                self._put_in_place(connection, state, spare, snapshot)
        log.info("%s.%s: read %d rows at %s", self.database, self.table, rows, snapshot.at)
        return snapshot.at

    def _put_in_place(
        self, connection: duckdb.DuckDBPyConnection, state: MirrorState, spare: str, snapshot: TableSnapshot
    ) -> None:
        """The spare table becomes the mirror; with soft deletes, rows that it has not become deleted ones."""
        at = snapshot.at
        if snapshot.schema is None:
            state = leave_table(connection, state, at.ts_us)
        else:
            keep_deleted(connection, state, (spare, snapshot.schema), at.ts_us)
            state = drop_table(connection, state)
            connection.execute(f"ALTER TABLE {spare} RENAME TO {quote(self.table)}")
        if snapshot.left_out:
            log.warning("%s: column(s) %s are left out: %s", state.name, ", ".join(snapshot.left_out), ADVICE)
        state = replace(state, schema=snapshot.schema, read_at=at, left_out=snapshot.left_out)
        state = store_state(connection, state)
        if self.options.history:
            moment = Moment(at.ts_us, at.position.file, at.position.pos)
            end_all(connection, state, moment)
            begin_all(connection, state, moment)

    def _read_into(self, spare: str, snapshot: TableSnapshot) -> int:
        """Fill the spare table; returns the number of rows."""
        with self.file.transaction() as connection:
            ensure_meta(connection)
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(self.database)}")
            connection.execute(f"DROP TABLE IF EXISTS {spare}")
            if snapshot.schema is not None:
                connection.execute(f"CREATE TABLE {spare} ({column_list(snapshot.schema, self.options.deleted_at)})")
        rows = 0
        for batch in snapshot.batches():
            with self.file.transaction(keep_open=True) as connection:
                mirror.insert_rows(connection, spare, batch)
            rows += len(batch)
        self.file.release()
        return rows
