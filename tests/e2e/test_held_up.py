"""A handler that fails on one row of one of three tables, under load, while its process is killed three times.

Nothing later of that table is handled before the row, the other tables are as quick as they were before it came, and
once the handler is mended all three are complete, each change once and in order.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from binlogsync import Change, Consumer, Retry
from binlogsync.embedded import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.duck import query
from tests.samples import SampleOptions, SampleSource, small_schema
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
TABLES = ("bad", "one", "two")
SETTLED_S = 1.5
"""A process that has begun to handle changes is given so long to catch up before its speed counts."""


@dataclass
class Row:
    id: int


@dataclass
class Load:
    """Writes a flush each tenth of a second, and remembers when each change was stored in the stream."""

    url: str
    source: str
    stop: threading.Event = field(default_factory=threading.Event)
    written: dict[str, list[tuple[str, float]]] = field(default_factory=lambda: {table: [] for table in TABLES})

    def run(self) -> None:
        made = SampleSource(SampleOptions(source=self.source, tables=tuple(small_schema(table) for table in TABLES)))
        sink = JetStreamSink(JetStreamOptions(url=self.url))
        sink.open(self.source)
        while not self.stop.wait(0.1):
            flush = made.flush(6)
            sink.write(flush)
            now = time.time()
            for batch in flush.batches:
                self.written[batch.schema.table] += [(str(change_id), now) for change_id in batch.ids().to_pylist()]
        sink.close()

    def ids(self, table: str) -> list[str]:
        return [change_id for change_id, _ in self.written[table]]


def main(url: str, source: str, folder: str) -> None:
    """The process that is killed: a client of three tables, with the handler that fails where the file `bad` says."""
    consumer = Consumer(
        "client1", url=url, source=source, progress=Path(folder, "done.duckdb"), retry=Retry(tries=3, first_wait_s=0.1)
    )

    def handler(table: str) -> None:
        @consumer.register(Row, table=f"shop.{table}")
        def on_row(change: Change[Row], connection: duckdb.DuckDBPyConnection) -> None:
            with Path(folder, f"{table}.log").open("a", encoding="utf-8") as log:
                log.write(f"{change.id}\n")
            if table == "bad" and Path(folder, "bad").read_text(encoding="utf-8") == change.id:
                raise RuntimeError("not today")
            connection.execute("INSERT INTO done VALUES (?, ?, ?)", [table, change.id, time.time()])

    for table in TABLES:
        handler(table)
    consumer.run()


@dataclass
class World:
    load: Load
    folder: Path
    up: list[tuple[float, float]] = field(default_factory=list)
    """When a process was at work, from when it had settled until it was killed or stopped."""

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-c", "import sys; from tests.e2e.test_held_up import main; main(*sys.argv[1:])"]
        handled = self.handled("one")
        with subprocess.Popen(
            [*command, self.load.url, self.load.source, str(self.folder)], cwd=ROOT, stderr=subprocess.DEVNULL
        ) as process:
            try:
                wait_until(lambda: self.handled("one") > handled, 60, "the process to handle a change")
                begun = time.time() + SETTLED_S
                yield process
                self.up.append((begun, time.time()))
            finally:
                process.kill()

    def handled(self, table: str) -> int:
        """Calls of its handler so far."""
        path = self.folder / f"{table}.log"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def calls(self, table: str) -> list[str]:
        return (self.folder / f"{table}.log").read_text().split()

    def done(self, table: str) -> list[tuple[str, float]]:
        """(change id, when) in the order in which they were handled."""
        sql = f"SELECT id, handled_at FROM done WHERE name = '{table}' ORDER BY rowid"
        return [(row[0], row[1]) for row in query(self.folder / "done.duckdb", sql)]

    def is_complete(self) -> bool:
        """The last change of each table was handled."""
        return all(self.calls(table)[-1] == self.load.ids(table)[-1] for table in TABLES)

    def delays(self, up: tuple[float, float]) -> list[float]:
        """Seconds from the stream to the handler, of the changes of the other tables written in that time."""
        done = {table: dict(self.done(table)) for table in TABLES[1:]}
        return [
            done[table].get(change_id, up[1]) - at
            for table in TABLES[1:]
            for change_id, at in self.load.written[table]
            if up[0] <= at <= up[1] - 1.0
        ]


@pytest.fixture
def world(nats_server: NATSServer, tmp_path: Path) -> Iterator[World]:
    load = Load(nats_server.url, "heldup")
    (tmp_path / "bad").write_text("none yet")
    with duckdb.connect(str(tmp_path / "done.duckdb")) as connection:
        connection.execute("CREATE TABLE done (name VARCHAR, id VARCHAR, handled_at DOUBLE)")
    writer = threading.Thread(target=load.run)
    writer.start()
    yield World(load, tmp_path)
    load.stop.set()
    writer.join(60)


@pytest.mark.slow
def test_a_row_that_fails_holds_its_own_table_only(world: World) -> None:
    with world.process():
        time.sleep(SETTLED_S + 3.0)
    written = len(world.load.ids("bad"))
    wait_until(lambda: len(world.load.ids("bad")) > written, 30, "a row that nobody has handled")
    bad = world.load.ids("bad")[written]
    (world.folder / "bad").write_text(bad)
    for _ in range(3):
        with world.process():
            wait_until(lambda: world.calls("bad")[-2:] == [bad, bad], 30, "the row to be tried again")
            time.sleep(SETTLED_S + 2.5)
    world.load.stop.set()

    assert [change_id for change_id, _ in world.done("bad")] == world.load.ids("bad")[:written]
    # Those before it may be called again, in transactions that were undone; one behind it never.
    assert set(world.calls("bad")) == set(world.load.ids("bad")[: written + 1])
    quiet, *held_up = (sorted(world.delays(up)) for up in world.up)
    report = [(len(d), round(statistics.median(d), 3), round(d[len(d) * 95 // 100], 3)) for d in (quiet, *held_up)]
    print(f"changes, median and 95th percentile of seconds, without and with a table held up: {report}")  # noqa: T201
    for delays in held_up:
        assert len(delays) > 20
        assert statistics.median(delays) < statistics.median(quiet) + 1.0
        assert delays[len(delays) * 95 // 100] < quiet[len(quiet) * 95 // 100] + 1.0

    (world.folder / "bad").write_text("none any more")
    with world.process() as process:
        wait_until(world.is_complete, 60, "all three tables to be complete")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    for table in TABLES:
        assert [change_id for change_id, _ in world.done(table)] == world.load.ids(table)
