"""The consumer engine: fetch from the stream, pass to a target, ack. Does not use Dagster.

`consume` processes one table until no change has arrived for a while. Progress is what the target stored with its rows;
an ack only saves the server a redelivery. On start the engine reads the message that progress refers to. If it contains
the change applied last, delivery resumes after it. If not, the stream was recreated: delivery restarts at the first
message, and applied changes are filtered by coordinates. The check is repeated while the engine runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from binlogsync.codec.subjects import durable_name
from binlogsync.consume.gaps import ConsumerGap, record_gap
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, ProgressStore, Tracker
from binlogsync.consume.seek import DeliveryStart, drop_processed, find_start, holds_progress
from binlogsync.consume.start_position import Bookmarks, Start, check_start, first_sequence
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.nats.reader import StreamBatch, StreamReader

if TYPE_CHECKING:
    from binlogsync.consume.targets import Target

log = logging.getLogger(__name__)

_VERIFY_EVERY_S = 1.0
_SHORT_S = 0.02
_POLL_S = 0.5
GATHERED_BYTES = 64 << 20
"""Upper limit for the changes of one transaction, besides `max_changes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeOptions:
    """Options for consuming one table.

    Attributes:
        client_id: identifies the progress; every client gets every change, two live clients with one id are an error.
        max_changes: approximate number of changes in one transaction; fewer if they are large (64 MB).
        gather_s: how long changes are collected for one transaction after the first arrived.
        idle_s: the run ends when no change has arrived for so long.
        max_s: the run ends after so long; None for no limit.
        on_gap: what to do when the stream dropped messages (its retention) before this consumer read them: "warn"
            records the gap with progress (gaps.py) and resumes, and a mirror reads its table again; "fail" raises.
        durable: name of the durable in JetStream; None for the default name.
        start: where a client without progress for the table starts; a client with progress resumes after it.
        bookmarks: returns the bookmarks of the source, for a start that names one.
    """

    client_id: str = "binlogsync"
    max_changes: int = 200_000
    gather_s: float = 0.5
    idle_s: float = 2.0
    max_s: float | None = None
    on_gap: Literal["warn", "fail"] = "warn"
    durable: str | None = None
    start: Start = "all"
    bookmarks: Bookmarks | None = None

    def __post_init__(self) -> None:
        if self.max_changes < 1 or self.idle_s < 0 or not self.client_id:
            raise ConfigError(
                f"max_changes must be at least 1, idle_s at least 0, client_id must not be empty; got {self}"
            )
        check_start(self.start)


@dataclass(frozen=True, slots=True)
class ConsumeResult:
    """The result of one run.

    Attributes:
        counts: number of changes by op.
        first, last: progress at the first and last change (coordinates, stream sequence); None without changes.
        progress: progress at the end of the run.
        lag_s: seconds between the commit of the last change at the source and its commit here; None without changes.
        seconds: duration of the run.
        batches: number of transactions.
        skipped: number of changes filtered out by coordinates because they were applied before.
        gap: messages that the stream dropped before this consumer read them; None if there are none.
        is_drained: False when the run ended by max_s or stop.
    """

    counts: Mapping[str, int]
    first: ConsumerProgress | None
    last: ConsumerProgress | None
    progress: ConsumerProgress
    lag_s: float | None
    seconds: float
    batches: int
    skipped: int = 0
    gap: str | None = None
    is_drained: bool = True

    @property
    def changes(self) -> int:
        """Number of changes."""
        return sum(self.counts.values())


def report_gap(store: ProgressStore, key: ProgressKey, gap: ConsumerGap, on_gap: Literal["warn", "fail"]) -> None:
    """Record a gap with progress, before progress moves past it; raises ConsumeError if `on_gap` is "fail"."""
    message = f"{key}: {gap.detail}; changes of this table may be missing"
    if on_gap == "fail":
        raise ConsumeError(message + ": read the table again under another client id, or resume with on_gap='warn'")
    log.error("%s", message)
    record_gap(store, key, gap)


def consume(
    reader: StreamReader,
    table: tuple[str, str],
    target: Target,
    options: ConsumeOptions,
    stop: threading.Event,
    pulse: Callable[[bool], None] = lambda is_busy: None,
) -> ConsumeResult:
    """Consume (database, table) into the target until no change arrived for idle_s, max_s is over, or `stop` is set.

    `pulse` is called with True when changes are about to be handled, with False when none are pending.

    Raises ConsumeError (its subclasses for a model that does not fit and a handler that fails), SinkError when the
    stream cannot be reached. Changes processed before an error are stored.
    """
    run = _TableRun(reader, table, target, options, stop, pulse)
    try:
        return run.drain()
    finally:
        target.store.release()


@dataclass(slots=True)
class _TableRun:
    """One call of `consume`."""

    reader: StreamReader
    table: tuple[str, str]
    target: Target
    options: ConsumeOptions
    stop: threading.Event
    pulse: Callable[[bool], None]
    batches: int = 0
    skipped: int = 0
    gap: str | None = None
    durable: str = field(init=False)
    tracker: Tracker = field(init=False)
    seek: DeliveryStart = field(init=False)
    newest: int = 0
    verified_at: float = 0.0

    def drain(self) -> ConsumeResult:
        """See `consume`."""
        started = last_change = time.monotonic()
        key = ProgressKey(self.options.client_id, self.reader.source, *self.table)
        self.target.use_stream(self.reader, key, self.stop)
        self.durable = self.options.durable or durable_name(self.options.client_id, *self.table)
        self.tracker = Tracker(key, self.target.store.load(key))
        self._begin()
        ends_at = started + self.options.max_s if self.options.max_s is not None else float("inf")
        is_drained, seen = False, 0
        while not is_drained and not self.stop.is_set() and time.monotonic() < ends_at:
            look = self.reader.last_sequence() if not self.target.store.is_held else 0
            work = self._gather(min(self.options.idle_s, ends_at - time.monotonic()))
            self.pulse(bool(work))
            seen = 0 if work else look
            if work and self._is_same_stream(work):
                self._apply(work)
                last_change = time.monotonic()
            elif not work:
                if look and self._is_all_acked():
                    self.newest = max(self.newest, look)
                is_drained = time.monotonic() - last_change >= self.options.idle_s
        if seen and self.newest >= seen:
            self.tracker.see(self.target.store, seen)
        return ConsumeResult(
            counts=dict(self.tracker.counts),
            first=self.tracker.first,
            last=self.tracker.progress if self.tracker.first else None,
            progress=self.tracker.progress,
            lag_s=self.tracker.lag_s,
            seconds=time.monotonic() - started,
            batches=self.batches,
            skipped=self.skipped,
            gap=self.gap,
            is_drained=is_drained,
        )

    def _is_all_acked(self) -> bool:
        """True when no message of the durable is pending or unacked."""
        left = self.reader.pending(self.durable)
        return left is not None and not left.num_pending and not left.num_ack_pending

    def _begin(self) -> None:
        """Find the first message to deliver, and position the durable at it."""
        if self.tracker.progress == NO_PROGRESS and self.options.start != "all":
            first = first_sequence(self.reader, self.table, self.options.start, self.options.bookmarks)
            self.tracker.begin(self.target.store, first)
        key, repairs = self.tracker.key, self.target.repairs_gaps
        seen = max(self.tracker.progress.seen, self.newest)
        self.seek = find_start(self.reader, key, replace(self.tracker.progress, seen=seen), is_mirror=repairs)
        if self.seek.gap is not None:
            self.gap = self.seek.gap.detail
            report_gap(self.target.store, key, self.seek.gap, self.options.on_gap)
        self.target.repair(key, self.tracker.progress)
        self.newest = self.seek.sequence - 1
        self.verified_at = time.monotonic()
        self.reader.ensure_durable(self.durable, *self.table, self.seek.sequence)

    def _gather(self, timeout_s: float) -> list[StreamBatch]:
        """Fetch the changes for one transaction; an empty list when none arrived within the timeout."""
        work: list[StreamBatch] = []
        gather_until = time.monotonic() + self.options.gather_s
        wait_s = _SHORT_S if self.target.store.is_held else min(max(timeout_s, _SHORT_S), _POLL_S)
        count = size = 0
        while not self.stop.is_set():
            fetched = self.reader.fetch(self.durable, self.options.max_changes - count, wait_s)
            work.extend(fetched)
            count += sum(len(item) for item in fetched)
            size += sum(item.batch.nbytes for item in fetched)
            is_full = count >= self.options.max_changes or size >= GATHERED_BYTES
            if not fetched or is_full or time.monotonic() > gather_until:
                break
            wait_s = _SHORT_S
        if not work:
            self.target.store.release()
        return work

    def _is_same_stream(self, work: Sequence[StreamBatch]) -> bool:
        """False when the stream was recreated during the run: the batches are then discarded and delivery restarts."""
        first = int(work[0].sequences[0].as_py())
        is_same = first > self.newest
        progress = self.tracker.progress
        if self.seek.is_unproven or (first > self.newest + 1 and self.reader.first_sequence() > self.newest + 1):
            # The stream is no longer empty, or has dropped messages that may have been of this table.
            self._begin()
            return False
        if is_same and progress.epoch and time.monotonic() - self.verified_at > _VERIFY_EVERY_S:
            self.verified_at = time.monotonic()
            is_same = (
                holds_progress(self.reader, self.tracker.key, progress)
                or self.reader.first_sequence() > progress.sequence
            )
        if not is_same:
            log.warning("%s: the stream was truncated or recreated while it was read; seeking again", self.tracker.key)
            self._begin()
        return is_same

    def _apply(self, work: Sequence[StreamBatch]) -> None:
        """Pass the changes that were not applied before to the target, and ack."""
        todo = list(work)
        if self.seek.drops_done:
            todo, self.seek, dropped = drop_processed(todo, self.seek, self.tracker)
            self.skipped += dropped
        if todo:
            self.target.take(todo, self.tracker, self.stop)
            self.batches += 1
        if not self.stop.is_set():
            self.newest = work[-1].last_sequence
            self.reader.ack(work[-1])
