"""Doing a backfill: ranges out of the stream or the binlogs into a target, once each change, and how far it is.

    done = run_backfill(Work(holders, plan, ParquetTarget(path)), stop, print)

Live consumers are not touched: their progress does not move, and what they share with a target (a DuckDB file) is held
for one short transaction at a time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from binlogsync.backfill.choosing import Origin, choose
from binlogsync.backfill.places import Holders
from binlogsync.backfill.ranges import Plan, Span
from binlogsync.backfill.reading import Reading
from binlogsync.backfill.targets import BackfillTarget, Dropper, count_ops
from binlogsync.stream.reader import StreamBatch

_REPORT_S = 0.5


@dataclass(frozen=True, slots=True)
class Work:
    """One backfill.

    Attributes:
        holders: who may hold the ranges.
        plan: which they are.
        target: where the changes go.
        origin: "auto" takes the stream while it holds a range, else the binlogs; the others insist.
        batch_changes: handed to the target at once, about.
    """

    holders: Holders
    plan: Plan
    target: BackfillTarget
    origin: Origin = "auto"
    batch_changes: int = 50_000


@dataclass(frozen=True, slots=True)
class SpanDone:
    """One range that was read.

    Attributes:
        span: the range.
        origin: "stream" or "binlog", or "" where nothing was read yet.
        counts: changes in it by op, those that an earlier try had done counted.
    """

    span: Span
    origin: str
    counts: Mapping[str, int]

    @property
    def changes(self) -> int:
        """Number of changes."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a backfill is.

    Attributes:
        changes: read so far.
        total: changes that it will be; None where nothing tells yet.
        is_exact: False for a total that is an estimate.
        share: of the ranges that is read, 0 to 1.
        seconds: since it began.
    """

    changes: int
    total: int | None
    is_exact: bool
    share: float
    seconds: float

    @property
    def rate(self) -> float:
        """Changes a second."""
        return self.changes / max(self.seconds, 1e-3)

    @property
    def left_s(self) -> float | None:
        """Seconds until it is done, at this pace; None where nobody knows."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0 else None

    def __str__(self) -> str:
        total = "" if self.total is None else f" of {'' if self.is_exact else 'about '}{self.total:,}"
        left = "" if self.left_s is None else f", {self.left_s:,.0f} s left"
        return f"{self.changes:,}{total} changes ({self.share:.0%}), {self.rate:,.0f}/s{left}"


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a backfill did.

    Attributes:
        plan: as it was fixed when it was begun first.
        spans: its ranges, in order, with exact counts.
        before: changes that an earlier try had done.
        seconds: this try took.
        is_finished: False when it was stopped.
        is_resumed: True when it went on with an earlier try, whose ends count: "head" is where it was then.
    """

    plan: Plan
    spans: tuple[SpanDone, ...]
    before: int
    seconds: float
    is_finished: bool
    is_resumed: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """Changes by op."""
        total: Counter[str] = Counter()
        for each in self.spans:
            total.update(each.counts)
        return dict(total)

    @property
    def changes(self) -> int:
        """Number of changes."""
        return sum(each.changes for each in self.spans)

    @property
    def rate(self) -> float:
        """Changes a second, those of an earlier try left out."""
        return (self.changes - self.before) / max(self.seconds, 1e-3)


def run_backfill(
    work: Work, stop: threading.Event, on_progress: Callable[[BackfillProgress], None] | None = None
) -> Backfilled:
    """Read every range into the target; what an earlier try of the same words had done is not done again.

    `on_progress` is called about twice a second. Raises BinlogSyncError; what was written before an error is stored,
    and the same call goes on behind it.
    """
    begun = work.target.begin(work.plan)
    run = _Run(work, begun.plan, Dropper(begun.done), stop, on_progress)
    for index, span in enumerate(begun.plan.spans):
        run.read(index, span)
    if not stop.is_set():
        run.dropper.check(begun.plan)
        work.target.finish()
    return run.result()


@dataclass(slots=True)
class _Run:
    """One call of `run_backfill`."""

    work: Work
    plan: Plan
    dropper: Dropper
    stop: threading.Event
    on_progress: Callable[[BackfillProgress], None] | None
    done: list[SpanDone] = field(default_factory=list)
    before: int = 0
    begun_s: float = field(default_factory=time.monotonic)
    reported_s: float = 0.0

    def read(self, index: int, span: Span) -> None:
        """One range."""
        if self.stop.is_set():
            return
        reading = choose(self.work.holders, self.plan, span, self.work.origin)
        counts: Counter[str] = Counter()
        waiting: list[StreamBatch] = []
        for part in reading.parts(span, self.stop):
            for item in part.items:
                counts.update(count_ops(item.batch))
                rest = self.dropper.rest(item)
                self.before += _changes(item) - (_changes(rest) if rest is not None else 0)
                for piece in _pieces(rest, self.work.batch_changes):
                    waiting.append(piece)
                    if sum(map(len, waiting)) >= self.work.batch_changes:
                        self.write(waiting)
            self.report(index + part.share, counts.total(), reading)
        self.write(waiting)
        self.done.append(SpanDone(span, reading.name, dict(counts)))
        self.report(index + 1.0, 0, reading, is_last=True)

    def write(self, waiting: list[StreamBatch]) -> None:
        """Hand over what waits."""
        if waiting and not self.stop.is_set():
            self.work.target.write(waiting, self.stop)
        waiting.clear()

    def report(self, spans: float, changes: int, reading: Reading, *, is_last: bool = False) -> None:
        """Say how far it is, now and then; `changes` are those of the range at work."""
        now = time.monotonic()
        if self.on_progress is None or (now - self.reported_s < _REPORT_S and not is_last):
            return
        self.reported_s = now
        changes += sum(each.changes for each in self.done)
        share = min(1.0, spans / len(self.plan.spans))
        is_exact = len(self.plan.spans) == 1 and reading.expected is not None and changes <= reading.expected
        total = reading.expected if is_exact else round(changes / share) if share > 0 else None
        if share >= 1.0 and is_last:
            total, is_exact = changes, True
        self.on_progress(BackfillProgress(changes, total, is_exact, share, now - self.begun_s))

    def result(self) -> Backfilled:
        """What was done."""
        seconds = time.monotonic() - self.begun_s
        is_resumed = self.plan.number != self.work.plan.number
        return Backfilled(self.plan, tuple(self.done), self.before, seconds, not self.stop.is_set(), is_resumed)


def _pieces(item: StreamBatch | None, size: int) -> Iterator[StreamBatch]:
    """The batch in pieces of at most so many changes."""
    count = 0 if item is None else len(item)
    for start in range(0, count, size):
        assert item is not None
        stop = min(start + size, count)
        whole = count <= size
        yield (
            item
            if whole
            else StreamBatch(item.batch.slice(start, stop), item.sequences.slice(start, stop - start), None)
        )


def _changes(item: StreamBatch) -> int:
    """Changes of rows in a batch."""
    return len(item) if item.batch.ddl is None else 0
