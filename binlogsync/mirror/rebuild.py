"""Loads a mirror from the source where its changes do not suffice, or builds it from the stream after a rename.

The rows are read into a spare table (load.py), some thousand per transaction, so that no transaction is long.
The last transaction replaces the mirror by the spare table, and stores the checkpoint at which its rows are right.
Changes before that checkpoint, which the stream delivers later, are skipped.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, ProgressStore, TableProgress
from binlogsync.consume.targets import Target
from binlogsync.errors import BinlogSyncError, ConsumeError, MirrorKeyError
from binlogsync.mirror.apply import DEFAULT_OPTIONS, RebuildReason
from binlogsync.mirror.catch_up import find_last_checkpoint
from binlogsync.mirror.configuration import load_configured
from binlogsync.mirror.contract import check_contract, describe_load, freeze_columns
from binlogsync.mirror.image_columns import ADVICE
from binlogsync.mirror.load import LoadedTable, TableLoad
from binlogsync.mirror.renamed_tables import StreamTableBuilder, find_former_name
from binlogsync.mysql.config import MySQLConfig
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.position_masks import beyond_mask
from binlogsync.position_order import PositionOrder, compare
from binlogsync.snapshot.progress import ReadProgress
from binlogsync.snapshot.throttle import LoadLimits
from binlogsync.snapshot.watermarks import ReadStoppedError
from binlogsync.targets import TableStore, TableTransaction
from binlogsync.targets.factory import open_store
from binlogsync.targets.mirror_options import MirrorOptions, with_key
from binlogsync.targets.mirror_state import ChangePosition, MirrorState
from binlogsync.waiting import backoff_s

log = logging.getLogger(__name__)
_MIN_REPAIR_WAIT_S, _MAX_REPAIR_WAIT_S = 10.0, 600.0
_REBUILD_PAUSE_FACTOR, _MAX_REBUILD_PAUSE_S = 5.0, 60.0
"""If the reason may repeat, the next rebuild waits this many times the duration of the last one, up to the limit."""


class RebuildableMirror(Target):
    """The table of a mirror, and its rebuilds; target.Mirror applies the changes.

    Attributes:
        tables: where the table is stored.
        store: the same, as the store of progress.
    """

    def __init__(
        self,
        tables: TableStore | str | Path,
        database: str,
        table: str,
        source: MySQLConfig | None = None,
        options: MirrorOptions = DEFAULT_OPTIONS,
        limits: LoadLimits | None = None,
    ) -> None:
        self.tables = open_store(tables)
        self.store: ProgressStore = TableProgress(self.tables)
        self.database = database
        self.table = table
        self.source = source
        source_name = "" if source is None else source.source
        self.options = options if options.location else options.for_table(source_name, database, table)
        self.limits = limits or LoadLimits()
        self.stream: StreamReader | None = None
        self._load_progress: ReadProgress | None = None
        self._stop = threading.Event()
        self._failed_repairs = 0
        self._next_read_at = 0.0
        self._repair_at = math.inf

    @property
    def load_progress(self) -> ReadProgress | None:
        """See Target."""
        return self._load_progress

    @property
    def repairs_gaps(self) -> bool:
        """True: a mirror reads its table again."""
        return True

    def use_stream(self, reader: StreamReader, key: ProgressKey, stop: threading.Event) -> None:
        """See Target: load a mirror that has no table, and whose table has no messages in the stream.

        Otherwise its first message decides: it may create the table, or load it. A load of a new mirror that was
        interrupted is resumed.
        """
        if self.begin_stream(reader, key, stop):
            self.load_first(key)

    def begin_stream(self, reader: StreamReader, key: ProgressKey, stop: threading.Event) -> bool:
        """`use_stream` without the load; True if the table must be loaded now, by `load_first`. Raises ConsumeError."""
        self.stream, self._stop = reader, stop
        if self.source is None:
            return False
        with self.tables.begin() as transaction:
            state = self._load_state(transaction)
            is_new = not state.is_known and transaction.load_progress(key) == NO_PROGRESS
            has_begun = is_new and transaction.find_load(state) is not None
        if not is_new:
            return False
        if not has_begun and reader.changes_from(self.database, self.table, reader.first_sequence()):
            return False
        if find_last_checkpoint(reader) is None:
            raise ConsumeError(
                f"{key}: the table cannot be loaded yet, because stream {reader.stream} has no checkpoint: check that "
                "the tail is running, which stores one a few seconds after its start"
            )
        return True

    def load_first(self, key: ProgressKey) -> None:
        """Load the table of a new mirror; returns early on a stop."""
        with suppress(ReadStoppedError):
            self._load(key, NO_PROGRESS, lambda transaction, loaded: _store_start(transaction, key, loaded))

    def repair(self, key: ProgressKey, progress: ConsumerProgress) -> None:
        """Rebuild the mirror if it has an open gap; if that fails, try again later.

        Until then the gap stays open, the mirror's check fails, and changes are applied.
        """
        self._repair_at = math.inf
        with self.tables.begin(keep_open=True) as transaction:
            opened = [gap for gap in transaction.load_gaps(key) if not gap.resolution]
            is_known = transaction.load_mirror(self.database, self.table).is_known
        if not opened or self.source is None:
            return
        if time.monotonic() < self._next_read_at:
            self._repair_at = self._next_read_at
            return
        if not is_known and progress == NO_PROGRESS:
            return  # the first change triggers the snapshot
        log.warning("%s: rebuilding from %s: %s", key, self.source.address, opened[-1].detail)
        self.tables.release()
        try:
            self.rebuild(key, progress)
        except ReadStoppedError:
            return
        except BinlogSyncError as error:
            self._failed_repairs += 1
            wait_s = backoff_s(_MIN_REPAIR_WAIT_S, _MAX_REPAIR_WAIT_S, self._failed_repairs)
            self._next_read_at = self._repair_at = time.monotonic() + wait_s
            log.error("%s may be incorrect, and rebuilding it failed: %s; retrying in %.0f s", key, error, wait_s)
        else:
            self._failed_repairs = 0

    @property
    def is_repair_due(self) -> bool:
        """See Target."""
        return time.monotonic() >= self._repair_at

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
        self.tables.release()
        at = self.rebuild(key)
        if beyond_mask(following, at).true_count:
            raise ConsumeError(
                f"{reason.state.name} was rebuilt from {self.source.address} at {at}, which precedes the next change "
                "in the stream: that server is not the source of the stream, or is a replica that lags behind it"
            )

    def _build_from_stream(self, statement: ChangeBatch) -> bool:
        """Build a table that the statement renamed to the mirror's name from the stream; False if not possible."""
        former = find_former_name(statement)
        if former is None or self.stream is None or statement.ddl is None:
            return False
        self.tables.release()
        if (scratch := self.tables.scratch()) is None:
            return False
        with scratch as built:
            builder = StreamTableBuilder(self.stream, built, MirrorOptions(metadata=self.options.metadata))
            found = builder.build(former, statement)
            if found is None or found.schema is None:
                return False
            schema, owner = replace(found.schema, database=self.database, table=self.table), secrets.token_hex(8)
            with self.tables.begin() as transaction:
                state = self._load_state(transaction)
                transaction.begin_load(state, schema, owner)
            with closing(builder.rows(found)) as parts:
                for rows in parts:
                    with self.tables.begin(keep_open=True) as transaction:
                        transaction.check_owner(state, owner)
                        transaction.copy_rows(state, rows)
        at = Checkpoint(statement.ddl.position, statement.server_uuid, None, 0, statement.ddl.ts_us)
        try:
            with self.tables.begin() as transaction:
                self._replace_table(transaction, LoadedTable(at, schema, found.left_out, 0, 0, None, owner))
        except MirrorKeyError as error:
            if self.source is None:
                raise
            log.info("%s; the table is read from the server, where the rows may be correct by now", error)
            return False
        log.info("%s.%s: built from the changes of %s in the stream", self.database, self.table, ".".join(former))
        return True

    def rebuild(
        self,
        key: ProgressKey,
        applied: ConsumerProgress = NO_PROGRESS,
        also: Callable[[TableTransaction], None] = lambda transaction: None,
    ) -> Checkpoint:
        """Replace the mirror's rows by those of the source (load.py); returns the checkpoint that they are right at.

        `also` runs in the transaction that replaces the table. Raises SourceError, and ConsumeError if the source has
        not reached the changes that the mirror has `applied`; nothing is changed then. Raises ReadStoppedError.
        """
        return self._load(key, applied, lambda transaction, loaded: also(transaction))

    def _load(
        self,
        key: ProgressKey,
        applied: ConsumerProgress,
        also: Callable[[TableTransaction, LoadedTable], None],
    ) -> Checkpoint:
        assert self.source is not None
        begun = time.monotonic()
        started = datetime.now(UTC)
        name = (self.database, self.table)
        loaded = TableLoad(
            self.tables, name, self.source, self.stream, self._stop, self.limits, self._set_progress, self.options
        ).run()
        if not applied.is_new and compare(applied.at, loaded.at) is PositionOrder.AFTER:
            raise ConsumeError(
                f"{key}: {self.source.address} is at {loaded.at}, but {applied} is applied already: that server "
                "lags behind the source of the stream; wait for it, or configure the address of that source"
            )
        with self.tables.begin() as transaction:
            self._replace_table(transaction, loaded)
            transaction.resolve_gaps(key, f"rebuilt at {loaded.at}", "the mirror", until=started)
            also(transaction, loaded)
        ended = time.monotonic()
        log.info("%s.%s: loaded with %d rows at %s in %.1f s", *name, loaded.rows, loaded.at, ended - begun)
        rate = 0.0 if self._load_progress is None else self._load_progress.rate
        self._set_progress(ReadProgress(loaded.rows, loaded.rows, rate, ended - begun, is_done=True))
        self._next_read_at = ended + min(_REBUILD_PAUSE_FACTOR * (ended - begun), _MAX_REBUILD_PAUSE_S)
        return loaded.at

    def _load_state(self, transaction: TableTransaction) -> MirrorState:
        """The state of the mirror with its options. Raises ConsumeError."""
        return load_configured(transaction, (self.database, self.table), self.options)

    def _set_progress(self, progress: ReadProgress) -> None:
        self._load_progress = progress

    def _replace_table(self, transaction: TableTransaction, content: LoadedTable) -> None:
        """Replace the mirror by the spare table; with soft deletes, rows missing in it become deleted rows."""
        state = self._load_state(transaction)
        transaction.check_owner(state, content.owner)
        at = content.at
        policies = replace(state.policies, key=self.options.key, repeats_until=None)
        state = replace(state, read_at=at, left_out=content.left_out, policies=policies)
        if content.left_out:
            log.warning("%s: column(s) %s are left out: %s", state.name, ", ".join(content.left_out), ADVICE)
        if content.schema is None:
            state = transaction.drop_or_keep_table(state, at.ts_us)
            transaction.drop_load(state)
        else:
            schema = with_key(content.schema, self.options.key)
            state = check_contract(transaction, state, schema, describe_load(at))
            state = transaction.replace_table(state, schema, at.ts_us)
            state = freeze_columns(transaction, state, self.options)
        if self.options.history:
            position = ChangePosition(at.ts_us, at.position.file, at.position.pos)
            transaction.close_versions(state, position)
            transaction.open_versions(state, position)


def _store_start(transaction: TableTransaction, key: ProgressKey, loaded: LoadedTable) -> None:
    """Store that the stream's messages before the load need not be delivered, so that a later gap is noticed."""
    start = replace(NO_PROGRESS, seen=loaded.start_sequence, stream=loaded.stream)
    transaction.move_progress(key, NO_PROGRESS, start)
