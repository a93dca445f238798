"""gtid_mode is switched on: the server no longer sends the transactions without GTIDs in its older binlogs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from binlogsync import servers
from binlogsync.bookmarks import Bookmark
from binlogsync.errors import PositionError
from binlogsync.mysql import inspect_server, resolve_start
from binlogsync.position import BinlogPosition
from binlogsync.position_order import compare
from binlogsync.servers import MySQLServer, NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.mysql.sources import run
from tests.sinks.jetstream_streams import read_all
from tests.waiting import wait_until

pytestmark = pytest.mark.server
STEPS = ("OFF_PERMISSIVE", "ON_PERMISSIVE", "ON")


@pytest.fixture(scope="module")
def server() -> Iterator[MySQLServer]:
    """A server without GTIDs for two files (rows 1 to 4), and with GTIDs since (rows 5 and 6)."""
    with servers.mysql(options={"gtid_mode": "OFF", "enforce_gtid_consistency": "ON"}) as started:
        run(started, "CREATE DATABASE modes", "CREATE TABLE modes.t (n INT PRIMARY KEY)")
        write(started, 1, 2)
        run(started, "FLUSH BINARY LOGS")
        write(started, 3, 4)
        yield started


def write(server: MySQLServer, *numbers: int) -> None:
    with closing(server.connect(database="modes", autocommit=True)) as connection:
        for number in numbers:
            connection.cursor().execute("INSERT INTO t VALUES (%s)", (number,))


def tail(server: MySQLServer, source: str, url: str, store: MemoryPositionStore, start: str) -> TailThread:
    options = options_of(source, "modes", start=start)
    return TailThread(config_of(server, source), [stream_sink(url)], store, options)


def catch_up(server: MySQLServer, running: TailThread) -> None:
    end = inspect_server(config_of(server, "look")).end()
    wait_until(
        lambda: (
            running.error
            or ((at := running.progress.checkpoint) is not None and compare(at.position, end).is_at_or_after)
        ),
        60,
        f"{end}",
    )


def rows(url: str, source: str) -> list[int]:
    return [row["after"]["n"] for _, row in read_all(url, source) if row["op"] == "c"]


def test_gtid_mode_is_switched_on(server: MySQLServer, nats_server: NATSServer) -> None:
    url, stores = nats_server.url, {name: MemoryPositionStore() for name in ("modes-done", "modes-late")}
    with tail(server, "modes-done", url, stores["modes-done"], "oldest") as running:
        catch_up(server, running)
    before = run(server, "SHOW BINARY LOGS")[0][0]
    late = resolve_start(config_of(server, "look"), BinlogPosition(str(before), 4))
    stores["modes-late"].bookmarks.put("modes-late", Bookmark(late, "person", 1, 1, name="before"))
    moment = datetime.now(UTC)
    time.sleep(1.1)
    run(server, *(f"SET GLOBAL gtid_mode = {step}" for step in STEPS))
    write(server, 5, 6)

    # The tail that had caught up resumes exactly, and uses GTIDs after its next start.
    for number in (7, 8):
        with tail(server, "modes-done", url, stores["modes-done"], "now") as running:
            running.wait_begun()
            write(server, number)
            catch_up(server, running)
    assert rows(url, "modes-done") == [1, 2, 3, 4, 5, 6, 7, 8]
    saved = stores["modes-done"].checkpoints.load("modes-done")
    assert saved is not None
    assert saved.gtids
    assert saved.gtids == inspect_server(config_of(server, "look")).executed

    # "oldest" is the oldest position that the server sends; starts before that fail with the reason.
    with tail(server, "modes-oldest", url, MemoryPositionStore(), "oldest") as running:
        catch_up(server, running)
    assert rows(url, "modes-oldest") == [5, 6, 7, 8]
    for start in (f"{before}:4", "bookmark:before", moment.replace(year=2020).isoformat()):
        with tail(server, "modes-late", url, stores["modes-late"], start) as running:
            error = running.end()
        assert isinstance(error, PositionError), start
        assert "it was logged before gtid_mode was ON" in str(error)
    with tail(server, "modes-time", url, MemoryPositionStore(), datetime.now(UTC).isoformat()) as running:
        running.wait_begun()
        write(server, 9)
        catch_up(server, running)
    assert rows(url, "modes-time") == [9]

    # The fix in the message loses no change.
    run(server, "SET GLOBAL gtid_mode = ON_PERMISSIVE")
    with tail(server, "modes-late", url, stores["modes-late"], "bookmark:before") as running:
        catch_up(server, running)
    run(server, "SET GLOBAL gtid_mode = ON")
    with tail(server, "modes-late", url, stores["modes-late"], "now") as running:
        running.wait_begun()
        write(server, 10)
        catch_up(server, running)
    assert rows(url, "modes-late") == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
