"""Consumes several tables at the same time in one process. Each worker has a thread and a NATS connection.

    with WorkerPool(tasks, open_reader, options, stop) as pool:
        while pool.quiet_s() < 60:
            for report in pool.reports(0.5): ...

Up to `max_workers` tables have a worker of their own. With more tables, the workers are shared: a table with pending
messages is queued and gets a worker for a short time (scheduler.py). One request to the server finds the pending counts
of all tables. Tables may be added while the workers run.

A table whose handler or model fails is retried with exponential backoff; other tables are not affected. Workers put a
report of each round of a table in a queue, and the caller reads these with `reports`. This module does not use Dagster.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING

from binlogsync.codec.subjects import durable_name
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult, Table, consume_together
from binlogsync.consume.scheduler import Scheduler
from binlogsync.errors import BinlogSyncError, ConfigError, HandlerError, TargetBusyError
from binlogsync.nats.reader import StreamReader
from binlogsync.waiting import backoff_s

if TYPE_CHECKING:
    from binlogsync.consume.targets import Target

log = logging.getLogger(__name__)
OpenReader = Callable[[], AbstractContextManager[StreamReader]]
_JOIN_S = 60.0
_POLL_S = 0.1
_POLL_RETRY_S = 1.0
_IDLE_S = 0.1
_GROUP_IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class ConsumerTask:
    """A (database, table), its target and options; the pool sets `max_s` and `idle_s` of the options itself.

    `together` are further tables that are applied with it in one transaction; see Target.join.
    """

    table: Table
    target: Target
    options: ConsumeOptions
    together: tuple[ConsumerTask, ...] = ()

    @property
    def tasks(self) -> tuple[ConsumerTask, ...]:
        """This task and those applied with it."""
        return (self, *self.together)

    @property
    def durables(self) -> tuple[str, ...]:
        """Names of their durables in JetStream."""
        return tuple(each.options.durable or durable_name(each.options.client_id, *each.table) for each in self.tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPoolOptions:
    """Options of a worker pool.

    Attributes:
        max_workers: tables consumed at the same time, each with a thread and a connection to NATS.
        turn_s: longest time that a table keeps its worker when there are more tables than workers.
        first_round_s, round_s: duration of the first round of a table, and of later rounds.
        idle_s: a round ends earlier when no change arrived for so long; None for no such end. If workers are shared,
            rounds end by other limits.
        first_wait_s, longest_wait_s: first and longest wait before a failed table is retried; the wait doubles.
    """

    max_workers: int = 32
    turn_s: float = 2.0
    first_round_s: float = 5.0
    round_s: float = 60.0
    idle_s: float | None = None
    first_wait_s: float = 5.0
    longest_wait_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_workers < 1 or self.turn_s <= 0:
            raise ConfigError(
                f"max_workers must be at least 1 and turn_s above 0; got {self.max_workers} and {self.turn_s}"
            )

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return backoff_s(self.first_wait_s, self.longest_wait_s, failures)


@dataclass(frozen=True, slots=True)
class TableReport:
    """One round of one table.

    Attributes:
        table: (database, table).
        done: the result; None when the round failed (changes processed before the failure are stored).
        error: why the round failed.
        failures: number of failed rounds in a row.
        tries: how often the failing change was tried in these rounds; 0 when the error is not from a handler.
    """

    table: Table
    done: ConsumeResult | None
    error: BinlogSyncError | None = None
    failures: int = 0
    tries: int = 0


class ReportQueue:
    """Reports of the threads of a pool, and their unexpected exceptions, for the thread that reads them."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[TableReport | BaseException] = queue.SimpleQueue()

    def put(self, event: TableReport | BaseException) -> None:
        """Add a report, or an exception that `take` raises."""
        self._queue.put(event)

    def take(self, timeout_s: float) -> list[TableReport]:
        """The reports since the last call; waits up to `timeout_s` for the first."""
        found: list[TableReport] = []
        with suppress(queue.Empty):
            event = self._queue.get(timeout=timeout_s) if timeout_s else self._queue.get_nowait()
            while True:
                if isinstance(event, BaseException):
                    raise event
                found.append(event)
                event = self._queue.get_nowait()
        return found


