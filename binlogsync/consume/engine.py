"""The consumer engine: fetch from the stream, pass to a target, ack. Does not use Dagster.

`consume` processes one table until no change has arrived for a while, `consume_together` several tables whose target
applies each transaction of the source atomically. Progress is what the target stored with its rows; an ack only saves
the server a redelivery. On start the engine reads the message that progress refers to. If it contains the change
applied last, delivery resumes after it. If not, the stream was recreated: delivery restarts at the first message, and
applied changes are filtered by coordinates. The check is repeated while the engine runs.

A round of one table passes everything that was fetched to the target. A round of several tables fetches the pending
changes of each, and cuts them at the last transaction boundary up to which all were fetched: the checkpoint at the end
of the stream or, if a table has more changes than a round fetches, the start of its last fetched transaction. Later
changes wait for the next round, so a transaction must fit into memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from binlogsync.codec.subjects import durable_name
from binlogsync.consume.boundaries import changes_up_to, count_changes, earlier, last_transaction
from binlogsync.consume.delivery import TableDelivery
from binlogsync.consume.patience import TargetPatience, end_waits
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, Tracker
from binlogsync.consume.start_position import Bookmarks, Start, check_start, first_sequence
from binlogsync.consume.targets import TableChanges, apply_rounds
from binlogsync.errors import ConfigError, TargetBusyError
from binlogsync.nats.complete_reading import StreamRecreatedError
from binlogsync.nats.reader import StreamReader

if TYPE_CHECKING:
    from binlogsync.consume.targets import Target

log = logging.getLogger(__name__)
Table = tuple[str, str]
Pulse = Callable[[bool], None]

_VERIFY_EVERY_S = 1.0
_SHORT_S = 0.02
_POLL_S = 0.5
_FETCH_S = 0.2
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeOptions:
    """Options for consuming one or several tables.

    Attributes:
        client_id: identifies the progress; every client gets every change, two live clients with one id are an error.
        max_changes: approximate number of changes in one transaction; fewer if they are large (64 MB).
        gather_s: how long changes are collected for one transaction after the first arrived.
        idle_s: the run ends when no change has arrived for so long.
        max_s: the run ends after so long; None for no limit.
        on_gap: what to do when the stream dropped messages (its retention) before this consumer read them: "warn"
            records the gap with progress (gaps.py) and resumes, and a mirror reads its table again; "fail" raises.
        durable: name of the durable in JetStream, for one table; None for the default name.
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


def consume(
    reader: StreamReader,
    table: Table,
    target: Target,
    options: ConsumeOptions,
    stop: threading.Event,
    pulse: Pulse = lambda is_busy: None,
) -> ConsumeResult:
    """Consume (database, table) into the target until no change arrived for idle_s, max_s is over, or `stop` is set.

    `pulse` is called with True when changes are about to be handled, with False when none are pending.

    Raises ConsumeError (its subclasses for a model that does not fit and a handler that fails), SinkError when the
    stream cannot be reached. Changes processed before an error are stored.
    """
    return _drain(lambda: _Run(reader, target, options, stop, pulse), [table], options, stop)[table]


def consume_together(
    reader: StreamReader,
    targets: Mapping[Table, Target],
    options: ConsumeOptions,
    stop: threading.Event,
    pulse: Pulse = lambda is_busy: None,
) -> Mapping[Table, ConsumeResult]:
    """Like `consume`, for the targets of several tables that are applied in one transaction; returns results by table.

    Raises ConfigError if the targets cannot be applied together, or if the options name a durable.
    """
    if options.durable is not None and len(targets) > 1:
        raise ConfigError(f"durable={options.durable!r}: several tables need a durable each; leave the option out")
    first, *others = targets.values()
    target = first.join(others) if others else first
    return _drain(lambda: _Run(reader, target, options, stop, pulse), list(targets), options, stop)


def _drain(
    start: Callable[[], _Run], tables: list[Table], options: ConsumeOptions, stop: threading.Event
) -> Mapping[Table, ConsumeResult]:
    """Drain the tables, again from their stored progress while another process has the target open.

    The result contains what was applied before; the limits of time are those of the first attempt.
    """
    patience = TargetPatience()
    ends_at = float("inf") if options.max_s is None else time.monotonic() + options.max_s
    before: Mapping[Table, ConsumeResult] = {}
    while True:
        run = start()
        try:
            apply_rounds(run.rounds(tables, ends_at), run.target.take, stop)
            return _join(before, run.results(tables))
        except TargetBusyError as error:
            found = run.results(tables)
            if any(each.changes for each in found.values()):
                patience.end()
            before = _join(before, found)
            is_over = stop.is_set() or time.monotonic() > ends_at
            if is_over and before:
                return before
            patience.wait(error, stop)


