"""Freshness of the stream under a mixed load: commit to stored, in all and as a plot of each second.

    python -m bench.mixed_load [SECONDS [CLIENTS]]

The load resembles TPC-C: nine tables with foreign keys, four kinds of transactions with several statements, and hot
rows (a few warehouses and districts that most transactions update). Clients commit as fast as the machine allows. The
tail runs with eager flushes, in its own process. Writes the plot `mixed_load.svg` in this folder.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import nats
import pymysql
from nats.js.api import AckPolicy, ConsumerConfig

from bench import line_plot
from binlogsync import servers
from binlogsync.codec import subjects
from binlogsync.mysql import TLS, MySQLConfig
from binlogsync.signals import stop_on_signals
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.run import Tail, TailOptions

_DATABASE, _SOURCE = "mixed", "mixed"
_WAREHOUSES, _DISTRICTS, _CUSTOMERS, _ITEMS = 2, 10, 300, 1000
_PLOT = Path(__file__).with_name("mixed_load.svg")
_WARM_UP_S = 2
_LOCK_ERRORS = (1205, 1213)
_SCHEMA = """
CREATE TABLE warehouse (w INT PRIMARY KEY, name VARCHAR(10), ytd DECIMAL(14,2) NOT NULL);
CREATE TABLE district (w INT, d INT, ytd DECIMAL(14,2) NOT NULL, next_o INT NOT NULL, PRIMARY KEY (w, d),
    FOREIGN KEY (w) REFERENCES warehouse (w));
CREATE TABLE customer (w INT, d INT, c INT, last VARCHAR(16), balance DECIMAL(12,2), payments INT, data VARCHAR(250),
    PRIMARY KEY (w, d, c), FOREIGN KEY (w, d) REFERENCES district (w, d));
CREATE TABLE history (id BIGINT PRIMARY KEY, w INT, d INT, c INT, at DATETIME(6), amount DECIMAL(8,2),
    FOREIGN KEY (w, d, c) REFERENCES customer (w, d, c));
CREATE TABLE item (i INT PRIMARY KEY, name VARCHAR(24), price DECIMAL(6,2));
CREATE TABLE stock (w INT, i INT, quantity INT, ytd INT, data VARCHAR(50), PRIMARY KEY (w, i),
    FOREIGN KEY (w) REFERENCES warehouse (w), FOREIGN KEY (i) REFERENCES item (i));
CREATE TABLE orders (id BIGINT PRIMARY KEY, w INT, d INT, c INT, entered DATETIME(6), carrier INT, line_count INT,
    FOREIGN KEY (w, d, c) REFERENCES customer (w, d, c));
CREATE TABLE new_order (id BIGINT PRIMARY KEY, FOREIGN KEY (id) REFERENCES orders (id));
CREATE TABLE order_line (id BIGINT, number INT, w INT, i INT, quantity INT, amount DECIMAL(8,2), info CHAR(24),
    PRIMARY KEY (id, number), FOREIGN KEY (id) REFERENCES orders (id), FOREIGN KEY (w, i) REFERENCES stock (w, i))
