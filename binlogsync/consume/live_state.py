"""What a continuous pool stores about each of its tables."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from binlogsync.consume.engine import ConsumeResult, Table, join_results
from binlogsync.consume.live_table import LiveTable
from binlogsync.consume.patience import TargetPatience
from binlogsync.consume.pool import ConsumerTask
from binlogsync.consume.progress import ConsumerProgress, ProgressKey
from binlogsync.consume.progress_buffer import BufferedProgress
from binlogsync.consume.scheduler import Scheduler
from binlogsync.consume.targets import Target
from binlogsync.errors import BinlogSyncError

log = logging.getLogger(__name__)
_ALONE_S = 60.0
_WAIT_S = 0.003
_WAIT_SHARE = 2
"""A target waits if its time without the processor exceeds both; the second is a multiple of its CPU time."""
_LAST_TURNS = 3


@dataclass(slots=True, eq=False)
class LiveState:
    """A table of a continuous pool.

    Attributes:
        task: the table, its target and options.
        connection: number of the connection that it uses.
        gather_s: how long to wait after its first message.
        live: its delivery; None while it is not open.
        failures, tries: as in TableReport.
        is_busy: messages have arrived that are not applied, or it is unknown whether there are any.
        since: when it was last busy.
        is_signaled: messages were reported since the last fetch.
        is_proven: the delivery had all of the stream at some time.
        must_reopen: its progress was moved by another process.
        is_removed: set when it is to be removed from the pool.
        alone_until: until when it is not applied together with others.
        patience: for a target that another process has open.
        is_waiting: its target has waited for something (a server, for example) each time it applied changes lately.
    """

    task: ConsumerTask
    connection: int
    gather_s: float
    live: LiveTable | None = None
    failures: int = 0
    tries: int = 0
    is_busy: bool = True
    since: float = field(default_factory=time.monotonic)
    is_signaled: bool = False
    is_proven: bool = False
    must_reopen: bool = False
    is_removed: bool = False
    alone_until: float = 0.0
    patience: TargetPatience = field(default_factory=TargetPatience)
    _waits: deque[bool] = field(default_factory=lambda: deque([False], maxlen=_LAST_TURNS))
    _result: ConsumeResult | None = None
    _taken_at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def table(self) -> Table:
        """(database, table)."""
        return self.task.table

    @property
    def target(self) -> Target:
        """The target."""
        return self.task.target

    @property
    def name(self) -> str:
        """ "database.table"."""
        return ".".join(self.table)

    @property
    def key(self) -> ProgressKey:
        """Key of its progress, of an open table."""
        assert self.live is not None
        return self.live.delivery.tracker.key

    @property
    def scope(self) -> str | None:
        """Tables with an equal scope may be applied together; None for a table that is applied alone."""
        return None if time.monotonic() < self.alone_until else self.target.join_scope

    def set_alone(self, *, until_applied: bool) -> None:
        """Apply it alone, in turns in which other mirrors may use its file too: until `end_alone`, or for some time."""
        self.alone_until = math.inf if until_applied else time.monotonic() + _ALONE_S

    def end_alone(self) -> None:
        """Changes were applied alone: the cause of `set_alone(until_applied=True)` is over."""
        if self.alone_until == math.inf:
            self.alone_until = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether it is open, and consumed as soon as messages arrive."""
        is_alone = self.target.join_scope is None and not self.gather_s
        return is_alone and self.live is not None and not self.must_reopen

    @contextmanager
    def noting_waits(self) -> Iterator[None]:
        """Update `is_waiting` after the `with` block, in which the target applies changes."""
        begun, cpu = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            cpu_s = time.thread_time() - cpu
            self._waits.append(time.monotonic() - begun - cpu_s > max(_WAIT_S, _WAIT_SHARE * cpu_s))

    @property
    def is_waiting(self) -> bool:
        """See the attributes. On a busy machine each thread waits now and then."""
        return all(self._waits)

    def may_join(self, scope: str) -> bool:
        """Whether it can be applied together with others of this scope now."""
        return self.scope == scope and self.live is not None and not self.must_reopen

    def settled_progress(self) -> ConsumerProgress | None:
        """Progress as stored, of an open table without pending changes; None for others."""
        live = self.live
        if live is None or self.is_busy or not self.is_proven:
            return None
        store = self.target.store
        return store.stored(live.delivery.tracker.key) if isinstance(store, BufferedProgress) else live.progress

    def set_quiet(self) -> None:
        """There are no changes to apply now."""
        if self.is_signaled and self.live is not None:
            return  # messages arrived meanwhile
        if self.is_busy:
            self.since = time.monotonic()
        self.is_busy = False

    def add_result(self, done: ConsumeResult) -> None:
        """Add the result of a turn to what `take_result` returns."""
        with self._lock:
            self._result = done if self._result is None else join_results(self._result, done)

    def take_result(self) -> ConsumeResult | None:
        """The results since the last call; None without any."""
        with self._lock:
            done, self._result = self._result, None
            if done is None:
                return None
            before, self._taken_at = self._taken_at, time.monotonic()
            return replace(done, seconds=self._taken_at - before)

    def set_healthy(self) -> None:
        """A turn has succeeded: the next failure is the first."""
        self.patience.end()
        with self._lock:
            self.failures = self.tries = 0

    def close(self) -> None:
        """Leave the table cleanly; an error is logged, because the next delivery starts at the stored progress."""
        live, self.live, self.is_proven = self.live, None, False
        if live is None:
            return
        try:
            live.close()
        except BinlogSyncError as error:
            log.warning("%s: %s", self.name, error)

    def leave(self) -> None:
        """Leave the table after an error; what was applied before it is in the next result."""
        if self.live is not None and (done := self.live.take_result()).changes:
            self.add_result(done)
        live, self.live, self.is_signaled, self.is_proven = self.live, None, False, False
        if live is not None:
            live.leave()


