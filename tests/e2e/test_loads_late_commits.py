"""A commit that is in the stream, but not visible yet, when a load begins: without its wait, the load misses the row.

Semi-synchronous replication makes such a commit: it is logged, and sent to the tail, and then waits for a replica that
does not exist, until semi-synchronous replication is switched off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from binlogsync import servers
from binlogsync.errors import ConsumeError
from binlogsync.mirror import load as mirror_load
from binlogsync.mysql.config import fetch
from binlogsync.position import Checkpoint
from binlogsync.servers import NATSServer
from binlogsync.snapshot import chunks, view, watermarks
from binlogsync.snapshot.position import BEGIN_VIEW, PositionReader
from binlogsync.snapshot.watermarks import ExecutedGtids, MomentaryLock
from tests.databases import FreshDatabase, fresh_database
from tests.e2e.loads import loads, use_small_chunks
from tests.e2e.mirrored_tables import mirror_table_rows

pytestmark = [pytest.mark.server, pytest.mark.slow]
_TIMEOUT_MS = 60_000
_NO_GTIDS = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}


@dataclass(frozen=True)
class Wait:
    """How a load waits for late commits.

    Attributes:
        place: the object with the wait.
        name: of its attribute.
        without: its replacement, which does not wait.
        in_chunks: whether the table is read in chunks, or in one view.
        refusal: the error that a later check raises without the wait; None if only the rows are wrong.
        columns: of the table.
        options: of the server; None for MariaDB.
    """

    place: Any
    name: str
    without: Callable[..., Any]
    in_chunks: bool
    refusal: str | None = None
    columns: str = "a INT PRIMARY KEY, v INT"
    options: dict[str, str] | None = None

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is MariaDB."""
        return self.options is None


def _do_nothing(*_: object) -> None:
    return


def _open_at_end(positions: PositionReader) -> Checkpoint:
    """A view at the end of the binlog, though transactions may be being committed."""
    fetch(positions._config, positions._connection, BEGIN_VIEW)  # noqa: SLF001 - replaces a method
    return positions.high(with_gtids=True)


def _is_reached(*_: object) -> bool:
    return True


WAITS = {
    "MySQL, chunks": Wait(ExecutedGtids, "prepare", _do_nothing, in_chunks=True, options={}),
    "MySQL, view": Wait(PositionReader, "exact_view", _open_at_end, in_chunks=False, options={}),
    "MySQL without GTIDs, chunks": Wait(MomentaryLock, "prepare", _do_nothing, in_chunks=True, options=_NO_GTIDS),
    "MySQL without GTIDs, view": Wait(
        view, "lock_table", _do_nothing, in_chunks=False, columns="a INT, v INT", options=_NO_GTIDS
    ),
    "MariaDB, chunks": Wait(watermarks, "contains_start", _is_reached, in_chunks=True),
    "MariaDB, view": Wait(
        mirror_load, "contains_start", _is_reached, in_chunks=False, refusal="which precedes the next change"
    ),
}


@contextmanager
def late_commits(wait: Wait) -> Iterator[tuple[FreshDatabase, str]]:
    """A server whose commits can wait, after they are logged, for a replica; yields the variable that switches it."""
    start = servers.mariadb() if wait.is_mariadb else servers.mysql(options=wait.options)
    word = "master" if wait.is_mariadb else "source"
    with start as server, fresh_database(server) as database:
        if not wait.is_mariadb:
            database.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
        database.execute(f"SET GLOBAL rpl_semi_sync_{word}_timeout = {_TIMEOUT_MS}")
        database.execute(f"SET GLOBAL rpl_semi_sync_{word}_wait_point = AFTER_SYNC")
        yield database, f"rpl_semi_sync_{word}_enabled"


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "does not wait"])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_change_that_is_streamed_before_it_is_visible_needs_the_wait(
    wait: Wait, waits: bool, nats_server: NATSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SMALL_ROWS", "CHUNK_ROWS", "_FIRST_ROWS"):
        monkeypatch.setattr(chunks, name, getattr(chunks, name))  # restored after the test
    if wait.in_chunks:
        use_small_chunks()
    reached = threading.Event()
    original = getattr(wait.place, wait.name) if waits else wait.without

    def observed(*arguments: Any) -> Any:
        reached.set()
        return original(*arguments)

    monkeypatch.setattr(wait.place, wait.name, observed)
    with late_commits(wait) as (database, switch):
        database.execute(f"CREATE TABLE t ({wait.columns})")
        database.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
        with loads(database, nats_server.url, tmp_path) as scenario:
            for value in ("ON", "OFF", "ON"):
                database.execute(f"SET GLOBAL {switch} = {value}")
            begun = scenario.tail.progress.changes
            late = threading.Thread(target=database.execute, args=("INSERT INTO t VALUES (3, 3)",), daemon=True)
            late.start()
            scenario.tail.wait_stored(begun + 1)
            mirror = scenario.mirror("t")
            with database.server.connect(database=database.name, autocommit=True) as other, other.cursor() as cursor:
                assert cursor.execute("SELECT a FROM t") == 2
                loading = threading.Thread(target=scenario.consume, args=(mirror,), daemon=True)
                if waits:
                    loading.start()
                    assert reached.wait(30)
                elif wait.refusal is None:
                    scenario.consume(mirror)
                else:
                    with pytest.raises(ConsumeError, match=wait.refusal):
                        scenario.consume(mirror)
                assert cursor.execute("SELECT a FROM t") == 2
                cursor.execute(f"SET GLOBAL {switch} = OFF")
            late.join(30)
            if waits:
                loading.join(60)
            elif wait.refusal is not None:
                return
            scenario.drain(mirror)
            mirrored = mirror_table_rows(scenario.path, (database.name, "t"))
            is_equal = mirrored == scenario.server_rows("t", mariadb=wait.is_mariadb)
            assert is_equal == waits
