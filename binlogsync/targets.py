"""What a consumer does with the changes of its table: keep a mirror of it, or call the user's handler.

A target stores progress in the DuckDB transaction of its rows. It gets the changes in order, and has done all of them
when `take` returns; where it raises, what it did before is stored with its progress, and nothing behind the failed
change was touched.
"""

from __future__ import annotations

import inspect
import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import duckdb

from binlogsync import mirror
from binlogsync.change import Change
from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConfigError, ConsumeError, HandlerError, ModelError
from binlogsync.models import Model
from binlogsync.progress import Tracker
from binlogsync.stream import StreamBatch

log = logging.getLogger(__name__)
M = TypeVar("M")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a failing handler is called for one change, and the waits between, which double up to the longest."""

    tries: int = 5
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after that many failures."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30))


class Target(Protocol):
    """What `consume` hands the changes to."""

    file: DuckFile

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """Do the changes, store progress with them, move the tracker; returns early, in good order, on `stop`."""


class Mirror:
    """A DuckDB table `database.table` in the file `path` that stays equal to MySQL's (see mirror.py)."""

    def __init__(self, path: str | Path, database: str, table: str) -> None:
        self.file = DuckFile(path, error=ConsumeError)
        self.database = database
        self.table = table

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """All of them in one transaction."""
        for item in batches:
            if (item.batch.schema.database, item.batch.schema.table) != (self.database, self.table):
                raise ConfigError(
                    f"the mirror of {self.database}.{self.table} was given changes of {item.batch.schema.name}"
                )
        with self.file.transaction(keep_open=True) as connection:
            mirror.apply(connection, [item.batch for item in batches])
            moved = tracker.move(connection, [(item.batch, item.last_sequence) for item in batches])
        tracker.confirm(moved, [item.batch for item in batches])


class Handler(Generic[M]):
    """Calls `fn(change)` for each change of a table, in order, with models made from its rows.

    A function with a second parameter gets the DuckDB connection of the transaction that progress is stored in: what it
    writes there happens exactly once. Everything else it does happens at least once, under the same `change.id` each
    time.

    Args:
        model: a dataclass, msgspec.Struct or pydantic model; checked against the schema before any row is handled.
        fn: the function.
        path: the DuckDB file of progress, and of what the function writes.
        retry: what happens when it raises.
    """

    def __init__(self, model: type[M], fn: Callable[..., object], path: str | Path, retry: Retry | None = None) -> None:
        self.file = DuckFile(path, error=ConsumeError)
        self._model: Model[M] = Model(model)
        self._fn = fn
        self._in_transaction = _parameters(fn) == 2
        self._retry = retry or Retry()
        self._checked: str | None = None

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """One change after the other; progress is stored behind each batch, and before a change that fails."""
        for item in batches:
            if item.batch.ddl is not None:
                continue
            if self._checked != item.batch.schema.fingerprint:
                self._model.check(item.batch.schema)
                self._checked = item.batch.schema.fingerprint
            self._take(item, tracker, stop)
            if stop.is_set():
                return

    def _take(self, item: StreamBatch, tracker: Tracker, stop: threading.Event) -> None:
        """Handle one batch; a failing change is tried on its own, behind a commit of those before it."""
        changes = list(item.batch.changes())
        run = self._run_in_transaction if self._in_transaction else self._run
        done, limit, failures = 0, len(changes), 0
        failure = _NO_FAILURE
        while done < len(changes) and not stop.is_set():
            if done == failure.at:
                if failure.is_flawed_row or failures >= self._retry.tries:
                    raise self._failed(changes[done], failures, failure.cause) from failure.cause
                wait_s = self._retry.wait_s(failures)
                log.warning("%s: handler failed (try %d), again in %.1f s", item.batch.schema.name, failures, wait_s)
                stop.wait(wait_s)
                limit = done + 1
            done, latest = run(item, changes, (done, limit), tracker)
            if latest is not None:
                failures = failures + 1 if latest.at == failure.at else 1
                failure, limit = latest, latest.at
            elif done > failure.at:
                limit = len(changes)

    def _run(
        self, item: StreamBatch, changes: Sequence[Change], span: tuple[int, int], tracker: Tracker
    ) -> tuple[int, _Failure | None]:
        """Handle the changes of the span with the file closed, then store how far it got."""
        failure = self._call(changes, span, None)
        reached = span[1] if failure is None else failure.at
        if reached > span[0]:
            part, sequence = item.batch.slice(span[0], reached), int(item.sequences[reached - 1].as_py())
            with self.file.transaction() as connection:
                moved = tracker.move(connection, [(part, sequence)])
            tracker.confirm(moved, [part])
        return reached, failure

    def _run_in_transaction(
        self, item: StreamBatch, changes: Sequence[Change], span: tuple[int, int], tracker: Tracker
    ) -> tuple[int, _Failure | None]:
        """Handle the changes of the span and store progress in one transaction; a failure undoes all of it."""
        part, sequence = item.batch.slice(*span), int(item.sequences[span[1] - 1].as_py())
        try:
            with self.file.transaction() as connection:
                failure = self._call(changes, span, connection)
                if failure is not None:
                    raise _RolledBackError(failure)
                moved = tracker.move(connection, [(part, sequence)])
        except _RolledBackError as undone:
            return span[0], undone.failure
        tracker.confirm(moved, [part])
        return span[1], None

    def _call(
        self, changes: Sequence[Change], span: tuple[int, int], connection: duckdb.DuckDBPyConnection | None
    ) -> _Failure | None:
        """Call the function for each change of the span; the first failure ends it."""
        for at in range(*span):
            try:
                typed = self._model.change(changes[at])
            except ModelError as error:
                return _Failure(at, error, is_flawed_row=True)
            try:
                if connection is None:
                    self._fn(typed)
                else:
                    self._fn(typed, connection)
                    connection.complete()
            except Exception as error:  # noqa: BLE001 - it is raised again as a HandlerError
                return _Failure(at, error)
        return None

    def _failed(self, change: Change, tries: int, cause: Exception) -> HandlerError:
        source = change.source
        frame = traceback.extract_tb(cause.__traceback__)[-1]
        what = "the model refused it" if isinstance(cause, ModelError) else f"the handler failed {tries} times"
        return HandlerError(
            f"{source.database}.{source.table}: {what} for change {change.id} (op {change.op}, {source.position} row "
            f"{source.row}): {type(cause).__name__}: {cause} ({frame.filename}:{frame.lineno}); nothing later of this "
            "table was handled, mend it and run the consumer again, it goes on with this change",
            table=f"{source.database}.{source.table}",
            change_id=change.id,
            position=str(source.position),
            tries=tries,
        )


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a handler raised, and for which change of the batch; a flawed row is one that the model refuses, always."""

    at: int
    cause: Exception
    is_flawed_row: bool = False


_NO_FAILURE = _Failure(-1, ConsumeError("no failure yet"))


class _RolledBackError(ConsumeError):
    """Carries a failure out of the transaction that it undoes."""

    def __init__(self, failure: _Failure) -> None:
        self.failure = failure
        super().__init__("rolled back")


def _parameters(fn: Callable[..., Any]) -> int:
    """How many positional parameters the function takes; raises ConfigError unless 1 or 2."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in inspect.signature(fn).parameters.values() if p.kind in kinds and p.default is p.empty]
    if len(required) not in (1, 2):
        raise ConfigError(
            f"handler {getattr(fn, '__name__', fn)!r} takes {len(required)} arguments; write it as fn(change), or as "
            "fn(change, connection) to write into DuckDB exactly once"
        )
    return len(required)
