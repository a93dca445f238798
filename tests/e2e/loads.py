"""Loads of mirrors beside a tail and writers; also a process that loads one: `python -m tests.e2e.loads '{...}'`."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql

from binlogsync.codec.subjects import durable_name
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.mirror.apply import DEFAULT_OPTIONS
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import MySQLConfig, inspect_server, resolve_start
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.position_order import compare
from binlogsync.servers import MariaDBServer
from binlogsync.snapshot import chunks
from binlogsync.snapshot.throttle import LoadLimits
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.file import META_SCHEMA, DuckFile
from binlogsync.targets.mirror_state import MirrorOptions
from tests.databases import FreshDatabase
from tests.e2e.held_loads import held_loads
from tests.e2e.mirrored_tables import mirror_table_rows, server_rows
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.waiting import paced, wait_until

ROWS = 600
OPTIONS = ConsumeOptions(client_id="loads", idle_s=0.3, gather_s=0.05)


def use_small_chunks(rows: int = 50) -> None:
    """Read every table with a key in chunks of so many rows."""
    chunks.SMALL_ROWS, chunks.CHUNK_ROWS, chunks._FIRST_ROWS = -1, rows, rows  # noqa: SLF001 - for small tables


def create_table(database: FreshDatabase) -> None:
    """The table `t` with ROWS rows."""
    database.execute("CREATE TABLE t (a INT, b VARCHAR(20), v INT, note TEXT, PRIMARY KEY (a, b))")
    rows = ", ".join(f"({n}, 'k{n % 7}', {n}, 'old')" for n in range(ROWS))
    database.execute(f"INSERT INTO t VALUES {rows}")


class Loads:
    """A running tail, and mirrors in one file."""

    def __init__(self, database: FreshDatabase, nats_url: str, config: MySQLConfig, path: Path):
        self.database, self.nats_url, self.config, self.path = database, nats_url, config, path
        self.tail: TailThread

    def restart_tail(self, **options: Any) -> None:
        """Start a tail; a former one has ended."""
        tail_options = options_of(self.config.source, self.database.name, **options)
        self.tail = TailThread(self.config, [stream_sink(self.nats_url)], MemoryPositionStore(), tail_options)
        self.tail.__enter__()
        self.tail.wait_begun()

    def mirror(self, table: str, options: MirrorOptions = DEFAULT_OPTIONS, **limits: Any) -> Mirror:
        """A new mirror of the table."""
        return Mirror(self.path, self.database.name, table, self.config, options, LoadLimits(**limits))

    def consume(self, mirror: Mirror, stop: threading.Event | None = None, max_s: float | None = None) -> None:
        """One run of its consumer."""
        with StreamReader(NatsOptions(url=self.nats_url), self.config.source) as reader:
            consume(reader, mirror.names, mirror, replace(OPTIONS, max_s=max_s), stop or threading.Event())

    def consume_until(self, is_done: Callable[[], bool], mirror: Mirror, stop: threading.Event | None = None) -> None:
        """Consecutive runs of its consumer, each of limited time: writers may never pause."""
        max_s = 3.0
        while not is_done():
            self.consume(mirror, stop, max_s)
            max_s += 3.0  # on a busy machine nothing may be done in a short run

    def catch_up(self) -> None:
        """Wait until the stream has everything that the server has logged."""
        if inspect_server(self.config).gtids:
            self.tail.catch_up()
            return
        end = inspect_server(self.config).end()

        def is_stored() -> bool:
            at = self.tail.progress.checkpoint
            return at is not None and compare(at.position, end).is_at_or_after

        wait_until(is_stored, 40.0, f"{end} to be stored")

    def drain(self, mirror: Mirror) -> None:
        """Consume until the mirror has applied everything that the server has logged."""
        self.catch_up()
        with StreamReader(NatsOptions(url=self.nats_url), self.config.source) as reader:
            while True:
                consume(reader, mirror.names, mirror, OPTIONS, threading.Event())
                if reader.has_all(durable_name(OPTIONS.client_id, *mirror.names)):
                    return

    def arguments(self, table: str) -> str:
        """For the process of this module."""
        config = self.config
        server = {"host": config.host, "port": config.port, "user": config.user, "password": config.password}
        return json.dumps(
            {
                "server": {**server, "source": config.source},
                "nats": self.nats_url,
                "path": str(self.path),
                "table": [self.database.name, table],
            }
        )

    def server_rows(self, table: str, *, mariadb: bool = False) -> list[str] | None:
        """Column names and sorted rows on the server."""
        with self.database.server.connect(autocommit=True) as connection:
            return server_rows(connection, (self.database.name, table), mariadb=mariadb)


def rows_read(scenario: Loads) -> int:
    """Number of rows that the interrupted load has stored."""
    with DuckFile(scenario.path).transaction() as connection:
        tables = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'loads'").fetchone()
        if tables == (0,):
            return 0
        return sum(
            count
            for (count,) in connection.execute(f"SELECT coalesce(row_count, 0) FROM {META_SCHEMA}.loads").fetchall()
        )


def check_equal(scenario: Loads, table: str = "t", options: MirrorOptions = DEFAULT_OPTIONS) -> None:
    """Bring a mirror up to date and compare it with the table."""
    scenario.drain(scenario.mirror(table, options))
    wanted = scenario.server_rows(table, mariadb=isinstance(scenario.database.server, MariaDBServer))
    assert mirror_table_rows(scenario.path, (scenario.database.name, table)) == wanted


@contextmanager
def loads(database: FreshDatabase, nats_url: str, folder: Path) -> Iterator[Loads]:
    """Tail the database from its current position."""
    config = config_of(database.server, f"loads-{database.name}")
    running = Loads(database, nats_url, config, folder / "mirrors.duckdb")
    running.restart_tail(start=str(resolve_start(config, "now").position))
    try:
        yield running
    finally:
        running.tail.__exit__(None, None, None)


@contextmanager
def table_loads(database: FreshDatabase, nats_url: str, folder: Path) -> Iterator[Loads]:
    """Create the table `t`, and tail until the stream has a checkpoint after it."""
    create_table(database)
    with loads(database, nats_url, folder) as running:
        database.execute("CREATE TABLE other (id INT PRIMARY KEY)")
        running.catch_up()
        yield running


class TableWriters:
    """Threads that write to the table `t (a INT, b VARCHAR, v INT, note TEXT, PRIMARY KEY (a, b))` until the end.

    `pause_s` is the longest pause of one between two transactions on a quiet machine.
    """

    def __init__(self, database: FreshDatabase, seed: int, threads: int = 3, pause_s: float = 0.01) -> None:
        self._database = database
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(seed + n), n), daemon=True) for n in range(threads)
        ]

    def __enter__(self) -> TableWriters:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(240)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self._failures, self._failures

    def _work(self, chance: random.Random, number: int) -> None:
        try:
            while not self._stop.is_set():
                # An error ends the connection, and with it a transaction of any state.
                with self._connect() as connection:
                    self._write(connection, chance, number)
        except BaseException as error:  # noqa: BLE001 - the test reports it
            self._failures.append(error)

    def _connect(self) -> pymysql.Connection[Any]:
        return self._database.server.connect(database=self._database.name, autocommit=False, ssl_disabled=True)

    def _write(self, connection: pymysql.Connection[Any], chance: random.Random, number: int) -> None:
        for _ in paced(self._stop, chance, self._pause_s):
            try:
                self._transaction(connection, chance, number)
            except pymysql.MySQLError as error:
                # duplicate key, lock wait timeout, deadlock (of XA too), changed definition, other columns, no table
                if error.args[0] not in (1062, 1205, 1213, 1412, 1613, 1614, 1136, 1146):
                    raise
                return

    def _transaction(self, connection: pymysql.Connection[Any], chance: random.Random, number: int) -> None:
        is_xa = chance.random() < 0.1
        with connection.cursor() as cursor:
            if is_xa:
                connection.commit()
                xid = f"'{self._database.name}-{number}'"
                cursor.execute(f"XA START {xid}")
            for _ in range(chance.choice((1, 1, 2, 5))):
                cursor.execute(*_statement(chance))
            if is_xa:
                cursor.execute(f"XA END {xid}")
                cursor.execute(f"XA PREPARE {xid}")
                cursor.execute(f"XA {chance.choice(('COMMIT', 'COMMIT', 'ROLLBACK'))} {xid}")
            else:
                (connection.rollback if chance.random() < 0.1 else connection.commit)()


def _statement(chance: random.Random) -> tuple[str, Sequence[Any]]:
    a, b = chance.randrange(400), f"k{chance.randrange(5)}"
    return chance.choice(
        (
            ("INSERT INTO t VALUES (%s, %s, %s, 'new') ON DUPLICATE KEY UPDATE v = v + 1000", (a, b, a)),
            ("UPDATE t SET v = v + 1 WHERE a = %s", (a,)),
            ("UPDATE t SET a = a + %s WHERE a = %s", (chance.choice((-150, -1, 1, 150)), a)),
            ("UPDATE t SET b = concat(b, 'x') WHERE a = %s AND length(b) < 12", (a,)),
            ("DELETE FROM t WHERE a = %s", (a,)),
            ("REPLACE INTO t VALUES (%s, %s, 0, 'replaced')", (a, b)),
        )
    )


def main(text: str) -> None:
    """Load one more chunk of the mirror, and wait to be killed."""
    use_small_chunks()
    arguments = json.loads(text)
    config = MySQLConfig(**arguments["server"], heartbeat_s=1.0)
    database, table = arguments["table"]
    mirror = Mirror(arguments["path"], database, table, config)
    with held_loads(), StreamReader(NatsOptions(url=arguments["nats"]), config.source) as reader:
        consume(reader, mirror.names, mirror, OPTIONS, threading.Event())


if __name__ == "__main__":
    main(sys.argv[1])