def _join(before: Mapping[Table, ConsumeResult], after: Mapping[Table, ConsumeResult]) -> Mapping[Table, ConsumeResult]:
    """The results of two attempts by table; an attempt that opened no table has none."""
    if not (before and after):
        return after or before
    return {table: join_results(before[table], result) for table, result in after.items()}


def open_delivery(reader: StreamReader, key: ProgressKey, target: Target, options: ConsumeOptions) -> TableDelivery:
    """The delivery of a table, with its stored progress; that of a new client begins at the configured start."""
    table = key.database, key.table
    tracker = Tracker(key, target.store.load(key))
    if tracker.progress == NO_PROGRESS and options.start != "all":
        first = first_sequence(reader, table, options.start, options.bookmarks)
        tracker.begin(target.store, first, reader.created_at())
    durable = options.durable or durable_name(options.client_id, *table)
    return TableDelivery(reader, durable, target, tracker, options.on_gap)


@dataclass(slots=True)
class _Run:
    """One call of `consume` or `consume_together`."""

    reader: StreamReader
    target: Target
    options: ConsumeOptions
    stop: threading.Event
    pulse: Pulse
    batches: int = 0
    verified_at: float = 0.0
    has_all: bool = True
    """False after a fetch without messages if the stream may have more: the answer was slow, or was not asked for."""
    has_asked: bool = True
    """False after a fetch that did not wait for an answer, because the target was held open."""
    has_backlog: bool = False
    """True if the last round ended before it had fetched all changes."""
    is_drained: bool = False
    deliveries: tuple[TableDelivery, ...] = ()
    started: float = field(default_factory=time.monotonic)

    def rounds(self, tables: list[Table], ends_at: float) -> Generator[Sequence[TableChanges]]:
        """The changes of each round, until the end, or until `ends_at` (monotonic); see `consume`."""
        last_change = self.started
        end_waits(self.target, self.stop)
        try:
            keys = [ProgressKey(self.options.client_id, self.reader.source, *table) for table in tables]
            self.target.use_streams(self.reader.beside(), keys, self.stop)
            self.deliveries = tuple(open_delivery(self.reader, key, self.target, self.options) for key in keys)
            self._begin()
            while not self.is_drained and not self.stop.is_set() and time.monotonic() < ends_at:
                if (yield from self._round(min(self.options.idle_s, ends_at - time.monotonic()))):
                    last_change = time.monotonic()
                else:
                    self.is_drained = self.has_all and time.monotonic() - last_change >= self.options.idle_s
            for delivery in self.deliveries:
                if not delivery.fetched:
                    delivery.tracker.see(self.target.store, delivery.newest)
        finally:
            self.target.store.release()

    def results(self, tables: list[Table]) -> Mapping[Table, ConsumeResult]:
        """What was applied so far, by table; empty before the tables are open."""
        seconds = time.monotonic() - self.started
        results = (build_result(each, seconds, self.batches, is_drained=self.is_drained) for each in self.deliveries)
        return dict(zip(tables, results, strict=False))

    def _begin(self) -> None:
        """Start the delivery of all tables after their progress."""
        for delivery in self.deliveries:
            delivery.begin()
        self.verified_at = time.monotonic()

    def _round(self, timeout_s: float) -> Generator[Sequence[TableChanges], None, bool]:
        """Fetch changes, yield them to be applied, and confirm them; returns False if there were none."""
        held, skipped = self._count_fetched(), self._count_skipped()
        try:
            work = self._gather(timeout_s) if len(self.deliveries) == 1 else self._gather_together()
            if self._count_fetched() > held or len(self.deliveries) > 1:
                self._verify_stream()
        except StreamRecreatedError:
            log.warning("stream %s was recreated or dropped messages; seeking again", self.reader.stream)
            self._begin()
            return True
        has_work = any(each.batches for each in work)
        # A large transaction may be fetched in several rounds before it is applied.
        is_busy = has_work or self._count_fetched() > held or self._count_skipped() > skipped
        if is_busy or self.has_asked:  # otherwise it is unknown; the next round asks
            self.pulse(is_busy or not self.has_all)
        if has_work:
            # Of several tables, none has a backlog: they are fetched up to a common boundary.
            with self.deliveries[0].reading_ahead(self.options.max_changes, is_likely=self.has_backlog):
                yield [each for each in work if each.batches]
            self.batches += 1
            if not self.stop.is_set():
                for delivery, each in zip(self.deliveries, work, strict=True):
                    delivery.confirm(each)
        elif not is_busy:
            self.target.store.release()
            if len(self.deliveries) > 1:  # the fetch of one table waits for changes
                self.stop.wait(min(_LOOK_S, max(timeout_s, _SHORT_S)))
        return is_busy

    def _gather(self, timeout_s: float) -> list[TableChanges]:
        """The changes of the only table, for one transaction; none when none arrived within the timeout."""
        [delivery], limit = self.deliveries, self.options.max_changes
        is_held = self.target.store.is_held
        end = 0 if is_held else self.reader.last_sequence()
        wait_s = _SHORT_S if is_held else min(max(timeout_s, _SHORT_S), _POLL_S)
        gather_until = time.monotonic() + self.options.gather_s
        self.has_backlog, self.has_asked = False, not is_held
        while not self.stop.is_set() and delivery.fetch(limit, wait_s):
            if delivery.is_full(limit) or time.monotonic() > gather_until:
                self.has_backlog = True
                break
            wait_s = _SHORT_S
        if delivery.fetched:
            self.has_all = True
        elif is_held:
            self.has_all = False
        else:
            self.has_all = self.stop.is_set() or end <= delivery.newest or delivery.has_all()
            if self.has_all and not self.stop.is_set():
                delivery.newest = max(delivery.newest, end)
        return [TableChanges(delivery.tracker, delivery.fetched)]

    def _gather_together(self) -> list[TableChanges]:
        """The changes of all tables up to a common transaction boundary."""
        end, limit = self.reader.last_sequence(), self.options.max_changes
        at_end = self.reader.checkpoint_at(end)
        boundary = None if at_end is None else at_end.at_boundary()
        for delivery in self.deliveries if at_end is not None else ():
            while delivery.newest < end and not self.stop.is_set():
                if delivery.fetch(limit, _FETCH_S):
                    if delivery.is_full(limit):
                        break
                elif delivery.has_all():
                    delivery.newest = end
            if delivery.newest < end and delivery.fetched and boundary is not None:
                boundary = earlier(boundary, last_transaction(delivery.fetched))
        if boundary is None or self.stop.is_set():
            return [TableChanges(each.tracker, []) for each in self.deliveries]
        return [TableChanges(each.tracker, changes_up_to(each.fetched, boundary)) for each in self.deliveries]

    def _count_fetched(self) -> int:
        """Number of changes that are fetched and not applied."""
        return sum(count_changes(each.fetched) for each in self.deliveries)

    def _count_skipped(self) -> int:
        """Number of changes that were filtered out because they were applied before."""
        return sum(each.skipped for each in self.deliveries)

    def _verify_stream(self) -> None:
        """Once a second: raise StreamRecreatedError unless the stream still has the changes applied last."""
        if time.monotonic() - self.verified_at > _VERIFY_EVERY_S:
            for delivery in self.deliveries:
                delivery.check_progress()
            self.verified_at = time.monotonic()


def build_result(delivery: TableDelivery, seconds: float, batches: int, *, is_drained: bool = True) -> ConsumeResult:
    """What a delivery has done since its counts were set to zero, in that time and that number of transactions."""
    tracker = delivery.tracker
    return ConsumeResult(
        counts=dict(tracker.counts),
        first=tracker.first,
        last=tracker.progress if tracker.first else None,
        progress=tracker.progress,
        lag_s=tracker.lag_s,
        seconds=seconds,
        batches=batches,
        skipped=delivery.skipped,
        gap=delivery.gap,
        is_drained=is_drained,
    )


def join_results(one: ConsumeResult, other: ConsumeResult) -> ConsumeResult:
    """The result of two turns of a table, the earlier one first."""
    ops = {*one.counts, *other.counts}
    counts: Mapping[str, int] = {op: one.counts.get(op, 0) + other.counts.get(op, 0) for op in ops}
    return replace(
        other,
        counts=counts,
        first=one.first or other.first,
        last=other.last or one.last,
        lag_s=one.lag_s if other.lag_s is None else other.lag_s,
        seconds=one.seconds + other.seconds,
        batches=one.batches + other.batches,
        skipped=one.skipped + other.skipped,
        gap=other.gap or one.gap,
    )
