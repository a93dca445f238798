"""Where a replay reads a range that was purged from the stream, from the binlogs, or from both, under load."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.errors import PositionError
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.run import ReplayResult, ReplayTask, replay_ranges
from binlogsync.replay.sources import ChangeSources
from binlogsync.replay.targets import MemoryTarget
from binlogsync.servers import NATSServer
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.databases import FreshDatabase, fresh_database
from tests.e2e.backfill_workload import TailedWorkload, rows_of
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink
from tests.nats_commands import purge_stream

pytestmark = [pytest.mark.server, pytest.mark.slow]


def fill(database: FreshDatabase, tail: TailThread, first: int, count: int = 40) -> None:
    """Commit transactions of two rows, and wait until they are stored."""
    for n in range(first, first + count):
        database.execute(f"INSERT INTO t VALUES ({2 * n}, 'x'), ({2 * n + 1}, 'y')")
    tail.catch_up()


def read(
    sources: ChangeSources, tailed: TailedWorkload, start: str, until: str = "head"
) -> tuple[ReplayResult, list[int]]:
    """Run a replay; returns its result and the ids of its rows."""
    target = MemoryTarget()
    plan = tailed.plan("t", sources.resolve_range(start, until))
    done = replay_ranges(ReplayTask(sources, plan, target), threading.Event())
    return done, [int((row[3] or "").partition('"id":')[2].partition(",")[0]) for row in rows_of(target.batches)]


def test_reads_the_stream_then_the_binlogs_then_fails_with_the_earliest_time(
    nats_server: NATSServer, position_store: SQLitePositionStore, tmp_path: Path
) -> None:
    with servers.mysql() as server, fresh_database(server) as database:
        source = f"gone-{database.name}"
        config, store = config_of(server, source), position_store
        tailed = TailedWorkload(config, database.name, nats_server, tmp_path / "none", tmp_path / "positions.db", store)
        database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9))")
        options = options_of(source, database.name, bookmark_s=0.01)
        stream = stream_sink(nats_server.url)
        with TailThread(config, [stream], store, options) as tail:
            fill(database, tail, 0)
            database.execute("FLUSH BINARY LOGS")
            fill(database, tail, 100)
            live = mirror(nats_server.url, source, tmp_path / "w.duckdb", (database.name, "t"))
            assert live.changes == 160
            with tailed.sources("t") as sources:
                for start, origin in (("seq:1", "stream"), ("oldest", "binlog")):
                    done, ids = read(sources, tailed, start)
                    assert (done.ranges[0].origin, len(ids)) == (origin, 160)

                rotation = next(each for each in store.bookmarks.load(source) if each.reason == "rotation")
                done, ids = read(sources, tailed, rotation.key)
                assert (done.ranges[0].origin, ids) == ("stream", list(range(200, 280)))
                purge_stream(nats_server.url, f"CDC_{source.upper()}", keep=30)
                done, ids = read(sources, tailed, rotation.key)
                assert (done.ranges[0].origin, ids) == ("binlog", list(range(200, 280)))

                # Rows are committed while the tail and the replay read.
                writing = threading.Thread(target=fill, args=(database, tail, 200, 100))
                writing.start()
                lengths = [len(read(sources, tailed, rotation.key)[1]) for _ in range(5)]
                writing.join()
                assert lengths == sorted(lengths)
                assert read(sources, tailed, rotation.key)[1] == [*range(200, 280), *range(400, 600)]
            again = mirror(nats_server.url, source, tmp_path / "w.duckdb", (database.name, "t"))
            assert again.changes == 200, "the live consumer resumes at its position"

            database.execute("FLUSH BINARY LOGS")
            fill(database, tail, 500, 3)
            database.execute("PURGE BINARY LOGS TO 'binlog.000003'")
            with tailed.sources("t") as sources:
                with pytest.raises(PositionError, match=r"is no longer available.*may have dropped.*table from 20"):
                    read(sources, tailed, rotation.key)
                with pytest.raises(PositionError, match=r"reach back to.*the stream has this table from 20"):
                    read(sources, tailed, "2020-01-01T00:00:00Z")
                held, beyond = sources.stream.bounds() if isinstance(sources.stream, StreamRangeReader) else (0, 0)
                done, ids = read(sources, tailed, f"seq:{held + 3}")
                assert done.ranges[0].origin == "stream"
                assert ids[-6:] == list(range(1000, 1006))
                assert len(ids) <= beyond - held
                # The stream begins before the binlogs, and its messages have times.
                first = sources.stream.oldest() if sources.stream else None
                assert first is not None
                late = read(sources, tailed, (first[1] + timedelta(microseconds=1)).isoformat())[1]
                assert late[-6:] == ids[-6:]
                assert len(late) >= len(ids) - 3


def test_an_accepted_gap_is_reported(
    nats_server: NATSServer, position_store: SQLitePositionStore, tmp_path: Path
) -> None:
    with servers.mysql() as server, fresh_database(server) as database:
        source = f"hole-{database.name}"
        config, store = config_of(server, source), position_store
        tailed = TailedWorkload(config, database.name, nats_server, tmp_path / "none", tmp_path / "positions.db", store)
        database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9))")
        options = options_of(source, database.name)
        with TailThread(config, [stream_sink(nats_server.url)], store, options) as tail:
            fill(database, tail, 0, 5)
        for n in range(10, 15):
            database.execute(f"INSERT INTO t VALUES ({n}, 'lost')")
        database.execute("FLUSH BINARY LOGS")
        database.execute("PURGE BINARY LOGS TO 'binlog.000002'")
        accepted = options_of(source, database.name, accept_gap="the disk was full")
        with TailThread(config, [stream_sink(nats_server.url)], store, accepted) as tail:
            fill(database, tail, 20, 5)
        with StreamReader(NatsOptions(url=nats_server.url), source) as reader:
            sources = ChangeSources(source, config, StreamRangeReader(reader, database.name, "t"), store)
            with pytest.raises(PositionError, match=r"the stream has an accepted gap.*the disk was full"):
                read(sources, tailed, "seq:1")
            plan = tailed.plan("t", sources.resolve_range("seq:1", "head"))
            over = replay_ranges(ReplayTask(sources, plan, MemoryTarget(), "stream"), threading.Event())
            assert over.changes == 20, "with the stream as the only origin, the replay delivers what it has"
            first = sources.resolve("seq:1")
            behind = read(sources, tailed, f"binlog.{first.position.file_number + 1:06d}:4")
            assert (behind[0].changes, behind[1]) == (10, list(range(40, 50)))
