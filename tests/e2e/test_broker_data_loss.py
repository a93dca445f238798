"""The broker loses acknowledged messages: its files are restored from an earlier copy, or the stream is deleted.

The tail publishes the changes again that the binlog still has, once and in order, and logs a warning.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.codec.subjects import stream_name
from binlogsync.servers import NATSServer
from binlogsync.sinks import Sink
from binlogsync.sinks.audit import AuditSink
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import FreshDatabase
from tests.e2e.oracle import (
    ChangeCoordinates,
    assert_exact,
    assert_mirrored,
    assert_same,
    audit_coordinates,
    binlog_changes,
    coordinates,
    stream_coordinates,
)
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink
from tests.e2e.writers import TABLES, Writers
from tests.nats_commands import delete_stream


class BrokerLossScenario:
    """A source with writers, a separate broker, an audit log, and mirrors of all tables."""

    def __init__(self, mysql: FreshDatabase, nats: NATSServer, folder: Path) -> None:
        self.mysql, self.nats, self.folder = mysql, nats, folder
        self.source = f"loses-{mysql.name}"
        self.config = config_of(mysql.server, self.source)
        self.writers = Writers(mysql, seed=4, pause_s=0.1)
        self.store = MemoryPositionStore()
        self.audit = folder / "audit.duckdb"

    def tail(self) -> TailThread:
        sinks: list[Sink] = [stream_sink(self.nats.url), AuditSink(self.audit)]
        return TailThread(self.config, sinks, self.store, options_of(self.source, self.mysql.name))

    def copy_files(self) -> None:
        """Copy the broker's files while it is stopped."""
        self.nats.stop()
        shutil.copytree(self.nats.store_dir / "jetstream", self.folder / "copy")
        self.nats.start()

    def put_files_back(self) -> None:
        self.nats.kill()
        shutil.rmtree(self.nats.store_dir / "jetstream")
        shutil.copytree(self.folder / "copy", self.nats.store_dir / "jetstream")
        self.nats.start()

    def mirror_all(self, max_s: float | None = None) -> None:
        for table in TABLES:
            mirror(self.nats.url, self.source, self.folder / "mirrors.duckdb", (self.mysql.name, table), max_s)

    def assert_all_exact(self) -> None:
        changes = assert_exact((self.config, self.mysql.name), self.nats.url, self.source)
        assert_same(audit_coordinates(self.audit), [coordinates(change) for change in changes], "audit log")
        self.assert_mirrors()

    def assert_mirrors(self) -> None:
        self.mirror_all()
        for table in TABLES:
            assert_mirrored(self.mysql.server, self.folder / "mirrors.duckdb", self.mysql.name, table)

    def wanted(self) -> list[ChangeCoordinates]:
        return [coordinates(change) for change in binlog_changes(self.config, self.mysql.name)]


@pytest.fixture
def scenario(mysql: FreshDatabase, tmp_path: Path) -> Iterator[BrokerLossScenario]:
    with servers.nats() as server:
        yield BrokerLossScenario(mysql, server, tmp_path)


def test_loss_while_the_tail_is_running(scenario: BrokerLossScenario, caplog: pytest.LogCaptureFixture) -> None:
    with scenario.writers.running(), scenario.tail() as tail:
        tail.wait_stored(100)
        scenario.copy_files()
        tail.wait_stored(tail.progress.changes + 150)
        scenario.mirror_all(max_s=1.0)
        scenario.put_files_back()
        tail.wait_stored(tail.progress.changes + 100)
        scenario.writers.stop()
        tail.catch_up()
    said = "\n".join(tail.progress.recoveries)
    assert f"stream {stream_name(scenario.source)} LOST MESSAGES that NATS had acknowledged" in said
    assert "jetstream ends at" in said
    assert f"though it had acknowledged {scenario.source} up to" in said
    assert "LOST the changes between; reading them again" in caplog.text
    scenario.assert_all_exact()


def test_loss_while_the_tail_is_stopped(scenario: BrokerLossScenario, caplog: pytest.LogCaptureFixture) -> None:
    with scenario.writers.running():
        with scenario.tail() as tail:
            tail.wait_stored(100)
            scenario.copy_files()
            tail.wait_stored(tail.progress.changes + 150)
            scenario.mirror_all(max_s=1.0)
        scenario.put_files_back()
        with scenario.tail() as again:
            again.wait_stored(100)
            scenario.writers.stop()
            again.catch_up()
    assert "jetstream ends at" in again.progress.recoveries[0]
    assert "LOST the changes between; reading them again" in caplog.text
    scenario.assert_all_exact()


@pytest.mark.parametrize("while_running", [True, False], ids=["running", "stopped"])
def test_loss_of_the_whole_stream(
    while_running: bool, scenario: BrokerLossScenario, caplog: pytest.LogCaptureFixture
) -> None:
    """Changes after the checkpoint in the position store are published once, in order; earlier ones are not.

    The audit log and the mirrors, which have them, stay exact.
    """
    with scenario.writers.running():
        with scenario.tail() as tail:
            tail.wait_stored(100)
            scenario.writers.stop()
            tail.catch_up()
            scenario.mirror_all()
            before = len(scenario.wanted())
            if while_running:
                delete_stream(scenario.nats.url, stream_name(scenario.source))
                scenario.mysql.execute("INSERT INTO visits VALUES ('later', 1), ('later', 2)")
                scenario.mysql.execute("UPDATE orders SET note = 'later'")
                tail.catch_up()
        if not while_running:
            delete_stream(scenario.nats.url, stream_name(scenario.source))
            scenario.mysql.execute("INSERT INTO visits VALUES ('later', 1), ('later', 2)")
            scenario.mysql.execute("UPDATE orders SET note = 'later'")
            with scenario.tail() as tail:
                tail.catch_up()
    said = "\n".join(tail.progress.recoveries)
    assert "jetstream is empty, though" in said
    assert "it is new, or LOST EVERYTHING; resuming from" in said
    assert said.splitlines()[-1] in caplog.text
    wanted = scenario.wanted()
    assert len(wanted) > before + 2
    assert_same(
        stream_coordinates(scenario.nats.url, scenario.source), wanted[before:], "stream after the saved checkpoint"
    )
    assert_same(audit_coordinates(scenario.audit), wanted, "audit log")
    scenario.assert_mirrors()
