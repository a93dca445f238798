"""Several tables consumed at the same time by one process: a thread and a connection each.

    with Crew(works, open_reader, options, stop) as crew:
        while crew.quiet_s() < 60:
            for report in crew.reports(0.5): ...

A table whose handler or model fails is tried again after a wait that doubles, as long as the crew is at work; the
others do not notice. Each thread works in rounds and reports each; whoever started the crew reads the reports in its
own thread. Knows nothing of Dagster.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING

from binlogsync.consume.engine import Consumed, ConsumeOptions, consume
from binlogsync.errors import BinlogSyncError, ConfigError, HandlerError
from binlogsync.stream.reader import StreamReader

if TYPE_CHECKING:
    from binlogsync.consume.targets import Target

log = logging.getLogger(__name__)
Table = tuple[str, str]
OpenReader = Callable[[], AbstractContextManager[StreamReader]]
_JOIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Work:
    """(database, table), what takes its changes, and how; `max_s` and `idle_s` of the options are the crew's own.

    `together` are others that change with it in one transaction (mirror/group.py); all of them are mirrors in one file.
    """

    table: Table
    target: Target
    options: ConsumeOptions
    together: tuple[Work, ...] = ()

    @property
    def works(self) -> tuple[Work, ...]:
        """This one and those that change with it."""
        return (self, *self.together)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewOptions:
    """How a crew works.

    Attributes:
        first_round_s, round_s: how long the first round of a table lasts, and the others.
        first_wait_s, longest_wait_s: before a table that failed is tried again; doubles in between.
    """

    first_round_s: float = 5.0
    round_s: float = 60.0
    first_wait_s: float = 5.0
    longest_wait_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True)
class Report:
    """One round of one table.

    Attributes:
        table: (database, table).
        done: what was done; None when the round failed (what it did before is stored all the same).
        error: what it failed with.
        failures: rounds in a row that failed.
        tries: how often the change at fault was tried in these rounds, 0 when it is no handler that failed.
    """

    table: Table
    done: Consumed | None
    error: BinlogSyncError | None = None
    failures: int = 0
    tries: int = 0


@dataclass(slots=True)
class _Member:
    """A table at work: `since` is when it was last seen to change, `is_busy` until nothing waits for it."""

    work: Work
    thread: threading.Thread | None = None
    is_busy: bool = True
    since: float = field(default_factory=time.monotonic)

    def pulse(self, is_busy: bool) -> None:
        """Something is about to be handled, or nothing waits."""
        if is_busy or self.is_busy:
            self.since = time.monotonic()
        self.is_busy = is_busy


class Crew:
    """The threads, from the beginning of the block to its end. `stop` ends them in good order, as leaving it does.

    A crew that meets a bug (an exception that is no BinlogSyncError) raises it from `reports`.
    """

    def __init__(
        self, works: Sequence[Work], open_reader: OpenReader, options: CrewOptions, stop: threading.Event
    ) -> None:
        tables = [each.table for work in works for each in work.works]
        if len(set(tables)) != len(tables):
            raise ConfigError("a table is consumed twice by one crew; give each once, or a client id of its own")
        self._members = [_Member(work) for work in works]
        self._open = open_reader
        self._options = options
        self._stop = stop
        self._reports: queue.SimpleQueue[Report | BaseException] = queue.SimpleQueue()

    def __enter__(self) -> Crew:
        for member in self._members:
            name = "consume " + ".".join(member.work.table)
            member.thread = threading.Thread(target=self._run, args=(member,), name=name, daemon=True)
            member.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stop, and wait until what is being handled is done; reports are still to be read."""
        self._stop.set()
        ends_at = time.monotonic() + _JOIN_S
        for member in self._members:
            if member.thread is not None:
                member.thread.join(max(0.0, ends_at - time.monotonic()))
                if member.thread.is_alive():
                    log.error("%s: its handler has not come back for %.0f s", member.thread.name, _JOIN_S)

    def quiet_s(self) -> float:
        """Seconds since anything was handled; 0 while something is, or is still looked for."""
        if any(member.is_busy for member in self._members):
            return 0.0
        return time.monotonic() - max((member.since for member in self._members), default=0.0)

    def reports(self, timeout_s: float) -> list[Report]:
        """The reports since the last call, at least one if one comes in time."""
        found: list[Report] = []
        try:
            found.append(self._plain(self._reports.get(timeout=timeout_s) if timeout_s else self._reports.get_nowait()))
            while True:
                found.append(self._plain(self._reports.get_nowait()))
        except queue.Empty:
            return found

    def _plain(self, report: Report | BaseException) -> Report:
        if isinstance(report, BaseException):
            raise report
        return report

    def _run(self, member: _Member) -> None:
        """The thread of one table."""
        failures = tries = 0
        round_s = min(self._options.first_round_s, self._options.round_s)
        while not self._stop.is_set():
            try:
                with self._open() as reader:
                    while not self._stop.is_set():
                        done = self._round(member, reader, round_s)
                        failures, tries, round_s = 0, 0, self._options.round_s
                        for table, one in done.items():
                            self._reports.put(Report(table, one))
            except BinlogSyncError as error:
                failures += 1
                tries += error.tries if isinstance(error, HandlerError) else 0
                member.pulse(False)
                wait_s = self._options.wait_s(failures)
                name = ".".join(member.work.table)
                log.warning("%s: %s; nothing later of this table is handled, again in %.0f s", name, error, wait_s)
                for work in member.work.works:
                    self._reports.put(Report(work.table, None, error, failures, tries))
                self._stop.wait(wait_s)
            except BaseException as error:  # noqa: BLE001 - it is raised again by `reports`
                member.pulse(False)
                self._reports.put(error)
                return

    def _round(self, member: _Member, reader: StreamReader, round_s: float) -> Mapping[Table, Consumed]:
        work = member.work
        options = replace(work.options, idle_s=round_s + 1.0, max_s=round_s)
        if work.together:
            # Mirrors read tables from MySQL; a program without mirrors does without all that.
            from binlogsync.mirror.group import MirrorGroup
            from binlogsync.mirror.target import Mirror

            mirrors = [each.target for each in work.works if isinstance(each.target, Mirror)]
            if len(mirrors) != len(work.works):
                raise ConfigError(f"{'.'.join(work.table)}: only mirrors can change together")
            return MirrorGroup(reader, mirrors, options).drain(self._stop, member.pulse)
        return {work.table: consume(reader, work.table, work.target, options, self._stop, member.pulse)}
