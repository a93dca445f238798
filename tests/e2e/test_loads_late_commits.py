"""A commit that is in the stream, but not visible yet, when a load begins: without its wait, the load misses the row.

Semi-synchronous replication makes such a commit: it is logged, and sent to the tail, and then waits for a replica that
does not exist, until semi-synchronous replication is switched off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from binlogsync.servers.database import DatabaseServer
from binlogsync.snapshot import chunks, view, watermarks
from binlogsync.snapshot.position import BEGIN_VIEW, PositionReader
from binlogsync.snapshot.watermarks import ExecutedGtids, MomentaryLock
from tests.databases import FreshDatabase, fresh_database
from tests.e2e.held_loads import finish
from tests.e2e.loads import loads, use_small_chunks
from tests.e2e.mirrored_tables import mirror_table_rows
from tests.mysql.sources import run

pytestmark = [pytest.mark.server, pytest.mark.slow]
_TIMEOUT_MS = 3_600_000
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

    @property
    def role(self) -> str:
        """The word for a source in the names of the server's variables."""
        return "master" if self.is_mariadb else "source"


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


class LateCommitServers:
    """Servers whose commits can wait, after they are logged, for a replica; each is started once."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._started: dict[str, DatabaseServer] = {}

    def get(self, wait: Wait) -> DatabaseServer:
        """The server of these options."""
        kind = str(wait.options)
        if kind not in self._started:
            start = servers.mariadb() if wait.is_mariadb else servers.mysql(options=wait.options)
            self._started[kind] = server = self._stack.enter_context(start)
            if not wait.is_mariadb:
                run(server, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
            run(
                server,
                f"SET GLOBAL rpl_semi_sync_{wait.role}_timeout = {_TIMEOUT_MS}",
                f"SET GLOBAL rpl_semi_sync_{wait.role}_wait_point = AFTER_SYNC",
            )
        return self._started[kind]


@pytest.fixture(scope="module")
def late_commit_servers() -> Iterator[LateCommitServers]:
    with ExitStack() as stack:
        yield LateCommitServers(stack)


@contextmanager
def late_commits(started: LateCommitServers, wait: Wait) -> Iterator[tuple[FreshDatabase, str]]:
    """An empty database, and the variable that makes commits wait; none waits at the end."""
    server, switch = started.get(wait), f"rpl_semi_sync_{wait.role}_enabled"
    with fresh_database(server) as database:
        try:
            yield database, switch
        finally:
            run(server, f"SET GLOBAL {switch} = OFF")


# Without a wait the rows are wrong: that shows that the test finds it. A refusal is what the product does then.
@pytest.mark.parametrize(
    ("wait", "waits"),
    [
        pytest.param(
            wait,
            waits,
            id=f"{name}-{'waits' if waits else 'does not wait'}",
            marks=() if waits or wait.refusal is not None else pytest.mark.exhaustive,
        )
        for name, wait in WAITS.items()
        for waits in (True, False)
    ],
)
def test_a_change_that_is_streamed_before_it_is_visible_needs_the_wait(
    wait: Wait,
    waits: bool,
    late_commit_servers: LateCommitServers,
    nats_server: NATSServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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
    with late_commits(late_commit_servers, wait) as (database, switch):
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
                    assert reached.wait(240)
                elif wait.refusal is None:
                    scenario.consume(mirror)
                else:
                    with pytest.raises(ConsumeError, match=wait.refusal):
                        scenario.consume(mirror)
                assert cursor.execute("SELECT a FROM t") == 2
                cursor.execute(f"SET GLOBAL {switch} = OFF")
            finish(late)
            if waits:
                finish(loading)
            elif wait.refusal is not None:
                return
            scenario.drain(mirror)
            mirrored = mirror_table_rows(scenario.path, (database.name, "t"))
            is_equal = mirrored == scenario.server_rows("t", mariadb=wait.is_mariadb)
            assert is_equal == waits
