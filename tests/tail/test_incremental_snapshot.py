"""Where the progress of a snapshot ends, and what is read again after a restart. Stand-ins for requests and reader."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from binlogsync.binlog.decoded_range import DecodedRange
from binlogsync.change import SchemaChange
from binlogsync.codec.snapshot_state import FIRST_ORDINAL, SnapshotState
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.snapshot.requests import SnapshotRequest, SnapshotStatus, TableStatus
from binlogsync.tail.incremental_snapshot import IncrementalSnapshot
from binlogsync.tail.snapshot_pace import SnapshotPace
from binlogsync.tail.snapshot_reader import SnapshotReader
from binlogsync.tail.snapshot_watch import CurrentSnapshot, SnapshotReport, SnapshotWatch
from tests.tail.test_snapshot_table import Orders

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
    status = SnapshotStatus(state="running", tables=(TableStatus(),), began_us=1)
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
