"""Reading pauses while the server is busy, and ends its pause on a stop."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from typing import Any

import pymysql
import pytest

from binlogsync.errors import ConfigError
from binlogsync.mysql.config import connect
from binlogsync.snapshot import throttle
from binlogsync.snapshot.throttle import LoadLimits, Throttle
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of
from tests.waiting import wait_until


def test_reading_pauses_while_threads_run(mysql: FreshDatabase, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=throttle.__name__)
    config, stop = config_of(mysql.server, "throttle"), threading.Event()
    [(number,)] = mysql.execute("SELECT CONNECTION_ID()")
    sleeping = threading.Thread(target=mysql.execute, args=("SELECT SLEEP(600)",), daemon=True)
    sleeping.start()
    with closing(mysql.server.connect()) as root, closing(connect(config)) as connection:
        wait_until(lambda: "SELECT SLEEP(600)" in running_statements(root), 10, "the busy thread")
        paused = Throttle(LoadLimits(threads_running=1), "shop.orders")
        reading = threading.Thread(target=paused.wait, args=(config, connection, stop), daemon=True)
        reading.start()
        wait_until(lambda: "shop.orders: reading pauses while" in caplog.text, 10, "the pause")
        assert reading.is_alive()
        stop.set()
        reading.join(60)
        assert not reading.is_alive()
        root.query(f"KILL QUERY {number}")
    sleeping.join(60)


def running_statements(connection: pymysql.Connection[Any]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW PROCESSLIST")
        return [row[7] for row in cursor.fetchall()]


@pytest.mark.parametrize("limits", [{"rows_per_s": 0.0}, {"threads_running": 0}, {"replica_lag_s": 0.0}])
def test_limits_are_above_0(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        LoadLimits(**limits)
