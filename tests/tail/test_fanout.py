"""Several sinks at once: order, what each has, the checkpoint that all have, bounds, and a sink that fails or hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from binlogsync.errors import LeaseLostError, SinkError, StoreError
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.sinks import Sink
from binlogsync.tail import fanout as fanout_module
from binlogsync.tail.fanout import Fanout
from tests.samples import SampleSource, SampleTransaction
from tests.waiting import wait_until

PLENTY = 1 << 30


class ListSink(Sink):
    """Keeps what it is given; waits for `gate` first, and raises `error` when there is one."""

    def __init__(self, name: str, at: Checkpoint | None = None) -> None:
        self.name = name
        self.at = at
        self.flushes: list[Flush] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: Exception | None = None

    def open(self, source: str) -> Checkpoint | None:
        return self.at

    def write(self, flush: Flush) -> None:
        self.entered.set()
        self.gate.wait(120)
        if self.error is not None:
            raise self.error
        self.flushes.append(flush)

    def close(self) -> None:
        self.gate.set()

    @property
    def places(self) -> list[tuple[int, int]]:
        """(position of the transaction, number in it) of each change, in order."""
        return [place for flush in self.flushes for place in places(flush)]


def places(flush: Flush) -> list[tuple[int, int]]:
    rows = sorted((row for batch in flush.batches for row in batch.data.to_pylist()), key=lambda row: row["seq"])
    return [(row["txn_pos"], row["order"]) for row in rows]


class FanoutFixture:
    """A fanout with two sinks, and what it saved."""

    def __init__(self, *at: Checkpoint | None, limit: int = PLENTY) -> None:
        self.sinks = [ListSink(f"sink{n}", checkpoint) for n, checkpoint in enumerate(at)]
        self.saved: list[Checkpoint] = []
        self.save: Callable[[Checkpoint], None] = self.saved.append
        self.ticks = 0
        self.fanout = Fanout({sink: sink.at for sink in self.sinks}, lambda checkpoint: self.save(checkpoint), limit)

    def tick(self) -> None:
        self.ticks += 1

    def put(self, *flushes: Flush) -> None:
        for flush in flushes:
            self.fanout.put(flush, self.tick)

    def close(self) -> None:
        for sink in self.sinks:
            sink.gate.set()
        self.fanout.close(self.tick)


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[Callable[..., FanoutFixture]]:
    made: list[FanoutFixture] = []
    before = threading.active_count()

    def make(*at: Checkpoint | None, limit: int = PLENTY) -> FanoutFixture:
        made.append(FanoutFixture(*at, limit=limit))
        return made[-1]

    yield make
    for each in made:
        each.close()
    wait_until(lambda: threading.active_count() <= before, 5, "the sinks' threads to end")


def test_all_sinks_get_all_in_order(desk: Callable[..., FanoutFixture]) -> None:
    both, source = desk(None, None), SampleSource()
    flushes = [source.flush(3) for _ in range(5)]
    both.put(*flushes)
    both.fanout.wait(both.tick)
    assert [sink.flushes for sink in both.sinks] == [flushes, flushes]
    assert both.saved == [flush.checkpoint for flush in flushes]
    assert both.fanout.finished() == [(flush, flush.checkpoint) for flush in flushes]
    assert both.fanout.finished() == []


def test_a_slow_sink_holds_the_checkpoint_back_but_not_the_other_sink(desk: Callable[..., FanoutFixture]) -> None:
    both, source = desk(None, None), SampleSource()
    both.sinks[1].gate.clear()
    flushes = [source.flush(2), source.flush(2)]
    both.put(*flushes)
    wait_until(lambda: len(both.sinks[0].flushes) == 2, 5, "the quick sink")
    assert both.saved == []
    assert both.fanout.waiting == 2
    assert both.fanout.lagging_sinks == ["sink1"]
    both.sinks[1].gate.set()
    both.fanout.wait(both.tick)
    assert both.saved == [flush.checkpoint for flush in flushes]
    assert both.fanout.lagging_sinks == []


def test_each_sink_gets_what_it_has_not(desk: Callable[..., FanoutFixture]) -> None:
    """One sink ended within the second transaction, the other holds the first two flushes."""
    source = SampleSource()
    flushes = [source.flush([SampleTransaction((0, 0, 1)), SampleTransaction((0, 1, 0, 1))]) for _ in range(3)]
    everything = [place for flush in flushes for place in places(flush)]
    row = max((r for b in flushes[0].batches for r in b.data.to_pylist() if r["order"] == 1), key=lambda r: r["seq"])
    within = flushes[0].checkpoint_at(row["seq"], 1, 0)
    both = desk(within, flushes[1].checkpoint)
    both.put(*flushes)
    both.fanout.wait(both.tick)
    assert both.sinks[0].places == everything[5:]
    assert both.sinks[1].places == everything[14:]
    assert both.saved[-1] == flushes[2].checkpoint
    assert all(compare(earlier, later).is_at_or_before for earlier, later in pairwise(both.saved))
    counted = [places(flush) for flush, _ in both.fanout.finished()]
    assert sum(counted, []) == everything[5:]


def test_the_checkpoint_does_not_go_back_while_a_transaction_is_read_again(desk: Callable[..., FanoutFixture]) -> None:
    """Both sinks hold 9 changes of a transaction of 12; it comes again in flushes of 4."""
    source = SampleSource()
    parts = [source.flush([SampleTransaction((0,) * 12, take=4)])]
    whole = replace(SampleSource().flush([SampleTransaction((0,) * 12)]), number=2)
    seq = [row["seq"] for batch in whole.batches for row in batch.data.to_pylist()]
    held = whole.checkpoint_at(sorted(seq)[8], 8, 0)
    assert compare(parts[0].checkpoint, held) is PositionOrder.BEFORE
    both = desk(held, held)
    both.put(parts[0], whole)
    both.fanout.wait(both.tick)
    assert both.saved == [held, whole.checkpoint]
    assert [sink.places for sink in both.sinks] == [places(whole)[9:]] * 2
    assert [flush.changes for flush, _ in both.fanout.finished()] == [0, 3]


def test_the_checkpoint_follows_a_sink_that_has_lost_something(desk: Callable[..., FanoutFixture]) -> None:
    source = SampleSource()
    first, second, third = (source.flush(2) for _ in range(3))
    both = desk(first.checkpoint, third.checkpoint)
    both.put(second)
    both.fanout.wait(both.tick)
    assert both.saved == [second.checkpoint]


def test_what_waits_is_bounded_in_bytes(desk: Callable[..., FanoutFixture]) -> None:
    source = SampleSource()
    flushes = [source.flush(4) for _ in range(3)]
    one = desk(None, limit=flushes[0].nbytes + flushes[1].nbytes)
    one.sinks[0].gate.clear()
    one.put(flushes[0], flushes[1])
    assert one.ticks == 0
    third = threading.Thread(target=one.put, args=(flushes[2],))
    third.start()
    wait_until(lambda: one.ticks >= 2, 5, "put to wait, and to tick meanwhile")
    assert one.fanout.waiting == 2
    one.sinks[0].gate.set()
    third.join(60)
    assert not third.is_alive()
    one.fanout.wait(one.tick)
    assert one.sinks[0].flushes == flushes


def test_a_flush_over_the_limit_goes_alone(desk: Callable[..., FanoutFixture]) -> None:
    one, source = desk(None, limit=1), SampleSource()
    flushes = [source.flush(1), source.flush(1)]
    one.put(*flushes)
    one.fanout.wait(one.tick)
    assert one.sinks[0].flushes == flushes


def test_a_failing_sink_ends_it_and_what_was_stored_before_is_counted(desk: Callable[..., FanoutFixture]) -> None:
    both, source = desk(None, None), SampleSource()
    first = source.flush(2)
    both.put(first)
    both.fanout.wait(both.tick)
    both.sinks[1].error = SinkError("the disk is full")
    both.put(source.flush(2))
    with pytest.raises(SinkError, match="the disk is full"):
        both.fanout.wait(both.tick)
    for call in (both.fanout.check, lambda: both.put(source.flush(1))):
        with pytest.raises(SinkError, match="the disk is full"):
            call()
    assert both.saved == [first.checkpoint]
    assert both.fanout.finished() == [(first, first.checkpoint)]


@pytest.mark.parametrize("error", [StoreError("away"), LeaseLostError("bob has it")])
def test_a_store_that_fails_ends_it(error: Exception, desk: Callable[..., FanoutFixture]) -> None:
    both = desk(None, None)

    def fail(checkpoint: Checkpoint) -> None:
        raise error

    both.save = fail
    both.put(SampleSource().flush(1))
    with pytest.raises(type(error), match=str(error)):
        both.fanout.wait(both.tick)
    assert both.fanout.finished() == []


def test_closing_waits_for_a_write_and_drops_what_waits_behind_it(desk: Callable[..., FanoutFixture]) -> None:
    one, source = desk(None), SampleSource()
    one.sinks[0].gate.clear()
    one.put(source.flush(1), source.flush(1))
    wait_until(one.sinks[0].entered.is_set, 5, "the first write")

    def tick() -> None:
        one.tick()
        one.sinks[0].gate.set()

    one.fanout.close(tick)
    assert len(one.sinks[0].flushes) == 1
    assert one.ticks >= 1


def test_closing_leaves_a_hanging_sink_when_the_tick_says_so(desk: Callable[..., FanoutFixture]) -> None:
    one = desk(None)
    one.sinks[0].gate.clear()
    one.put(SampleSource().flush(1))

    def give_up() -> None:
        raise SinkError("enough")

    with pytest.raises(SinkError, match="enough"):
        one.fanout.wait(give_up)
    with pytest.raises(SinkError, match="enough"):
        one.fanout.close(give_up)
    assert one.sinks[0].flushes == [], "the sink still hangs"


class WatchedSink(ListSink):
    """Also looks at what it writes to."""

    def __init__(self) -> None:
        super().__init__("watched")
        self.looks = 0
        self.changed: Exception | None = None

    def watch(self) -> None:
        self.looks += 1
        if self.changed is not None:
            raise self.changed


def test_a_sink_looks_at_what_it_writes_to_while_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_module, "_WATCH_S", 0.02)
    sink = WatchedSink()
    fanout = Fanout({sink: None}, lambda _: None, PLENTY)
    wait_until(lambda: sink.looks > 2, 20, "looks")
    sink.changed = SinkError("the stream was changed")

    def has_failed() -> bool:
        try:
            fanout.check()
        except SinkError as error:
            return str(error) == "the stream was changed"
        return False

    wait_until(has_failed, 20, "the error of a look")
    fanout.close(lambda: None)


def test_a_busy_sink_looks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_module, "_WATCH_S", 0.0)
    sink, source = WatchedSink(), SampleSource()
    fanout = Fanout({sink: None}, lambda _: None, PLENTY)
    for _ in range(5):
        fanout.put(source.flush(1), lambda: None)
    fanout.wait(lambda: None)
    fanout.close(lambda: None)
    assert len(sink.flushes) == 5
    assert sink.looks >= 5
