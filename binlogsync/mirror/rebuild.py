"""Rebuilds a mirror from a snapshot of the source where its changes do not suffice, or from the stream after a rename.

A rebuild reads the snapshot into a spare table, some thousand rows per transaction, so that the file is never open for
long. The last transaction replaces the mirror by the spare table and stores the snapshot's checkpoint. Changes before
that checkpoint, which the stream delivers later, are skipped.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from binlogsync.change import ChangeBatch
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, DuckProgress, ProgressKey, ProgressStore
from binlogsync.consume.targets import Target
from binlogsync.errors import BinlogSyncError, ConsumeError
from binlogsync.mirror.apply import DEFAULT_OPTIONS, RebuildReason
from binlogsync.mirror.image_columns import ADVICE
from binlogsync.mirror.renamed_tables import StreamTableBuilder, find_former_name
from binlogsync.mysql.config import MySQLConfig
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.position_masks import changes_after
from binlogsync.position_order import PositionOrder, compare
from binlogsync.schema import TableSchema
from binlogsync.snapshot import TableSnapshot, read_table
from binlogsync.targets.duckdb.file import DuckFile, quote
from binlogsync.targets.duckdb.history import close_versions, open_versions
from binlogsync.targets.duckdb.records import load_gaps, resolve_gaps
from binlogsync.targets.duckdb.row_images import insert_rows, insert_table
from binlogsync.targets.duckdb.state import (
    check_name_is_free,
    column_list,
    copy_deleted_rows,
    drop_or_keep_table,
    drop_table,
    ensure_deleted_at,
    ensure_meta,
    load_state,
    store_state,
)
from binlogsync.targets.mirror_state import ChangePosition, MirrorOptions
from binlogsync.waiting import backoff_s

if TYPE_CHECKING:
    from binlogsync.targets.duckdb.file import DuckDBPyConnection

log = logging.getLogger(__name__)
_MIN_REPAIR_WAIT_S, _MAX_REPAIR_WAIT_S = 10.0, 600.0
_REBUILD_PAUSE_FACTOR, _MAX_REBUILD_PAUSE_S = 5.0, 60.0
"""If the reason may repeat, the next rebuild waits this many times the duration of the last one, up to the limit."""


@dataclass(frozen=True, slots=True)
class _Replacement:
    """The new content of a mirror: its checkpoint, schema (None for no table) and left-out columns."""

    at: Checkpoint
    schema: TableSchema | None
    left_out: tuple[str, ...] | None


class RebuildableMirror(Target):
    """The table of a mirror, and its rebuilds; target.Mirror applies the changes."""

    def __init__(
        self,
        path: str | Path,
        database: str,
        table: str,
        source: MySQLConfig | None = None,
        options: MirrorOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.file = DuckFile(path, error=ConsumeError)
        self.store: ProgressStore = DuckProgress(self.file)
        self.database = database
        self.table = table
        self.source = source
        self.options = options
        self.stream: StreamReader | None = None
        self._failed_repairs = 0
        self._next_read_at = 0.0

    @property
    def repairs_gaps(self) -> bool:
        """True: a mirror reads its table again."""
        return True

    def use_stream(self, reader: StreamReader, key: ProgressKey, stop: threading.Event) -> None:
        """See Target."""
        self.stream = reader

    def repair(self, key: ProgressKey, progress: ConsumerProgress) -> None:
        """Rebuild the mirror if it has an open gap; if that fails, try again later.

        Until then the gap stays open, the mirror's check fails, and changes are applied.
        """
        with self.file.transaction(keep_open=True) as connection:
            ensure_meta(connection)
            opened = [gap for gap in load_gaps(connection, key) if not gap.resolution]
            is_known = load_state(connection, self.database, self.table).is_known
        if not opened or self.source is None or time.monotonic() < self._next_read_at:
            return
        if not is_known and progress == NO_PROGRESS:
            return  # the first change triggers the snapshot
        log.warning("%s: rebuilding from %s: %s", key, self.source.address, opened[-1].detail)
        self.file.release()
        try:
            self.rebuild(key, progress)
        except BinlogSyncError as error:
            self._failed_repairs += 1
            wait_s = backoff_s(_MIN_REPAIR_WAIT_S, _MAX_REPAIR_WAIT_S, self._failed_repairs)
            self._next_read_at = time.monotonic() + wait_s
            log.error("%s may be incorrect, and rebuilding it failed: %s; retrying in %.0f s", key, error, wait_s)
        else:
            self._failed_repairs = 0

    def wait_to_rebuild(self, reason: RebuildReason, stop: threading.Event) -> bool:
        """Wait after a recent rebuild if the reason may repeat; False when `stop` is set."""
        return not (reason.may_repeat and stop.wait(max(0.0, self._next_read_at - time.monotonic())))

    def rebuild_before(self, reason: RebuildReason, following: ChangeBatch, key: ProgressKey) -> None:
        """Rebuild the mirror with a snapshot that contains the batch that could not be applied. Raises ConsumeError."""
        if self._build_from_stream(following):
            return
        if self.source is None:
            raise ConsumeError(
                f"{reason.state.name}: {reason.reason}; give the mirror a connection to its source (in Dagster: the "
                "MySQL resource), so that it can be rebuilt from a snapshot, or use a handler for this table"
            )
        log.warning("%s: rebuilding from %s: %s", reason.state.name, self.source.address, reason.reason)
        self.file.release()
        at = self.rebuild(key)
        if len(changes_after(following, at)):
            raise ConsumeError(
                f"{reason.state.name} was rebuilt from {self.source.address} at {at}, which precedes the next change "
                "in the stream: that server is not the source of the stream, or is a replica that lags behind it"
            )

    def _build_from_stream(self, statement: ChangeBatch) -> bool:
        """Build a table that the statement renamed to the mirror's name from the stream; False if not possible."""
        former = find_former_name(statement)
        if former is None or self.stream is None or statement.ddl is None:
            return False
        self.file.release()
        with tempfile.TemporaryDirectory(prefix=".renamed-", dir=self.file.path.parent) as folder:
            builder = StreamTableBuilder(self.stream, Path(folder) / "past.duckdb")
            try:
                found = builder.build(former, statement)
                if found is None or found.schema is None:
                    return False
                schema = replace(found.schema, database=self.database, table=self.table)
                spare = self._create_spare(schema)
                for rows in builder.rows(found):
                    with self.file.transaction(keep_open=True) as connection:
                        insert_table(connection, spare, rows)
            finally:
                builder.close()
        at = Checkpoint(statement.ddl.position, statement.server_uuid, None, 0, statement.ddl.ts_us)
        with self.file.transaction() as connection:
            self._replace_table(connection, spare, _Replacement(at, schema, found.left_out))
        log.info("%s.%s: built from the changes of %s in the stream", self.database, self.table, ".".join(former))
        return True

    def rebuild(
        self,
        key: ProgressKey,
        applied: ConsumerProgress = NO_PROGRESS,
        also: Callable[[DuckDBPyConnection], None] = lambda connection: None,
    ) -> Checkpoint:
        """Replace the mirror's rows by a snapshot of the source; returns the snapshot's checkpoint.

        `also` runs in the transaction that replaces the table. Raises SourceError, and ConsumeError if the source has
        not reached the changes that the mirror has `applied`; nothing is changed then.
        """
        assert self.source is not None
        begun = time.monotonic()
        started = datetime.now(UTC)
        with read_table(self.source, self.database, self.table) as snapshot:
            if not applied.is_new and compare(applied.at, snapshot.at) is PositionOrder.AFTER:
                raise ConsumeError(
                    f"{key}: {self.source.address} is at {snapshot.at}, but {applied} is applied already: that server "
                    "lags behind the source of the stream; wait for it, or configure the address of that source"
                )
            spare, rows = self._read_into_spare(snapshot)
            with self.file.transaction() as connection:
                self._replace_table(connection, spare, _Replacement(snapshot.at, snapshot.schema, snapshot.left_out))
                resolve_gaps(connection, key, f"rebuilt at {snapshot.at}", "the mirror", until=started)
                also(connection)
        log.info("%s.%s: rebuilt with %d rows at %s", self.database, self.table, rows, snapshot.at)
        ended = time.monotonic()
        self._next_read_at = ended + min(_REBUILD_PAUSE_FACTOR * (ended - begun), _MAX_REBUILD_PAUSE_S)
        return snapshot.at

    def _replace_table(self, connection: DuckDBPyConnection, spare: str, content: _Replacement) -> None:
        """Replace the mirror by the spare table; with soft deletes, rows missing in it become deleted rows."""
        state = load_state(connection, self.database, self.table)
        state = ensure_deleted_at(connection, state, self.options.deleted_at)
        at = content.at
        if content.schema is None:
            state = drop_or_keep_table(connection, state, at.ts_us)
        else:
            copy_deleted_rows(connection, state, (spare, content.schema), at.ts_us)
            state = drop_table(connection, state)
            check_name_is_free(connection, state)
            connection.execute(f"ALTER TABLE {spare} RENAME TO {quote(state.location[2])}")
        if content.left_out:
            log.warning("%s: column(s) %s are left out: %s", state.name, ", ".join(content.left_out), ADVICE)
        state = replace(state, schema=content.schema, read_at=at, left_out=content.left_out)
        state = store_state(connection, state)
        if self.options.history:
            position = ChangePosition(at.ts_us, at.position.file, at.position.pos)
            close_versions(connection, state, position)
            open_versions(connection, state, position)

    def _create_spare(self, schema: TableSchema | None) -> str:
        """Create an empty spare table, unless the schema is None; returns its name as SQL."""
        with self.file.transaction() as connection:
            ensure_meta(connection)
            state = load_state(connection, self.database, self.table)
            spare = state.beside(state.spare("reading"))
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(*state.location[:2])}")
            connection.execute(f"DROP TABLE IF EXISTS {spare}")
            if schema is not None:
                connection.execute(f"CREATE TABLE {spare} ({column_list(schema, self.options.deleted_at)})")
        return spare

    def _read_into_spare(self, snapshot: TableSnapshot) -> tuple[str, int]:
        """Read the snapshot into a spare table; returns (its name as SQL, number of rows)."""
        spare, rows = self._create_spare(snapshot.schema), 0
        for batch in snapshot.batches():
            with self.file.transaction(keep_open=True) as connection:
                insert_rows(connection, spare, batch)
            rows += len(batch)
        self.file.release()
        return spare, rows
