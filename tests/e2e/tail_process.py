"""A tail in a process that tests kill: `python -m tests.e2e.tail_process '{"source": ...}'`, ended by SIGTERM.

It has a JetStream sink (options in "stream"), an audit sink if "audit" is a file, positions in SQLite, and takes
snapshot requests from NATS; it takes over the source, like the tail's op. With "is_killed_among_rows" it is killed
among the rows of a table that is published as a whole.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any

from binlogsync.mysql import MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.signals import stop_on_signals
from binlogsync.sinks import Sink
from binlogsync.sinks.audit import AuditSink
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.tail.run import Tail, TailOptions


def main(text: str) -> None:
    """Tail until SIGTERM."""
    logging.basicConfig(level=logging.INFO)
    given = json.loads(text)
    if given.get("is_killed_among_rows"):
        # Other tails start without these modules.
        import pytest

        from tests.e2e.snapshot_scenario import crash_among_rows, use_small_slices

        patch = pytest.MonkeyPatch()
        use_small_slices(patch, poll_s=0.2)  # a table of few rows has several slices
        crash_among_rows(patch, lambda: os.kill(os.getpid(), signal.SIGKILL))
    store = SQLitePositionStore(given["positions"])
    sinks: list[Sink] = [JetStreamSink(JetStreamOptions(url=given["nats"], **given.get("stream", {})))]
    if "audit" in given:
        sinks.append(AuditSink(given["audit"]))
    options: dict[str, Any] = given["options"]
    options["include"] = tuple(options["include"])
    snapshots = NatsSnapshotRequests(NatsOptions(url=given["nats"]), options["source"])
    tail = Tail(
        MySQLConfig(**given["mysql"]),
        sinks,
        store,
        TailOptions(**options),
        owner=given["owner"],
        take_over=True,
        snapshots=snapshots,
    )
    with stop_on_signals() as stop:
        tail.run(stop)
    store.close()
    snapshots.close()


if __name__ == "__main__":
    main(sys.argv[1])
