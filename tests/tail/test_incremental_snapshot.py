"""Where the progress of a snapshot ends, and what is read again after a restart. Stand-ins for requests and reader."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import cast

import pytest

from binlogsync.binlog.decoded_range import DecodedRange
from binlogsync.change import SchemaChange
from binlogsync.codec.snapshot_state import FIRST_ORDINAL, SnapshotState
from binlogsync.flush import Flush
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.snapshot.requests import SnapshotRequest, SnapshotStatus, SnapshotTableStatus
from binlogsync.tail.incremental_snapshot import IncrementalSnapshot
from binlogsync.tail.snapshot_pace import SnapshotPace
from binlogsync.tail.snapshot_reader import WHOLE, OpenedTable, OpenedView, ReadFailure, SnapshotReader, ViewRows
from binlogsync.tail.snapshot_watch import CurrentSnapshot, SnapshotReport, SnapshotWatch
from tests.tail.test_snapshot_table import Orders
from tests.tail.test_snapshot_whole import NAME, ROWS, Views

STATE = SnapshotState("x1", 0, ("shop", "t"), ("5",), "o", FIRST_ORDINAL + 7)
REQUEST = SnapshotRequest(
    id="x1", patterns=("shop.t",), created_us=1, tables=(("shop", "t"),), first_ordinal=FIRST_ORDINAL
)


def at(position: int, server: str = "server") -> Checkpoint:
    return Checkpoint(BinlogPosition("binlog.000002", position), server)


class Requests:
    """What the tail is told, and what it reports."""

    def __init__(self, current: CurrentSnapshot | None) -> None:
        self.is_known = True
        self.current = current
        self.next_ordinal: int | None = None
        self.reports: list[SnapshotReport] = []

    def report(self, report: SnapshotReport) -> None:
        self.reports.append(report)


def snapshot_of(
    state: SnapshotState | None, held: Checkpoint | None, *, is_open: bool = True
) -> tuple[IncrementalSnapshot, Requests]:
    status = SnapshotStatus(state="running", tables=(SnapshotTableStatus(),), began_us=1)
    requests = Requests(CurrentSnapshot(REQUEST, status) if is_open else None)
    ends = cast(SnapshotWatch, requests), cast(SnapshotReader, Orders())
    return IncrementalSnapshot(*ends, SnapshotPace(1.0, is_eager=False), state, held), requests


def progress(snapshot: IncrementalSnapshot, position: int) -> SnapshotState | None:
    found = snapshot.progress_at(at(position))
    return None if found is None else SnapshotState.from_text(found.text)


@pytest.mark.parametrize(("position", "key"), [(400, ("5",)), (500, ("5",)), (600, ())])
def test_a_statement_before_the_stored_progress_is_not_new(position: int, key: tuple[str, ...]) -> None:
    snapshot, _ = snapshot_of(STATE, at(500))
    assert not snapshot.has_rows(at(100), 0.0)
    drop = SchemaChange("drop", (("shop", "t"),), "DROP TABLE t", 0, BinlogPosition("binlog.000002", position), None, 0)
    snapshot.observe(DecodedRange((), (), False, (drop,), at(700), "more", 1, 1, 0))
    found = progress(snapshot, 700)
    assert found is not None
    assert found.key == key


def test_ordinals_begin_again_after_the_end_alone() -> None:
    snapshot, requests = snapshot_of(SnapshotState("x1", ordinal=FIRST_ORDINAL + 7, done=True), at(500), is_open=False)
    for position in (400, 500):
        assert progress(snapshot, position) is not None
        snapshot.has_rows(at(position), 0.0)
        assert requests.next_ordinal == (None if position < 500 else FIRST_ORDINAL + 7)
    assert progress(snapshot, 501) is None
    assert requests.next_ordinal == FIRST_ORDINAL


@pytest.mark.parametrize("reached", [400, 600])
def test_a_cancelled_one_ends_at_the_later_position(reached: int) -> None:
    snapshot, _ = snapshot_of(STATE, at(500), is_open=False)
    snapshot.has_rows(at(reached), 0.0)
    for position in (reached, max(reached, 500)):
        found = progress(snapshot, position)
        assert found is not None
        assert found.done
    assert progress(snapshot, 601) is None


def test_no_request_begins_before_the_stored_checkpoint() -> None:
    snapshot, requests = snapshot_of(None, at(500), is_open=False)
    snapshot.has_rows(at(400), 0.0)
    assert requests.next_ordinal is None
    snapshot.has_rows(at(500), 0.0)
    assert requests.next_ordinal == FIRST_ORDINAL


@pytest.mark.parametrize(("is_known", "spent", "rows"), [(True, 0, 7), (True, 4, 3), (False, 0, 0)])
def test_a_cancelled_one_is_reported_at_its_end(is_known: bool, spent: int, rows: int) -> None:
    snapshot, requests = snapshot_of(replace(STATE, spent=spent), at(500), is_open=is_known)
    snapshot.has_rows(at(500), 0.0)
    requests.current = None
    snapshot.has_rows(at(500), 0.0)
    [report] = requests.reports
    assert (report.id, report.state) == ("x1", "cancelled")
    assert [(table.state, table.rows) for table in report.tables] == ([("cancelled", rows)] if is_known else [])
    assert requests.next_ordinal == FIRST_ORDINAL + 7


RESET = SnapshotState("x1", 0, NAME, (), "whole", FIRST_ORDINAL + 2, spent=1, is_reset=True, subject="cdc_snapshot.s.c")


def resumed(state: str | None) -> tuple[IncrementalSnapshot, Requests, Views]:
    """After a crash among the rows of a table without a key; None for a request that was cancelled."""
    orders = Views()
    status = SnapshotStatus(state="paused", tables=(SnapshotTableStatus(),), began_us=1)
    requests = Requests(None if state is None else CurrentSnapshot(replace(REQUEST, tables=(NAME,)), status))
    ends = cast(SnapshotWatch, requests), cast(SnapshotReader, orders)
    snapshot = IncrementalSnapshot(*ends, SnapshotPace(1.0, is_eager=False), RESET, at(500))
    assert not snapshot.has_rows(at(500), 0.0)
    assert orders.given == ["open"]
    return snapshot, requests, orders


@pytest.mark.parametrize("state", ["paused", None])
def test_a_table_that_was_reset_is_published_to_its_end(state: str | None) -> None:
    snapshot, requests, orders = resumed(state)
    orders.answer(OpenedTable((), WHOLE, 3))
    for _ in range(2):
        assert not snapshot.has_rows(at(500), 0.0)
    orders.answer(OpenedView(at(500), ROWS.schema, ("server", 1)))
    orders.answer(ViewRows([ROWS]))
    found = []
    while snapshot.has_rows(at(500), 0.0):
        rows = snapshot.take_rows(at(500), 0.0)
        assert rows is not None
        assert rows.batch is not None
        found.append((len(rows.batch), SnapshotState.from_text(rows.progress.text).is_reset))
        if state is None:
            assert rows.progress.subject == RESET.subject
    assert found == [(1, True), (3, False)]
    after = progress(snapshot, 500)
    assert after is not None
    assert after.done is (state is None)
    assert not requests.reports, "before the rows are stored"
    for _ in found:
        snapshot.stored(cast(Flush, SimpleNamespace(changes=3)), 1.0)
    ends = [(each.state, each.tables) for each in requests.reports if each.state != "running"]
    assert ends == ([] if state else [("cancelled", ())])


@pytest.mark.parametrize("state", ["paused", None])
def test_a_table_that_was_reset_and_cannot_be_read_is_reported(
    state: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot, requests, orders = resumed(state)
    orders.answer(ReadFailure("it has a view that fails", is_final=True))
    for _ in range(2):
        assert not snapshot.has_rows(at(500), 0.0)
    text = "it has a view that fails. consumers have only a part of its rows"
    assert text in caplog.text
    after = progress(snapshot, 500)
    assert after is not None
    assert not after.is_reset
    if state is None:
        assert [each.error.startswith(text) for each in requests.reports] == [True]


def test_a_table_that_was_dropped_is_no_longer_reset() -> None:
    snapshot, requests, _ = resumed(None)
    drop = SchemaChange("drop", (NAME,), "DROP TABLE t", 0, BinlogPosition("binlog.000002", 600), None, 0)
    snapshot.observe(DecodedRange((), (), False, (drop,), at(700), "more", 1, 1, 0))
    assert not snapshot.has_rows(at(700), 0.0)
    assert [each.state for each in requests.reports] == ["cancelled"]


def test_progress_of_an_earlier_version_is_read() -> None:
    text = json.dumps({key: value for key, value in asdict(STATE).items() if key not in ("is_reset", "subject")})
    assert SnapshotState.from_text(text) == STATE