def may_wait(state: LiveState) -> bool:
    """Whether a turn of the table probably waits for a server, and so leaves the processor to other threads."""
    return state.is_waiting or state.live is None or state.must_reopen


def receive_together(first: LiveState, scheduler: Scheduler[LiveState]) -> None:
    """Receive messages for this table and others of its connection: their fetches then share a request."""
    if not first.is_ready or first.live is None or first.live.has_received:
        return
    others = scheduler.take_signaled(lambda one: one.is_ready and one.connection == first.connection)
    try:
        for state in (first, *others):
            if state.live is not None:
                state.live.receive()
    finally:
        for state in others:
            scheduler.requeue(state)


def find_repairable(states: Iterable[LiveState]) -> list[LiveState]:
    """The open tables with a gap whose repair is to be tried again, which is done when they are opened."""
    return [state for state in states if state.live is not None and state.target.is_repair_due]


def find_moved(states: Iterable[LiveState]) -> list[LiveState]:
    """The tables whose progress another process has changed. Reads each file in one transaction."""
    by_file: dict[str, list[tuple[LiveState, ConsumerProgress]]] = {}
    moved: list[tuple[LiveState, ConsumerProgress]] = []
    for state in states:
        if (before := state.settled_progress()) is None:
            continue
        if (tables := state.target.store.tables) is not None:
            by_file.setdefault(tables.address, []).append((state, before))
            continue
        try:
            if state.target.store.peek(state.key) != before:
                moved.append((state, before))
        except BinlogSyncError as error:
            log.debug("looking for a rewind of %s: %s", state.name, error)
    for address, found in by_file.items():
        tables = found[0][0].target.store.tables
        assert tables is not None
        try:
            with tables.begin() as transaction:
                moved += [each for each in found if transaction.load_progress(each[0].key) != each[1]]
        except BinlogSyncError as error:
            log.debug("looking for rewinds in %s: %s", address, error)
    return [state for state, before in moved if state.settled_progress() == before]
