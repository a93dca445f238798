"""Rows of snapshots in replays, verifications and loads, on MySQL and MariaDB, also on an idle server."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from binlogsync.change import Change
from binlogsync.codec.subjects import stream_name
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.ranges import ReplayPlan
from binlogsync.replay.rewind import RewindRequest, rewind
from binlogsync.replay.run import ReplayTask, replay_ranges
from binlogsync.replay.sources import ChangeSources
from binlogsync.replay.targets import ReplayTarget
from binlogsync.replay.to_parquet import ParquetTarget, read_parquet
from binlogsync.replay.to_stream import SubjectTarget
from binlogsync.replay.to_tables import TableTarget
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.targets.duckdb.store import DuckStore
from tests.databases import MARIADB_TOO, FreshDatabase, fresh_database
from tests.duck import mirror_rows
from tests.e2e.oracle import table_rows
from tests.e2e.snapshot_oracle import CheckedTable
from tests.e2e.snapshot_scenario import Snapshots, use_small_slices
from tests.e2e.tailing import drain
from tests.e2e.test_backfill_targets import FailingTarget, InjectedError
from tests.nats_commands import delete_stream

pytestmark = [pytest.mark.server, pytest.mark.slow]
QUICK = ConsumeOptions(idle_s=0.3, gather_s=0.05)
ROWS = 90


@dataclass(frozen=True)
class Row:
    """The model of the table."""

    id: int
    v: str | None


class ReplayedStream:
    """A stream with the rows of three snapshots of the table `t`, among changes, and at its end on an idle server."""

    def __init__(self, database: FreshDatabase, url: str) -> None:
        self.database, self.url = database, url
        database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
        database.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, 'v{n}')" for n in range(ROWS)))
        self.snapshots = Snapshots(database, url, [CheckedTable("t", ("id",), ("v",))])
        self.source = self.snapshots.config.source
        with self.snapshots.tail() as tail:
            for number in range(2):
                database.execute(f"UPDATE t SET v = 'u{number}' WHERE id % 7 = {number}")
                assert self.snapshots.wait(self.snapshots.request("t"), tail).state == "done"
                database.execute(f"DELETE FROM t WHERE id % 11 = {number}")
                self.snapshots.catch_up(tail)
            assert self.snapshots.wait(self.snapshots.request("t"), tail).state == "done"

    def ids(self, source: str) -> list[str]:
        """The ids of all changes of the table in the stream of that source."""
        with StreamReader(NatsOptions(url=self.url), source) as reader:
            found, sequence = list[str](), reader.first_sequence()
            while items := reader.changes_from(self.database.name, "t", sequence):
                sequence = items[-1].last_sequence + 1
                found += [str(each) for item in items for each in item.batch.ids().to_pylist()]
        return found

    def rows(self) -> list[tuple[object, ...]]:
        return table_rows(self.database.server, self.database.name, "t")

    def replay(self, make: Callable[[], ReplayTarget], deaths: Sequence[int] = (2, 1, 3)) -> int:
        """Replay the whole table in small batches, in as many attempts as necessary; returns the number of changes."""
        with StreamReader(NatsOptions(url=self.url), self.source) as reader:
            stream = StreamRangeReader(reader, self.database.name, "t")
            sources = ChangeSources(self.source, self.snapshots.config, stream, self.snapshots.store)
            span = sources.resolve_range(f"seq:{stream.bounds()[0]}", "head")
            for number, at in enumerate((*deaths, 10**9)):
                target = make()
                plan = ReplayPlan(self.source, self.database.name, "t", "everything", (span,), f"try {number}")
                try:
                    task = ReplayTask(sources, plan, FailingTarget(target, at), "stream", 40)
                    return replay_ranges(task, threading.Event()).changes
                except InjectedError:
                    assert at < 10**9
                finally:
                    target.close()
        raise AssertionError("unreachable")


@pytest.fixture(scope="module", params=["mysql", MARIADB_TOO])
def filled(request: pytest.FixtureRequest, nats_server: NATSServer) -> Iterator[ReplayedStream]:
    """One stream for all tests: none depends on what another one adds to it."""
    server = request.getfixturevalue(f"{request.param}_server")
    with pytest.MonkeyPatch.context() as patch, fresh_database(server) as database:
        use_small_slices(patch)
        made = ReplayedStream(database, nats_server.url)
        yield made
    delete_stream(nats_server.url, stream_name(made.source))


def test_a_replay_delivers_them_once_through_failures(filled: ReplayedStream, tmp_path: Path) -> None:
    ids = filled.ids(filled.source)
    assert len(set(ids)) == len(ids)
    assert sum(each.startswith("snapshot:") for each in ids) > 2 * ROWS
    assert filled.replay(lambda: ParquetTarget(tmp_path / "t")) == len(ids)
    assert [str(each) for batch in read_parquet(tmp_path / "t") for each in batch.ids().to_pylist()] == ids
    path, name = tmp_path / "replays.duckdb", filled.database.name
    filled.replay(lambda: TableTarget(path, name, "t"))
    assert mirror_rows(path, f"replay_{name}", "t") == filled.rows()
    replay = f"replay-{secrets.token_hex(4)}"
    filled.replay(lambda: SubjectTarget(JetStreamOptions(url=filled.url), replay))
    assert filled.ids(replay) == ids
    delete_stream(filled.url, stream_name(replay))


def test_a_consumer_is_rewound_to_a_row(filled: ReplayedStream, tmp_path: Path) -> None:
    ids, handled, table = filled.ids(filled.source), list[str](), (filled.database.name, "t")

    def handle(change: Change[Row]) -> None:
        handled.append(change.id)

    target = Handler(Row, handle, tmp_path / "progress.duckdb")
    with StreamReader(NatsOptions(url=filled.url), filled.source) as reader:
        drain(reader, table, target, QUICK)
        assert handled == ids
        sequence, found = reader.last_sequence() + 1, 0
        while found < 21:  # messages between the rows may be checkpoints alone
            sequence -= 1
            found += reader.change_at(sequence) is not None
        sources = ChangeSources(
            filled.source, filled.snapshots.config, StreamRangeReader(reader, *table), filled.snapshots.store
        )
        key = ProgressKey(QUICK.client_id, filled.source, *table)
        rewind(sources, target.store, RewindRequest(key=key, to=f"seq:{sequence}", reason="", who="test"))
        drain(reader, table, target, QUICK)
    assert handled[len(ids) :] == ids[-21:]


def test_mirrors_of_both_kinds_are_equal_and_verified(filled: ReplayedStream, tmp_path: Path) -> None:
    name, config = filled.database.name, filled.snapshots.config
    paths = {"stream": tmp_path / "stream.duckdb", "loaded": tmp_path / "loaded.duckdb"}
    with StreamReader(NatsOptions(url=filled.url), filled.source) as reader:
        for kind, path in paths.items():
            target = Mirror(path, name, "t", config if kind == "loaded" else None)
            drain(reader, (name, "t"), target, ConsumeOptions(client_id=kind, idle_s=0.3, gather_s=0.05))
            assert mirror_rows(path, name, "t") == filled.rows(), kind
    with filled.snapshots.tail() as tail, StreamReader(NatsOptions(url=filled.url), filled.source) as reader:
        stop = threading.Event()

        def follow() -> None:
            with StreamReader(NatsOptions(url=filled.url), filled.source) as own:
                while not stop.is_set():
                    for kind, path in paths.items():
                        target = Mirror(path, name, "t", config if kind == "loaded" else None)
                        options = ConsumeOptions(client_id=kind, idle_s=0.1, gather_s=0.05)
                        drain(own, (name, "t"), target, options)

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            filled.snapshots.wait(filled.snapshots.request("t"), tail)
            filled.database.execute("UPDATE t SET v = 'last' WHERE id < 20")
            for kind, path in paths.items():
                options = VerifyOptions(timeout_s=120.0, client_id=kind)
                found = Verifier(reader, config, DuckStore(path, error=ConsumeError), options).verify(name, "t")
                assert found.is_equal, (kind, found)
        finally:
            stop.set()
            thread.join()
    assert [len(mirror_rows(path, name, "t")) for path in paths.values()] == [len(filled.rows())] * 2
