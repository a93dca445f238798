"""Reads the table of a mirror from the server into a spare table beside the mirror, resumably.

A table that is small, or that cannot be read in chunks, is read in one view at a known position (snapshot/view.py). Any
other one is read in chunks by key (snapshot/chunks.py), each stored with the progress of the load in one transaction,
so a load that was interrupted resumes at the next chunk; then the stream's changes since its beginning are applied
(catch_up.py). In both cases the rows equal the table at a known checkpoint at the end.

If that cannot be proven (DDL ran, the stream dropped messages, another server answered), the load begins again.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from binlogsync.errors import ConsumeError, SourceError
from binlogsync.mirror.catch_up import CatchUp, RestartLoadError, check_stream, find_last_checkpoint
from binlogsync.mirror.configuration import load_configured
from binlogsync.mirror.contract import check_contract, describe_load
from binlogsync.mysql.config import MySQLConfig, error_code
from binlogsync.mysql.table_errors import CHANGED
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.schema import TableSchema
from binlogsync.snapshot.chunks import Chunk, ChunkReader
from binlogsync.snapshot.progress import ProgressMeter, ReadProgress
from binlogsync.snapshot.throttle import LoadLimits
from binlogsync.snapshot.view import Description, LockRequiredError, TableSnapshot, read_table
from binlogsync.snapshot.watermarks import ReadStoppedError, contains_start
from binlogsync.targets import TableStore, TableTransaction
from binlogsync.targets.load_state import LoadState
from binlogsync.targets.mirror_options import DEFAULT_OPTIONS, MirrorOptions, with_key
from binlogsync.targets.mirror_state import MirrorState
from binlogsync.waiting import backoff_s

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_ATTEMPTS = 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 60.0
_VIEW_PAUSE_S = 0.05
_VIEW_TRIES = 100


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """The content of the spare table.

    Attributes:
        at: the checkpoint at which the rows equal the table.
        schema: of the table; None if there is no such table on the server, and no spare table.
        left_out: columns of the source that the spare table does not have; None if not known yet.
        rows: number of rows read.
        start_sequence: sequence of the stream's last checkpoint when the load began; 0 without a stream.
        stream: when that stream was created (StreamReader.created_at); None without a stream.
        owner: of the spare table (TableTransaction.begin_load).
    """

    at: Checkpoint
    schema: TableSchema | None
    left_out: tuple[str, ...] | None
    rows: int
    start_sequence: int
    stream: str | None
    owner: str


@dataclass(slots=True)
class TableLoad:
    """One load of the mirror of `name`. Without `reader` the table is read in one view."""

    tables: TableStore
    name: tuple[str, str]
    source: MySQLConfig
    reader: StreamReader | None
    stop: threading.Event
    limits: LoadLimits
    on_progress: Callable[[ReadProgress], None]
    options: MirrorOptions = DEFAULT_OPTIONS
    owner: str = field(default_factory=lambda: secrets.token_hex(8))
    _stream: str | None = None

    @property
    def label(self) -> str:
        """ "database.table"."""
        return ".".join(self.name)

    def run(self) -> LoadedTable:
        """Read the table. Raises ReadStoppedError, SourceError, SinkError, ConsumeError."""
        try:
            return self._run_until_right()
        finally:
            self.tables.release()

    def _run_until_right(self) -> LoadedTable:
        needs_view = False
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._run(needs_view=needs_view)
            except RestartLoadError as restart:
                self._change(lambda transaction, state: transaction.drop_load(state))
                needs_view = needs_view or restart.needs_view
                pause_s = backoff_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, attempt)
                log.warning("%s: the load begins again in %.1f s: %s", self.label, pause_s, restart.reason)
                reason = restart.reason
                if self.stop.wait(pause_s):
                    raise ReadStoppedError from None
        raise ConsumeError(
            f"{self.label}: the load began {_ATTEMPTS} times, the last time because {reason}; it is tried again later. "
            "Let it run when no DDL statements on this table are running"
        )

    def _run(self, *, needs_view: bool) -> LoadedTable:
        self._stream = None if self.reader is None else self.reader.created_at()
        found = None if self.reader is None else find_last_checkpoint(self.reader)
        stored = self._find_stored()
        if found is None or self.reader is None:
            return self._read_view(None, may_lock=True)
        try:
            with ChunkReader(self.source, self.name, self.limits, self.stop, self.tables.release) as chunks:
                if stored is not None:
                    self._check_stored(stored, chunks, self.reader)
                elif chunks.key is not None and not needs_view:
                    if chunks.size.is_small and (view := self._try_view(found)) is not None:
                        return view
                    stored = self._begin(chunks, found)
                if stored is not None and stored.high is None:
                    stored = self._read_chunks(chunks, stored)
        except SourceError as error:
            if error_code(error) not in CHANGED:
                raise
            if stored is not None:
                raise RestartLoadError(f"its definition changed: {error}") from error
        if stored is None:
            return self._read_view(found, may_lock=True)
        self.tables.release()
        at = CatchUp(self.reader, stored, self._store, self.tables.release, self.stop).run()
        return LoadedTable(
            at, stored.schema, stored.left_out, stored.rows, stored.start_sequence, stored.stream, self.owner
        )

    # One view.

    def _try_view(self, found: tuple[Checkpoint, int]) -> LoadedTable | None:
        """Read the table in one view; None if that needs a lock."""
        try:
            return self._read_view(found, may_lock=False)
        except LockRequiredError:
            return None

    def _read_view(self, found: tuple[Checkpoint, int] | None, *, may_lock: bool) -> LoadedTable:
        for _ in range(_VIEW_TRIES):
            with read_table(self.source, *self.name, stop=self.stop, may_lock=may_lock) as snapshot:
                if found is None or contains_start(snapshot.at, found[0]):
                    rows = self._store_view(snapshot)
                    return LoadedTable(
                        snapshot.at,
                        snapshot.schema,
                        snapshot.left_out,
                        rows,
                        found[1] if found else 0,
                        self._stream,
                        self.owner,
                    )
                if compare(snapshot.at, found[0]) is PositionOrder.UNKNOWN:
                    raise SourceError(_describe_other_server(self.source, snapshot, found[0]))
            if self.stop.wait(_VIEW_PAUSE_S):
                raise ReadStoppedError
        raise SourceError(
            f"{self.source.address} does not show yet what the stream contains: it is not the source of the stream, or "
            "a replica that lags behind it; wait for it, or configure the address of that source"
        )

    def _store_view(self, snapshot: TableSnapshot) -> int:
        """Store the rows; returns their number."""
        self._begin_table(snapshot.schema, snapshot.at)
        meter = ProgressMeter(0, 0)
        for batch in snapshot.batches():
            self._change_owned(lambda transaction, state: transaction.insert_rows(state, batch.schema, [batch]))  # noqa: B023 - runs now
            meter.add(len(batch))
            self._report(meter)
            if self.stop.is_set():
                raise ReadStoppedError
        self.tables.release()
        return meter.progress.rows

    def _begin_table(self, schema: TableSchema | None, at: Checkpoint, load: LoadState | None = None) -> None:
        """Create the spare table, unless the mirror cannot have its columns or its key; raises ConsumeError then."""

        def begin(transaction: TableTransaction, state: MirrorState) -> None:
            if schema is not None:
                check_contract(transaction, state, with_key(schema, self.options.key), describe_load(at))
            transaction.begin_load(state, schema, self.owner)
            if load is not None:
                transaction.store_load(state, load, self.owner)

        self._change(begin)

    # Chunks.

    def _find_stored(self) -> LoadState | None:
        return self._change(lambda transaction, state: transaction.find_load(state))

    def _check_stored(self, stored: LoadState, chunks: ChunkReader, reader: StreamReader) -> None:
        """Raise RestartLoadError unless a load that was interrupted can be resumed."""
        check_stream(reader, stored)
        description = chunks.description
        if (description.schema, description.left_out) != (stored.schema, stored.left_out):
            raise RestartLoadError("its columns changed since the load was interrupted")
        if chunks.server[0] != stored.server_uuid:
            raise RestartLoadError(f"another server answers: {chunks.server[0]}, before {stored.server_uuid}")
        if chunks.key is None or chunks.key.names != stored.key:
            raise RestartLoadError("its key changed since the load was interrupted")
        self._take_over(stored)
        log.info("%s: the load resumes after %d rows", self.label, stored.rows)

    def _take_over(self, stored: LoadState) -> None:
        """Own the load from now on. Raises ConsumeError if another process has continued or replaced it meanwhile."""

        def take(transaction: TableTransaction, state: MirrorState) -> None:
            if transaction.find_load(state) != stored:
                raise ConsumeError(
                    f"{self.label}: another process loads or rewinds this mirror at the same time, so this load is not "
                    "resumed, and is tried again. Run one of them at a time"
                )
            transaction.store_load(state, stored, self.owner)

        self._change(take)

    def _begin(self, chunks: ChunkReader, found: tuple[Checkpoint, int]) -> LoadState:
        start, sequence = found
        description, key = chunks.description, chunks.key
        assert key is not None
        load = LoadState(
            start,
            sequence,
            chunks.server[0],
            description.schema,
            description.left_out,
            key.names,
            sequence,
            stream=self._stream,
        )

        self._begin_table(description.schema, start, load)
        log.info(
            "%s: loading about %d rows from %s by key %s",
            self.label, chunks.size.estimate, self.source.address, ", ".join(key.names),
        )  # fmt: skip
        return load

    def _read_chunks(self, chunks: ChunkReader, load: LoadState) -> LoadState:
        """Read the remaining chunks."""
        chunks.begin(load.start)
        expected = Description(load.schema, load.left_out)
        meter = ProgressMeter(load.rows, chunks.size.estimate)
        self._report(meter)
        while load.high is None:
            chunk = chunks.read(load.last_key, expected)
            if chunks.describe() != expected:
                raise RestartLoadError("its columns changed during the load")
            load = self._store_chunk(load, chunk)
            meter.add(sum(map(len, chunk.batches)))
            self._report(meter)
        return load

    def _report(self, meter: ProgressMeter) -> None:
        self.on_progress(meter.progress)
        if meter.due():
            log.info("%s: %s", self.label, meter.progress)

    def _store_chunk(self, load: LoadState, chunk: Chunk) -> LoadState:
        count = sum(map(len, chunk.batches))
        high = chunk.high if chunk.is_last else None
        moved = replace(load, last_key=chunk.last_key or None, rows=load.rows + count, high=high)

        def insert(transaction: TableTransaction, state: MirrorState) -> None:
            if chunk.batches:
                transaction.insert_rows(state, load.schema, chunk.batches)

        self._store(moved, insert)
        return moved

    def _store(self, load: LoadState, change: Callable[[TableTransaction, MirrorState], None]) -> None:
        """Change the spare table, and store the state of the load, in one transaction."""

        def both(transaction: TableTransaction, state: MirrorState) -> None:
            change(transaction, state)
            transaction.store_load(state, load, self.owner)

        self._change_owned(both)

    def _change_owned(self, change: Callable[[TableTransaction, MirrorState], object]) -> None:
        """Change the spare table in a transaction. Raises ConsumeError if another load owns it now."""

        def checked(transaction: TableTransaction, state: MirrorState) -> None:
            transaction.check_owner(state, self.owner)
            change(transaction, state)

        self._change(checked, keep_open=True)

    def _change(self, change: Callable[[TableTransaction, MirrorState], Result], *, keep_open: bool = False) -> Result:
        """Run a function in a transaction, with the state of the mirror."""
        with self.tables.begin(keep_open=keep_open) as transaction:
            return change(transaction, load_configured(transaction, self.name, self.options))


def _describe_other_server(source: MySQLConfig, snapshot: TableSnapshot, start: Checkpoint) -> str:
    return (
        f"{source.address} is server {snapshot.server[0]}, but the stream is of server {start.server_uuid}, and their "
        "positions cannot be compared: configure the address of the stream's source, or turn GTIDs on for both servers"
    )
