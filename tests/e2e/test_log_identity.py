"""A binlog other than the one that was read: reset, restored, cloned, with the tail running or stopped.

Each case resumes exactly or ends with PositionError; none may continue with rows missing. One server of each kind is
shared by many cases, each with a separate source and stream.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pytest
from nats.aio.client import Client

from binlogsync import servers
from binlogsync.codec.envelope import CHECKPOINT, WRITE_ID
from binlogsync.codec.subjects import checkpoint_subject, stream_name
from binlogsync.errors import PositionError
from binlogsync.mysql import MySQLConfig, inspect_server
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.position import Checkpoint
from binlogsync.position_order import compare
from binlogsync.servers import NATSServer
from binlogsync.servers.database import DatabaseServer
from binlogsync.sinks import Sink
from binlogsync.sinks.audit import AuditSink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.file import META_SCHEMA
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.mysql.sources import run
from tests.waiting import wait_until

KINDS = ("gtids", "no gtids", "mariadb")
NO_GTIDS = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}


def start_server(kind: str, stack: ExitStack, data: Path | None = None) -> DatabaseServer:
    if kind == "mariadb":  # without checksums of the server, the identity of an event is our own hash
        return stack.enter_context(servers.mariadb(data, options={"binlog_checksum": "NONE"}))
    return stack.enter_context(servers.mysql(data, options=NO_GTIDS if kind == "no gtids" else {}))


@dataclass
class LogIdentityScenario:
    """A server, and its tails, run sequentially with one position store and one audit log."""

    kind: str
    server: DatabaseServer
    source: str
    url: str
    audit: Path
    store: MemoryPositionStore

    @property
    def config(self) -> MySQLConfig:
        return config_of(self.server, self.source)

    def tail(self, **options: object) -> TailThread:
        sinks: list[Sink] = [stream_sink(self.url), AuditSink(self.audit)]
        return TailThread(self.config, sinks, self.store, options_of(self.source, "logs", **options))

    def write(self, count: int) -> None:
        """Insert rows of equal size, each in one transaction."""
        with closing(self.server.connect(database="logs", autocommit=True)) as connection:
            for _ in range(count):
                connection.cursor().execute("INSERT INTO t (source, note) VALUES (%s, 'of one size')", (self.source,))

    def reset(self) -> None:
        run(self.server, "RESET MASTER" if self.kind == "mariadb" else "RESET BINARY LOGS AND GTIDS")

    def stored(self) -> int:
        """The rows of this source in the audit log."""
        return int(query(self.audit, f"SELECT count(*) FROM changes WHERE after->>'source' = '{self.source}'")[0][0])

    def written(self) -> int:
        return int(str(run(self.server, f"SELECT count(*) FROM logs.t WHERE source = '{self.source}'")[0][0]))

    def catch_up(self, tail: TailThread) -> None:
        """Wait until everything that the server has logged is stored."""
        end = inspect_server(self.config).end()

        def is_there() -> bool:
            at = tail.progress.checkpoint
            return tail.error is not None or (at is not None and compare(at.position, end).is_at_or_after)

        wait_until(is_there, 60, f"{end} to be stored")
        if tail.error is not None:
            raise tail.error

    def refused(self) -> str:
        """Start a tail, which fails with PositionError; return the message."""
        begun = time.monotonic()
        with self.tail() as tail:
            error = tail.end()
        print(f"{self.kind}, at the start: PositionError after {time.monotonic() - begun:.1f} s: {error}")  # noqa: T201
        assert isinstance(error, PositionError)
        return str(error)


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, DatabaseServer]]:
    with ExitStack() as stack:
        server = start_server(request.param, stack)
        prepare(server)
        yield request.param, server


def prepare(server: DatabaseServer) -> None:
    run(
        server,
        "CREATE DATABASE logs",
        "CREATE TABLE logs.t (id INT PRIMARY KEY AUTO_INCREMENT, source VARCHAR(40), note VARCHAR(40))",
    )


@pytest.fixture
def scenario(
    server: tuple[str, DatabaseServer], nats_server: NATSServer, tmp_path: Path, request: pytest.FixtureRequest
) -> LogIdentityScenario:
    kind, its = server
    source = f"log{abs(hash(request.node.name)) % 10**10}"
    return LogIdentityScenario(kind, its, source, nats_server.url, tmp_path / "audit.duckdb", MemoryPositionStore())


def wait_for_position_error(scenario: LogIdentityScenario, tail: TailThread, reset_at: float) -> str:
    error = tail.end(60.0)
    print(f"{scenario.kind}, running: PositionError {time.monotonic() - reset_at:.1f} s after the reset: {error}")  # noqa: T201
    assert isinstance(error, PositionError)
    return str(error)


@pytest.mark.server
def test_a_reset_is_detected_by_a_running_tail(scenario: LogIdentityScenario) -> None:
    """The new log is shorter than the old one, or longer."""
    rows_after = 3 if scenario.kind == "gtids" else 60
    with scenario.tail() as tail:
        tail.wait_begun()
        scenario.write(20)
        scenario.catch_up(tail)
        scenario.reset()
        reset_at = time.monotonic()
        scenario.write(rows_after)
        text = wait_for_position_error(scenario, tail, reset_at)
    assert "reset (RESET BINARY LOGS AND GTIDS, RESET MASTER)" in text
    assert "--accept-gap" in text
    scenario.refused()


@pytest.mark.server
def test_a_reset_is_detected_if_the_new_log_has_the_same_length(scenario: LogIdentityScenario) -> None:
    """The tail has read only the first events of the file, which the new log has too."""
    scenario.reset()
    with scenario.tail(start="now") as tail:
        tail.wait_begun()
        scenario.catch_up(tail)
        scenario.reset()
        reset_at = time.monotonic()
        scenario.write(3)
        wait_until(lambda: tail.has_ended or tail.progress.changes == 3, 60, "the reset to be noticed")
        if not tail.has_ended:  # the first events of two files differ by their time in seconds
            scenario.catch_up(tail)
            tail.stop()
        else:
            wait_for_position_error(scenario, tail, reset_at)


@pytest.mark.server
def test_no_change_of_a_new_log_is_stored_after_the_old_log(scenario: LogIdentityScenario) -> None:
    """An open dump continues with the next file, which has the next name."""
    with scenario.tail() as tail:
        tail.wait_begun()
        scenario.write(5)
        scenario.catch_up(tail)
        scenario.reset()
        reset_at = time.monotonic()
        scenario.write(2)
        for _ in range(3):
            run(scenario.server, "FLUSH BINARY LOGS")
            scenario.write(4)
        wait_for_position_error(scenario, tail, reset_at)
    assert scenario.stored() == 5
    scenario.refused()


@pytest.mark.server
def test_a_reset_is_refused_by_a_stopped_tail(scenario: LogIdentityScenario) -> None:
    """Rows have equal size, so the old offset is again the start of a transaction, or of a file."""
    at_boundary = scenario.kind != "no gtids"
    scenario.reset()
    with scenario.tail() as tail:
        tail.wait_begun()
        scenario.write(15)
        if at_boundary:
            run(scenario.server, "FLUSH BINARY LOGS")
        scenario.catch_up(tail)
    scenario.reset()
    scenario.write(15)
    if at_boundary:
        run(scenario.server, "FLUSH BINARY LOGS")
    scenario.write(20)
    scenario.refused()


@pytest.mark.server
def test_a_tail_resumes_exactly_with_an_unchanged_log(scenario: LogIdentityScenario) -> None:
    """Stop and start the tail at file boundaries, after a purge of older files, and after an unrelated RESET."""
    other = "RESET SLAVE" if scenario.kind == "mariadb" else "RESET REPLICA"
    for number in range(3):
        with scenario.tail() as tail:
            tail.wait_begun()
            scenario.write(3)
            if number == 1:
                run(scenario.server, "FLUSH BINARY LOGS")
                run(scenario.server, other)
            scenario.catch_up(tail)
        scenario.write(2)
        if number == 2:
            run(scenario.server, "FLUSH BINARY LOGS")
            scenario.write(2)
    with scenario.tail() as tail:
        scenario.catch_up(tail)
    assert scenario.stored() == scenario.written()


@pytest.mark.server
def test_a_clone_and_a_server_restored_to_an_older_state(scenario: LogIdentityScenario, tmp_path: Path) -> None:
    """A clone is resumed only if it has all stored transactions, and a server without the last of them is refused.

    The clone and the restored server are made of one backup.
    """
    with scenario.tail(start="now") as tail:
        tail.wait_begun()
        scenario.write(3)
        scenario.catch_up(tail)
    backup(scenario.server, tmp_path / "older")
    resume_clone(scenario, tmp_path)
    restored = replace(
        scenario, source=f"{scenario.source}r", audit=tmp_path / "restored.duckdb", store=MemoryPositionStore()
    )
    refuse_restored(restored, tmp_path / "older")


def resume_clone(scenario: LogIdentityScenario, folder: Path) -> None:
    shutil.copytree(folder / "older", folder / "clone")
    (folder / "clone" / "auto.cnf").unlink(missing_ok=True)  # MySQL makes another UUID
    with ExitStack() as stack:
        clone = replace(scenario, server=start_server(scenario.kind, stack, folder / "clone"))
        clone.write(2)
        if scenario.kind == "no gtids":
            assert "cannot locate it without GTIDs" in clone.refused()
            return
        with clone.tail() as tail:
            clone.catch_up(tail)
            scenario.write(1)
        assert clone.stored() == clone.written() == 5
    with scenario.tail() as tail:  # the first server does not have the transactions that the clone has logged since
        error = tail.end()
    assert isinstance(error, PositionError)
    assert "does not have stored transactions" in str(error)


def refuse_restored(scenario: LogIdentityScenario, older: Path) -> None:
    """It writes other rows at the file names, offsets and GTIDs that were read; the tail is at the start of a file."""
    with scenario.tail(start="now") as tail:
        tail.wait_begun()
        scenario.write(2)
        run(scenario.server, "FLUSH BINARY LOGS")
        scenario.catch_up(tail)
    scenario.server.stop()
    shutil.rmtree(scenario.server.data_dir)
    shutil.copytree(older, scenario.server.data_dir)
    scenario.server.start()
    scenario.write(4)
    run(scenario.server, "FLUSH BINARY LOGS")
    scenario.write(12)
    scenario.refused()


def backup(server: DatabaseServer, to: Path) -> None:
    """Copy the data folder of the server, which is restarted afterwards."""
    server.stop()
    shutil.copytree(server.data_dir, to)
    server.start()


@pytest.mark.server
def test_a_checkpoint_of_an_older_version_is_accepted_once(scenario: LogIdentityScenario) -> None:
    with scenario.tail(start="now") as tail:
        tail.wait_begun()
        scenario.write(3)
        scenario.catch_up(tail)
    older = _as_older_version(scenario)
    assert older.log is None
    with scenario.tail() as tail:
        tail.wait_begun()
        scenario.catch_up(tail)
        wait_until(lambda: tail.error or tail.progress.flushes, 30, "the checkpoint to be completed")
    assert [each for each in tail.progress.recoveries if "stored by an older version" in each]
    completed = scenario.store.checkpoints.load(scenario.source)
    assert completed == older
    assert completed is not None
    assert completed.log is not None
    with scenario.tail() as tail:
        tail.wait_begun()
        scenario.write(2)
        scenario.catch_up(tail)
    assert not [each for each in tail.progress.recoveries if "stored by an older version" in each]
    assert scenario.stored() == 5


def _as_older_version(scenario: LogIdentityScenario) -> Checkpoint:
    """Remove from stream, audit log and store the fields that an older version did not write."""
    with duckdb.connect(str(scenario.audit)) as audit:
        record = json.loads(audit.execute(f"SELECT checkpoint FROM {META_SCHEMA}.audit").fetchall()[0][0])
        older = json.dumps({name: value for name, value in record.items() if name not in ("log", "sequence")})
        audit.execute(f"UPDATE {META_SCHEMA}.audit SET checkpoint = ?", [older])
    with NatsConnection(NatsOptions(url=scenario.url), "older") as connection:
        connection.call(lambda client: publish_checkpoint(client, scenario.source, older))
    checkpoint = Checkpoint.from_text(older)
    scenario.store.checkpoints.save(scenario.store.leases.claim(scenario.source, "older", take_over=True), checkpoint)
    scenario.store.leases.release(scenario.store.leases.claim(scenario.source, "older", take_over=True))
    return checkpoint


async def publish_checkpoint(client: Client, source: str, text: str) -> None:
    """Replace all messages of the stream by the one that an older version wrote."""
    js = client.jetstream()
    await js.purge_stream(stream_name(source))
    await js.publish(checkpoint_subject(source), b"", headers={CHECKPOINT: text, WRITE_ID: "older"})
