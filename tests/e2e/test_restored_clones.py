"""A failover to a clone of the server that was tailed, from a backup, or from the server after it was restored.

The clone has another server UUID. A tail that is running, or starts, resumes exactly if the clone has the stored
transactions, and ends with PositionError if some are missing or others have the same GTIDs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from binlogsync.errors import PositionError
from binlogsync.mysql import MySQLConfig, inspect_server, validate
from binlogsync.position import Checkpoint
from binlogsync.servers import NATSServer
from binlogsync.servers.database import DatabaseServer
from binlogsync.stores.memory import MemoryPositionStore
from tests.e2e.replicas import ServerAddress, replicated_pair, wait_for_all
from tests.e2e.tailing import TailThread, config_of
from tests.e2e.test_log_identity import LogIdentityScenario, backup, prepare, start_server
from tests.mysql.sources import run
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.exhaustive]


@dataclass
class CloneScenario(LogIdentityScenario):
    """Clients reach the server, and later its clone, at one address."""

    address: ServerAddress
    folder: Path
    stack: ExitStack

    @property
    def config(self) -> MySQLConfig:
        return replace(config_of(self.server, self.source), port=self.address.port)

    def write(self, count: int) -> None:
        """As before; MySQL gives the last row a GTID with a tag, whose numbers are counted separately."""
        if self.kind == "mariadb":
            super().write(count)
            return
        super().write(count - 1)
        insert = f"INSERT INTO logs.t (source, note) VALUES ('{self.source}', 'of one size')"
        run(self.server, "SET gtid_next = 'AUTOMATIC:tag'", insert, "COMMIT")

    def running(self) -> TailThread:
        return self.tail(start="now", retry_s=300.0)

    def backup(self, name: str) -> None:
        backup(self.server, self.folder / name)

    def last_backup(self, name: str) -> None:
        """Copy the data folder of the server, which is not started again."""
        self.server.stop()
        shutil.copytree(self.server.data_dir, self.folder / name)

    def restore(self, name: str) -> None:
        """Return the server to the state of a backup, under its own UUID."""
        self.server.stop()
        shutil.rmtree(self.server.data_dir)
        shutil.copytree(self.folder / name, self.server.data_dir)
        self.server.start()

    def cut(self) -> None:
        """Disconnect the clients until the next failover."""
        self.address.cut_after(0)

    def clone(self, name: str) -> CloneScenario:
        """Start a server from a backup, with another UUID; clients do not reach it yet."""
        folder = self.folder / name
        (folder / "auto.cnf").unlink(missing_ok=True)
        return replace(self, server=start_server(self.kind, self.stack, folder))

    def fail_over(self, clone: CloneScenario) -> None:
        self.server.stop()
        self.address.move_to(clone.server)


@pytest.fixture(scope="module", params=["gtids", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, DatabaseServer]]:
    with ExitStack() as stack:
        server = start_server(request.param, stack)
        prepare(server)
        yield request.param, server


@pytest.fixture
def scenario(
    server: tuple[str, DatabaseServer], nats_server: NATSServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[CloneScenario]:
    kind, its = server
    its.start()  # an earlier test stopped it
    source = f"clone{abs(hash(request.node.name)) % 10**10}"
    with ExitStack() as stack, closing(ServerAddress(its)) as address:
        yield CloneScenario(
            kind,
            its,
            source,
            nats_server.url,
            tmp_path / "audit.duckdb",
            MemoryPositionStore(),
            address,
            tmp_path,
            stack,
        )


def test_a_clone_with_exactly_the_stored_transactions_is_resumed(scenario: CloneScenario) -> None:
    with scenario.running() as tail:
        tail.wait_begun()
        scenario.write(3)
        scenario.catch_up(tail)
        scenario.cut()
        scenario.last_backup("whole")
        clone = scenario.clone("whole")
        clone.write(2)
        scenario.fail_over(clone)
        wait_until(lambda: tail.error or tail.progress.changes == 5, 60, "the rows of the clone")
    assert clone.stored() == clone.written() == 5


def test_a_clone_of_an_older_backup_is_refused(scenario: CloneScenario) -> None:
    """Stored transactions are missing there, and it has logged as many others."""
    scenario.backup("older")
    with scenario.running() as tail:
        tail.wait_begun()
        scenario.write(3)
        scenario.catch_up(tail)
        scenario.cut()
        clone = scenario.clone("older")
        clone.write(6)
        scenario.fail_over(clone)
        error = tail.end(60.0)
    assert isinstance(error, PositionError)
    assert "does not have stored transactions" in str(error)
    assert "does not have stored transactions" in clone.refused()
    assert clone.stored() == 3


def test_a_clone_of_a_restored_server_is_refused(scenario: CloneScenario) -> None:
    """It has other transactions with the GTIDs of the stored ones."""
    if scenario.kind == "mariadb":
        pytest.skip("replicas of MariaDB log other times, so nothing distinguishes the transactions")
    scenario.backup("older")
    with scenario.running() as tail:
        tail.wait_begun()
        scenario.write(3)
        scenario.catch_up(tail)
        scenario.cut()
        scenario.restore("older")
        scenario.write(3)
        scenario.last_backup("restored")
        clone = scenario.clone("restored")
        scenario.fail_over(clone)
        error = tail.end(60.0)
    assert isinstance(error, PositionError)
    assert "was restored to an older state and has assigned the same GTIDs again" in str(error)
    assert "--accept-gap" in str(error)
    assert "has another transaction" in clone.refused()
    assert clone.stored() == 3
    with clone.tail(accept_gap="the server was restored") as tail:
        clone.catch_up(tail)
    assert clone.stored() == 3 + clone.written()  # all that the clone has, after the gap


def test_replicas_of_mariadb_may_log_another_time() -> None:
    """A statement that took long has a later time there; it is the same transaction."""
    with replicated_pair("mariadb") as (source, replica):
        run(source, "CREATE DATABASE slow", "CREATE TABLE slow.t (a INT)", "INSERT INTO slow.t SELECT sleep(2.1)")
        wait_for_all(replica, source)
        info = inspect_server(config_of(source, "slow"))
        committed_us = time.time_ns() // 1000 - 3_000_000
        validate(
            config_of(replica, "slow"), Checkpoint(info.end(), info.server_uuid, info.executed, ts_us=committed_us)
        )
