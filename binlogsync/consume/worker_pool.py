"""Several tables consumed at the same time by one process, by workers that are a thread and a connection each.

    with WorkerPool(tasks, open_reader, options, stop) as pool:
        while pool.quiet_s() < 60:
            for report in pool.reports(0.5): ...

Up to `max_workers` tables have a worker of their own. More of them take turns: a table is worked when something waits
for it, for a short while at a time, in order of coming (turns.py), and one look at the stream tells who has something.

A table whose handler or model fails is tried again after a wait that doubles, as long as the crew is at work; the
others do not notice. Workers report each round of a table; whoever started the crew reads the reports in its own
thread. Knows nothing of Dagster.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING

from binlogsync.consume.backoff import backoff_s
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult, consume
from binlogsync.consume.scheduler import Scheduler
from binlogsync.errors import BinlogSyncError, ConfigError, HandlerError
from binlogsync.stream.reader import StreamReader
from binlogsync.wire.subjects import durable_name

if TYPE_CHECKING:
    from binlogsync.consume.targets import Target

log = logging.getLogger(__name__)
Table = tuple[str, str]
OpenReader = Callable[[], AbstractContextManager[StreamReader]]
_JOIN_S = 60.0
_LOOK_S = 0.1
_LOOK_AGAIN_S = 1.0
_IDLE_S = 0.1
_GROUP_IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class ConsumerTask:
    """(database, table), what takes its changes, and how; `max_s` and `idle_s` of the options are the crew's own.

    `together` are others that change with it in one transaction (mirror/group.py); all of them are mirrors in one file.
    """

    table: Table
    target: Target
    options: ConsumeOptions
    together: tuple[ConsumerTask, ...] = ()

    @property
    def works(self) -> tuple[ConsumerTask, ...]:
        """This one and those that change with it."""
        return (self, *self.together)

    @property
    def durables(self) -> tuple[str, ...]:
        """Their names in JetStream."""
        return tuple(each.options.durable or durable_name(each.options.client_id, *each.table) for each in self.works)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPoolOptions:
    """How a crew works.

    Attributes:
        max_workers: tables worked at the same time, each by a thread and a connection to NATS.
        turn_s: how long a table is worked at a stretch where there are more tables than workers.
        first_round_s, round_s: how long the first round of a table lasts, and the others.
        first_wait_s, longest_wait_s: before a table that failed is tried again; doubles in between.
    """

    max_workers: int = 32
    turn_s: float = 2.0
    first_round_s: float = 5.0
    round_s: float = 60.0
    first_wait_s: float = 5.0
    longest_wait_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_workers < 1 or self.turn_s <= 0:
            raise ConfigError(f"max_workers is at least 1, turn_s above 0; got {self.max_workers} and {self.turn_s}")

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row."""
        return backoff_s(self.first_wait_s, self.longest_wait_s, failures)


@dataclass(frozen=True, slots=True)
class TableReport:
    """One round of one table.

    Attributes:
        table: (database, table).
        done: what was done; None when the round failed (what it did before is stored all the same).
        error: what it failed with.
        failures: rounds in a row that failed.
        tries: how often the change at fault was tried in these rounds, 0 when it is no handler that failed.
    """

    table: Table
    done: ConsumeResult | None
    error: BinlogSyncError | None = None
    failures: int = 0
    tries: int = 0


@dataclass(slots=True, eq=False)
class _TaskState:
    """A table at work: `since` is when it was last seen to change, `is_busy` until nothing waits for it."""

    work: ConsumerTask
    round_s: float
    failures: int = 0
    tries: int = 0
    is_busy: bool = True
    since: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """Of the table."""
        return ".".join(self.work.table)

    def pulse(self, is_busy: bool) -> None:
        """Something is about to be handled, or nothing waits."""
        if is_busy or self.is_busy:
            self.since = time.monotonic()
        self.is_busy = is_busy


