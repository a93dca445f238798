"""Threads that write to three tables as an application would, until they are stopped."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pymysql
from pymysql.cursors import Cursor

from tests.databases import FreshDatabase
from tests.waiting import paced

TABLES = ("customers", "orders", "visits")
SCHEMA = (
    "CREATE TABLE customers (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, name VARCHAR(60), born DATETIME(6))",
    "CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, customer BIGINT, total DECIMAL(10, 2), note TEXT)",
    "CREATE TABLE visits (page VARCHAR(20), n INT)",  # without a key
)
BIG = 1500


class Writers:
    """Runs `threads` writers; `pause_s` is the longest pause between two transactions of one on a quiet machine.

    The n-th writer executes the n-th statement of `sessions` first. With `may_lose` the writers end without an error
    when their server is killed, and the tables may already exist.
    """

    def __init__(
        self,
        database: FreshDatabase,
        seed: int,
        threads: int = 3,
        pause_s: float = 0.05,
        *,
        sessions: Sequence[str] = (),
        may_lose: bool = False,
    ) -> None:
        self.transactions = 0
        self._sessions = sessions
        self._may_lose = may_lose
        self._database = database
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(seed + n), n), name=f"writer-{n}")
            for n in range(threads)
        ]
        for statement in SCHEMA:
            database.execute(statement.replace("TABLE", "TABLE IF NOT EXISTS") if may_lose else statement)

    @property
    def has_failed(self) -> bool:
        """Whether a writer has ended with an error."""
        return bool(self._failures)

    @contextmanager
    def running(self) -> Iterator[Writers]:
        """Run the writers for the duration of the block."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop()
        assert not self._failures, self._failures

    def stop(self) -> None:
        """Stop the writers and wait for their end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def rotate(self) -> None:
        """FLUSH BINARY LOGS."""
        self._database.execute("FLUSH BINARY LOGS")

    def write_big(self, rows: int = BIG) -> None:
        """One transaction of many rows, more than a flush holds."""
        with self._connect() as connection, connection.cursor() as cursor:
            for part in range(3):
                cursor.executemany("INSERT INTO visits VALUES (%s, %s)", [(f"big {part}", n) for n in range(rows // 3)])
            cursor.execute("UPDATE visits SET n = n + 1 WHERE page = 'big 1' LIMIT 300")
            connection.commit()

    def _connect(self) -> pymysql.Connection[Cursor]:
        return self._database.server.connect(database=self._database.name, autocommit=False, ssl_disabled=True)

    def _work(self, chance: random.Random, number: int) -> None:
        try:
            with self._connect() as connection:
                # A DDL statement waits for all transactions with its table. One of them may wait for a row of another
                # transaction, which waits for the DDL statement: the server does not detect this deadlock.
                connection.query("SET SESSION innodb_lock_wait_timeout = 1")
                if number < len(self._sessions):
                    connection.query(self._sessions[number])
                for _ in paced(self._stop, chance, self._pause_s):
                    self._transaction(connection, chance, number)
                    self.transactions += 1
        except pymysql.MySQLError as error:
            if not self._may_lose:
                self._failures.append(error)

    def _transaction(self, connection: pymysql.Connection[Cursor], chance: random.Random, number: int) -> None:
        try:
            with connection.cursor() as cursor:
                for _ in range(chance.choice((1, 1, 1, 2, 6))):
                    chance.choice((_insert, _insert, _update, _delete, _visit))(cursor, chance, number)
            (connection.rollback if chance.random() < 0.05 else connection.commit)()
        except pymysql.OperationalError as error:
            if error.args[0] not in (1205, 1213):  # lock wait, deadlock: roll back and continue, as applications do
                raise
            connection.rollback()


def _insert(cursor: Cursor, chance: random.Random, number: int) -> None:
    cursor.executemany(
        "INSERT INTO customers (name, born) VALUES (%s, FROM_UNIXTIME(%s))",
        [(f"cust {chance.random()} ü", chance.randrange(10**9)) for _ in range(chance.choice((1, 4)))],
    )
    cursor.execute(
        "INSERT INTO orders (customer, total, note) VALUES (%s, %s, %s)",
        (number, chance.randrange(10**6) / 100, "x" * chance.randrange(400)),
    )


def _update(cursor: Cursor, chance: random.Random, number: int) -> None:
    cursor.execute(
        "UPDATE orders SET total = total + 1, note = NULL WHERE id %% 17 = %s LIMIT 8", (chance.randrange(17),)
    )
    cursor.execute("UPDATE visits SET n = n + 1 WHERE page = %s LIMIT 4", (f"p{chance.randrange(5)}",))


def _delete(cursor: Cursor, chance: random.Random, number: int) -> None:
    cursor.execute("DELETE FROM customers WHERE id %% 13 = %s LIMIT 3", (chance.randrange(13),))
    cursor.execute("DELETE FROM visits WHERE page = %s LIMIT 2", (f"p{chance.randrange(5)}",))


def _visit(cursor: Cursor, chance: random.Random, number: int) -> None:
    cursor.execute("INSERT INTO visits VALUES (%s, %s)", (f"p{chance.randrange(5)}", chance.randrange(3)))
