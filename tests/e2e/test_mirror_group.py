"""Mirrors that change together: a reader of the file never sees a part of a transaction."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path

import pyarrow
import pytest

from binlogsync.consume.engine import ConsumeOptions, consume_together
from binlogsync.consume.handler import Handler
from binlogsync.consume.pool import ConsumerTask, WorkerPool, WorkerPoolOptions
from binlogsync.consume.targets import Target
from binlogsync.errors import ConfigError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.file import META_SCHEMA, DuckFile
from tests.databases import FreshDatabase
from tests.duck import mirror_rows, query
from tests.e2e.oracle import table_rows
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.waiting import wait_until

ACCOUNTS, TOTAL = 20, 2000


def transfer_all(mysql: FreshDatabase, watcher: SumWatcher) -> None:
    """Transfer until the watcher has read the sum a few times."""
    for number in count():
        if number >= 30 and (len(watcher.sums) > 5 or not watcher.is_alive()):
            return
        transfer(mysql, number)


def transfer(mysql: FreshDatabase, number: int) -> None:
    """Money moves from a table to another; their sum is the same after every transaction."""
    mysql.execute("BEGIN")
    mysql.execute(f"UPDATE giro SET amount = amount - {number} WHERE id = {number % ACCOUNTS}")
    if number % 7 == 0:
        for _ in range(30):  # more than a flush, and more than a round of the group
            mysql.execute("UPDATE giro SET amount = amount - 1")
            mysql.execute("UPDATE savings SET amount = amount + 1")
    mysql.execute(f"UPDATE savings SET amount = amount + {number} WHERE id = {number % ACCOUNTS}")
    mysql.execute("COMMIT")


class SumWatcher(threading.Thread):
    """Reads the sum from the file whenever it is not locked."""

    def __init__(self, path: Path, database: str) -> None:
        super().__init__(daemon=True)
        self.path, self.database = path, database
        self.sums: list[int | None] = []
        self.stop = threading.Event()

    def run(self) -> None:
        tables = " UNION ALL ".join(f'SELECT amount FROM "{self.database}".{name}' for name in ("giro", "savings"))
        while not self.stop.wait(0.03):
            with DuckFile(self.path).transaction() as connection:
                self.sums.append(connection.execute(f"SELECT sum(amount)::INT FROM ({tables})").fetchall()[0][0])


# test_snapshot_consumers.py has a group that reads Arrow messages.
@pytest.mark.parametrize(
    "stream", [{}, pytest.param({"format": "arrow"}, marks=pytest.mark.exhaustive)], ids=["json", "arrow"]
)
def test_no_part_of_a_transaction_is_visible(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path, stream: dict[str, str]
) -> None:
    config, path = config_of(mysql.server, f"group-{mysql.name}"), tmp_path / "mirrors.duckdb"
    for name in ("giro", "savings"):
        mysql.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, amount INT)")
    mysql.execute("BEGIN")
    for name in ("giro", "savings"):
        mysql.execute(f"INSERT INTO {name} VALUES " + ", ".join(f"({n}, {TOTAL // 40})" for n in range(ACCOUNTS)))
    mysql.execute("COMMIT")
    tail_options = options_of(config.source, mysql.name, flush_rows=50, flush_interval_s=0.05)
    options = ConsumeOptions(idle_s=0.3, max_changes=60)
    sink, stop = stream_sink(nats_server.url, **stream), threading.Event()
    with TailThread(config, [sink], MemoryPositionStore(), tail_options) as tail:
        tail.catch_up()
        with StreamReader(NatsOptions(url=nats_server.url), config.source) as reader:
            mirrors = {(mysql.name, name): Mirror(path, mysql.name, name, config) for name in ("giro", "savings")}
            consume_together(reader, mirrors, options, threading.Event())
            watcher = SumWatcher(path, mysql.name)
            watcher.start()
            writer = threading.Thread(target=transfer_all, args=(mysql, watcher))
            writer.start()
            while writer.is_alive():
                consume_together(reader, mirrors, options, threading.Event())
            tail.catch_up()
            mysql.execute("ALTER TABLE savings ADD COLUMN note VARCHAR(9) DEFAULT 'n', RENAME COLUMN id TO nr")
            mysql.execute("INSERT INTO savings VALUES (100, 0, 'x')")
            tail.catch_up()
        one, two = (ConsumerTask(table, mirror, options) for table, mirror in mirrors.items())
        done: Counter[tuple[str, str]] = Counter()

        def open_reader() -> StreamReader:
            return StreamReader(NatsOptions(url=nats_server.url), config.source)

        works = [replace(one, together=(two,))]
        crew_options = WorkerPoolOptions(first_round_s=2.0, round_s=2.0)
        with open_reader() as reader, WorkerPool(works, open_reader, crew_options, stop) as crew:

            def is_drained() -> bool:
                """Whether all changes were applied; a round may end before."""
                for report in crew.reports(0.5):
                    assert report.done is not None, report.error
                    done[report.table] += report.done.changes
                counts = reader.pending_counts()
                return len(done) == 2 and not any(counts.get(name, 1) for task in works for name in task.durables)

            wait_until(is_drained, 60.0, "all changes to be applied")
        watcher.stop.set()
        watcher.join()
    assert set(watcher.sums) == {TOTAL}
    assert len(watcher.sums) > 5
    assert done[mysql.name, "savings"] >= 1
    for name in ("giro", "savings"):
        assert mirror_rows(path, mysql.name, name) == table_rows(mysql.server, mysql.name, name)
    assert query(path, f"SELECT count(*) FROM {META_SCHEMA}.progress") == [(2,)]


def test_mirrors_that_change_together_are_in_one_file(tmp_path: Path) -> None:
    first = Mirror(tmp_path / "a", "d", "t")
    for other in (Mirror(tmp_path / "b", "d", "u"), Mirror(tmp_path / "a", "d", "t")):
        with pytest.raises(ConfigError, match="one file"):
            first.join([other])


def test_only_mirrors_change_together(tmp_path: Path) -> None:
    def take_batch(batch: pyarrow.RecordBatch) -> None:
        """A handler of record batches."""

    mirror: Target = Mirror(tmp_path / "a", "d", "t")
    handler: Target = Handler[object](None, take_batch, tmp_path / "a")
    for one, other in ((mirror, handler), (handler, mirror)):
        with pytest.raises(ConfigError, match="only mirrors"):
            one.join([other])
