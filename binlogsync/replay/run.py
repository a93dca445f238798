"""Runs a replay: reads each range from the stream or the binlogs and writes every change to the target once.

    done = replay_ranges(ReplayTask(sources, plan, ParquetTarget(path)), stop, print)

Live consumers are not disturbed: their progress does not change, and a DuckDB file that they share with the target is
opened for one short transaction at a time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from binlogsync.consume.boundaries import drop_first, is_full, take_first
from binlogsync.consume.patience import wait_while_busy
from binlogsync.consume.targets import apply_rounds
from binlogsync.errors import TargetBusyError
from binlogsync.nats.reader import StreamBatch
from binlogsync.replay.origin import Origin, choose_reader
from binlogsync.replay.range_reader import RangeReader
from binlogsync.replay.ranges import ReplayPlan, ReplayRange
from binlogsync.replay.sources import ChangeSources
from binlogsync.replay.targets import AppliedFilter, ReplayTarget
from binlogsync.text_format import format_rate

_REPORT_S = 0.5


@dataclass(frozen=True, slots=True)
class ReplayTask:
    """The task of one replay.

    Attributes:
        sources: where the ranges are read.
        plan: the table and its ranges.
        target: where the changes are written.
        origin: "auto" reads a range from the stream if it has all of it, otherwise from the binlogs; "stream" and
            "binlog" allow that one only.
        batch_changes: about how many changes the target is given at once.
    """

    sources: ChangeSources
    plan: ReplayPlan
    target: ReplayTarget
    origin: Origin = "auto"
    batch_changes: int = 50_000


@dataclass(frozen=True, slots=True)
class RangeResult:
    """The result of one range.

    Attributes:
        range: the range.
        origin: "stream" or "binlog".
        counts: its changes by op, including those that an earlier run stored.
    """

    range: ReplayRange
    origin: str
    counts: Mapping[str, int]

    @property
    def changes(self) -> int:
        """Number of changes."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """The progress of a replay.

    Attributes:
        changes: read so far.
        total: expected number of changes; None while it is unknown.
        is_exact: False when `total` is an estimate.
        share: how much of the ranges has been read, 0 to 1.
        seconds: since the start.
    """

    changes: int
    total: int | None
    is_exact: bool
    share: float
    seconds: float

    @property
    def rate(self) -> float:
        """Changes per second."""
        return self.changes / max(self.seconds, 1e-3)

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until the end; None while it is unknown."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0 else None

    def __str__(self) -> str:
        total = "" if self.total is None else f" of {'' if self.is_exact else 'about '}{self.total:,}"
        left = "" if self.left_s is None else f", {self.left_s:,.0f} s left"
        return f"{self.changes:,}{total} changes ({self.share:.0%}), {format_rate(self.rate)}{left}"


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of a replay.

    Attributes:
        plan: the plan that was executed; for a resumed replay, that of its first start.
        ranges: the ranges that were read, in order, with exact counts.
        before: changes that earlier runs of this replay stored.
        seconds: duration of this run.
        is_finished: False when the run was stopped before the end.
        is_resumed: True when it resumed an earlier run, and so kept its bounds: "head" is the head at the first start.
    """

    plan: ReplayPlan
    ranges: tuple[RangeResult, ...]
    before: int
    seconds: float
    is_finished: bool
    is_resumed: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """Changes by op."""
        total: Counter[str] = Counter()
        for each in self.ranges:
            total.update(each.counts)
        return dict(total)

    @property
    def changes(self) -> int:
        """Number of changes."""
        return sum(each.changes for each in self.ranges)

    @property
    def rate(self) -> float:
        """Changes per second in this run."""
        return (self.changes - self.before) / max(self.seconds, 1e-3)


def replay_ranges(
    task: ReplayTask, stop: threading.Event, on_progress: Callable[[ReplayProgress], None] | None = None
) -> ReplayResult:
    """Write every change of the ranges to the target, except those that an earlier run of the same request stored.

    `on_progress` is called about twice per second. Raises BinlogSyncError; changes written before an error are stored,
    and the same call resumes after them.
    """
    run = _ReplayRun(task, task.plan, stop, on_progress)
    try:
        apply_rounds(run.rounds(), task.target.write, stop)
    except TargetBusyError:
        if not stop.is_set():
            raise
    return run.result()


@dataclass(slots=True)
class _ReplayRun:
    """One call of `replay_ranges`."""

    task: ReplayTask
    plan: ReplayPlan
    stop: threading.Event
    on_progress: Callable[[ReplayProgress], None] | None
    done: list[RangeResult] = field(default_factory=list)
    before: int = 0
    is_finished: bool = False
    begun_s: float = field(default_factory=time.monotonic)
    reported_s: float = 0.0

    def rounds(self) -> Generator[Sequence[StreamBatch]]:
        """What is not stored yet, in parts of about `batch_changes`; then the replay is finished."""
        target = self.task.target
        state = wait_while_busy(lambda: target.begin(self.plan, self.stop), self.stop)
        self.plan, applied = state.plan, AppliedFilter(state)
        for index, range_ in enumerate(self.plan.ranges):
            if not self.stop.is_set():
                yield from self._read(index, range_, applied)
        if not self.stop.is_set():
            applied.check()
            wait_while_busy(target.finish, self.stop)
            self.is_finished = True

    def _read(self, index: int, range_: ReplayRange, applied: AppliedFilter) -> Generator[Sequence[StreamBatch]]:
        """The same for one range."""
        reader, size = choose_reader(self.task.sources, self.plan, range_, self.task.origin), self.task.batch_changes
        counts: Counter[str] = Counter()
        pending: list[StreamBatch] = []
        with closing(reader.read(range_, self.stop)) as steps:
            for step in steps:
                new = applied.filter(step.items)
                for item in step.items:
                    counts.update(item.batch.count_ops())
                self.before += _count_rows(step.items) - _count_rows(new)
                pending += new
                while is_full(pending, size) and not self.stop.is_set():
                    yield take_first(pending, size)
                    pending = drop_first(pending, size)
                self.report(index + step.share, counts.total(), reader)
        if pending and not self.stop.is_set():
            yield pending
        self.done.append(RangeResult(range_, reader.name, dict(counts)))
        self.report(index + 1.0, 0, reader, is_last=True)

    def report(self, ranges: float, changes: int, reader: RangeReader, *, is_last: bool = False) -> None:
        """Report the progress at most twice per second; `changes` are those of the current range."""
        now = time.monotonic()
        if self.on_progress is None or (now - self.reported_s < _REPORT_S and not is_last):
            return
        self.reported_s = now
        changes += sum(each.changes for each in self.done)
        share = min(1.0, ranges / len(self.plan.ranges))
        is_exact = len(self.plan.ranges) == 1 and reader.expected is not None and changes <= reader.expected
        total = reader.expected if is_exact else round(changes / share) if share > 0 else None
        if share >= 1.0 and is_last:
            total, is_exact = changes, True
        self.on_progress(ReplayProgress(changes, total, is_exact, share, now - self.begun_s))

    def result(self) -> ReplayResult:
        """The result after all ranges were read, or after a stop."""
        seconds = time.monotonic() - self.begun_s
        is_resumed = self.plan.number != self.task.plan.number
        return ReplayResult(self.plan, tuple(self.done), self.before, seconds, self.is_finished, is_resumed)


def _count_rows(items: Sequence[StreamBatch]) -> int:
    """Number of row changes."""
    return sum(len(item) for item in items if item.batch.ddl is None)
