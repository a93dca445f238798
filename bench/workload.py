"""The two workloads: tables, and statements that write their changes to a binlog. Values are from a fixed seed."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pymysql

DATABASE = "bench"

_BULK_TABLE = """
CREATE TABLE bench.bulk (
    id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    customer INT UNSIGNED NOT NULL,
    kind TINYINT NOT NULL,
    quantity SMALLINT UNSIGNED,
    balance DECIMAL(12,2) NOT NULL,
    rate DOUBLE,
    weight FLOAT,
    name VARCHAR(60) NOT NULL,
    email VARCHAR(120) CHARACTER SET latin1,
    note TEXT,
    token BINARY(16) NOT NULL,
    born DATE,
    created DATETIME(6) NOT NULL,
    updated TIMESTAMP(3) NULL,
    opens TIME,
    state ENUM('new','paid','sent','done','void') NOT NULL,
    flags SET('gift','express','insured','fragile')
) CHARACTER SET utf8mb4"""

_OLTP_TABLE = """
CREATE TABLE bench.oltp (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    account INT NOT NULL,
    amount DECIMAL(12,2) NOT NULL,
    memo VARCHAR(40) NOT NULL,
    at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) CHARACTER SET utf8mb4"""

_ROWS_A_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class BenchmarkWorkload:
    """A workload. `fill` writes the changes and returns their number.

    mysql-replication reads only the first `slow_reader_changes`, because its rate is constant.
    """

    name: str
    fill: Callable[[pymysql.Connection[Any], int], int]
    slow_reader_changes: int = sys.maxsize


def _row(number: int, random_: random.Random) -> str:
    """One row of bench.bulk as SQL values. Each nullable column is NULL in one of ten rows."""
    day, second = random_.randrange(1, 28), random_.randrange(0, 59)

    def text(value: object) -> str:
        return f"'{value}'"

    def maybe(value: str) -> str:
        return value if random_.random() < 0.9 else "NULL"

    values = (
        str(number),
        str(random_.randrange(1, 100_000)),
        str(random_.randrange(-100, 100)),
        maybe(str(random_.randrange(0, 900))),
        f"{random_.randrange(-10_000_000, 10_000_000) / 100:.2f}",
        maybe(repr(random_.random())),
        maybe(f"{random_.random() * 100:.2f}"),
        text(f"name {random_.randrange(10**9)} {'é' if number % 7 == 0 else 'e'}"),
        maybe(text(f"user{number}@example.com")),
        maybe(text(f"a note of some length about order {number}, {random_.randrange(10**12)}")),
        f"x'{random_.getrandbits(128):032x}'",
        maybe(text(f"19{random_.randrange(50, 99)}-03-{day:02}")),
        text(f"2026-05-{day:02} 12:{second:02}:{second:02}.{random_.randrange(10**6):06}"),
        maybe(text(f"2026-06-{day:02} 01:{second:02}:00.{random_.randrange(1000):03}")),
        maybe(text(f"{random_.randrange(0, 23):02}:{second:02}:00")),
        text(random_.choice(("new", "paid", "sent", "done", "void"))),
        maybe(text(random_.choice(("", "gift", "gift,express", "insured,fragile")))),
    )
    return f"({','.join(values)})"


def _bulk(connection: pymysql.Connection[Any], changes: int) -> int:
    """50 % inserts, 35 % updates, 15 % deletes, in statements of 500 rows."""
    random_ = random.Random(20260501)
    inserts = changes // 2
    with connection.cursor() as cursor:
        cursor.execute(_BULK_TABLE)
        for first in range(0, inserts, _ROWS_A_STATEMENT):
            rows = ",".join(_row(number, random_) for number in range(first, min(first + _ROWS_A_STATEMENT, inserts)))
            cursor.execute(f"INSERT INTO bench.bulk VALUES {rows}")
        updates, deletes = int(changes * 0.35), int(changes * 0.15)
        for low, high in _spans(inserts - updates, inserts):
            cursor.execute(
                "UPDATE bench.bulk SET balance = balance + 1.5, quantity = COALESCE(quantity, 0) + 1, state = 'done' "
                f"WHERE id >= {low} AND id < {high}"
            )
        for low, high in _spans(0, deletes):
            cursor.execute(f"DELETE FROM bench.bulk WHERE id >= {low} AND id < {high}")
    return inserts + updates + deletes


def _spans(first: int, last: int) -> Iterator[tuple[int, int]]:
    for low in range(first, last, _ROWS_A_STATEMENT):
        yield low, min(low + _ROWS_A_STATEMENT, last)


def _oltp(connection: pymysql.Connection[Any], changes: int) -> int:
    """One-row inserts, one per transaction, by a stored procedure for speed."""
    with connection.cursor() as cursor:
        cursor.execute(_OLTP_TABLE)
        cursor.execute(
            "CREATE PROCEDURE bench.fill(n INT) BEGIN DECLARE i INT DEFAULT 0; WHILE i < n DO "
            "INSERT INTO bench.oltp (account, amount, memo) VALUES (i MOD 977, i / 100, CONCAT('payment ', i)); "
            "SET i = i + 1; END WHILE; END"
        )
        cursor.execute("CALL bench.fill(%s)", (changes,))
    return changes


BULK = BenchmarkWorkload("bulk", _bulk)
OLTP = BenchmarkWorkload("oltp", _oltp, 100_000)


def fill(connection: pymysql.Connection[Any], workload: BenchmarkWorkload, changes: int) -> int:
    """Create a binlog with only this workload, from its first file on. Returns the number of changes."""
    _empty(connection)
    return workload.fill(connection, changes)


def _empty(connection: pymysql.Connection[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION time_zone = '+00:00'")
        cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        cursor.execute(f"CREATE DATABASE {DATABASE}")
        cursor.execute("RESET BINARY LOGS AND GTIDS")


_BACKLOG_ROWS_A_STATEMENT = 8192


def backlog(connection: pymysql.Connection[Any], size: int) -> int:
    """Write at least `size` bytes of binlog, rows of about 1 kB and some of 100 kB. Returns the number of changes."""
    _empty(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bench.backlog (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, kind INT NOT NULL, "
            "at DATETIME(6) NOT NULL, note TEXT NOT NULL, body MEDIUMTEXT) CHARACTER SET utf8mb4"
        )
        cursor.execute(f"USE {DATABASE}")
        cursor.execute("SET SESSION cte_max_recursion_depth = 1000000")
        statement = (
            "INSERT INTO bench.backlog (kind, at, note, body) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 "
            f"FROM n WHERE i < {_BACKLOG_ROWS_A_STATEMENT}) SELECT i MOD 100, NOW(6), REPEAT(SHA2(i, 256), 14), "
            "IF(i MOD 1024 = 0, REPEAT(SHA2(i, 256), 1600), NULL) FROM n"
        )
        changes = made = 0
        while made < size:
            # Every other statement deletes the rows, so that the table stays small.
            changes += cursor.execute(statement)
            changes += cursor.execute("DELETE FROM bench.backlog")
            cursor.execute("SHOW BINARY LOGS")
            made = sum(int(row[1]) for row in cursor.fetchall())
    return changes
