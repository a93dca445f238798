"""Loads of a mirror while its table is created again, or swapped with another one: the mirror equals the new table."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from binlogsync.mirror import load as mirror_load
from binlogsync.servers import NATSServer
from tests.binlog.exact.type_sample import MYSQL
from tests.databases import MARIADB_TOO, FreshDatabase
from tests.e2e.held_loads import finish, held_loads
from tests.e2e.loads import (
    Loads,
    TableWriters,
    check_equal,
    table_loads,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.usefixtures("small_chunks")]
_SAME = "a INT, b VARCHAR(20), v INT, note TEXT, PRIMARY KEY (a, b)"
_OTHER = "a INT, b VARCHAR(40), v BIGINT, note TEXT, extra DECIMAL(9, 2) DEFAULT 7.5, PRIMARY KEY (b, a)"


@pytest.fixture(params=[MYSQL, MARIADB_TOO])
def scenario(request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path) -> Iterator[Loads]:
    database: FreshDatabase = request.getfixturevalue(request.param)
    with table_loads(database, nats_server.url, tmp_path) as running:
        yield running


def fill(database: FreshDatabase, table: str, chance: random.Random) -> None:
    """Insert 200 rows with random keys, beside a writer that may insert some of them."""
    rows = ", ".join(f"({n}, 'k{n % 7}', {chance.randrange(99)}, 'again')" for n in chance.sample(range(900), 200))

    def is_filled() -> bool:
        try:
            database.execute(f"INSERT IGNORE INTO {table} (a, b, v, note) VALUES {rows}")
        except pymysql.MySQLError as error:
            if error.args[0] not in (1205, 1213):  # lock wait timeout, deadlock
                raise
            return False
        return True

    wait_until(is_filled, 60, "the rows")


def create_again(database: FreshDatabase, chance: random.Random) -> None:
    """Other rows, and perhaps another definition."""
    database.execute("DROP TABLE t")
    database.execute(f"CREATE TABLE t ({chance.choice((_SAME, _OTHER))})")
    fill(database, "t", chance)


def swap(database: FreshDatabase, chance: random.Random) -> None:
    """The table takes the place of another one, which becomes `old`."""
    database.execute("DROP TABLE IF EXISTS old")
    database.execute(f"CREATE TABLE new ({chance.choice((_SAME, _OTHER))})")
    fill(database, "new", chance)
    database.execute("RENAME TABLE t TO old, new TO t")


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("replace_table", [create_again, swap])
def test_a_table_that_is_replaced_during_its_load_equals_its_mirror(
    scenario: Loads,
    caplog: pytest.LogCaptureFixture,
    replace_table: Callable[[FreshDatabase, random.Random], None],
    seed: int,
) -> None:
    caplog.set_level(logging.INFO, logger=mirror_load.__name__)
    chance, stop = random.Random(seed), threading.Event()
    slow = threading.Thread(target=scenario.consume, args=(scenario.mirror("t"), stop), daemon=True)
    first, second = held_loads(chance.randrange(1, 6)), held_loads(chance.randrange(1, 4), number=2)
    with TableWriters(scenario.database, seed, threads=1, pause_s=0.05), second as again, first as held:
        slow.start()
        held.wait(slow)
        replace_table(scenario.database, chance)
        held.release()
        again.wait(slow)
        replace_table(scenario.database, chance)
        again.release()
    # The last transaction of a writer may have no changes (XA ROLLBACK): a tail stores its position once in 60 s.
    scenario.database.execute("INSERT INTO other VALUES (1)")
    finish(slow)
    assert "the load begins again" in caplog.text
    check_equal(scenario, "t")
    if replace_table is swap:
        check_equal(scenario, "old")
