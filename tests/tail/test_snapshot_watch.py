"""Requests for one consumer begin when it is ready; the end of cancelled ones is stored, also without a report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from binlogsync.codec.snapshot_state import FIRST_ORDINAL
from binlogsync.codec.subjects import snapshot_prefix
from binlogsync.errors import ConfigError, SinkError
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.snapshot.control import cancel, pause, resume
from binlogsync.snapshot.requests import SnapshotStatus, SnapshotTableStatus, new_request
from binlogsync.snapshot.requests_memory import MemorySnapshotRequests
from binlogsync.tail import snapshot_watch
from binlogsync.tail.snapshot_watch import SnapshotReport, SnapshotWatch
from tests.waiting import wait_until

TABLES = (
    SnapshotTableStatus(state="done", rows=3),
    SnapshotTableStatus(state="running", rows=1),
    SnapshotTableStatus(),
)


ORDERS, ITEMS = ("shop", "orders"), ("shop", "items")


class DirectingSink(Sink):
    """A sink whose stream these consumers read; None if it cannot have rows for one of them."""

    name = "stand-in"

    def __init__(self, readers: Mapping[str, Collection[tuple[str, str]]] | None) -> None:
        self.problem = ""
        self.directed: list[tuple[str | None, Collection[tuple[str, str]]]] = []
        self._readers = readers

    def find_readers(self, source: str) -> Mapping[str, Collection[tuple[str, str]]]:
        if self._readers is None:
            raise ConfigError("no permission")
        return self._readers

    def direct_rows(self, source: str, prefix: str | None, tables: Collection[tuple[str, str]]) -> None:
        if self.problem:
            raise SinkError(self.problem)
        self.directed.append((prefix, tables))

    def open(self, source: str) -> Checkpoint | None:
        raise NotImplementedError

    def write(self, flush: Flush) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@contextmanager
def watching(
    requests: MemorySnapshotRequests, begun: str | None, sink: DirectingSink | None = None
) -> Iterator[SnapshotWatch]:
    def find_tables(patterns: Sequence[str]) -> Sequence[tuple[str, str]]:
        return (ORDERS, ITEMS) if "shop.*" in patterns else ()

    watch = SnapshotWatch("main", requests, find_tables, begun, lambda: None, sink or DirectingSink({}))
    with closing(watch):
        yield watch


def cancelled(requests: MemorySnapshotRequests) -> str:
    """A request that was begun."""
    id = requests.create(new_request(["shop.*"])).request.id
    stored = requests.load(id)
    assert stored is not None
    requests.update(stored, replace(stored.status, state="running", tables=TABLES, began_us=1))
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
            watch.report(SnapshotReport(id, "cancelled", (SnapshotTableStatus(state="done", rows=9),)))
        status = end_of(requests, id)
    assert status.state == "cancelled"
    wanted = [("done", 9)] if is_reported else [("done", 3), ("cancelled", 1), ("cancelled", 0)]
    assert [(table.state, table.rows) for table in status.tables] == wanted


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_watch, "_POLL_S", 0.02)


def request_for(requests: MemorySnapshotRequests, subject: str) -> str:
    return requests.create(new_request(["shop.*"], subject=subject)).request.id


@pytest.mark.usefixtures("quick")
def test_a_request_for_one_consumer_has_the_tables_that_it_reads() -> None:
    requests, sink = MemorySnapshotRequests(), DirectingSink({"app": {ORDERS}, "other": {ITEMS}})
    id = request_for(requests, snapshot_prefix("main", "app"))
    with watching(requests, None, sink) as watch:
        watch.next_ordinal = FIRST_ORDINAL
        current = wait_until(lambda: watch.current, 30, "the request to begin")
        assert current is not None
        assert (current.request.tables, current.request.consumer) == ((ORDERS,), "app")
        assert sink.directed[-1] == (snapshot_prefix("main", "app"), (ORDERS,)), "before the tail knows the request"
        watch.next_ordinal = None  # rows are being published
        cancel(requests, id)
        wait_until(lambda: watch.current is None, 30, "the end of the request")
        assert sink.directed[-1][0] is not None
        watch.next_ordinal = FIRST_ORDINAL
        wait_until(lambda: sink.directed[-1] == (None, ()), 30, "the end of the rows")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (snapshot_prefix("main", "nobody"), "no consumer 'nobody' reads the stream; those that do are: app"),
        (snapshot_prefix("other", "app"), "is no subject for the rows of main"),
        ("elsewhere", "is no subject for the rows of main"),
        (snapshot_prefix("main", "denied"), "permission"),
    ],
)
def test_a_request_that_no_consumer_would_get_fails(subject: str, text: str) -> None:
    requests = MemorySnapshotRequests()
    id = request_for(requests, subject)
    with watching(requests, None, DirectingSink(None if subject.endswith("denied") else {"app": {ORDERS}})) as watch:
        watch.next_ordinal = FIRST_ORDINAL
        status = end_of(requests, id)
    assert status.state == "failed"
    assert text in status.error


@pytest.mark.usefixtures("quick")
def test_rows_that_cannot_be_directed_wait_and_say_why() -> None:
    requests, sink = MemorySnapshotRequests(), DirectingSink({"app": {ORDERS}})
    sink.problem = "the server refuses it"
    id = request_for(requests, snapshot_prefix("main", "app"))

    def error() -> str:
        stored = requests.load(id)
        return "" if stored is None else stored.status.error

    with watching(requests, None, sink) as watch:
        watch.next_ordinal = FIRST_ORDINAL
        wait_until(lambda: error() == sink.problem, 30, "the error")
        pause(requests, id)
        assert error() == sink.problem
        resume(requests, id)
        assert watch.current is None
        sink.problem = ""
        wait_until(lambda: watch.current is not None, 30, "the request to begin")
        assert not error()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("is_begun", [False, True])
def test_requests_behind_one_that_cannot_be_directed_begin_when_it_is_cancelled(is_begun: bool) -> None:
    requests, sink = MemorySnapshotRequests(), DirectingSink({"app": {ORDERS}})
    sink.problem = "the server refuses it"
    id = request_for(requests, snapshot_prefix("main", "app"))
    later = requests.create(new_request(["shop.*"])).request.id
    with watching(requests, id if is_begun else None, sink) as watch:
        watch.next_ordinal = FIRST_ORDINAL
        wait_until(lambda: any(each.status.error for each in requests.list()), 30, "the error")
        cancel(requests, id)
        current = wait_until(lambda: watch.current, 30, "the later request to begin")
        assert current is not None
        assert current.request.id == later
    assert end_of(requests, id).state == "cancelled"


@pytest.mark.usefixtures("quick")
def test_the_last_report_of_a_cancelled_request_is_stored() -> None:
    """Not one of its rows that came after the operator had cancelled it."""
    requests = MemorySnapshotRequests()
    id = cancelled(requests)
    with watching(requests, id) as watch:
        watch.report(SnapshotReport(id, "running", (SnapshotTableStatus(state="running", rows=5),)))

        def rows() -> int:
            stored = requests.load(id)
            return 0 if stored is None else stored.status.rows

        wait_until(lambda: rows() == 5, 30, "the report")
        watch.report(SnapshotReport(id, "cancelled", (SnapshotTableStatus(state="failed", rows=5),), "a part"))
        status = end_of(requests, id)
    assert (status.state, status.error) == ("cancelled", "a part")
