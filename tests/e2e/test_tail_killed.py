"""The tail's process is killed several times and restarted by the decisions of the sensor; a consumer's is killed too.

Afterwards the stream and the audit log hold each change of the binlog once, in order, and each mirror equals SELECT.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from binlogsync.servers import NATSServer
from binlogsync.sinks.audit import AuditSink
from binlogsync.stores import Lease
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.tail.supervision import Decision, TailObservation, TailRun, decide_action
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.oracle import (
    assert_exact,
    assert_mirrored,
    assert_same,
    audit_coordinates,
    binlog_changes,
    coordinates,
    mysql_replication_counts,
    stream_changes,
)
from tests.e2e.tailing import QUICK, TailThread, config_of, mirror, options_of, stream_sink
from tests.e2e.writers import TABLES, Writers
from tests.forked import ForkedProcess
from tests.waiting import wait_until

KILLS = int(os.environ.get("BINLOGSYNC_TEST_KILLS", "4"))
LATER_S = 120.0  # what the keeper would see two minutes after a kill, instead of two minutes of waiting


@contextmanager
def running(module: str, given: Mapping[str, Any], log: Path) -> Iterator[ForkedProcess]:
    """A process of the module with these options, killed at the end of the block if still running."""
    with log.open("ab") as output:
        process = ForkedProcess(module, json.dumps(given), stdout=output, stderr=output)
    try:
        yield process
    except BaseException as error:
        error.add_note(f"{module} wrote:\n{log.read_text()[-4000:]}")
        raise
    finally:
        process.kill()
        process.wait()


@dataclass
class KeeperScenario:
    """The input of the sensor that restarts the tail, and the runs."""

    source: str
    store: SQLitePositionStore
    runs: tuple[TailRun, ...] = ()

    def decide(self, later_s: float = 0.0) -> Decision:
        lease = self.store.leases.load(self.source)
        lease = lease and replace(lease, age_s=lease.age_s + later_s)
        return decide_action(TailObservation(self.source, self.runs, lease, time.time() + later_s))

    def carry_out(self, decision: Decision) -> str:
        """Mark dead runs as failed and launch the next run, like the sensor; returns its id."""
        assert decision.run_key is not None, decision
        now = time.time()
        self.runs = tuple(
            replace(r, state="failure", ended=now) if r.run_id in decision.failed else r for r in self.runs
        )
        run_id = f"run {len(self.runs)}"
        self.runs = (TailRun(run_id, "started", now, now), *self.runs)
        return run_id

    def claimed_by(self, run_id: str) -> Lease | None:
        lease = self.store.leases.load(self.source)
        return lease if lease is not None and lease.owner == run_id else None


@pytest.mark.slow
@pytest.mark.parametrize("flush", ["interval", "eager"])
def test_exactly_once_through_kills(
    flush: str, mysql: FreshDatabase, nats_server: NATSServer, position_store: SQLitePositionStore, tmp_path: Path
) -> None:
    chance = random.Random(20)
    source, audit = f"killed-{mysql.name}", tmp_path / "audit.duckdb"
    config, writers = config_of(mysql.server, source), Writers(mysql, seed=3)
    options = {"source": source, "include": [f"{mysql.name}.*"], "flush": flush, **QUICK}
    given = {"positions": str(tmp_path / "positions.db"), "nats": nats_server.url, "audit": str(audit)}
    connection = {k: v for k, v in asdict(config).items() if k != "tls"}
    scenario = KeeperScenario(source, position_store)
    consumer = {"nats": nats_server.url, "source": source, "database": mysql.name, "path": str(tmp_path / "orders.db")}
    with writers.running():
        for number in range(KILLS):
            decision = scenario.decide(LATER_S)
            assert decision.action == ("fail_then_start" if number else "start"), decision
            run_id = scenario.carry_out(decision)
            tail = {**given, "mysql": connection, "options": options, "owner": run_id}
            with running("tests.e2e.tail_process", tail, tmp_path / "tail.log") as process:
                if number % 4 == 3:
                    time.sleep(chance.random() * 3)  # perhaps while it starts
                else:
                    wait_until(lambda run=run_id: scenario.claimed_by(run), 60, f"{run_id} to claim its lease")  # type: ignore[misc]
                    assert scenario.decide().action == "skip"
                    wait_until(lambda: scenario.store.checkpoints.load(source), 60, "a first checkpoint")
                    writers.write_big()
                    with running("tests.e2e.mirror_process", {**consumer, "tables": ["orders"]}, tmp_path / "m.log"):
                        time.sleep(chance.random() * 3)
                    if number % 2:
                        writers.rotate()
                assert process.poll() is None, (tmp_path / "tail.log").read_text()[-2000:]
        writers.stop()
        scenario.carry_out(scenario.decide(LATER_S))
    with TailThread(
        config,
        [stream_sink(nats_server.url), AuditSink(audit)],
        scenario.store,
        options_of(source, mysql.name),
        owner=scenario.runs[0].run_id,
        take_over=True,
    ) as last:
        last.catch_up()

    changes = assert_exact((config, mysql.name), nats_server.url, source)
    assert len(changes) > KILLS * 1000
    assert_same(audit_coordinates(audit), [coordinates(change) for change in changes], "audit log")
    ids = [row[0] for row in query(audit, "SELECT id FROM changes ORDER BY rowid")]
    assert ids == [change.id for change in changes]
    counts = Counter((change.source.table, change.op) for change in changes)
    assert counts == mysql_replication_counts(mysql.server, mysql.name)
    for table in TABLES:
        path = tmp_path / ("orders.db" if table == "orders" else "others.db")
        mirror(nats_server.url, source, path, (mysql.name, table))
        assert_mirrored(mysql.server, path, mysql.name, table)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("stream", [{"changes_per_message": 20}, {"format": "arrow"}], ids=["lines", "arrow"])
def test_messages_of_many_changes_through_kills(
    stream: dict[str, Any],
    mysql: FreshDatabase,
    nats_server: NATSServer,
    position_store: SQLitePositionStore,
    tmp_path: Path,
) -> None:
    """Several tails, each killed in the middle, process one backlog."""
    chance = random.Random(4)
    source, writers = f"formats-{mysql.name}", Writers(mysql, seed=5)
    config = config_of(mysql.server, source)
    with writers.running():
        for _ in range(4):
            writers.write_big()
    connection = {k: v for k, v in asdict(config).items() if k != "tls"}
    options = {"source": source, "include": [f"{mysql.name}.*"], **QUICK}
    given = {"positions": str(tmp_path / "positions.db"), "nats": nats_server.url, "stream": stream}
    store = position_store
    reached = []
    for number in range(4):
        tail = {**given, "mysql": connection, "options": options, "owner": f"run {number}"}
        with running("tests.e2e.tail_process", tail, tmp_path / "tail.log"):
            before = store.checkpoints.load(source)
            wait_until(lambda old=before: store.checkpoints.load(source) != old, 60, "a checkpoint")  # type: ignore[misc]
            time.sleep(chance.random() * 0.02)
        reached.append(store.checkpoints.load(source))
        writers.write_big()
    sink = stream_sink(nats_server.url, **stream)
    with TailThread(config, [sink], store, options_of(source, mysql.name), owner="last", take_over=True) as last:
        last.catch_up()
    wanted = binlog_changes(config, mysql.name)
    for table in TABLES:
        there = [change for change in wanted if change.source.table == table]
        assert stream_changes(nats_server.url, source, mysql.name, table) == there
    assert len(set(map(str, reached))) == len(reached)
