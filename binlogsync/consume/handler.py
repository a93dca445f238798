"""The target that calls a user's handler, for one change or one batch at a time, and retries it when it raises.

A failing change is retried with exponential backoff; later changes wait. After the last try a HandlerError names the
change, and the next run resumes at it. A failing batch is split in halves until the failing change is found. Progress
is stored twice a second while changes are handled, before each retry and at the end, so that a kill repeats few calls
of a handler with effects elsewhere.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.event_loop import RunCoroutine, run_in_shared_loop
from binlogsync.consume.gaps import gap_from_batch, record_gap
from binlogsync.consume.handler_frames import frame, record_batch
from binlogsync.consume.handler_signature import read_signature
from binlogsync.consume.progress import ProgressStore, TableProgress, Tracker
from binlogsync.consume.retry import Retry
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.consume.typed_changes import TypedChanges
from binlogsync.errors import ConfigError, ConsumeError, HandlerError, ModelError
from binlogsync.models.model import Model
from binlogsync.nats.reader import StreamBatch
from binlogsync.schema import TableSchema
from binlogsync.targets import TableStore
from binlogsync.targets.factory import open_store

log = logging.getLogger(__name__)
M = TypeVar("M")
_STORE_EVERY_S = 0.5


class Handler(Target, Generic[M]):
    """Calls the function for the changes of a table, in order, in the form of its signature (handler_signature.py).

    A function with a second parameter gets the DuckDB connection of the transaction that stores progress: what it
    writes there is applied exactly once. Other effects happen at least once, with the same `change.id` each time.

    Args:
        model: a dataclass, msgspec.Struct or pydantic model; checked against the schema before the first row, and again
            when the schema changes. None for a function that takes frames or record batches with all columns.
        fn: the function.
        store: the progress store; a path is a DuckDB file, in which the function may write too.
        retry: how often it is called for a failing change.
        run_coroutine: runs the coroutine of an `async def`; by default in the shared event loop of the process.

    Raises ConfigError for an unsupported signature, ModelError for a class that is not a model.
    """

    def __init__(
        self,
        model: type[M] | None,
        fn: Callable[..., object],
        store: ProgressStore | str | Path,
        retry: Retry | None = None,
        run_coroutine: RunCoroutine | None = None,
    ) -> None:
        if isinstance(store, str | Path):
            store = TableProgress(open_store(store))
        self.store = store
        self.signature = read_signature(fn, model)
        self._tables = self.store.tables
        if self.signature.in_transaction and self._tables is None:
            raise ConfigError(
                f"handler {getattr(fn, '__qualname__', fn)} takes a DuckDB connection, but progress is not kept in "
                "DuckDB; give a DuckDB file for progress, or remove the second parameter"
            )
        self._model: Model[M] | None = None if model is None else Model(model)
        self._fn = fn
        self._await = (run_coroutine or run_in_shared_loop) if self.signature.is_async else None
        self._retry = retry or Retry()
        self._checked: str | None = None

    @property
    def may_buffer_progress(self) -> bool:
        """True unless the function writes in the transaction that stores progress."""
        return not self.signature.in_transaction

    def take(self, work: Sequence[TableChanges], stop: threading.Event) -> None:
        """Handle the batches in order."""
        [changes] = work
        tracker = changes.tracker
        done = _HandledChanges(tracker, self.store)
        try:
            for item in changes.batches:
                if item.batch.ddl is not None:
                    if (gap := gap_from_batch(item.batch, is_mirror=False)) is not None:
                        log.error("%s: %s", tracker.key, gap.detail)
                        record_gap(self.store, tracker.key, gap)
                    done.add(item.batch, item.last_sequence)
                    continue
                self._check(item.batch.schema)
                _HandlerBatch(self, item, done, stop).handle()
                if stop.is_set():
                    return
        finally:
            done.store()

    def _check(self, schema: TableSchema) -> None:
        if self._model is not None and self._checked != schema.fingerprint:
            self._model.check(schema)
            self._checked = schema.fingerprint

    def columns(self) -> list[str] | None:
        """The columns for which the model has a field; None without a model."""
        return None if self._model is None else [item.column for item in self._model.fields]

    def typed(self, batch: ChangeBatch) -> TypedChanges[M]:
        """The changes with model instances."""
        assert self._model is not None
        return TypedChanges(self._model, batch)

    def call(self, argument: object, connection: Any) -> None:
        """Call the function; if it is `async def`, run its coroutine to completion."""
        result = self._fn(argument) if connection is None else self._fn(argument, connection)
        if self._await is not None:
            self._await(result)  # type: ignore[arg-type]
        if connection is not None:
            connection.complete()

    @property
    def retry(self) -> Retry:
        """How often the function is called for a failing change."""
        return self._retry

    @property
    def tables(self) -> TableStore | None:
        """Where progress is stored, with what the function writes; None when progress is stored elsewhere."""
        return self._tables


@dataclass(frozen=True, slots=True)
class _Failure:
    """The exception of a handler, and the first change of the batch that may have caused it.

    `is_flawed_row` is True when the model refused the row; a retry cannot help.
    """

    at: int
    cause: Exception
    is_flawed_row: bool = False


class _RolledBackError(ConsumeError):
    """Rolls back the transaction and carries the failure out of it."""

    def __init__(self, failure: _Failure) -> None:
        self.failure = failure
        super().__init__("rolled back")


class _HandledChanges:
    """Changes that were handled but whose progress is not stored yet; stores it at intervals."""

    def __init__(self, tracker: Tracker, store: ProgressStore) -> None:
        self.tracker = tracker
        self._store = store
        self._parts: list[tuple[ChangeBatch, int]] = []
        self.due_at = time.monotonic() + _STORE_EVERY_S
        """When progress is stored next, by time.monotonic."""

    def add(self, batch: ChangeBatch, last_sequence: int) -> None:
        """Add changes, up to that stream sequence."""
        self._parts.append((batch, last_sequence))
        if time.monotonic() > self.due_at:
            self.store()

    def store(self) -> None:
        """Store progress now, if changes were added since the last time."""
        parts, self._parts = self._parts, []
        if parts:
            self.tracker.advance(self._store, parts)
        self.due_at = time.monotonic() + _STORE_EVERY_S


def _half(start: int, stop: int) -> int:
    return start + max(1, (stop - start) // 2)


class _HandlerBatch(Generic[M]):
    """Handles one batch."""

    def __init__(self, handler: Handler[M], item: StreamBatch, done: _HandledChanges, stop: threading.Event) -> None:
        self._handler = handler
        self._item = item
        self._done = done
        self._stop = stop
        self._shape = handler.signature.shape
        self._typed = handler.typed(item.batch) if self._shape in ("change", "list") else None
        self._failure: _Failure | None = None
        self._failures = 0
        self._suspected_to = 0  # after a batch failed: the failing change is before this index

    def handle(self) -> None:
        """Handle all changes, or up to `stop`. A failing change is retried alone, after those before it are stored."""
        run = self._run_in_transaction if self._handler.signature.in_transaction else self._run
        done, limit, count = 0, len(self._item), len(self._item)
        while done < count and not self._stop.is_set():
            if self._is_known(done, limit):
                self._wait_or_raise(done)
                limit = done + 1
            reached, failure = run((done, limit))
            if failure is not None:
                self._count(failure, limit)
                limit = failure.at if failure.at > done else _half(done, limit)
            elif reached == limit:
                limit = count if reached >= self._suspected_to else _half(reached, self._suspected_to)
            done = reached

    def _is_known(self, at: int, limit: int) -> bool:
        """True when the last failure was caused by the change at `at`, not by another one of the same call."""
        failure = self._failure
        if failure is None or failure.at != at:
            return False
        return self._shape == "change" or failure.is_flawed_row or limit == at + 1

    def _wait_or_raise(self, at: int) -> None:
        """Wait before the retry of the failing change; raises HandlerError after its last try."""
        assert self._failure is not None
        retry = self._handler.retry
        if self._failure.is_flawed_row or self._failures >= retry.tries:
            raise self._handler_error(at, self._failure.cause) from self._failure.cause
        if self._failures:
            wait_s = retry.wait_s(self._failures)
            name = self._item.batch.schema.name
            log.warning("%s: handler failed (try %d), retrying in %.1f s", name, self._failures, wait_s)
            self._stop.wait(wait_s)

    def _count(self, failure: _Failure, limit: int) -> None:
        """Count the tries of the failing change, once it is known which change of the batch fails."""
        again = self._failure is not None and self._failure.at == failure.at
        self._failure = failure
        is_known = self._is_known(failure.at, limit)
        self._failures = (self._failures if again else 0) + is_known
        self._suspected_to = failure.at + 1 if is_known else limit

    def _run(self, span: tuple[int, int]) -> tuple[int, _Failure | None]:
        """Handle the changes of the span with no file open, then record progress; after a failure, store it at once."""
        reached, failure = self._call(span, None)
        if reached > span[0]:
            self._done.add(*self._part(span[0], reached))
        if failure is not None:
            self._done.store()
        return reached, failure

    def _run_in_transaction(self, span: tuple[int, int]) -> tuple[int, _Failure | None]:
        """Handle the changes of the span and store progress in one transaction; a failure rolls it back."""
        assert self._handler.tables is not None
        tracker = self._done.tracker
        self._done.store()  # of a schema change before the span
        try:
            with self._handler.tables.begin(keep_open=True) as transaction:
                reached, failure = self._call(span, transaction.connection)
                if failure is not None:
                    raise _RolledBackError(failure)
                part = self._part(span[0], reached)
                moved = tracker.move(transaction, [part])
        except _RolledBackError as undone:
            return span[0], undone.failure
        tracker.confirm(moved, [part[0]])
        return reached, None

    def _part(self, start: int, stop: int) -> tuple[Any, int]:
        return self._item.batch.slice(start, stop), int(self._item.sequences[stop - 1])

    def _call(self, span: tuple[int, int], connection: Any) -> tuple[int, _Failure | None]:
        """Call the function for the span; returns (index after the last handled change, failure). May end early."""
        if self._typed is not None and self._shape == "change":
            return self._call_each(self._typed, span, connection)
        argument: object
        refused: ModelError | None = None
        if self._typed is not None:
            argument, refused = self._typed.take(*span)
            span = (span[0], span[0] + len(argument))
            if refused is not None and span[0] == span[1]:
                return span[0], _Failure(span[0], refused, is_flawed_row=True)
        else:
            shape = frame if self._shape == "frame" else record_batch
            argument = shape(self._item.batch.slice(*span), self._handler.columns())
        try:
            self._handler.call(argument, connection)
        except Exception as error:  # noqa: BLE001 - it is raised again as a HandlerError
            return span[0], _Failure(span[0], error)
        return span[1], None

    def _call_each(self, typed: TypedChanges[M], span: tuple[int, int], connection: Any) -> tuple[int, _Failure | None]:
        ends_at = self._done.due_at
        for at in range(*span):
            made, refused = typed.take(at, at + 1)
            if refused is not None:
                return at, _Failure(at, refused, is_flawed_row=True)
            try:
                self._handler.call(made[0], connection)
            except Exception as error:  # noqa: BLE001 - it is raised again as a HandlerError
                return at, _Failure(at, error)
            if self._stop.is_set() or time.monotonic() > ends_at:
                return at + 1, None
        return span[1], None

    def _handler_error(self, at: int, cause: Exception) -> HandlerError:
        part, _ = self._part(at, at + 1)
        [change] = part.changes()
        source = change.source
        row = change.after or change.before or {}
        frames = traceback.extract_tb(cause.__traceback__)
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        is_model = isinstance(cause, ModelError)
        what = "the model refused it" if is_model else f"the handler failed {self._failures} times"
        return HandlerError(
            f"{source.database}.{source.table}: {what} for change {change.id} (op {change.op}, {source.position} row "
            f"{source.row}): {type(cause).__name__}: {cause}{where}; later changes of this table were not handled: fix "
            "the handler and run the consumer again, it resumes at this change",
            table=f"{source.database}.{source.table}",
            change_id=change.id,
            position=str(source.position),
            tries=self._failures,
            key={name: row.get(name) for name in part.schema.primary_key},
        )