class WorkerPool:
    """The workers, from the beginning of the block to its end. `stop` ends them in good order, as leaving it does.

    A crew that meets a bug (an exception that is no BinlogSyncError) raises it from `reports`.
    """

    def __init__(
        self, works: Sequence[ConsumerTask], open_reader: OpenReader, options: WorkerPoolOptions, stop: threading.Event
    ) -> None:
        tables = [each.table for work in works for each in work.works]
        if len(set(tables)) != len(tables):
            raise ConfigError("a table is consumed twice by one crew; give each once, or a client id of its own")
        first_round_s = min(options.first_round_s, options.round_s)
        workers = min(len(works), options.max_workers)
        self._members = [_TaskState(work, first_round_s) for work in works]
        self._turns = Scheduler(self._members, workers)
        self._takes_turns = len(works) > workers
        self._open = open_reader
        self._options = options
        self._stop = stop
        self._reports: queue.SimpleQueue[TableReport | BaseException] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(workers)]
        if self._takes_turns:
            self._threads.append(threading.Thread(target=self._look, name="consume: who is next", daemon=True))

    def __enter__(self) -> WorkerPool:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stop, and wait until what is being handled is done; reports are still to be read."""
        self._stop.set()
        self._turns.close()
        ends_at = time.monotonic() + _JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
            if thread.is_alive():
                log.error("%s: its handler has not come back for %.0f s", thread.name, _JOIN_S)

    def quiet_s(self) -> float:
        """Seconds since anything was handled; 0 while something is, or is still looked for."""
        if any(member.is_busy for member in self._members):
            return 0.0
        return time.monotonic() - max((member.since for member in self._members), default=0.0)

    def reports(self, timeout_s: float) -> list[TableReport]:
        """The reports since the last call, at least one if one comes in time."""
        found: list[TableReport] = []
        try:
            found.append(self._plain(self._reports.get(timeout=timeout_s) if timeout_s else self._reports.get_nowait()))
            while True:
                found.append(self._plain(self._reports.get_nowait()))
        except queue.Empty:
            return found

    def _plain(self, report: TableReport | BaseException) -> TableReport:
        if isinstance(report, BaseException):
            raise report
        return report

    def _run(self) -> None:
        """A worker: one table after the other, over one connection until something fails."""
        with ExitStack() as held:
            reader: StreamReader | None = None
            while not self._stop.is_set() and (member := self._turns.next()) is not None:
                threading.current_thread().name = f"consume {member.name}"
                try:
                    reader = reader or held.enter_context(self._open())
                    self._turn(member, reader)
                except BinlogSyncError as error:
                    held.close()
                    reader = None
                    self._fail(member, error)
                except BaseException as error:  # noqa: BLE001 - it is raised again by `reports`
                    member.pulse(False)
                    self._reports.put(error)
                    return

    def _turn(self, member: _TaskState, reader: StreamReader) -> None:
        """One round of a table, and its place in line behind it."""
        done = self._round(member, reader)
        if member.failures and self._stop.is_set() and not any(one.changes for one in done.values()):
            return  # a try that was cut short does not say that all is well again
        member.failures, member.tries, member.round_s = 0, 0, self._options.round_s
        for table, one in done.items():
            self._reports.put(TableReport(table, one))
        if not self._takes_turns:
            self._turns.again(member)
            return
        for durable in member.work.durables:
            reader.leave(durable)
        if all(one.is_drained for one in done.values()):
            self._turns.rest(member, self._options.round_s)
        else:
            self._turns.again(member)

    def _fail(self, member: _TaskState, error: BinlogSyncError) -> None:
        member.failures += 1
        member.tries += error.tries if isinstance(error, HandlerError) else 0
        member.pulse(False)
        wait_s = self._options.wait_s(member.failures)
        log.warning("%s: %s; nothing later of this table is handled, again in %.0f s", member.name, error, wait_s)
        for work in member.work.works:
            self._reports.put(TableReport(work.table, None, error, member.failures, member.tries))
        self._turns.fail(member, wait_s)

    def _round(self, member: _TaskState, reader: StreamReader) -> Mapping[Table, ConsumeResult]:
        work, round_s = member.work, member.round_s
        options = replace(work.options, idle_s=round_s + 1.0, max_s=round_s)
        if self._takes_turns:
            # A group begins anew with the part of a transaction that it holds, so it is given the time to get the rest.
            turn_s, idle_s = (round_s, _GROUP_IDLE_S) if work.together else (self._options.turn_s, _IDLE_S)
            options = replace(work.options, idle_s=idle_s, max_s=turn_s)
        if work.together:
            # Mirrors read tables from MySQL; a program without mirrors does without all that.
            from binlogsync.mirror.group import MirrorGroup
            from binlogsync.mirror.target import Mirror

            mirrors = [each.target for each in work.works if isinstance(each.target, Mirror)]
            if len(mirrors) != len(work.works):
                raise ConfigError(f"{member.name}: only mirrors can change together")
            return MirrorGroup(reader, mirrors, options).drain(self._stop, member.pulse)
        return {work.table: consume(reader, work.table, work.target, options, self._stop, member.pulse)}

    def _look(self) -> None:
        """Wake the tables for which something waits in the stream; where nobody can tell, all of them."""
        with ExitStack() as held:
            reader: StreamReader | None = None
            seen = -1
            while not self._stop.wait(_LOOK_S):
                resting, has_rested = self._turns.resting()
                try:
                    reader = reader or held.enter_context(self._open())
                    newest = reader.last_sequence()
                    if newest == seen and not has_rested:
                        continue
                    waiting, seen = reader.waiting(), newest
                except BinlogSyncError as error:
                    log.debug("looking who is next: %s", error)
                    held.close()
                    reader = None
                    self._wake(resting)
                    self._stop.wait(_LOOK_AGAIN_S)
                    continue
                self._wake([one for one in resting if any(waiting.get(name, 1) for name in one.work.durables)])

    def _wake(self, members: Sequence[_TaskState]) -> None:
        for member in members:
            member.pulse(True)
        self._turns.wake(members)
