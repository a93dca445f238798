"""Writers for tests of snapshots: key changes, delete and insert again, transactions of many rows, rollbacks, XA."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pymysql
from pymysql.cursors import Cursor

from tests.databases import FreshDatabase
from tests.e2e.snapshot_oracle import CheckedTable
from tests.waiting import paced

NUMBERS = CheckedTable("numbers", ("id",), ("v", "note"))
WORDS = CheckedTable("words", ("k", "n"), ("v",), lambda key: (key[0].lower(), key[1]))
TABLES = (NUMBERS, WORDS)
_KEYS = 400
_LETTERS = "abcd"


def create_tables(database: FreshDatabase, rows: int = 300) -> None:
    """`numbers` with a number as its key, `words` with a text whose case does not matter, and a number."""
    database.execute("CREATE TABLE numbers (id INT PRIMARY KEY, v INT, note VARCHAR(100))")
    database.execute(
        "CREATE TABLE words (k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, n INT, v INT, "
        "PRIMARY KEY (k, n))"
    )
    chance = random.Random(1)
    numbers = chance.sample(range(_KEYS), rows)
    for ids in (numbers[start : start + 100] for start in range(0, rows, 100)):
        database.execute("INSERT INTO numbers VALUES " + ", ".join(f"({n}, {n}, 'old')" for n in ids))
        database.execute("INSERT INTO words VALUES " + ", ".join(f"('{_word(n)}', {n % 7}, {n})" for n in ids))


def _word(number: int) -> str:
    letter = _LETTERS[number % len(_LETTERS)]
    return f"{letter if number % 3 else letter.upper()}{number // 2:03d}"


Operation = Callable[[Cursor, random.Random], None]


class SnapshotWriters:
    """Writes with `threads` connections until it is stopped; `pause_s` is the longest pause between two transactions on
    a quiet machine.

    With `restful=False` the pauses do not grow with the time that a transaction takes.
    """

    def __init__(
        self,
        database: FreshDatabase,
        seed: int,
        threads: int = 4,
        *,
        xa: bool = True,
        operations: Sequence[Operation] = (),
        pause_s: float = 0.03,
        restful: bool = True,
    ) -> None:
        """`operations` are chosen from; those on the tables of this module by default."""
        self.transactions = 0
        self._database = database
        self._xa = xa
        self._operations = operations or _OPERATIONS
        self._pause_s, self._restful = pause_s, restful
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(seed * 100 + n), n), name=f"writer-{n}")
            for n in range(threads)
        ]

    @contextmanager
    def running(self) -> Iterator[SnapshotWriters]:
        """Write for the duration of the block."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        assert not self._failures, self._failures

    def _work(self, chance: random.Random, number: int) -> None:
        try:
            with self._database.server.connect(database=self._database.name, ssl_disabled=True) as connection:
                connection.query("SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 5")
                for _ in paced(self._stop, chance, self._pause_s, restful=self._restful):
                    self._transaction(connection, chance, number)
                    self.transactions += 1
        except BaseException as error:  # noqa: BLE001 - the test fails
            self._failures.append(error)

    def _transaction(self, connection: pymysql.Connection[Cursor], chance: random.Random, number: int) -> None:
        is_xa = self._xa and chance.random() < 0.1
        xid = f"'{self._database.name}-{number}-{self.transactions}-{chance.randrange(10**9)}'"
        is_rolled_back = chance.random() < 0.1
        with connection.cursor() as cursor:
            try:
                cursor.execute(f"XA START {xid}" if is_xa else "BEGIN")
                for _ in range(chance.choice((1, 1, 2, 5))):
                    chance.choice(self._operations)(cursor, chance)
                if is_xa:
                    cursor.execute(f"XA END {xid}")
                    cursor.execute(f"XA PREPARE {xid}")
                    self._stop.wait(chance.random() * 0.03)
                    cursor.execute(f"XA {'ROLLBACK' if is_rolled_back else 'COMMIT'} {xid}")
                else:
                    cursor.execute("ROLLBACK" if is_rolled_back else "COMMIT")
            except (pymysql.OperationalError, pymysql.IntegrityError, pymysql.InternalError) as error:
                if error.args[0] not in (1062, 1205, 1213, 1614, 1402):
                    raise
                for statement in (f"XA END {xid}", f"XA ROLLBACK {xid}") if is_xa else ("ROLLBACK",):
                    try:
                        cursor.execute(statement)
                    except pymysql.MySQLError:
                        continue


def _insert(cursor: Cursor, chance: random.Random) -> None:
    number = chance.randrange(_KEYS)
    cursor.execute("REPLACE INTO numbers VALUES (%s, %s, 'new')", (number, chance.randrange(10**6)))
    cursor.execute("REPLACE INTO words VALUES (%s, %s, %s)", (_word(number), number % 7, chance.randrange(10**6)))


def _update(cursor: Cursor, chance: random.Random) -> None:
    first = chance.randrange(_KEYS)
    cursor.execute("UPDATE numbers SET v = v + 1 WHERE id BETWEEN %s AND %s", (first, first + chance.choice((0, 12))))


def _update_words(cursor: Cursor, chance: random.Random) -> None:
    word = _word(chance.randrange(_KEYS))
    cursor.execute("UPDATE words SET v = v + 1 WHERE k BETWEEN %s AND %s", (word, word[0] + "999"))


def _delete(cursor: Cursor, chance: random.Random) -> None:
    number = chance.randrange(_KEYS)
    cursor.execute("DELETE FROM numbers WHERE id = %s", (number,))
    cursor.execute("DELETE FROM words WHERE k = %s", (_word(number),))


def _change_key(cursor: Cursor, chance: random.Random) -> None:
    old, new = chance.randrange(_KEYS), chance.randrange(_KEYS)
    cursor.execute("UPDATE IGNORE numbers SET id = %s, v = v + 1 WHERE id = %s", (new, old))


def _change_case(cursor: Cursor, chance: random.Random) -> None:
    """The key of such a row stays the same for the server, though its bytes change."""
    word = _word(chance.randrange(_KEYS))
    how = chance.choice(("UPPER", "LOWER"))
    cursor.execute(f"UPDATE words SET k = {how}(k), v = v + 1 WHERE k = %s", (word,))


def _replace(cursor: Cursor, chance: random.Random) -> None:
    """Delete and insert again, with another case."""
    number = chance.randrange(_KEYS)
    word, n = _word(number), number % 7
    cursor.execute("DELETE FROM words WHERE k = %s AND n = %s", (word, n))
    cursor.execute("INSERT INTO words VALUES (%s, %s, %s)", (word.swapcase(), n, chance.randrange(10**6)))
    cursor.execute("DELETE FROM numbers WHERE id = %s", (number,))
    cursor.execute("INSERT INTO numbers VALUES (%s, %s, 'again')", (number, chance.randrange(10**6)))


_OPERATIONS = (_insert, _insert, _update, _update_words, _delete, _change_key, _change_case, _replace)
