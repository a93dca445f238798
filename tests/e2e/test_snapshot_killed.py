"""A tail that is killed in a snapshot, beside writers: mirrors from the stream alone, and its rows, equal SELECT."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from binlogsync.codec.subjects import snapshot_prefix
from binlogsync.nats.client import NatsOptions
from binlogsync.servers import NATSServer
from binlogsync.snapshot.requests import new_request
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.tail.options import TailOptions
from tests.databases import FreshDatabase
from tests.e2e.oracle import assert_mirrored, envelopes
from tests.e2e.snapshot_oracle import check_stream
from tests.e2e.snapshot_writers import TABLES, SnapshotWriters, create_tables
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink
from tests.e2e.test_tail_killed import running
from tests.e2e.whole_table_oracle import (
    HEAP,
    HEAP_OPERATIONS,
    check_heap,
    create_heap,
    last_stage,
    ops_in_order,
    stages,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROWS = 200
"""Of each table; the snapshot takes ten seconds, and a killed tail publishes one or two of them."""
PAUSE_S = 0.3
"""The longest pause of a writer: processes take seconds to start, and what is written meanwhile is checked too."""


@pytest.mark.parametrize(
    ("flush", "consumer", "kills"),
    [
        ("interval", None, 1),
        pytest.param("eager", None, 2, marks=pytest.mark.exhaustive),
        pytest.param("interval", "one: a.b *", 2, marks=pytest.mark.exhaustive),
    ],
)
def test_a_snapshot_goes_on_after_kills(
    flush: str,
    consumer: str | None,
    kills: int,
    mysql: FreshDatabase,
    nats_server: NATSServer,
    position_store: SQLitePositionStore,
    tmp_path: Path,
) -> None:
    source = f"snapkill-{mysql.name.replace('_', '')}"
    config = config_of(mysql.server, source)
    create_tables(mysql, ROWS)
    options: dict[str, Any] = {"source": source, "include": [f"{mysql.name}.*"], "flush": flush, "start": "now"}
    options |= {"flush_interval_s": 0.1, "idle_checkpoint_s": 0.5}
    tail = {"positions": str(tmp_path / "positions.db"), "nats": nats_server.url, "options": options}
    tail["mysql"] = {name: value for name, value in asdict(config).items() if name != "tls"}
    requests = NatsSnapshotRequests(NatsOptions(url=nats_server.url), source)
    subject = None if consumer is None else snapshot_prefix(source, consumer)
    client_id = consumer or "binlogsync"

    def mirror_all(max_s: float | None = None) -> None:
        for table in TABLES:
            mirror(nats_server.url, source, tmp_path / "mirror.db", (mysql.name, table.name), max_s, client_id)

    with closing(requests), SnapshotWriters(mysql, 3, pause_s=PAUSE_S).running():
        id = ""

        def rows() -> int:
            stored = requests.load(id)
            return 0 if stored is None else stored.status.rows

        for number in range(kills):
            before = rows() if id else 0
            with running("tests.e2e.tail_process", {**tail, "owner": f"run {number}"}, tmp_path / "tail.log"):
                wait_until(lambda: position_store.checkpoints.load(source), 60, "a checkpoint")
                if not id:
                    if consumer is not None:
                        mirror_all(0.5)  # a consumer is known from its first run on
                    id = requests.create(new_request([f"{mysql.name}.*"], subject=subject, rows_per_s=40)).request.id
                wait_until(lambda: rows() > before, 60, "rows to be published")  # noqa: B023 - at once
                time.sleep(0.05 * number)  # a kill at another moment
        stored = requests.load(id)
        assert stored is not None
        assert not stored.status.has_ended
        last = TailThread(
            config,
            [stream_sink(nats_server.url)],
            position_store,
            TailOptions(**{**options, "include": (f"{mysql.name}.*",)}),
            owner="last",
            take_over=True,
            snapshots=requests,
        )
        with last:
            wait_until(lambda: last.error or requests.load(id).status.has_ended, 60, "the end")  # type: ignore[union-attr]
        stored = requests.load(id)
    with TailThread(
        config, [stream_sink(nats_server.url)], position_store, options_of(source, mysql.name), owner="last"
    ) as caught_up:
        caught_up.catch_up()
    assert stored is not None
    assert stored.status.state == "done", stored.status
    faults = check_stream(config, nats_server.url, mysql.name, TABLES, mysql.execute, client_id=consumer)
    assert not faults.sentences, faults
    assert sum(faults.published.values()) == stored.status.rows
    if consumer is not None:
        assert all(each["op"] != "r" for each in envelopes(nats_server.url, source))
    mirror_all()
    for table in TABLES:
        assert_mirrored(mysql.server, tmp_path / "mirror.db", mysql.name, table.name)


def test_a_whole_table_is_published_again_after_a_kill(
    mysql: FreshDatabase, nats_server: NATSServer, position_store: SQLitePositionStore, tmp_path: Path
) -> None:
    source = f"wholekill-{mysql.name.replace('_', '')}"
    config = config_of(mysql.server, source)
    create_heap(mysql)
    mysql.execute("CREATE TABLE numbers (id INT PRIMARY KEY, v INT, note VARCHAR(100))")
    options: dict[str, Any] = {"source": source, "include": [f"{mysql.name}.*"], "flush": "eager", "start": "now"}
    tail = {"positions": str(tmp_path / "positions.db"), "nats": nats_server.url, "options": options}
    tail["mysql"] = {name: value for name, value in asdict(config).items() if name != "tls"}
    requests = NatsSnapshotRequests(NatsOptions(url=nats_server.url), source)
    with closing(requests), SnapshotWriters(mysql, 3, operations=HEAP_OPERATIONS, pause_s=PAUSE_S).running():
        killed = {**tail, "owner": "killed", "is_killed_among_rows": True}
        with running("tests.e2e.tail_process", killed, tmp_path / "tail.log") as process:
            wait_until(lambda: position_store.checkpoints.load(source), 60, "a checkpoint")
            id = requests.create(new_request([f"{mysql.name}.{HEAP}"])).request.id
            assert process.wait(240) == -signal.SIGKILL
        assert last_stage(nats_server.url, source, mysql.name) == ("r", "true")
        chosen = TailOptions(**{**options, "include": (f"{mysql.name}.*",)})
        sinks = [stream_sink(nats_server.url)]
        with TailThread(
            config, sinks, position_store, chosen, owner="last", take_over=True, snapshots=requests
        ) as last:
            wait_until(lambda: last.error or requests.load(id).status.has_ended, 60, "the end")  # type: ignore[union-attr]
        stored = requests.load(id)
    with TailThread(config, [stream_sink(nats_server.url)], position_store, chosen, owner="last") as caught_up:
        caught_up.catch_up()
    assert stored is not None
    assert stored.status.state == "done", stored.status
    found = stages(nats_server.url, source, mysql.name)
    assert ops_in_order(found) == "trtr"
    assert stored.status.rows == found[::-1].index(("t", "first"))
    faults = check_heap(config, nats_server.url, mysql.name, mysql.execute)
    assert not faults.sentences, faults
    mirror(nats_server.url, source, tmp_path / "mirror.db", (mysql.name, HEAP))
    assert_mirrored(mysql.server, tmp_path / "mirror.db", mysql.name, HEAP)
