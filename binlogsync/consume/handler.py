"""The target that calls a user's handler: one change after the other or a batch at a time, and what happens when it
raises.

A change that fails is tried again, after a wait that doubles; nothing behind it is handled meanwhile. When its tries
are used up, a HandlerError names it, and the next run goes on with that very change. A batch that fails is tried in
halves, until the change that is at fault stands alone. Progress is stored twice a second while changes are handled,
before a change is tried again and at the end, so a kill repeats little of what a handler did elsewhere.
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

import duckdb

from binlogsync.change import ChangeBatch
from binlogsync.consume.backoff import backoff_s
from binlogsync.consume.event_loop import RunCoroutine, run_in_shared_loop
from binlogsync.consume.gaps import gap_of, record_gap
from binlogsync.consume.handler_signature import frame, read_signature, record_batch
from binlogsync.consume.progress import DuckProgress, ProgressStore, Tracker
from binlogsync.consume.typed_changes import TypedChanges
from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConfigError, ConsumeError, HandlerError, ModelError
from binlogsync.models.model import Model
from binlogsync.schema import TableSchema
from binlogsync.stream.reader import StreamBatch

log = logging.getLogger(__name__)
M = TypeVar("M")
_STORE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a failing handler is called for one change, and the waits between, which double up to the longest."""

    tries: int = 5
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0

    def __post_init__(self) -> None:
        if self.tries < 1 or self.first_wait_s < 0 or self.longest_wait_s < 0:
            raise ConfigError(f"tries is at least 1, and no wait is below 0; got {self}")

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after that many failures."""
        return backoff_s(self.first_wait_s, self.longest_wait_s, failures)


class Handler(Generic[M]):
    """Calls the function for the changes of a table, in order, in the shape its signature asks for (handlers.py).

    A function with a second parameter gets the DuckDB connection of the transaction that progress is stored in: what it
    writes there happens exactly once. Everything else it does happens at least once, under the same `change.id` each
    time.

    Args:
        model: a dataclass, msgspec.Struct or pydantic model; checked against the schema before any row is handled, and
            again when the schema changes. None for a function that takes frames or record batches of all columns.
        fn: the function.
        store: where progress is kept; a path is a DuckDB file, of what the function writes too.
        retry: what happens when it raises.
        run_coroutine: runs what an `async def` gives; by default in one event loop of the process.

    Raises ConfigError for a signature that cannot be served, ModelError for a class that is no model.
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
            store = DuckProgress(DuckFile(store, error=ConsumeError))
        self.store = store
        self.signature = read_signature(fn, model)
        self._file = self.store.file if isinstance(self.store, DuckProgress) else None
        if self.signature.in_transaction and self._file is None:
            raise ConfigError(
                f"handler {getattr(fn, '__qualname__', fn)} asks for a DuckDB connection, and progress is not kept in "
                "DuckDB; give the DuckDB file to keep it in, or leave the second parameter out"
            )
        self._model: Model[M] | None = None if model is None else Model(model)
        self._fn = fn
        self._await = (run_coroutine or run_in_shared_loop) if self.signature.is_async else None
        self._retry = retry or Retry()
        self._checked: str | None = None

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """One batch after the other."""
        done = _Done(tracker, self.store)
        try:
            for item in batches:
                if item.batch.ddl is not None:
                    if (gap := gap_of(item.batch, is_mirror=False)) is not None:
                        log.error("%s: %s", tracker.key, gap.detail)
                        record_gap(self.store, tracker.key, gap)
                    done.add(item.batch, item.last_sequence)
                    continue
                self._check(item.batch.schema)
                _Batch(self, item, done, stop).handle()
                if stop.is_set():
                    return
        finally:
            done.store()

    def _check(self, schema: TableSchema) -> None:
        if self._model is not None and self._checked != schema.fingerprint:
            self._model.check(schema)
            self._checked = schema.fingerprint

    def columns(self) -> list[str] | None:
        """Columns that the model has fields for; None without a model."""
        return None if self._model is None else [item.column for item in self._model.fields]

    def typed(self, batch: ChangeBatch) -> TypedChanges[M]:
        """The changes with model instances."""
        assert self._model is not None
        return TypedChanges(self._model, batch)

    def call(self, what: object, connection: duckdb.DuckDBPyConnection | None) -> None:
        """Call the function, and wait for what it gives where it is `async def`."""
        result = self._fn(what) if connection is None else self._fn(what, connection)
        if self._await is not None:
            self._await(result)  # type: ignore[arg-type]
        if connection is not None:
            connection.complete()

    @property
    def retry(self) -> Retry:
        """What happens when it raises."""
        return self._retry

    @property
    def file(self) -> DuckFile | None:
        """The DuckDB file of progress, when it is kept in one."""
        return self._file


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a handler raised, and the first change of the batch that it may be about.

    A flawed row is one that the model refuses, always.
    """

    at: int
    cause: Exception
    is_flawed_row: bool = False


class _RolledBackError(ConsumeError):
    """Carries a failure out of the transaction that it undoes."""

    def __init__(self, failure: _Failure) -> None:
        self.failure = failure
        super().__init__("rolled back")


class _Done:
    """What is handled, and stored when it is time to."""

    def __init__(self, tracker: Tracker, store: ProgressStore) -> None:
        self.tracker = tracker
        self._store = store
        self._parts: list[tuple[ChangeBatch, int]] = []
        self.due_at = time.monotonic() + _STORE_EVERY_S
        """When it is to be stored, by time.monotonic."""

    def add(self, batch: ChangeBatch, last_sequence: int) -> None:
        """These changes too, up to that stream sequence."""
        self._parts.append((batch, last_sequence))
        if time.monotonic() > self.due_at:
            self.store()

    def store(self) -> None:
        """Store it now, if there is something that is not."""
        parts, self._parts = self._parts, []
        if parts:
            self.tracker.advance(self._store, parts)
        self.due_at = time.monotonic() + _STORE_EVERY_S


def _half(start: int, stop: int) -> int:
    return start + max(1, (stop - start) // 2)


class _Batch(Generic[M]):
    """One batch on its way through the handler."""

    def __init__(self, handler: Handler[M], item: StreamBatch, done: _Done, stop: threading.Event) -> None:
        self._handler = handler
        self._item = item
        self._done = done
        self._stop = stop
        self._shape = handler.signature.shape
        self._typed = handler.typed(item.batch) if self._shape in ("change", "list") else None
        self._failure: _Failure | None = None
        self._failures = 0
        self._suspected_to = 0  # the change at fault is before it, where a batch failed

    def handle(self) -> None:
        """All of it, or up to `stop`; a failing change is tried on its own, behind a commit of those before it."""
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
        """True when it is the change at `at` that failed last, and no other that was handled together with it."""
        failure = self._failure
        if failure is None or failure.at != at:
            return False
        return self._shape == "change" or failure.is_flawed_row or limit == at + 1

    def _wait_or_raise(self, at: int) -> None:
        """Before the change that failed is tried again by itself."""
        assert self._failure is not None
        retry = self._handler.retry
        if self._failure.is_flawed_row or self._failures >= retry.tries:
            raise self._failed(at, self._failure.cause) from self._failure.cause
        if self._failures:
            wait_s = retry.wait_s(self._failures)
            name = self._item.batch.schema.name
            log.warning("%s: handler failed (try %d), again in %.1f s", name, self._failures, wait_s)
            self._stop.wait(wait_s)

    def _count(self, failure: _Failure, limit: int) -> None:
        """Tries of a change are counted where it is known that it is that change."""
        again = self._failure is not None and self._failure.at == failure.at
        self._failure = failure
        is_known = self._is_known(failure.at, limit)
        self._failures = (self._failures if again else 0) + is_known
        self._suspected_to = failure.at + 1 if is_known else limit

    def _run(self, span: tuple[int, int]) -> tuple[int, _Failure | None]:
        """Handle changes of the span with no file open, then note how far it got; what fails waits, so store it."""
        reached, failure = self._call(span, None)
        if reached > span[0]:
            self._done.add(*self._part(span[0], reached))
        if failure is not None:
            self._done.store()
        return reached, failure

    def _run_in_transaction(self, span: tuple[int, int]) -> tuple[int, _Failure | None]:
        """Handle changes of the span and store progress in one transaction; a failure undoes all of it."""
        assert self._handler.file is not None
        tracker = self._done.tracker
        self._done.store()  # a schema change before it
        try:
            with self._handler.file.transaction(keep_open=True) as connection:
                reached, failure = self._call(span, connection)
                if failure is not None:
                    raise _RolledBackError(failure)
                part = self._part(span[0], reached)
                moved = tracker.move(connection, [part])
        except _RolledBackError as undone:
            return span[0], undone.failure
        tracker.confirm(moved, [part[0]])
        return reached, None

    def _part(self, start: int, stop: int) -> tuple[Any, int]:
        return self._item.batch.slice(start, stop), int(self._item.sequences[stop - 1].as_py())

    def _call(self, span: tuple[int, int], connection: duckdb.DuckDBPyConnection | None) -> tuple[int, _Failure | None]:
        """Call the function for the span: (changes handled up to, what failed). Ends early after a while."""
        if self._typed is not None and self._shape == "change":
            return self._call_each(self._typed, span, connection)
        what: object
        refused: ModelError | None = None
        if self._typed is not None:
            what, refused = self._typed.take(*span)
            span = (span[0], span[0] + len(what))
            if refused is not None and span[0] == span[1]:
                return span[0], _Failure(span[0], refused, is_flawed_row=True)
        else:
            shape = frame if self._shape == "frame" else record_batch
            what = shape(self._item.batch.slice(*span), self._handler.columns())
        try:
            self._handler.call(what, connection)
        except Exception as error:  # noqa: BLE001 - it is raised again as a HandlerError
            return span[0], _Failure(span[0], error)
        return span[1], None

    def _call_each(
        self, typed: TypedChanges[M], span: tuple[int, int], connection: duckdb.DuckDBPyConnection | None
    ) -> tuple[int, _Failure | None]:
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

    def _failed(self, at: int, cause: Exception) -> HandlerError:
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
            f"{source.row}): {type(cause).__name__}: {cause}{where}; nothing later of this "
            "table was handled, mend it and run the consumer again, it goes on with this change",
            table=f"{source.database}.{source.table}",
            change_id=change.id,
            position=str(source.position),
            tries=self._failures,
            key={name: row.get(name) for name in part.schema.primary_key},
        )
