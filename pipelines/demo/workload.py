"""The workload of the demo: notes that are written and liked, customers, and orders that are placed and processed.

One thread and one connection. `rate` is the approximate number of changes per second. Values are from a fixed seed.
"""

import json
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import pymysql

from binlogsync.servers.mysql import MySQLServer
from pipelines.demo.schema import STATEMENTS

log = logging.getLogger(__name__)

_LINES = (
    "The tram was early, for once.",
    "I still have not called back.",
    "Found a coin from a country that is no more.",
    "Today the cat chose me. 🐈",
    "Nobody noticed the new curtains.",
    "I water the neighbour's plant in secret.",
)
_NOTES = ("leave it at the door", "second floor, ring twice", "birthday gift", None, None, None)


def create(server: MySQLServer) -> None:
    """Create the databases and empty tables."""
    with server.connect() as connection, connection.cursor() as cursor:
        for statement in STATEMENTS:
            cursor.execute(statement)


class DemoWorkload:
    """Writes during its `with` block. `changes` is the number of rows written."""

    def __init__(self, server: MySQLServer, rate: float, seed: int = 7) -> None:
        self.changes = 0
        self._server = server
        self._rate = rate
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workload", daemon=True)
        self._connection: pymysql.Connection[Any] | None = None

    def __enter__(self) -> "DemoWorkload":
        """Start the thread that writes."""
        self._connection = self._server.connect(autocommit=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop after the current transaction, and close the connection, for which MySQL's shutdown would wait 10 s."""
        self._stop.set()
        self._thread.join(10)
        if self._connection is not None:
            self._connection.close()

    def _run(self) -> None:
        assert self._connection is not None
        steps: tuple[tuple[float, Callable[[Any], int]], ...] = (
            (3.0, self._leave_line),
            (3.0, self._like),
            (0.5, self._take_back),
            (1.0, self._register),
            (2.0, self._order),
            (3.0, self._move_on),
            (0.5, self._cancel),
        )
        weights = [weight for weight, _ in steps]
        while not self._stop.is_set():
            step = self._random.choices(steps, weights)[0][1]
            try:
                with self._connection.cursor() as cursor:
                    done = step(cursor)
                self._connection.commit()
            except pymysql.MySQLError as error:
                if not self._stop.is_set():
                    log.warning("the workload stopped: %s", error)
                return
            self.changes += done
            self._stop.wait(max(done, 1) / self._rate)

    def _leave_line(self, cursor: Any) -> int:
        return int(cursor.execute("INSERT INTO treehole.holes (content) VALUES (%s)", (self._random.choice(_LINES),)))

    def _like(self, cursor: Any) -> int:
        return int(cursor.execute("UPDATE treehole.holes SET likes = likes + 1 ORDER BY RAND() LIMIT 1"))

    def _take_back(self, cursor: Any) -> int:
        return int(cursor.execute("DELETE FROM treehole.holes WHERE likes = 0 ORDER BY id LIMIT 1"))

    def _register(self, cursor: Any) -> int:
        number = self._random.getrandbits(40)
        wants = ",".join(want for want in ("news", "offers", "surveys") if self._random.random() < 0.4)
        settings = json.dumps({"language": self._random.choice(("en", "de", "fr")), "dark": number % 2 == 0})
        born = f"{self._random.randrange(1950, 2005)}-{self._random.randrange(1, 13):02}-17"
        return int(
            cursor.execute(
                "INSERT INTO shop.customers (email, tier, wants, credit, born, settings) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    f"customer-{number:x}@example.com",
                    self._random.choice(("basic", "basic", "silver", "gold")),
                    wants,
                    f"{self._random.randrange(0, 10000) / 100:.2f}",
                    born if number % 3 else None,
                    settings,
                ),
            )
        )

    def _order(self, cursor: Any) -> int:
        """Insert an order and its lines, in one transaction."""
        if not cursor.execute("SELECT id FROM shop.customers ORDER BY RAND() LIMIT 1"):
            return self._register(cursor)
        (customer,) = cursor.fetchone()
        cursor.execute(
            "INSERT INTO shop.orders (customer_id, gift, note, placed_at, deliver_at) VALUES (%s, %s, %s, NOW(6), %s)",
            (
                customer,
                self._random.random() < 0.1,
                self._random.choice(_NOTES),
                f"{self._random.randrange(8, 20)}:30:00",
            ),
        )
        order, lines = cursor.lastrowid, self._random.randrange(1, 5)
        for line in range(1, lines + 1):
            cursor.execute(
                "INSERT INTO shop.order_items VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    order,
                    line,
                    f"SKU{self._random.randrange(10000):05}",
                    self._random.randrange(1, 6),
                    f"{self._random.randrange(100, 9999) / 100:.2f}",
                    round(self._random.random() * 5, 3),
                ),
            )
        cursor.execute(
            "UPDATE shop.orders SET total = (SELECT SUM(quantity * price) FROM shop.order_items WHERE order_id = %s) "
            "WHERE id = %s",
            (order, order),
        )
        return lines + 2

    def _move_on(self, cursor: Any) -> int:
        """Move a random open order to its next state."""
        return int(
            cursor.execute(
                "UPDATE shop.orders SET state = ELT(FIELD(state, 'new', 'paid', 'sent'), 'paid', 'sent', 'done') "
                "WHERE state IN ('new', 'paid', 'sent') ORDER BY RAND() LIMIT 1"
            )
        )

    def _cancel(self, cursor: Any) -> int:
        """Delete an order and its lines, in one transaction."""
        if not cursor.execute("SELECT id FROM shop.orders WHERE state = 'new' ORDER BY id LIMIT 1"):
            return 0
        (order,) = cursor.fetchone()
        lines = cursor.execute("DELETE FROM shop.order_items WHERE order_id = %s", (order,))
        return int(lines + cursor.execute("DELETE FROM shop.orders WHERE id = %s", (order,)))