def join_workers(threads: Sequence[threading.Thread]) -> None:
    """Wait for the end of threads that were told to stop; log those whose handler does not return."""
    ends_at = time.monotonic() + _JOIN_S
    for thread in threads:
        if thread.is_alive():
            thread.join(max(0.0, ends_at - time.monotonic()))
        if thread.is_alive():
            log.error("%s: its handler has not returned for %.0f s", thread.name, _JOIN_S)


@dataclass(slots=True, eq=False)
class _TaskState:
    """State of a task: `is_busy` while it has pending changes, `since` when it was last active."""

    task: ConsumerTask
    round_s: float
    failures: int = 0
    tries: int = 0
    is_busy: bool = True
    since: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """ "database.table"."""
        return ".".join(self.task.table)

    def pulse(self, is_busy: bool) -> None:
        """Record whether changes are about to be handled (True) or none are pending (False)."""
        if is_busy or self.is_busy:
            self.since = time.monotonic()
        self.is_busy = is_busy


class WorkerPool:
    """Runs the workers while the `with` block runs. They stop cleanly when `stop` is set or the block ends.

    An unexpected exception in a worker (not a BinlogSyncError) is raised by `reports`.
    """

    def __init__(
        self, tasks: Sequence[ConsumerTask], open_reader: OpenReader, options: WorkerPoolOptions, stop: threading.Event
    ) -> None:
        check_unique(tasks)
        self._first_round_s = min(options.first_round_s, options.round_s)
        workers = min(len(tasks), options.max_workers)
        self._states = [_TaskState(task, self._first_round_s) for task in tasks]
        self._scheduler = Scheduler(self._states, workers)
        self._shares_workers = len(tasks) > workers
        self._open = open_reader
        self._options = options
        self._stop = stop
        self._reports = ReportQueue()
        self._workers = [self._new_worker() for _ in range(workers)]
        self._poller = threading.Thread(target=self._poll_pending, name="consume: poll pending", daemon=True)

    def __enter__(self) -> WorkerPool:
        for thread in self._threads:
            thread.start()
        return self

    @property
    def _threads(self) -> list[threading.Thread]:
        return [*self._workers, self._poller] if self._shares_workers else self._workers

    def _new_worker(self) -> threading.Thread:
        return threading.Thread(target=self._run, daemon=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stop, and wait until the changes being handled are finished. The last reports can still be read."""
        self._stop.set()
        self._scheduler.close()
        join_workers(self._threads)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that are consumed."""
        return tuple(each.table for state in self._states for each in state.task.tasks)

    def add(self, task: ConsumerTask) -> None:
        """Consume another table too, within the `with` block. Raises ConfigError for a table that has a task."""
        check_unique([*(state.task for state in self._states), task])
        state = _TaskState(task, self._first_round_s)
        self._states.append(state)
        if len(self._workers) < self._options.max_workers:
            self._workers.append(self._new_worker())
            self._scheduler.add(state, len(self._workers))
            self._workers[-1].start()
            return
        self._scheduler.add(state, len(self._workers))
        if not self._shares_workers:
            self._shares_workers = True
            self._poller.start()

    def add_together(self, task: ConsumerTask, table: Table) -> None:
        """Apply another mirror together with that of `table`, which has a task, from its next round on."""
        check_unique([*(state.task for state in self._states), task])
        state = next(state for state in self._states if state.task.table == table)
        state.task = replace(state.task, together=(*state.task.together, task))

    def quiet_s(self) -> float:
        """Seconds since a change was handled; 0 while any table is being consumed or checked."""
        if any(state.is_busy for state in self._states):
            return 0.0
        return time.monotonic() - max((state.since for state in self._states), default=0.0)

    def reports(self, timeout_s: float) -> list[TableReport]:
        """The reports since the last call; waits up to `timeout_s` for the first."""
        return self._reports.take(timeout_s)

    def _run(self) -> None:
        """The loop of a worker: consume the next table, over one connection until an error."""
        with ExitStack() as held:
            reader: StreamReader | None = None
            while not self._stop.is_set() and (state := self._scheduler.next()) is not None:
                threading.current_thread().name = f"consume {state.name}"
                try:
                    reader = reader or held.enter_context(self._open())
                    self._turn(state, reader)
                except BinlogSyncError as error:
                    held.close()
                    reader = None
                    self._fail(state, error)
                except BaseException as error:  # noqa: BLE001 - it is raised again by `reports`
                    state.pulse(False)
                    self._reports.put(error)
                    return

    def _turn(self, state: _TaskState, reader: StreamReader) -> None:
        """Run one round of a table, then queue the table again or mark it idle."""
        done = self._round(state, reader)
        if state.failures and self._stop.is_set() and not any(one.changes for one in done.values()):
            return  # a retry that was interrupted does not prove that the failure is resolved
        state.failures, state.tries, state.round_s = 0, 0, self._options.round_s
        for table, one in done.items():
            self._reports.put(TableReport(table, one))
        if not self._shares_workers:
            self._scheduler.requeue(state)
            return
        for durable in state.task.durables:
            reader.leave(durable)
        if all(one.is_drained for one in done.values()):
            self._scheduler.set_idle(state, self._options.round_s)
        else:
            self._scheduler.requeue(state)

    def _fail(self, state: _TaskState, error: BinlogSyncError) -> None:
        if isinstance(error, TargetBusyError) and self._stop.is_set():
            return  # the stop has ended the wait for the target
        state.failures += 1
        state.tries += error.tries if isinstance(error, HandlerError) else 0
        state.pulse(False)
        wait_s = self._options.wait_s(state.failures)
        log.warning("%s: %s; later changes of this table wait, retrying in %.0f s", state.name, error, wait_s)
        for task in state.task.tasks:
            self._reports.put(TableReport(task.table, None, error, state.failures, state.tries))
        self._scheduler.delay_retry(state, wait_s)

    def _round(self, state: _TaskState, reader: StreamReader) -> Mapping[Table, ConsumeResult]:
        task, round_s = state.task, state.round_s
        idle_s = round_s + 1.0 if self._options.idle_s is None else self._options.idle_s
        options = replace(task.options, idle_s=idle_s, max_s=round_s)
        if self._shares_workers:
            # A group rereads an incomplete transaction in each round, so the round must be long enough to complete it.
            turn_s, idle_s = (round_s, _GROUP_IDLE_S) if task.together else (self._options.turn_s, _IDLE_S)
            options = replace(task.options, idle_s=idle_s, max_s=turn_s)
        targets = {each.table: each.target for each in task.tasks}
        return consume_together(reader, targets, options, self._stop, state.pulse)

    def _poll_pending(self) -> None:
        """Queue the idle tables that have pending messages; all of them when the server cannot be asked."""
        with ExitStack() as held:
            reader: StreamReader | None = None
            seen = -1
            while not self._stop.wait(_POLL_S):
                idle, has_new_idle = self._scheduler.idle_items()
                try:
                    reader = reader or held.enter_context(self._open())
                    newest = reader.last_sequence()
                    if newest == seen and not has_new_idle:
                        continue
                    waiting, seen = reader.pending_counts(), newest
                except BinlogSyncError as error:
                    log.debug("polling pending messages: %s", error)
                    held.close()
                    reader = None
                    self._wake(idle)
                    self._stop.wait(_POLL_RETRY_S)
                    continue
                self._wake([one for one in idle if any(waiting.get(name, 1) for name in one.task.durables)])

    def _wake(self, states: Sequence[_TaskState]) -> None:
        for state in states:
            state.pulse(True)
        self._scheduler.wake(states)


def check_unique(tasks: Sequence[ConsumerTask]) -> None:
    """Raise ConfigError if two tasks have the same table."""
    tables = [each.table for task in tasks for each in task.tasks]
    if len(set(tables)) != len(tables):
        raise ConfigError("a table is listed twice; list each table once, or use another client id for the second")
