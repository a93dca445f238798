"""Loads mirrors while no client writes, and under writers: seconds, rows/s, and the longest wait of a writer.

    python -m bench.loading [ROWS]

Prints the time to load one table of ROWS rows (300,000) and 22 small tables at once, each of `binlogsync mirror`'s
threads, and the longest statement of writers before and during a load of the large table.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binlogsync import servers
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.pool import ConsumerTask, WorkerPool, WorkerPoolOptions
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.run import Tail, TailOptions
from binlogsync.targets.duckdb.file import DuckFile

_SMALL = [f"lookup{n}" for n in range(22)]
_WRITERS = 4
_WAIT_S = 300.0


def main(rows: int) -> None:
    """Run all, and print a line for each."""
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.mysql() as mysql,
        servers.nats() as nats,
    ):
        config = MySQLConfig(mysql.host, mysql.port, mysql.cdc_user, mysql.cdc_password, source="loading")
        fill(mysql, rows)
        with tailing(config, nats.url):
            loader = Loader(config, nats.url, Path(folder))
            print(f"22 small tables: {loader.load(_SMALL, 1):.1f} s")  # noqa: T201
            seconds = loader.load(["big"], 2)
            print(f"{rows:,} rows, no client writes: {seconds:.1f} s, {rows / seconds:,.0f} rows/s")  # noqa: T201
            with writing(mysql) as waits:
                time.sleep(5)
                before, waits[:] = max(waits), []
                seconds = loader.load(["big"], 3)
                text = f"{seconds:.1f} s; longest wait of a writer {max(waits):.3f} s, before the load {before:.3f} s"
                print(f"{rows:,} rows, {_WRITERS} writers: {text}")  # noqa: T201


def fill(mysql: servers.MySQLServer, rows: int) -> None:
    """Create the tables."""
    with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE loading")
        cursor.execute("USE loading")
        for name in _SMALL:
            cursor.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, v VARCHAR(20))")
            cursor.execute(f"INSERT INTO {name} VALUES (1, 'a'), (2, 'b')")
        cursor.execute("CREATE TABLE big (id INT PRIMARY KEY AUTO_INCREMENT, v INT, a VARCHAR(40), b DATETIME(6))")
        cursor.execute("SET SESSION cte_max_recursion_depth = 100000000")
        cursor.execute(
            "INSERT INTO big (v, a, b) WITH RECURSIVE n AS "
            f"(SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
            "SELECT i, concat('text ', i), now(6) FROM n"
        )
        cursor.execute("FLUSH BINARY LOGS")


@contextmanager
def tailing(config: MySQLConfig, url: str) -> Iterator[None]:
    """Tail from now on."""
    stop = threading.Event()
    sinks = [JetStreamSink(JetStreamOptions(url=url))]
    options = TailOptions(source=config.source, include=("loading.*",), start="now", flush_interval_s=0.5)
    tail = Tail(config, sinks, MemoryPositionStore(), options, owner="bench")
    thread = threading.Thread(target=tail.run, args=(stop, lambda progress: None), daemon=True)
    thread.start()
    time.sleep(5)
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


class Loader:
    """Loads mirrors by the threads of one pool."""

    def __init__(self, config: MySQLConfig, url: str, folder: Path) -> None:
        self._config, self._url, self._folder = config, url, folder

    def load(self, tables: list[str], number: int) -> float:
        """Seconds until all mirrors are there."""
        path, stop, begun = self._folder / f"{number}.duckdb", threading.Event(), time.monotonic()
        tasks = [
            ConsumerTask(
                ("loading", name),
                Mirror(path, "loading", name, self._config),
                ConsumeOptions(client_id=f"bench{number}"),
            )
            for name in tables
        ]
        options = WorkerPoolOptions(first_round_s=1.0, round_s=1.0)
        with WorkerPool(tasks, lambda: StreamReader(NatsOptions(url=self._url), "loading"), options, stop) as pool:
            while time.monotonic() < begun + _WAIT_S and count_tables(path, tables) < len(tables):
                for report in pool.reports(0.1):
                    if report.error is not None:
                        print(report.error)  # noqa: T201
        return time.monotonic() - begun


def count_tables(path: Path, tables: list[str]) -> int:
    """Number of these tables that exist in the file."""
    if not path.exists():
        return 0
    with DuckFile(path).transaction() as connection:
        found = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'loading'").fetchall()
    return len({name for (name,) in found} & set(tables))


@contextmanager
def writing(mysql: servers.MySQLServer) -> Iterator[list[float]]:
    """Write to the large table; yields the seconds of each statement."""
    stop, waits = threading.Event(), list[float]()

    def write(number: int) -> None:
        with mysql.connect(autocommit=True, database="loading") as connection:
            while not stop.wait(0.002):
                begun = time.monotonic()
                connection.query(f"UPDATE big SET v = v + 1 WHERE id BETWEEN {number * 100} AND {number * 100 + 3}")
                waits.append(time.monotonic() - begun)
                number = (number * 7 + 13) % 2000

    threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(_WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield waits
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
