"""What a tail does when nothing answers: how long it tries, what a stop means, and how its lease lives. No server."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from binlogsync.errors import ConfigError, LeaseLostError, SourceError, StoreError
from binlogsync.flush import Flush
from binlogsync.mysql import MySQLConfig
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.stores import Lease, PositionStore
from binlogsync.stores.lease_heartbeat import LeaseHeartbeat
from binlogsync.stores.memory import MemoryBookmarks, MemoryCheckpoints, MemoryLeases, MemoryPositionStore
from binlogsync.tail.progress import ProgressCounter
from binlogsync.tail.run import Tail, TailOptions, TailProgress
from tests.samples import SampleSource, SampleTransaction
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


class UnreachableSink(Sink):
    """A sink that is never reached."""

    name = "nowhere"

    def open(self, source: str) -> Checkpoint | None:
        raise AssertionError("the server comes first")

    def write(self, flush: Flush) -> None:
        raise AssertionError

    def close(self) -> None:
        self.is_closed = True


class ShakyLeases(MemoryLeases):
    """Cannot be reached while `is_away`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.renewals = 0
        self.refused = 0

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        self._answer()
        return super().claim(source, owner, take_over=take_over, stale_s=stale_s)

    def renew(self, lease: Lease) -> None:
        self._answer()
        super().renew(lease)
        self.renewals += 1

    def release(self, lease: Lease) -> None:
        self._answer()
        super().release(lease)

    def _answer(self) -> None:
        if self.is_away:
            self.refused += 1
            raise StoreError("the store is away")


def store_of(leases: MemoryLeases) -> PositionStore:
    return PositionStore(MemoryCheckpoints(leases), MemoryBookmarks(), leases)


def heartbeat_of(leases: MemoryLeases, owner: str = "me", patience_s: float = 300.0) -> LeaseHeartbeat:
    renew = partial(leases.renew, leases.claim("main", owner))
    return LeaseHeartbeat("source main", renew, every_s=0.05, patience_s=patience_s)


@pytest.fixture
def nothing_there() -> Iterator[MySQLConfig]:
    """A port that no process listens on, and that no other process can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield MySQLConfig(port=taken.getsockname()[1], connect_timeout_s=60)


def test_a_server_that_stays_away_is_given_up(nothing_there: MySQLConfig) -> None:
    store, sink, seen = MemoryPositionStore(), UnreachableSink(), list[TailProgress]()
    tail = Tail(nothing_there, [sink], store, TailOptions("main", retry_s=1.2), owner="me")
    begun = time.monotonic()
    with pytest.raises(SourceError, match="nothing listens there"):
        tail.run(threading.Event(), seen.append)
    assert time.monotonic() - begun >= 1.2
    assert "SourceError" in seen[-1].recoveries[0]
    lease = store.leases.load("main")
    assert lease is not None
    assert lease.released
    assert sink.is_closed


def test_a_stop_while_the_server_is_away_is_in_good_order(nothing_there: MySQLConfig) -> None:
    stop = threading.Event()
    tail = Tail(
        nothing_there, [UnreachableSink()], MemoryPositionStore(), TailOptions("main", retry_s=3600), owner="me"
    )
    threading.Timer(1.0, stop.set).start()
    assert tail.run(stop).changes == 0


def test_a_store_that_is_away_is_tried_again(nothing_there: MySQLConfig) -> None:
    leases, stop = ShakyLeases(), threading.Event()
    leases.is_away = True
    tail = Tail(nothing_there, [UnreachableSink()], store_of(leases), TailOptions("main", retry_s=60), owner="me")
    thread = threading.Thread(target=tail.run, args=(stop,))
    thread.start()
    wait_until(lambda: leases.refused >= 2, 10, "two attempts")
    leases.is_away = False
    wait_until(lambda: leases.load("main"), 10, "the lease")
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_a_store_away_at_the_end_hides_no_error(nothing_there: MySQLConfig, caplog: pytest.LogCaptureFixture) -> None:
    leases = ShakyLeases()
    tail = Tail(nothing_there, [UnreachableSink()], store_of(leases), TailOptions("main", retry_s=1), owner="me")

    def leave(progress: TailProgress) -> None:
        leases.is_away = True

    with caplog.at_level(logging.WARNING), pytest.raises(SourceError):
        tail.run(threading.Event(), leave)
    assert "the lease could not be released: the store is away" in caplog.text


def test_the_heart_beats_while_the_tail_waits() -> None:
    leases = ShakyLeases()
    heartbeat = heartbeat_of(leases)
    heartbeat.start()
    wait_until(lambda: leases.renewals >= 3, 5, "three beats")
    leases.is_away = True
    wait_until(lambda: leases.refused >= 2, 5, "two beats to be refused")
    leases.is_away = False
    beats = leases.renewals
    wait_until(lambda: leases.renewals > beats, 5, "a beat when the store is back")
    heartbeat.report_alive()
    heartbeat.stop()


def test_the_heart_stops_for_a_tail_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    leases = ShakyLeases()
    heartbeat = heartbeat_of(leases, patience_s=0.3)
    with caplog.at_level(logging.ERROR):
        heartbeat.start()
        wait_until(lambda: "made no progress" in caplog.text, 5, "the heart to give up")
        beats = leases.renewals
        time.sleep(0.2)
        assert leases.renewals == beats

        def has_revived() -> bool:
            heartbeat.report_alive()
            return leases.renewals > beats

        wait_until(has_revived, 5, "the renewals to continue")
    heartbeat.stop()


def test_a_lost_lease_is_told_where_the_tail_shows_itself() -> None:
    leases = MemoryLeases()
    heartbeat = heartbeat_of(leases, "alice")
    heartbeat.start()
    leases.claim("main", "bob", take_over=True)

    def told() -> str:
        try:
            heartbeat.report_alive()
        except LeaseLostError as error:
            return str(error)
        return ""

    assert "'bob' has claimed it since" in wait_until(told, 5, "the loss to be reported")
    heartbeat.stop()


@pytest.mark.parametrize("options", [{"retry_s": -1}, {"stop_s": -1}, {"flush_rows": 0}, {"flush_interval_s": 0}])
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TailOptions("main", **options)  # type: ignore[arg-type]


def test_a_tail_needs_a_sink(nothing_there: MySQLConfig) -> None:
    with pytest.raises(ConfigError, match="at least one sink"):
        Tail(nothing_there, [], MemoryPositionStore(), TailOptions("main"), owner="me")


def test_the_meter_counts_a_transaction_where_it_ends() -> None:
    meter, source = ProgressCounter(), SampleSource()
    flushes = [
        source.flush([SampleTransaction((0,)), SampleTransaction((0, 1, 0), take=2)]),
        source.flush([SampleTransaction((1,))]),
    ]
    meter.stored([(flushes[0], flushes[0].checkpoint)])
    assert (meter.snapshot(idle=True).transactions, meter.snapshot(idle=True).changes) == (1, 3)
    meter.stored([(flushes[1], flushes[1].checkpoint)])
    progress = meter.snapshot(idle=True)
    assert (progress.transactions, progress.changes, progress.flushes) == (3, 5, 2)
    assert progress.tables == {("shop", "samples"): 3, ("shop", "notes"): 2}
    assert progress.checkpoint == flushes[1].checkpoint
