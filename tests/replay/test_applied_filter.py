"""A replay that is resumed after any of its changes, with changes of several servers: no change is lost or repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.progress import progress_at
from binlogsync.errors import PositionError
from binlogsync.nats.messages import StreamBatch
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.replay.ranges import ReplayPlan, ReplayRange, checkpoint_after
from binlogsync.replay.targets import AppliedFilter, ReplayState, StoredChanges, stored_before
from binlogsync.replay.to_parquet import ParquetTarget, read_parquet
from binlogsync.replay.to_tables import TableTarget, stored_up_to
from tests.duck import SERVER_UUID, make_batch, mirror_rows
from tests.targets.contract_mirrors import SCHEMA, row

OTHER = "other-server"
START = Checkpoint(BinlogPosition("binlog.000001", 4), SERVER_UUID)
PLAN = ReplayPlan("main", "shop", "t", "all", (ReplayRange("all", START, START),), "1")
TRANSACTION = 3


def part(server: str, first: int, count: int) -> ChangeBatch:
    """Changes of one server, TRANSACTION in each transaction, but the first of each is one of another table."""
    batch = make_batch(SCHEMA, [("c", None, row(n)) for n in range(first, first + count)], first)
    numbers = np.arange(first, first + count)
    data = batch.data
    for name, values in (("txn_pos", 950 + 100 * (numbers // TRANSACTION)), ("order", numbers % TRANSACTION + 1)):
        index = data.schema.get_field_index(name)
        data = data.set_column(index, data.schema.field(index), pa.array(values, pa.uint64()))
    return replace(batch, data=data, server_uuid=server)


# The other server has the same positions, and continues inside a transaction.
HISTORIES = {
    "failover": [part(SERVER_UUID, 0, 7), part(OTHER, 0, 7)],
    "and back": [part(SERVER_UUID, 0, 6), part(OTHER, 3, 5), part(SERVER_UUID, 6, 6)],
    "second half": [part(SERVER_UUID, 0, 2), part(OTHER, 2, 4), part(SERVER_UUID, 20, 2), part(OTHER, 20, 2)],
}


def cut(parts: Sequence[ChangeBatch], size: int) -> list[StreamBatch]:
    """The changes in batches of up to `size`."""
    pieces = [each.slice(at, min(at + size, len(each))) for each in parts for at in range(0, len(each), size)]
    return [StreamBatch(piece, np.zeros(len(piece), np.int64), None) for piece in pieces]


def keys(items: Sequence[StreamBatch]) -> list[tuple[str, int, int]]:
    """(server, transaction, number in it) of each change."""
    columns = [(item.batch.server_uuid, item.batch.data) for item in items]
    return [
        (server, txn_pos, order)
        for server, data in columns
        for txn_pos, order in zip(data["txn_pos"].to_pylist(), data["order"].to_pylist(), strict=True)
    ]


Stored = Callable[[ChangeBatch], StoredChanges | None]
both_kinds = pytest.mark.parametrize(
    "stored",
    [
        lambda last: stored_before(checkpoint_after(last)),
        lambda last: stored_up_to(progress_at(last, len(last) - 1, 0, 0)),
    ],
    ids=["checkpoint", "progress"],
)


@both_kinds
@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("steps", [1, 100], ids=["a batch a step", "one step"])
@pytest.mark.parametrize("history", HISTORIES)
def test_the_rest_is_what_follows_the_last_stored_change(history: str, size: int, steps: int, stored: Stored) -> None:
    items, singles = cut(HISTORIES[history], size), cut(HISTORIES[history], 1)
    for number, last in enumerate(singles, 1):
        applied = AppliedFilter(ReplayState(PLAN, stored(last.batch)))
        rest: list[StreamBatch] = []
        for at in range(0, len(items), steps):
            rest += applied.filter(items[at : at + steps])
        applied.check()
        assert keys(rest) == keys(singles)[number:], number


@pytest.mark.parametrize("is_table", [False, True], ids=["files", "table"])
def test_a_replay_that_ended_at_a_failover_is_completed(tmp_path: Path, is_table: bool) -> None:
    """The table has no primary key, so that a change that is applied again leaves another row."""
    folder, path, stop = tmp_path / "files", tmp_path / "warehouse.duckdb", threading.Event()
    make = partial(TableTarget, path, "shop", "t") if is_table else partial(ParquetTarget, folder)
    keyless = replace(SCHEMA, table="t", primary_key=())
    items = cut([replace(batch, schema=keyless) for batch in HISTORIES["failover"]], 100)
    killed = make()
    killed.begin(PLAN, stop)
    killed.write(items[:1], stop)
    killed.close()
    target = make()
    applied = AppliedFilter(target.begin(PLAN, stop))
    for item in items:
        if rest := applied.filter([item]):
            target.write(rest, stop)
    applied.check()
    target.finish()
    target.close()
    found = len(mirror_rows(path, "replay_shop", "t")) if is_table else sum(map(len, read_parquet(folder)))
    assert found == len(items[0]) + len(items[1])


@both_kinds
@pytest.mark.parametrize("has_later", [False, True])
def test_changes_of_another_server_are_not_dropped_without_the_last_stored_change(
    has_later: bool, stored: Stored
) -> None:
    """As with a row that a snapshot has published, if the range is now read from the binlogs."""
    first, second, third = HISTORIES["and back"]
    applied = AppliedFilter(ReplayState(PLAN, stored(first)))
    left = [first.slice(0, len(first) - 1), second, *([third] if has_later else [])]
    if not has_later:
        assert applied.filter(cut(left, 100)) == []
    with pytest.raises(PositionError, match="the last stored change is not in the range now"):
        applied.filter(cut(left, 100)) if has_later else applied.check()


@both_kinds
def test_a_replay_without_changes_of_the_server_cannot_resume(
    stored: Stored,
) -> None:
    applied = AppliedFilter(ReplayState(PLAN, stored(HISTORIES["failover"][0])))
    assert applied.filter(cut(HISTORIES["failover"][1:], 100)) == []
    with pytest.raises(PositionError, match="no change of that server is in the range now"):
        applied.check()
