"""The calls of a handler when it fails, or when a change does not fit its model; with hand-made batches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from binlogsync.change import Change
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, ProgressStore, Tracker
from binlogsync.consume.retry import Retry
from binlogsync.consume.targets import TableChanges
from binlogsync.errors import ConfigError, ConsumeError, HandlerError, ModelError
from binlogsync.nats.reader import StreamBatch
from binlogsync.schema import Column, TableSchema
from tests.duck import make_batch, query

KEY = ProgressKey("me", "main", "treehole", "holes")
RETRY = Retry(tries=3, first_wait_s=0.001)
BAD = 7


def holes(*columns: Column) -> TableSchema:
    return TableSchema("treehole", "holes", (Column("id", "int", nullable=False), *columns), ("id",))


def batch(first: int, last: int, schema: TableSchema | None = None) -> StreamBatch:
    """Inserts of the ids first..last, one in each message, with the id as stream sequence."""
    made = make_batch(schema or holes(), [("c", None, {"id": n}) for n in range(first, last + 1)], first)
    return StreamBatch(made, np.arange(first, last + 1), None)


@dataclass
class HoleRow:
    id: int


class RecordingHandlers:
    """Handlers of every form that record their calls, and fail `failures` times at the id BAD."""

    def __init__(self, failures: int = 0) -> None:
        self.calls: list[list[int]] = []
        self.failures = failures

    def note(self, ids: list[int]) -> None:
        self.calls.append(ids)
        if BAD in ids and self.failures:
            self.failures -= 1
            raise RuntimeError("not today")

    def one(self, change: Change[HoleRow]) -> None:
        assert change.after is not None
        self.note([change.after.id])

    def one_stored(self, change: Change[HoleRow], connection: duckdb.DuckDBPyConnection) -> None:
        assert change.after is not None
        connection.execute("CREATE TABLE IF NOT EXISTS stored (id INT)")
        connection.execute("INSERT INTO stored VALUES (?)", [change.after.id])
        self.one(change)

    async def one_async(self, change: Change[HoleRow]) -> None:
        await asyncio.sleep(0)
        self.one(change)

    def many(self, changes: list[Change[HoleRow]]) -> None:
        self.note([change.after.id for change in changes if change.after])

    def frame(self, frame: pd.DataFrame) -> None:
        self.note(frame["after.id"].tolist())

    def arrow(self, batch: pa.RecordBatch) -> None:
        self.note([row["id"] for row in batch.column("after").to_pylist()])

    def frame_stored(self, frame: pd.DataFrame, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS stored (id INT)")
        connection.execute('INSERT INTO stored SELECT "after.id" FROM frame')
        self.frame(frame)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.duckdb"


def take(handler: Handler[Any], *items: StreamBatch, stop: threading.Event | None = None) -> ConsumerProgress:
    """Pass the batches to the handler; returns progress, checked to be equal in file and memory even after an error."""
    tracker = Tracker(KEY, handler.store.load(KEY))
    try:
        handler.take([TableChanges(tracker, items)], stop or threading.Event())
    finally:
        assert handler.store.load(KEY) == tracker.progress
    return tracker.progress


SHAPES = ("one", "one_stored", "one_async", "many", "frame", "arrow", "frame_stored")
BATCHES = ("many", "frame", "arrow", "frame_stored")


def handler(seen: RecordingHandlers, shape: str, path: Path) -> Handler[Any]:
    return Handler(HoleRow, getattr(seen, shape), path, RETRY)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_changes_are_handled_in_order(shape: str, path: Path) -> None:
    seen = RecordingHandlers()
    assert take(handler(seen, shape, path), batch(1, 5), batch(6, 9)).sequence == 9
    assert sum(seen.calls, []) == list(range(1, 10))
    assert len(seen.calls) == (2 if shape in BATCHES else 9)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_failing_change_stands_alone_and_nothing_later_is_handled(shape: str, path: Path) -> None:
    seen = RecordingHandlers(failures=100)
    with pytest.raises(HandlerError, match="the handler failed 3 times") as caught:
        take(handler(seen, shape, path), batch(1, 40))
    [bad] = list(batch(BAD, BAD).batch.changes())
    assert (caught.value.change_id, caught.value.tries) == (bad.id, 3)
    assert caught.value.position == str(bad.source.position)
    assert "test_handler.py:" in str(caught.value)
    assert Tracker(KEY, handler(seen, shape, path).store.load(KEY)).progress.sequence == BAD - 1
    assert seen.calls[-2:] == [[BAD]] * 2
    assert seen.calls.count([BAD]) == 3
    done_alone = [call for call in seen.calls if BAD not in call]
    assert max(sum(done_alone, [])) == BAD - 1
    seen.failures = 0
    seen.calls.clear()
    assert take(handler(seen, shape, path), batch(BAD, 40)).changes == 40
    assert sum(seen.calls, []) == list(range(BAD, 41))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_failure_that_passes_costs_tries_only(shape: str, path: Path) -> None:
    seen = RecordingHandlers(failures=2)
    assert take(handler(seen, shape, path), batch(1, 12)).changes == 12
    if shape.endswith("_stored"):
        assert query(path, "SELECT id FROM stored") == [(n,) for n in range(1, 13)]


def test_a_batch_is_halved_until_the_change_at_fault_is_found(path: Path) -> None:
    seen = RecordingHandlers(failures=100)
    with pytest.raises(HandlerError):
        take(handler(seen, "many", path), batch(1, 1000))
    assert len(seen.calls) < 30


def test_a_row_that_the_model_refuses_is_not_tried_again(path: Path) -> None:
    @dataclass
    class Even:
        id: int

        def __post_init__(self) -> None:
            if self.id % 2:
                raise ValueError(f"{self.id} is odd")

    for shape in ("change", "list[Change]"):
        calls: list[Any] = []

        def each(change: Change[Even], calls: list[Any] = calls) -> None:
            calls.append(change)

        def many(changes: list[Change[Even]], calls: list[Any] = calls) -> None:
            calls.extend(changes)

        fn: Callable[..., object] = each if shape == "change" else many
        file = path.with_name(shape)
        with pytest.raises(HandlerError, match="the model refused it .* 3 is odd"):
            take(Handler(Even, fn, file, RETRY), batch(2, 2), batch(3, 9))
        assert len(calls) == 1


def test_the_model_is_checked_again_when_the_schema_changes(path: Path) -> None:
    seen = RecordingHandlers()
    wider = TableSchema("treehole", "holes", (Column("id", "varchar", nullable=False, length=20),), ("id",))
    changed = StreamBatch(make_batch(wider, [("c", None, {"id": "5"})], 5), np.array([5]), None)
    with pytest.raises(
        ModelError, match=r"HoleRow\.id does not fit .* the column is varchar\(20\), and the field is int"
    ):
        take(handler(seen, "one", path), batch(1, 4), changed)
    assert seen.calls == [[1], [2], [3], [4]]
    more = holes(Column("mood", "varchar", length=9))
    assert take(handler(seen, "one", path), batch(5, 6, more)).sequence == 6


def test_stop_ends_between_two_changes_of_a_batch(path: Path) -> None:
    stop = threading.Event()

    def until_three(change: Change[HoleRow]) -> None:
        if change.after and change.after.id == 3:
            stop.set()

    assert take(Handler(HoleRow, until_three, path), batch(1, 9), stop=stop).sequence == 3


class MemoryProgress(ProgressStore):
    """Progress in memory."""

    def __init__(self) -> None:
        self.kept: ConsumerProgress = NO_PROGRESS
        self.moves = 0

    def load(self, key: ProgressKey) -> ConsumerProgress:
        return self.kept

    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        if self.kept != before:
            raise ConsumeError("moved by another")
        self.kept, self.moves = after, self.moves + 1
        return after


def test_progress_may_be_kept_anywhere() -> None:
    seen, store = RecordingHandlers(), MemoryProgress()
    assert take(Handler(HoleRow, seen.many, store), batch(1, 5)).sequence == 5
    with pytest.raises(ConfigError, match="progress is not kept in DuckDB"):
        Handler(HoleRow, seen.one_stored, store)


def test_progress_of_batches_that_are_done_quickly_is_stored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binlogsync.consume.handler._STORE_EVERY_S", 3600.0)
    seen, store = RecordingHandlers(), MemoryProgress()
    assert take(Handler(HoleRow, seen.many, store), batch(1, 2), batch(3, 3), batch(4, 6)).sequence == 6
    assert (seen.calls, store.moves, store.kept.changes) == ([[1, 2], [3], [4, 5, 6]], 1, 6)


def test_progress_is_stored_behind_each_call_where_calls_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binlogsync.consume.handler._STORE_EVERY_S", -1.0)
    seen, store = RecordingHandlers(), MemoryProgress()
    take(Handler(HoleRow, seen.one, store), batch(1, 2), batch(3, 3))
    assert store.moves == 3


def test_progress_is_stored_before_a_change_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binlogsync.consume.handler._STORE_EVERY_S", 3600.0)
    store, kept = MemoryProgress(), list[int]()

    def fails_at_four(change: Change[HoleRow]) -> None:
        if change.after and change.after.id == 4:
            kept.append(store.kept.sequence)
            raise RuntimeError("not today")

    with pytest.raises(HandlerError):
        take(Handler(HoleRow, fails_at_four, store, RETRY), batch(1, 2), batch(3, 5))
    assert kept == [0, 3, 3]


def test_a_handler_that_is_called_again_gets_a_new_instance() -> None:
    ids: list[int] = []

    def spoils(change: Change[HoleRow]) -> None:
        assert change.after is not None
        ids.append(change.after.id)
        change.after.id = -1
        if len(ids) < 3:
            raise RuntimeError("not today")

    take(Handler(HoleRow, spoils, MemoryProgress(), RETRY), batch(1, 2))
    assert ids == [1, 1, 1, 2]
