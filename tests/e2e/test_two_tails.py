"""Two concurrent tails of one source: the lease refuses the second, and without a common lease the fence does."""

from __future__ import annotations

from pathlib import Path

from binlogsync.errors import FencedError, LeaseLostError
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import FreshDatabase
from tests.e2e.oracle import assert_exact
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.e2e.writers import Writers
from tests.waiting import wait_until


def test_the_second_tail_is_refused(mysql: FreshDatabase, nats_server: NATSServer) -> None:
    source, store = f"refused-{mysql.name}", MemoryPositionStore()
    config, options = config_of(mysql.server, source), options_of(source, mysql.name)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with TailThread(config, [stream_sink(nats_server.url)], store, options, owner="alice") as first:
        wait_until(lambda: store.leases.load(source), 20, "the lease")
        with TailThread(config, [stream_sink(nats_server.url)], store, options, owner="bob") as second:
            error = second.end()
        assert not second.progress.recoveries, "it does not try again"
        assert isinstance(error, LeaseLostError)
        assert f"source '{source}' is held by 'alice', last heartbeat" in str(error)
        mysql.execute("INSERT INTO t VALUES (1)")
        first.catch_up()
    assert_exact((config, mysql.name), nats_server.url, source)


def test_a_tail_that_takes_over_ends_the_other(mysql: FreshDatabase, nats_server: NATSServer) -> None:
    source, store = f"taken-{mysql.name}", MemoryPositionStore()
    config, options = config_of(mysql.server, source), options_of(source, mysql.name)
    writers = Writers(mysql, seed=1)
    with (
        writers.running(),
        TailThread(config, [stream_sink(nats_server.url)], store, options, owner="alice") as first,
    ):
        first.wait_stored(50)
        with TailThread(config, [stream_sink(nats_server.url)], store, options, owner="bob", take_over=True) as second:
            error = first.end()
            second.wait_stored(60)
            writers.stop()
            second.catch_up()
        assert isinstance(error, (LeaseLostError, FencedError))
        assert "'bob' has claimed it since" in str(error) or "another writer has written to stream" in str(error)
    assert_exact((config, mysql.name), nats_server.url, source)


def test_tails_with_separate_position_stores_are_fenced(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    """Without a common position store, only the stream detects the second tail."""
    source = f"fenced-{mysql.name}"
    config, options = config_of(mysql.server, source), options_of(source, mysql.name)
    writers = Writers(mysql, seed=2)
    tails = [
        TailThread(config, [stream_sink(nats_server.url)], MemoryPositionStore(), options, owner=f"tail {n}")
        for n in range(2)
    ]
    with writers.running(), tails[0], tails[1]:
        wait_until(lambda: any(tail.has_ended for tail in tails), 40, "one of the two to stop")
        loser = next(tail for tail in tails if tail.has_ended)
        winner = next(tail for tail in tails if tail is not loser)
        error = loser.end()
        before = winner.progress.changes
        winner.wait_stored(before + 60)
        writers.stop()
        winner.catch_up()
    assert isinstance(error, FencedError)
    assert "another writer has written to stream" in str(error)
    assert f"stop one of the two tails of source {source}" in str(error)
    assert_exact((config, mysql.name), nats_server.url, source)


def test_a_released_lease_is_free_for_its_owner_and_for_others(mysql: FreshDatabase, nats_server: NATSServer) -> None:
    source, store = f"free-{mysql.name}", MemoryPositionStore()
    config, options = config_of(mysql.server, source), options_of(source, mysql.name)
    for name in ("alice", "alice", "bob"):
        with TailThread(config, [stream_sink(nats_server.url)], store, options, owner=name) as tail:
            tail.catch_up()
        lease = store.leases.load(source)
        assert lease is not None
        assert (lease.owner, lease.released) == (name, True)
