"""Keeps many tables of a source live in one process: few threads, few connections, and no polling.

    with ContinuousPool(tasks, open_reader, ContinuousOptions(), stop) as pool:
        while not stop.is_set():
            for report in pool.reports(0.5): ...

It is used like `WorkerPool` (pool.py), for consumers that run for hours; tables can also be removed. The delivery of
each table stays open, and the server reports new messages as they arrive (StreamReader.listen). A handler gets them at
once. Mirrors of one file are gathered for a moment and applied in one transaction; if that fails, or if one has to be
loaded again, it is applied alone for a while. Progress of handlers is stored once a second, for all in one transaction.
Threads are started when items wait for one: a handler or a load that takes long does not delay other tables. Short work
of several tables is done by one thread, which is faster than several that compete for the interpreter.

Groups of mirrors (`ConsumerTask.together`) run in a WorkerPool of their own, which cuts at transactions of the source.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence, Set
from types import TracebackType

from binlogsync.consume.continuous_options import ContinuousOptions
from binlogsync.consume.engine import Table
from binlogsync.consume.file_turns import FileTurns
from binlogsync.consume.live_state import LiveState, find_moved, find_repairable, may_wait, receive_together
from binlogsync.consume.live_table import ACK_S, LiveTable
from binlogsync.consume.patience import BUSY_PAUSE_S, end_waits
from binlogsync.consume.pool import (
    ConsumerTask,
    OpenReader,
    ReportQueue,
    TableReport,
    WorkerPool,
    WorkerPoolOptions,
    check_unique,
    join_workers,
)
from binlogsync.consume.progress_buffer import ProgressBuffer
from binlogsync.consume.scheduler import Scheduler
from binlogsync.consume.shared_readers import SharedReaders
from binlogsync.consume.targets import ApplyAloneError
from binlogsync.errors import BinlogSyncError, ConfigError, HandlerError, TargetBusyError
from binlogsync.nats.complete_reading import StreamRecreatedError
from binlogsync.waiting import Interval, backoff_s

__all__ = ["ContinuousOptions", "ContinuousPool"]

log = logging.getLogger(__name__)
_TABLES_PER_CONNECTION = 24
"""nats-server closes a connection with more than 64 MB of pending messages, and each table may request 2 MB."""
_LOOK_S = 60.0
"""Seconds between two looks at a table without messages, in case that a report was lost."""
_AGAIN_S = 0.05
_TEND_S = 0.25
_STALLED_S = 0.03
_QUICK_S = 0.03
_RELEASE_S = 0.2
_STORE_S = 1.0


class ContinuousPool:
    """Consumes the tables while the `with` block runs; ends cleanly when the block ends.

    An unexpected exception in a thread (not a BinlogSyncError) is raised by `reports`.
    """

    def __init__(
        self, tasks: Sequence[ConsumerTask], open_reader: OpenReader, options: ContinuousOptions, stop: threading.Event
    ) -> None:
        check_unique(tasks)
        self._open, self._options, self._stop = open_reader, options, stop
        self._scheduler: Scheduler[LiveState] = Scheduler((), options.max_workers, quick_s=_QUICK_S, may_wait=may_wait)
        self._states: dict[Table, LiveState] = {}
        self._buffer = ProgressBuffer()
        self._readers = SharedReaders(open_reader)
        self._added = 0
        self._turns = FileTurns(options.gather_s)
        self._events = ReportQueue()
        self._workers: list[threading.Thread] = []
        self._growing = threading.Lock()
        self._tender = threading.Thread(target=self._tend, name="consume: tend", daemon=True)
        groups = [task for task in tasks if task.together]
        self._groups = self._build_groups(groups) if groups else None
        for task in tasks:
            if not task.together:
                self._add_state(task)

    def __enter__(self) -> ContinuousPool:
        if self._groups is not None:
            self._groups.__enter__()
        self._tender.start()
        self._grow()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stop, and wait until the changes being handled are finished. The last reports can still be read."""
        self._stop.set()
        self._scheduler.close()
        with self._growing:
            threads = [*self._workers, self._tender]
        join_workers(threads)
        if self._groups is not None:
            self._groups.end()
        for state in self._states.values():
            state.close()
        self._buffer.flush()
        for state in self._states.values():
            state.target.store = self._buffer.unwrap(state.target.store)
            state.target.store.release()
        self._readers.close()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that are consumed."""
        return (*self._states, *(self._groups.tables if self._groups is not None else ()))

    def add(self, task: ConsumerTask) -> None:
        """Consume another table too, within the `with` block. Raises ConfigError for a table that has a task."""
        if any(table in self.tables for table in (each.table for each in task.tasks)):
            raise ConfigError(f"{'.'.join(task.table)} is listed twice; list each table once")
        if task.together:
            raise ConfigError("a group of mirrors cannot be added to a running pool")
        self._add_state(task)
        self._grow()

    def remove(self, table: Table, timeout_s: float = 60.0) -> bool:
        """Finish the changes of the table that are being handled, store its progress, and leave it.

        False if that takes longer: the table is then still consumed. Raises KeyError for a table of a group.
        """
        state = self._states[table]
        state.is_removed = True
        if not self._scheduler.remove(state, timeout_s):
            state.is_removed = False
            return False
        del self._states[table]
        state.close()
        state.target.store = self._buffer.unwrap(state.target.store)
        state.target.store.release()
        return True

    def quiet_s(self) -> float:
        """Seconds since a change was handled; 0 while any table is being consumed or checked."""
        if any(state.is_busy for state in self._states.values()):
            return 0.0
        quiet_s = time.monotonic() - max((state.since for state in self._states.values()), default=0.0)
        return quiet_s if self._groups is None else min(quiet_s, self._groups.quiet_s())

    def reports(self, timeout_s: float) -> list[TableReport]:
        """What happened since the last call, one result for each table; waits up to `timeout_s` for an error."""
        found = self._events.take(timeout_s)
        for state in list(self._states.values()):
            if (done := state.take_result()) is not None:
                found.append(TableReport(state.table, done))
        if self._groups is not None:
            found += self._groups.reports(0)
        return found

    # Threads and connections.

    def _build_groups(self, tasks: Sequence[ConsumerTask]) -> WorkerPool:
        most, first_s, longest_s = self._options.max_workers, self._options.first_wait_s, self._options.longest_wait_s
        options = WorkerPoolOptions(max_workers=most, first_wait_s=first_s, longest_wait_s=longest_s)
        return WorkerPool(tasks, self._open, options, self._stop)

    def _add_state(self, task: ConsumerTask) -> None:
        end_waits(task.target, self._stop)
        if task.target.may_buffer_progress:
            task.target.store = self._buffer.wrap(task.target.store)
        gather_s = 0.0 if task.target.may_buffer_progress else self._options.gather_s
        state = LiveState(task, self._added // _TABLES_PER_CONNECTION, gather_s)
        self._added += 1
        self._states[task.table] = state
        self._scheduler.add(state, self._options.max_workers)

    def _signal(self, state: LiveState) -> None:
        """Messages of the table have arrived. Called in the thread of a connection."""
        state.is_signaled = True
        state.is_busy = state.is_busy or not state.failures
        self._scheduler.signal(state, state.gather_s)
        if self._scheduler.stalled_s() > _STALLED_S:
            self._grow()

    def _grow(self) -> None:
        """Start another thread, up to the limit."""
        with self._growing:
            if len(self._workers) < self._options.max_workers and not self._stop.is_set():
                self._workers.append(threading.Thread(target=self._run, daemon=True))
                self._workers[-1].start()

    def _tend(self) -> None:
        """Start threads, store progress, release files, and look for lost connections, moved progress and gaps."""
        store, reload = Interval(_STORE_S), Interval(self._options.reload_s)
        reload.is_due()
        while not self._stop.wait(_TEND_S):
            try:
                if self._scheduler.stalled_s() > _STALLED_S:
                    self._grow()
                states = list(self._states.values())
                for state in states:
                    live = state.live
                    if live is not None and live.reader.is_lost:
                        self._signal(state)
                    elif not state.is_busy and time.monotonic() - state.since > _RELEASE_S:
                        state.target.store.release()
                if store.is_due():
                    self._buffer.flush()
                if reload.is_due():
                    for state in (*find_moved(states), *find_repairable(states)):
                        state.must_reopen = True
                        self._scheduler.signal(state)
            except BaseException as error:  # noqa: BLE001 - it is raised again by `reports`
                self._events.put(error)
                return

    def _run(self) -> None:
        while (state := self._scheduler.next()) is not None:
            if self._scheduler.stalled_s() > _STALLED_S:
                self._grow()
            try:
                self._turn(state)
            except BaseException as error:  # noqa: BLE001 - it is raised again by `reports`
                self._scheduler.delay_retry(state, _LOOK_S)
                state.is_busy = False
                self._events.put(error)
                return

    def _turn(self, first: LiveState) -> None:
        """Fetch what has arrived for a table, and for other mirrors of its file, and apply it."""
        live, scope = first.live, first.scope
        if live is None or scope is None or first.must_reopen:
            receive_together(first, self._scheduler)
            self._apply([first])
            return
        has_backlog = live.has_more
        if wait_s := self._turns.begin(scope, has_backlog=has_backlog):
            self._scheduler.put_back(first, min(wait_s, max(first.gather_s, _AGAIN_S)))
            return
        states = [first]
        try:
            most = self._turns.most_mirrors(scope, has_backlog=has_backlog)
            states += self._scheduler.take_signaled(lambda one: one.may_join(scope), most)
            self._apply(states)
        finally:
            self._turns.end(scope, len(states))

    def _apply(self, states: Sequence[LiveState]) -> None:
        """Fetch what has arrived for these tables, and apply it."""
        fetched = [state for state in states if self._fetch(state)]
        alone = [state for state in fetched if state.live is not None and state.live.has_statement]
        joint = [state for state in fetched if state not in alone]
        if len(joint) > 1:
            self._apply_joint(joint)
        for state in (*alone, *joint) if len(joint) == 1 else alone:
            self._apply_alone(state)

    def _fetch(self, state: LiveState) -> bool:
        """True if the table has changes to apply; otherwise the state is returned to the scheduler."""
        try:
            if state.must_reopen:
                state.close()
            if state.live is None:
                state.is_busy = True
                if state.is_removed or not self._open_table(state):
                    self._scheduler.set_idle(state, _LOOK_S)
                    return False
            assert state.live is not None
            is_signaled, state.is_signaled = state.is_signaled, False
            end = None if is_signaled else state.live.reader.last_sequence()
            if not state.live.fetch(self._stop) and not state.live.delivery.fetched:
                self._rest(state, is_drained=end is None or state.live.settle(end), is_look=end is not None)
                return False
            state.is_busy = True
            if not state.live.delivery.fetched:  # all were applied before
                self._finish(state)
                return False
            return True
        except StreamRecreatedError:
            self._reopen([state], until_applied=False)
            return False
        except BinlogSyncError as error:
            self._fail(state, error)
            return False

    def _open_table(self, state: LiveState) -> bool:
        """Open the table, which loads a new mirror; False if that was stopped."""
        reader, task = self._readers.beside(state.connection), state.task
        state.live = LiveTable.open(
            task.table, task.target, task.options, reader, lambda: self._signal(state), self._stop
        )
        state.must_reopen = False
        return not self._stop.is_set()

    def _apply_joint(self, states: Sequence[LiveState]) -> None:
        """Apply the changes of several mirrors in one transaction."""
        works = [state.live.work for state in states if state.live is not None]
        try:
            others = [state.target for state in states[1:]]
            states[0].target.join(others, may_load=False).take(works, self._stop)
        except TargetBusyError as error:
            for state in states:
                self._fail(state, error)
            return
        except ApplyAloneError as error:
            self._reopen(states, error.tables, until_applied=True)
            return
        except BinlogSyncError as error:
            log.debug("a transaction of %d mirrors failed: %s; applying each alone", len(states), error)
            self._reopen(states, {state.table for state in states}, until_applied=False)
            return
        if not any(state.live is not None and state.live.has_more for state in states):
            states[0].target.store.release()  # readers get access while the next changes are gathered
        for state, work in zip(states, works, strict=True):
            try:
                if state.live is not None and not self._stop.is_set():
                    state.live.confirm(work)
                self._finish(state)
            except BinlogSyncError as error:
                self._fail(state, error)

    def _reopen(self, states: Sequence[LiveState], alone: Set[Table] = frozenset(), *, until_applied: bool) -> None:
        """Open the tables again in another turn, without the file, because that may load them; apply some alone."""
        for state in states:
            state.leave()
            if state.table in alone:
                state.set_alone(until_applied=until_applied)
            self._scheduler.requeue(state)

    def _apply_alone(self, state: LiveState) -> None:
        live, target = state.live, state.target
        assert live is not None
        threading.current_thread().name = f"consume {state.name}"
        work = live.work
        if state.scope is not None:
            target = target.join((), may_load=False)
        try:
            with state.noting_waits(), live.delivery.reading_ahead(live.options.max_changes, is_likely=live.has_more):
                target.take([work], self._stop)
            state.end_alone()
            if not live.has_more:
                state.target.store.release()
            if not self._stop.is_set():
                live.confirm(work)
            self._finish(state)
        except ApplyAloneError as error:
            self._reopen([state], error.tables, until_applied=True)
        except BinlogSyncError as error:
            self._fail(state, error)

    def _finish(self, state: LiveState) -> None:
        """Changes were applied: report them, then continue with the table or wait for messages."""
        assert state.live is not None
        done = state.live.take_result()
        if self._stop.is_set() and state.failures and not done.changes:
            self._scheduler.requeue(state)
            return  # a retry that was interrupted does not prove that the failure is resolved
        state.set_healthy()
        state.add_result(done)
        if state.live.has_more or state.is_removed:
            state.since = time.monotonic()
            self._scheduler.requeue(state)
        else:
            self._rest(state, is_drained=state.is_proven, is_look=False)

    def _rest(self, state: LiveState, *, is_drained: bool, is_look: bool) -> None:
        """Nothing has arrived: wait for a report, or look again if the end of the stream is not proven."""
        assert state.live is not None
        state.target.store.release()
        if is_drained and (is_look or state.is_proven):
            if not state.is_proven:
                state.set_healthy()
                state.add_result(state.live.take_result())
            state.is_proven = True
            state.set_quiet()
            self._scheduler.set_idle(state, ACK_S if state.live.delivery.has_unacked else _LOOK_S)
        else:
            self._scheduler.set_idle(state, _AGAIN_S)

    def _fail(self, state: LiveState, error: BinlogSyncError) -> None:
        state.leave()
        if isinstance(error, TargetBusyError) and (self._stop.is_set() or state.patience.allows(error)):
            self._scheduler.delay_retry(state, BUSY_PAUSE_S)
            return
        state.failures += 1
        state.tries += error.tries if isinstance(error, HandlerError) else 0
        state.set_quiet()
        wait_s = backoff_s(self._options.first_wait_s, self._options.longest_wait_s, state.failures)
        log.warning("%s: %s; later changes of this table wait, retrying in %.0f s", state.name, error, wait_s)
        if (before := state.take_result()) is not None:
            self._events.put(TableReport(state.table, before))
        self._events.put(TableReport(state.table, None, error, state.failures, state.tries))
        self._scheduler.delay_retry(state, wait_s)
