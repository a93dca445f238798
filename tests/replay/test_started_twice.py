"""Replays of one table that are started while another one runs, or was killed: no change is stored twice or lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from binlogsync.consume import patience
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import NO_PROGRESS, TableProgress
from binlogsync.errors import ConsumeError, TargetBusyError
from binlogsync.nats.messages import StreamBatch
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.replay.ranges import ReplayPlan, ReplayRange
from binlogsync.replay.run import ReplayTask, replay_ranges
from binlogsync.replay.targets import AppliedFilter, MemoryTarget, ReplayState
from binlogsync.replay.to_tables import HandlerTarget, TableTarget
from binlogsync.targets.duckdb.file import META_SCHEMA
from binlogsync.targets.duckdb.store import DuckStore
from tests.duck import SERVER_UUID, locked_by_another, make_batch, query, query_elsewhere
from tests.targets.contract_mirrors import SCHEMA, row
from tests.waiting import wait_until

KEYLESS = replace(SCHEMA, primary_key=())
START = Checkpoint(BinlogPosition("binlog.000001", 4), SERVER_UUID)
REPLACED = "was started again by another process, another one that replaces its output was started"


def plan(request: str, number: str, source: str = "main") -> ReplayPlan:
    return ReplayPlan(source, "shop", "things", request, (ReplayRange("all", START, START),), number)


def items(first: int, until: int) -> list[StreamBatch]:
    """Inserts of the rows with these ids, one in each batch."""
    batches = [make_batch(KEYLESS, [("c", None, row(number))], number) for number in range(first, until)]
    return [StreamBatch(batch, np.zeros(len(batch), np.int64), None) for batch in batches]


def row_ids(batch: pa.RecordBatch) -> list[int]:
    """The ids of the rows of `items`, by the ids of the changes."""
    return [int(change_id.split(":")[-2]) - 1 for change_id in batch["id"].to_pylist()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def open_store(path: Path) -> DuckStore:
    return DuckStore(path, timeout_s=5, error=ConsumeError)


def table_target(path: Path) -> TableTarget:
    return TableTarget(open_store(path), "shop", "things")


def handler_target(path: Path) -> HandlerTarget:
    def handle(batch: pa.RecordBatch, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE SCHEMA IF NOT EXISTS replay_shop")
        connection.execute("CREATE TABLE IF NOT EXISTS replay_shop.things (id INTEGER)")
        connection.execute("INSERT INTO replay_shop.things SELECT unnest(?)", [row_ids(batch)])

    return HandlerTarget(lambda: Handler(None, handle, TableProgress(open_store(path))))


TARGETS = pytest.mark.parametrize("make", [table_target, handler_target])
Make = Callable[[Path], HandlerTarget]


def begin(target: HandlerTarget, request: str, number: str) -> ReplayState:
    return target.begin(plan(request, number), threading.Event())


def write(target: HandlerTarget, changes: Sequence[StreamBatch]) -> None:
    target.write(changes, threading.Event())


def finish(target: HandlerTarget, state: ReplayState, changes: Sequence[StreamBatch]) -> None:
    """Write what is not stored yet of the changes, which are all of the replay, and finish it."""
    applied = AppliedFilter(state)
    if rest := applied.filter(changes):
        write(target, rest)
    applied.check()
    target.finish()


def ids(path: Path) -> list[int]:
    return [number for (number,) in query(path, "SELECT id FROM replay_shop.things ORDER BY id")]


@TARGETS
def test_of_one_replay_that_runs_twice_only_the_later_start_stores_changes(make: Make, path: Path) -> None:
    first, second = make(path), make(path)
    begin(first, "all", "1")
    state = begin(second, "all", "2")
    assert state.plan.number == "1"
    with pytest.raises(ConsumeError, match=REPLACED):
        write(first, items(0, 5))
    finish(second, state, items(0, 5))
    with pytest.raises(ConsumeError, match=REPLACED):
        write(first, items(0, 5))
    with pytest.raises(ConsumeError, match=REPLACED):
        first.finish()
    assert ids(path) == list(range(5))


@TARGETS
def test_a_replay_that_is_started_again_meanwhile_stops_at_its_next_write(make: Make, path: Path) -> None:
    first, second = make(path), make(path)
    begin(first, "all", "1")
    write(first, items(0, 3))
    state = begin(second, "all", "2")
    with pytest.raises(ConsumeError, match=REPLACED):
        write(first, items(3, 6))
    with pytest.raises(ConsumeError, match=REPLACED):
        first.finish()
    finish(second, state, items(0, 6))
    assert ids(path) == list(range(6))


def test_a_killed_replay_begins_anew_after_another_one_replaced_its_table(path: Path) -> None:
    killed = table_target(path)
    begin(killed, "A", "1")
    write(killed, items(0, 5))
    other = table_target(path)
    finish(other, begin(other, "B", "2"), items(100, 103))
    again = table_target(path)
    state = begin(again, "A", "3")
    assert (state.plan.number, state.done) == ("3", None)
    finish(again, state, items(0, 10))
    assert ids(path) == list(range(10))


def test_a_replay_stops_when_another_one_replaces_its_table(path: Path) -> None:
    """Also one of another source: the table has the same name."""
    replaced, other = table_target(path), table_target(path)
    begin(replaced, "A", "1")
    write(replaced, items(0, 5))
    state = other.begin(plan("A", "2", "other"), threading.Event())
    with pytest.raises(ConsumeError, match=REPLACED):
        write(replaced, items(5, 10))
    finish(other, state, items(100, 103))
    with pytest.raises(ConsumeError, match=REPLACED):
        replaced.finish()
    assert ids(path) == [100, 101, 102]


def test_handlers_of_two_replays_run_at_the_same_time(path: Path) -> None:
    one, two = handler_target(path), handler_target(path)
    states = [begin(one, "A", "1"), begin(two, "B", "2")]
    finish(one, states[0], items(0, 3))
    finish(two, states[1], items(3, 5))
    assert ids(path) == list(range(5))


def test_a_replay_whose_progress_was_deleted_begins_with_an_empty_table(path: Path) -> None:
    killed, again = table_target(path), table_target(path)
    begin(killed, "all", "1")
    write(killed, items(0, 5))
    with open_store(path).begin() as transaction:
        [key] = transaction.load_all_progress()
        transaction.forget_progress(key)
    finish(again, begin(again, "all", "2"), items(0, 5))
    assert ids(path) == list(range(5))


def test_only_the_newest_of_several_unfinished_replays_to_a_table_resumes(path: Path) -> None:
    """Earlier versions did not delete the records of the others."""
    first, second = table_target(path), table_target(path)
    begin(first, "A", "1")
    write(first, items(0, 5))
    with open_store(path).begin() as transaction:
        [record], [(key, progress)] = transaction.load_replays(), transaction.load_all_progress().items()
    begin(second, "B", "2")
    write(second, items(100, 103))
    with open_store(path).begin() as transaction:
        transaction.insert_replay(record)
        transaction.move_progress(key, NO_PROGRESS, progress)
        transaction.connection.execute(
            f"UPDATE {META_SCHEMA}.backfills SET begun_at = begun_at - INTERVAL 1 DAY WHERE number = '1'"
        )
    again = table_target(path)
    state = begin(again, "A", "3")
    assert (state.plan.number, state.done) == ("3", None)
    finish(again, state, items(0, 10))
    assert ids(path) == list(range(10))


def test_the_file_is_free_between_two_writes(path: Path) -> None:
    target = table_target(path)
    begin(target, "all", "1")
    write(target, items(0, 5))
    assert not target.tables.is_open
    assert query_elsewhere(path, "SELECT count(*) FROM replay_shop.things") == "[(5,)]"


def test_a_handler_is_not_called_again_while_its_progress_cannot_be_stored(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def handle(batch: pa.RecordBatch) -> None:
        calls.extend(row_ids(batch))

    store = DuckStore(path, timeout_s=0.05, error=ConsumeError)
    target = HandlerTarget(lambda: Handler(None, handle, TableProgress(store)))
    state = begin(target, "all", "1")
    target.close()
    with locked_by_another(path) as process, ThreadPoolExecutor() as pool:
        written = pool.submit(finish, target, state, items(0, 5))
        wait_until(lambda: "Waiting for it" in caplog.text, 60, "the wait")
        assert process.stdin is not None
        process.stdin.close()
        written.result(120)
    assert calls == list(range(5))


def test_a_wait_is_a_new_one_after_changes_were_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LONGEST_S", 0.2)
    monkeypatch.setattr(patience, "BUSY_PAUSE_S", 0.1)
    stored: list[int] = []

    def store_one() -> None:
        stored.append(len(stored))
        if len(stored) < 6:
            raise TargetBusyError("busy", "file")

    def raise_busy() -> None:
        raise TargetBusyError("busy", "file")

    patience.wait_while_busy(store_one, threading.Event(), lambda: len(stored))
    with pytest.raises(TargetBusyError):
        patience.wait_while_busy(raise_busy, threading.Event(), lambda: 0)


def test_a_replay_that_is_stopped_after_its_end_is_finished() -> None:
    stop = threading.Event()

    class StoppedAtEnd(MemoryTarget):
        def finish(self) -> None:
            stop.set()

    sources: Any = None  # nothing is read
    result = replay_ranges(ReplayTask(sources, replace(plan("all", "1"), ranges=()), StoppedAtEnd()), stop)
    assert result.is_finished
