"""A handler that fails on one row of one of three tables, under load, while its process is killed three times.

No later change of that table is handled before the row, and the other tables stay up to date. After the handler is
fixed, all three tables are complete: each change once, in order.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from binlogsync import Change, Consumer, Retry
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.duck import query
from tests.samples import SampleOptions, SampleSource, small_schema
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
TABLES = ("bad", "one", "two")


@dataclass
class BlockedTableRow:
    id: int


@dataclass
class FlushWriter:
    """Writes a flush every tenth of a second, and records the ids of the changes stored in the stream."""

    url: str
    source: str
    stop: threading.Event = field(default_factory=threading.Event)
    written: dict[str, list[str]] = field(default_factory=lambda: {table: [] for table in TABLES})

    def run(self) -> None:
        made = SampleSource(SampleOptions(source=self.source, tables=tuple(small_schema(table) for table in TABLES)))
        sink = JetStreamSink(JetStreamOptions(url=self.url))
        sink.open(self.source)
        while not self.stop.wait(0.1):
            flush = made.flush(6)
            sink.write(flush)
            for batch in flush.batches:
                self.written[batch.schema.table] += [str(change_id) for change_id in batch.ids().to_pylist()]
        sink.close()


def main(url: str, source: str, folder: str) -> None:
    """The process that is killed: a client of three tables, whose handler fails on the row in the file `bad`."""
    consumer = Consumer(
        "client1", url=url, source=source, progress=Path(folder, "done.duckdb"), retry=Retry(tries=3, first_wait_s=0.1)
    )

    def handler(table: str) -> None:
        @consumer.register(BlockedTableRow, table=f"shop.{table}")
        def on_row(change: Change[BlockedTableRow], connection: duckdb.DuckDBPyConnection) -> None:
            with Path(folder, f"{table}.log").open("a", encoding="utf-8") as log:
                log.write(f"{change.id}\n")
            if table == "bad" and Path(folder, "bad").read_text(encoding="utf-8") == change.id:
                raise RuntimeError("not today")
            connection.execute("INSERT INTO done VALUES (?, ?)", [table, change.id])

    for table in TABLES:
        handler(table)
    consumer.run()


@dataclass
class BlockedTableScenario:
    flush_writer: FlushWriter
    folder: Path
    writer: threading.Thread

    def stop_writing(self) -> None:
        """Stop; return when the last flush is stored and recorded."""
        self.flush_writer.stop.set()
        self.writer.join(120)
        assert not self.writer.is_alive()

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """The consuming process, killed at the end of the block if it is still running."""
        command = [
            sys.executable,
            "-c",
            "import sys; from tests.e2e.test_blocked_table import main; main(*sys.argv[1:])",
        ]
        with subprocess.Popen(
            [*command, self.flush_writer.url, self.flush_writer.source, str(self.folder)],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def calls(self, table: str) -> list[str]:
        """The change ids that the table's handler was called with, in order."""
        path = self.folder / f"{table}.log"
        return path.read_text().split() if path.exists() else []

    def done(self, table: str) -> list[str]:
        """Ids of the changes whose transaction was committed, in order."""
        sql = f"SELECT id FROM done WHERE name = '{table}' ORDER BY rowid"
        return [row[0] for row in query(self.folder / "done.duckdb", sql)]

    def wait_until_called(self, table: str, change_id: str, earlier: int = 0) -> None:
        """Wait for a call after the first `earlier` ones."""
        what = f"the handler of {table} to be called with {change_id}"
        wait_until(lambda: change_id in self.calls(table)[earlier:], 120, what)

    def wait_for_tries(self, table: str, change_id: str, tries: int) -> None:
        wait_until(lambda: self.calls(table).count(change_id) >= tries, 120, f"{tries} tries of {change_id}")

    def wait_for_new_changes(self, table: str) -> str:
        """The id of the first change of the table that is stored in the stream after this call."""
        count = len(self.flush_writer.written[table])
        wait_until(lambda: len(self.flush_writer.written[table]) > count, 120, f"a new change of {table}")
        return self.flush_writer.written[table][count]


@pytest.fixture
def scenario(nats_server: NATSServer, tmp_path: Path) -> Iterator[BlockedTableScenario]:
    flush_writer = FlushWriter(nats_server.url, f"blocked_{secrets.token_hex(4)}")
    (tmp_path / "bad").write_text("none yet")
    with duckdb.connect(str(tmp_path / "done.duckdb")) as connection:
        connection.execute("CREATE TABLE done (name VARCHAR, id VARCHAR)")
    writer = threading.Thread(target=flush_writer.run)
    writer.start()
    scenario = BlockedTableScenario(flush_writer, tmp_path, writer)
    yield scenario
    scenario.stop_writing()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_row_that_fails_blocks_its_own_table_only(scenario: BlockedTableScenario) -> None:
    with scenario.process():
        for table in TABLES:
            scenario.wait_until_called(table, scenario.wait_for_new_changes(table))
    scenario.wait_for_new_changes("bad")  # the flush that was being stored when the process was killed
    bad = scenario.wait_for_new_changes("bad")
    (scenario.folder / "bad").write_text(bad)
    for _ in range(3):
        with scenario.process():
            scenario.wait_for_tries("bad", bad, scenario.calls("bad").count(bad) + 2)
            for table in TABLES[1:]:
                scenario.wait_until_called(table, scenario.wait_for_new_changes(table))
    scenario.stop_writing()

    written = scenario.flush_writer.written
    assert scenario.done("bad") == written["bad"][: written["bad"].index(bad)]
    # Changes before it may be handled again, in transactions that were rolled back; a later one never.
    assert set(scenario.calls("bad")) == set(written["bad"][: written["bad"].index(bad) + 1])

    (scenario.folder / "bad").write_text("not blocked")
    # A call in a process that was killed may have been rolled back: calls of the next process count.
    pending = {table: len(scenario.calls(table)) for table in TABLES if scenario.done(table) != written[table]}
    with scenario.process() as process:
        for table, earlier in pending.items():
            scenario.wait_until_called(table, written[table][-1], earlier)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    for table in TABLES:
        assert scenario.done(table) == written[table]