"""
_NUMBERS_SQL = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "


@dataclass(frozen=True, slots=True)
class StoredMark:
    """A transaction that inserted into `orders` or `history`: when its commit returned, and when it was stored."""

    committed: float
    stored: float


def main(seconds: float, clients: int) -> None:
    """Run the load, print the totals, and write the plot."""
    with (
        servers.mysql(options={"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}) as mysql,
        servers.nats() as server,
    ):
        _create(mysql)
        spawn = multiprocessing.get_context("spawn")
        config = MySQLConfig(mysql.host, mysql.port, mysql.user, mysql.password, tls=TLS("disabled"))
        ready, report = spawn.Event(), spawn.Queue()
        tail = spawn.Process(target=_tail, args=(config, server.url, ready, report), daemon=True)
        tail.start()
        if not ready.wait(60):
            raise SystemExit("the tail did not start")
        committed, transactions = _load(mysql, seconds, clients)
        marks = asyncio.run(_stored(server.url, committed))
        assert tail.pid is not None
        tail.terminate()
        changes = report.get(timeout=60)
        tail.join(60)
    _print(marks, transactions, changes, seconds)


def _create(mysql: servers.MySQLServer) -> None:
    with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {_DATABASE}")
        cursor.execute(f"USE {_DATABASE}")
        for statement in _SCHEMA.split(";"):
            cursor.execute(statement)
        cursor.execute("SET cte_max_recursion_depth = 100000")
        cross = "SELECT w.i AS w, d.i AS d FROM n w, n d WHERE w.i <= {w} AND d.i <= {d}"
        for count, table, select in (
            (_WAREHOUSES, "warehouse", "SELECT i, concat('w', i), 0 FROM n"),
            (_DISTRICTS, "district", f"SELECT w, d, 0, 1 FROM ({cross.format(w=_WAREHOUSES, d=_DISTRICTS)}) x"),
            (_CUSTOMERS, "customer", "SELECT d.w, d.d, n.i, concat('last', n.i), 0, 0, repeat('x', 200) "
             "FROM district d, n"),
            (_ITEMS, "item", "SELECT i, concat('item ', i), i / 7 FROM n"),
            (_ITEMS, "stock", "SELECT w.w, n.i, 100, 0, repeat('s', 40) FROM warehouse w, n"),
        ):  # fmt: skip
            cursor.execute(f"INSERT INTO {table} {_NUMBERS_SQL.format(count=count)}{select}")


def _load(mysql: servers.MySQLServer, seconds: float, clients: int) -> tuple[dict[int, float], int]:
    """Run all clients; (when the commit of each marked transaction returned, by id; number of transactions)."""
    committed: dict[int, float] = {}
    counts = [0] * clients
    ends_at = time.monotonic() + seconds

    def run(number: int) -> None:
        client = _Client(mysql, number)
        while time.monotonic() < ends_at:
            mark = client.transact()
            if mark is not None:
                committed[mark] = time.time()
            counts[number] += 1
        client.connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return committed, sum(counts)


class _Client:
    """One client of the load."""

    def __init__(self, mysql: servers.MySQLServer, number: int) -> None:
        self.connection = mysql.connect(database=_DATABASE, autocommit=False)
        self._random = random.Random(number)
        self._next_id = number * 10_000_000 + 1
        self._open: list[int] = []

    def transact(self) -> int | None:
        """One transaction, repeated after a deadlock; the id of its row in `orders` or `history`."""
        way = self._random.choices((self._new_order, self._pay, self._deliver), (45, 43, 12))[0]
        while True:
            try:
                with self.connection.cursor() as cursor:
                    mark = way(cursor)
                self.connection.commit()
                return mark
            except pymysql.err.OperationalError as error:
                if error.args[0] not in _LOCK_ERRORS:
                    raise
                self.connection.rollback()

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _customer(self) -> tuple[int, int, int]:
        pick = self._random.randint
        return pick(1, _WAREHOUSES), pick(1, _DISTRICTS), pick(1, _CUSTOMERS)

    def _new_order(self, cursor: Any) -> int:
        (w, d, c), number = self._customer(), self._new_id()
        items = sorted(self._random.sample(range(1, _ITEMS), self._random.randint(5, 15)))
        cursor.execute("UPDATE district SET next_o = next_o + 1 WHERE w = %s AND d = %s", (w, d))
        cursor.execute("INSERT INTO orders VALUES (%s, %s, %s, %s, NOW(6), NULL, %s)", (number, w, d, c, len(items)))
        cursor.execute("INSERT INTO new_order VALUES (%s)", (number,))
        for line, item in enumerate(items):
            cursor.execute(
                "UPDATE stock SET quantity = IF(quantity < 10, 100, quantity - 1), ytd = ytd + 1 "
                "WHERE w = %s AND i = %s",
                (w, item),
            )
            cursor.execute("INSERT INTO order_line VALUES (%s, %s, %s, %s, 1, 9.99, 'info')", (number, line, w, item))
        self._open.append(number)
        return number

    def _pay(self, cursor: Any) -> int:
        (w, d, c), number, amount = self._customer(), self._new_id(), self._random.randint(1, 5000)
        cursor.execute("UPDATE warehouse SET ytd = ytd + %s WHERE w = %s", (amount, w))
        cursor.execute("UPDATE district SET ytd = ytd + %s WHERE w = %s AND d = %s", (amount, w, d))
        cursor.execute(
            "UPDATE customer SET balance = balance - %s, payments = payments + 1 WHERE w = %s AND d = %s AND c = %s",
            (amount, w, d, c),
        )
        cursor.execute("INSERT INTO history VALUES (%s, %s, %s, %s, NOW(6), %s)", (number, w, d, c, amount))
        return number

    def _deliver(self, cursor: Any) -> None:
        for number in self._open[:10]:
            cursor.execute("DELETE FROM new_order WHERE id = %s", (number,))
            cursor.execute("UPDATE orders SET carrier = 3 WHERE id = %s", (number,))
            cursor.execute("UPDATE order_line SET info = 'delivered' WHERE id = %s", (number,))
        del self._open[:10]


async def _stored(url: str, committed: dict[int, float]) -> list[StoredMark]:
    """The marked transactions, when the stream has all of them."""
    client = await nats.connect(url)
    js, found = client.jetstream(), list[StoredMark]()
    for table in ("orders", "history"):
        subject = subjects.table_subject(_SOURCE, _DATABASE, table)
        puller = await js.pull_subscribe(subject, config=ConsumerConfig(ack_policy=AckPolicy.NONE))
        while len(found) < len(committed):
            try:
                messages = await puller.fetch(1000, timeout=5)
            except TimeoutError:
                break
            for message in messages:
                change = json.loads(message.data)
                if change["op"] == "c":
                    at = committed[change["after"]["id"]]
                    found.append(StoredMark(at, message.metadata.timestamp.timestamp()))
    await client.close()
    if len(found) != len(committed):
        raise SystemExit(f"the stream has {len(found)} of {len(committed)} transactions")
    return sorted(found, key=lambda mark: mark.committed)


def _tail(config: MySQLConfig, url: str, ready: Any, report: Any) -> None:
    """The process of the tail: until SIGTERM, then report the number of changes."""
    options = TailOptions(_SOURCE, include=(f"{_DATABASE}.*",), flush="eager")
    tail = Tail(config, [JetStreamSink(JetStreamOptions(url=url))], MemoryPositionStore(), options, owner="bench")
    with stop_on_signals() as stop:
        report.put(tail.run(stop, lambda progress: ready.set() if progress.phase == "reading" else None).changes)


def _print(marks: Sequence[StoredMark], transactions: int, changes: int, seconds: float) -> None:
    """Print the result, and write the plot."""
    begun = marks[0].committed
    buckets: dict[int, list[float]] = {}
    for mark in marks:
        buckets.setdefault(int(mark.committed - begun), []).append((mark.stored - mark.committed) * 1e3)
    full = {second: found for second, found in buckets.items() if len(found) > 1 and second >= _WARM_UP_S}
    lines = {
        "p99": [(second, quantiles(found, n=100)[98]) for second, found in full.items()],
        "median": [(second, median(found)) for second, found in full.items()],
    }
    every = sorted(latency for found in full.values() for latency in found)
    out = sys.stdout.write
    out(f"{transactions / seconds:,.0f} transactions/s, {changes / seconds:,.0f} changes/s\n")
    p99 = quantiles(every, n=100)[98]
    out(f"commit to stored, ms: median {median(every):.1f}, p99 {p99:.1f}, max {every[-1]:.1f}\n")
    title = f"Commit to stored under a mixed load of {changes / seconds:,.0f} changes/s"
    _PLOT.write_text(line_plot.render(title, "second", "milliseconds", lines))
    out(f"written to {_PLOT.name}\n")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0, int(sys.argv[2]) if len(sys.argv) > 2 else 4)
