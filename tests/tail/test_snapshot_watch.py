"""The end of cancelled requests is stored, by the last report of the tail or without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from binlogsync.snapshot.control import cancel
from binlogsync.snapshot.requests import SnapshotStatus, TableStatus, new_request
from binlogsync.snapshot.requests_memory import MemorySnapshotRequests
from binlogsync.tail import snapshot_watch
from binlogsync.tail.snapshot_watch import SnapshotReport, SnapshotWatch
from tests.waiting import wait_until

TABLES = (TableStatus(state="done", rows=3), TableStatus(state="running", rows=1), TableStatus())


@contextmanager
def watching(requests: MemorySnapshotRequests, begun: str | None) -> Iterator[SnapshotWatch]:
    watch = SnapshotWatch("main", requests, lambda _: (), begun, lambda: None)
    with closing(watch):
        yield watch


def cancelled(requests: MemorySnapshotRequests) -> str:
    """A request that was begun."""
    id = requests.create(new_request(["shop.*"])).request.id
    stored = requests.load(id)
    assert stored is not None
    requests.update(id, stored.revision, replace(stored.status, state="running", tables=TABLES, began_us=1))
    cancel(requests, id)
    return id


def end_of(requests: MemorySnapshotRequests, id: str) -> SnapshotStatus:
    def status() -> SnapshotStatus:
        stored = requests.load(id)
        assert stored is not None
        return stored.status

    wait_until(lambda: status().ended_us, 30, "the end of the request")
    return status()


@pytest.mark.parametrize("is_reported", [True, False])
def test_a_cancelled_request_ends(is_reported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_watch, "_POLL_S", 0.02)
    requests = MemorySnapshotRequests()
    id = cancelled(requests)
    with watching(requests, id if is_reported else None) as watch:
        if is_reported:
            watch.report(SnapshotReport(id, "cancelled", (TableStatus(state="done", rows=9),)))
        status = end_of(requests, id)
    assert status.state == "cancelled"
    wanted = [("done", 9)] if is_reported else [("done", 3), ("cancelled", 1), ("cancelled", 0)]
    assert [(table.state, table.rows) for table in status.tables] == wanted
