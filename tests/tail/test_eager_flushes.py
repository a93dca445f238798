"""Eager flushes: when they are due, how a sink gets many of them as one, and how few checkpoints are saved."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from binlogsync.errors import ConfigError, SinkError
from binlogsync.flush import Flush, FlushReason, merge_flushes
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.tail import fanout as fanout_module
from binlogsync.tail.accumulate import Accumulator, FlushRules
from binlogsync.tail.fanout import Fanout
from binlogsync.tail.options import TailOptions
from binlogsync.tail.saving import CheckpointSaver
from binlogsync.tail.sink_queue import SinkQueue
from tests.samples import SampleSource, SampleTransaction
from tests.tail.test_accumulate import log_of, start_of, stretches
from tests.waiting import wait_until

EAGER = FlushRules(rows=10, interval_s=3.0, is_eager=True)
HOUR = replace(EAGER, interval_s=3600.0)


class RecordingSink(Sink):
    """Keeps its flushes; each write waits for `gate`."""

    def __init__(self, name: str, *, merges: bool = False) -> None:
        self.name, self._merges = name, merges
        self.flushes: list[Flush] = []
        self.gate = threading.Event()
        self.gate.set()

    def open(self, source: str) -> Checkpoint | None:
        return None

    @property
    def merges_flushes(self) -> bool:
        return self._merges

    def write(self, flush: Flush) -> None:
        self.gate.wait(60)
        self.flushes.append(flush)

    def close(self) -> None:
        self.gate.set()


class StartingSink(RecordingSink):
    """A sink that can start flushes; the test ends them by `ends`."""

    def __init__(self) -> None:
        super().__init__("starting")
        self.can_start = True
        self.started: list[Flush] = []
        self.ends: list[Callable[[Exception | None], None]] = []

    def start(self, flush: Flush, done: Callable[[Exception | None], None]) -> bool:
        if self.can_start:
            self.started.append(flush)
            self.ends.append(done)
        return self.can_start


def eager(flush: Flush, reason: FlushReason = "eager") -> Flush:
    return replace(flush, reason=reason)


def changes_of(flush: Flush) -> list[tuple[int, int, int]]:
    rows = [row for batch in flush.batches for row in batch.data.to_pylist()]
    return sorted((row["seq"], row["txn_pos"], row["order"]) for row in rows)


def test_changes_are_due_at_once_while_the_sinks_are_idle() -> None:
    log = log_of([2, 3])
    pending = Accumulator("main", EAGER, start_of(log), 100.0)
    assert pending.due(100.0, is_idle=True) is None
    pending.add(next(stretches(log, [2])), 100.0)
    assert pending.due(100.0, is_idle=False) is None
    assert pending.due(100.0, is_idle=True) == "eager"
    assert pending.due(103.0, is_idle=False) == "interval"
    interval = Accumulator("main", replace(EAGER, is_eager=False), start_of(log), 100.0)
    interval.add(next(stretches(log, [2])), 100.0)
    assert interval.due(100.0, is_idle=True) is None


@pytest.mark.parametrize("seed", range(5))
def test_merged_flushes_equal_one_flush(seed: int) -> None:
    """Cuts inside transactions too: changes, transactions, and the checkpoint after each change are the same."""
    chance = random.Random(seed)
    log = log_of([chance.randrange(1, 5) for _ in range(12)], left_out=0.2)
    start, count = start_of(log), sum(each.size for each in log)
    cuts = sorted(chance.sample(range(1, count), 9))
    many = Accumulator("main", EAGER, start, 100.0)
    once = Accumulator("main", EAGER, start, 100.0)
    parts: list[Flush] = []
    for decoded in stretches(log, cuts):
        many.add(decoded, 100.0)
        once.add(decoded, 100.0)
        if (part := many.cut("eager", 100.0)) is not None:
            parts.append(part)
    whole = once.cut("rows", 100.0)
    assert whole is not None
    merged = merge_flushes(parts, "rows")
    assert changes_of(merged) == changes_of(whole)
    assert (merged.start, merged.checkpoint, merged.number) == (whole.start, whole.checkpoint, 1)
    began = [(run.key, run.first + n, begin, seq) for run in merged.runs
             for n, (begin, seq) in enumerate(zip(run.begin, run.first_seq, strict=True))]  # fmt: skip
    assert began == [(run.key, run.first + n, begin, seq) for run in whole.runs
                     for n, (begin, seq) in enumerate(zip(run.begin, run.first_seq, strict=True))]  # fmt: skip
    for seq, _, order in changes_of(whole):
        assert merged.checkpoint_at(seq, order, 7) == whole.checkpoint_at(seq, order, 7)


def test_a_merged_flush_counts_what_its_parts_counted() -> None:
    source = SampleSource()
    parts = [replace(source.flush([SampleTransaction((0,))]), dropped=n, closed_us=n) for n in (1, 2, 4)]
    merged = merge_flushes(parts, "interval")
    assert (merged.reason, merged.dropped, merged.opened_us) == ("interval", 7, parts[0].opened_us)
    assert (merged.closed_us, merged.changes) == (4, 3)
    assert merge_flushes(parts[:1], "interval") is parts[0]


def test_a_queue_that_merges_waits_for_the_rules() -> None:
    source, queue = SampleSource(), SinkQueue(EAGER)
    assert queue.due(100.0, True) is None
    queue.put(eager(source.flush([SampleTransaction((0,) * 4)])), 100.0)
    queue.put(eager(source.flush([SampleTransaction((0,) * 4)])), 102.0)
    assert (queue.due(102.0, False), queue.wait_s(102.0)) == (None, 1.0)
    assert (queue.due(102.0, True), queue.due(103.0, False)) == ("stop", "interval")
    queue.put(eager(source.flush([SampleTransaction((0,) * 4)])), 102.0)
    assert queue.due(102.0, False) == "rows"
    assert [flush.changes for flush in queue.take()] == [4, 4, 4]
    emptied = [queue.is_empty]
    queue.stored()
    assert [*emptied, queue.is_empty] == [False, True]
    queue.put(eager(source.flush([SampleTransaction((0,))])), 105.0)
    assert queue.wait_s(105.0) == 3.0
    queue.put(eager(source.flush([SampleTransaction((0,))]), "rotation"), 105.0)
    assert queue.due(105.0, False) == "rotation"


def test_a_queue_without_rules_gives_one_flush_at_a_time() -> None:
    source, queue = SampleSource(), SinkQueue()
    flushes = [eager(source.flush(1)) for _ in range(2)]
    for flush in flushes:
        queue.put(flush, 0.0)
    assert (queue.due(0.0, False), queue.following()) == ("eager", flushes[0])
    assert queue.take() == flushes[:1]
    assert queue.following() is flushes[1]


@pytest.fixture
def sinks() -> Iterator[tuple[RecordingSink, RecordingSink]]:
    pair = RecordingSink("stream"), RecordingSink("log", merges=True)
    yield pair
    for sink in pair:
        sink.close()


def test_each_sink_gets_every_change_once(sinks: tuple[RecordingSink, RecordingSink]) -> None:
    stream, log = sinks
    source, saved = SampleSource(), list[Checkpoint]()
    fanout = Fanout({stream: None, log: None}, saved.append, 1 << 30, HOUR)
    flushes = [eager(source.flush([SampleTransaction((0, 1, 0))])) for _ in range(7)]
    try:
        for flush in flushes:
            fanout.put(flush, lambda: None)
            wait_until(lambda: fanout.is_idle, 10, "the stream to store a flush")
        assert stream.flushes == flushes
        fanout.wait(lambda: None)
    finally:
        fanout.close(lambda: None)
    assert [flush.reason for flush in log.flushes] == ["rows", "stop"]
    assert sum(map(changes_of, log.flushes), []) == sum(map(changes_of, flushes), [])
    assert [flush for flush, _ in fanout.finished()] == flushes
    assert saved[-1] == flushes[-1].checkpoint
    assert all(earlier.position.pos <= later.position.pos for earlier, later in pairwise(saved))


def test_the_tail_is_woken_when_the_stream_has_stored_a_flush(sinks: tuple[RecordingSink, RecordingSink]) -> None:
    stream, log = sinks
    stream.gate.clear()
    woken = threading.Event()
    fanout = Fanout({stream: None, log: None}, lambda _: None, 1 << 30, HOUR)
    fanout.on_idle = woken.set
    try:
        fanout.put(eager(SampleSource().flush(1)), lambda: None)
        assert not fanout.is_idle
        assert not woken.is_set()
        stream.gate.set()
        assert woken.wait(60)
        assert fanout.is_idle
    finally:
        fanout.close(lambda: None)


@pytest.fixture
def starting() -> Iterator[StartingSink]:
    sink = StartingSink()
    yield sink
    sink.close()


def test_a_flush_that_the_sink_starts_needs_no_thread(starting: StartingSink) -> None:
    source, noted, woken = SampleSource(), list[Checkpoint](), threading.Event()
    fanout = Fanout({starting: None}, lambda _: None, 1 << 30, HOUR, noted.append)
    fanout.on_idle = woken.set
    flushes = [eager(source.flush(1)) for _ in range(3)]
    try:
        fanout.put(flushes[0], lambda: None)
        assert starting.started == flushes[:1]
        assert not fanout.is_idle
        fanout.put(flushes[1], lambda: None)  # waits for the first one
        assert not woken.is_set()
        starting.ends[0](None)
        assert woken.is_set()
        wait_until(lambda: fanout.is_idle, 10, "the thread to store the second flush")
        fanout.put(flushes[2], lambda: None)
        starting.ends[1](None)
        fanout.wait(lambda: None)
    finally:
        fanout.close(lambda: None)
    assert (starting.started, starting.flushes) == ([flushes[0], flushes[2]], [flushes[1]])
    assert [flush for flush, _ in fanout.finished()] == flushes
    assert noted == [flushes[0].checkpoint, flushes[2].checkpoint]


def test_the_thread_is_told_when_a_started_flush_has_ended(
    starting: StartingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout_module, "_WATCH_S", 3600.0)
    source = SampleSource()
    fanout = Fanout({starting: None}, lambda _: None, 1 << 30, HOUR)
    flushes = [eager(source.flush(1)) for _ in range(2)]
    try:
        for flush in flushes:
            fanout.put(flush, lambda: None)
        starting.ends[0](None)
        wait_until(lambda: fanout.is_idle, 10, "the thread to store the second flush")
    finally:
        fanout.close(lambda: None)
    assert (starting.started, starting.flushes) == (flushes[:1], flushes[1:])


def test_a_flush_that_failed_is_written_by_the_thread(starting: StartingSink) -> None:
    source = SampleSource()
    fanout = Fanout({starting: None}, lambda _: None, 1 << 30, HOUR)
    flushes = [eager(source.flush(1)) for _ in range(2)]
    try:
        fanout.put(flushes[0], lambda: None)
        starting.ends[0](SinkError("the connection broke"))
        wait_until(lambda: fanout.is_idle, 10, "the thread to store the flush")
        starting.can_start = False
        fanout.put(flushes[1], lambda: None)
        fanout.wait(lambda: None)
    finally:
        fanout.close(lambda: None)
    assert starting.flushes == flushes


def test_only_eager_flushes_are_started(starting: StartingSink) -> None:
    source = SampleSource()
    fanout = Fanout({starting: None}, lambda _: None, 1 << 30, HOUR)
    try:
        fanout.put(eager(source.flush(1), "rotation"), lambda: None)
        fanout.wait(lambda: None)
    finally:
        fanout.close(lambda: None)
    assert starting.started == []


def test_the_end_waits_for_a_started_flush(starting: StartingSink) -> None:
    fanout = Fanout({starting: None}, lambda _: None, 1 << 30, HOUR)
    fanout.put(eager(SampleSource().flush(1)), lambda: None)
    waited = threading.Event()

    def tick() -> None:
        if not waited.is_set():
            waited.set()
            starting.ends[0](None)

    fanout.close(tick)
    assert waited.is_set()
    assert len(fanout.finished()) == 1


def test_changes_of_a_started_flush_are_left_out_if_the_sink_has_them(starting: StartingSink) -> None:
    source = SampleSource()
    flush = eager(source.flush(2))
    half = flush.checkpoint_at(*changes_of(flush)[0][::2], 7)
    fanout = Fanout({starting: half}, lambda _: None, 1 << 30, HOUR)
    try:
        fanout.put(flush, lambda: None)
        fanout.wait(lambda: None)
    finally:
        fanout.close(lambda: None)
    assert starting.started == []
    assert sum(map(changes_of, starting.flushes), []) == changes_of(flush)[1:]


def test_without_eager_flushes_no_sink_merges(sinks: tuple[RecordingSink, RecordingSink]) -> None:
    _, log = sinks
    source = SampleSource()
    fanout = Fanout({log: None}, lambda _: None, 1 << 30, replace(EAGER, is_eager=False))
    flushes = [source.flush(1) for _ in range(3)]
    try:
        for flush in flushes:
            fanout.put(flush, lambda: None)
        fanout.wait(lambda: None)
    finally:
        fanout.close(lambda: None)
    assert log.flushes == flushes


def test_only_merging_sinks_are_never_idle(sinks: tuple[RecordingSink, RecordingSink]) -> None:
    """An audit log alone is written in intervals."""
    fanout = Fanout({sinks[1]: None}, lambda _: None, 1 << 30, EAGER)
    assert not fanout.is_idle
    fanout.close(lambda: None)


def test_one_checkpoint_in_an_interval_is_saved_and_the_last_at_the_end() -> None:
    source, saved = SampleSource(), list[Checkpoint]()
    checkpoints = [source.flush(1).checkpoint for _ in range(4)]
    saver = CheckpointSaver(saved.append, 3600.0)
    for checkpoint in checkpoints:
        saver.save(checkpoint)
        saver.save_later()
    assert saved == checkpoints[:1]
    saver.close()
    saver.close()
    assert saved == [checkpoints[0], checkpoints[3]]


def test_a_noted_checkpoint_is_saved_when_the_tail_has_time() -> None:
    source, saved = SampleSource(), list[Checkpoint]()
    checkpoints = [source.flush(1).checkpoint for _ in range(2)]
    saver = CheckpointSaver(saved.append, 0.0)
    for checkpoint in checkpoints:
        saver.note(checkpoint)
    assert saved == []
    saver.save_later()
    saver.save_later()
    assert saved == checkpoints[1:]


def test_without_an_interval_each_checkpoint_is_saved() -> None:
    source, saved = SampleSource(), list[Checkpoint]()
    checkpoints = [source.flush(1).checkpoint for _ in range(3)]
    saver = CheckpointSaver(saved.append, 0.0)
    for checkpoint in checkpoints:
        saver.save(checkpoint)
    saver.save_later()
    assert saved == checkpoints


def test_a_checkpoint_that_could_not_be_saved_is_saved_later() -> None:
    checkpoint, saved, is_away = SampleSource().flush(1).checkpoint, list[Checkpoint](), True

    def save(one: Checkpoint) -> None:
        if is_away:
            raise ConnectionError
        saved.append(one)

    saver = CheckpointSaver(save, 0.0)
    with pytest.raises(ConnectionError):
        saver.save(checkpoint)
    is_away = False
    saver.save_later()
    assert saved == [checkpoint]


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ConfigError, match="flush 'often' is unknown; use interval or eager"):
        TailOptions("main", flush="often")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="checkpoint_s"):
        TailOptions("main", checkpoint_s=-1)
