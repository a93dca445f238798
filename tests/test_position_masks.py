"""Rows that a snapshot has published at a transaction boundary, compared with checkpoints at and around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.boundaries import changes_up_to
from binlogsync.errors import ConfigError, PositionError
from binlogsync.nats.messages import StreamBatch
from binlogsync.position import FIRST_ORDINAL, SNAPSHOT, BinlogPosition, Checkpoint, EventPosition, GtidSet
from binlogsync.position_masks import beyond_mask, not_stored_mask
from binlogsync.position_order import PositionOrder, compare
from binlogsync.replay.ranges import ReplayRange, checkpoint_after, checkpoint_before, mask_from
from binlogsync.server_version import ServerFlavor
from tests.duck import SERVER_UUID, make_batch
from tests.published_rows import PublishedAt, publish_rows
from tests.targets.contract_mirrors import SCHEMA, row

# Transactions begin at 950, 1050 and 1150, and their changes end at 1000, 1100 and 1200; the rows are between the first
# and the second one.
CHANGES = make_batch(SCHEMA, [("c", None, row(n)) for n in range(3)])
ROWS = publish_rows(SCHEMA, [row(n) for n in (7, 8)], PublishedAt("s1", FIRST_ORDINAL, 1050))
AT = Checkpoint(BinlogPosition("binlog.000001", 1050), SERVER_UUID)
ELSEWHERE = Checkpoint(
    BinlogPosition("other.000001", 4), "other", GtidSet.parse(f"{SERVER_UUID}:1", ServerFlavor.MYSQL)
)


def positions(at: Checkpoint) -> tuple[list[bool], list[bool], list[bool]]:
    """(rows not stored, rows beyond, changes not stored) at the checkpoint."""
    stored = not_stored_mask(CHANGES, at).to_pylist()
    assert beyond_mask(CHANGES, at).to_pylist() == stored
    return not_stored_mask(ROWS, at).to_pylist(), beyond_mask(ROWS, at).to_pylist(), stored


@pytest.mark.parametrize(
    ("at", "rows", "beyond", "changes"),
    [
        (replace(AT, position=BinlogPosition("binlog.000001", 950)), [True, True], [True, True], [True, True, True]),
        (AT, [True, True], [False, False], [False, True, True]),
        (replace(AT, skip=FIRST_ORDINAL + 1), [False, True], [False, True], [False, True, True]),
        (replace(AT, skip=FIRST_ORDINAL + 2), [False, False], [False, False], [False, True, True]),
        (replace(AT, skip=1), [False, False], [False, False], [False, False, True]),
        (replace(AT, position=BinlogPosition("binlog.000001", 1150)), [False] * 2, [False] * 2, [False, False, True]),
        (replace(AT, position=BinlogPosition("binlog.000002", 4)), [False] * 2, [False] * 2, [False, False, False]),
        (ELSEWHERE, [True, True], [True, True], [False, True, True]),
    ],
    ids=["before", "boundary", "first row", "all rows", "inside", "after", "next file", "another server"],
)
def test_rows_are_between_two_transactions(
    at: Checkpoint, rows: list[bool], beyond: list[bool], changes: list[bool]
) -> None:
    assert positions(at) == (rows, beyond, changes)


def test_checkpoints_around_a_row_divide_there() -> None:
    for number in range(2):
        before, after = checkpoint_before(ROWS, number), checkpoint_after(ROWS.slice(number, number + 1))
        assert Checkpoint.from_text(after.to_text()) == after
        assert mask_from(ROWS, before).to_pylist() == [number <= n for n in range(2)]
        assert mask_from(ROWS, after).to_pylist() == [number < n for n in range(2)]
        assert mask_from(CHANGES, after).to_pylist() == [False, True, True]


def test_a_range_has_the_rows_published_at_its_end() -> None:
    begin, end = Checkpoint(BinlogPosition("binlog.000001", 4), SERVER_UUID), replace(AT, skip=0)
    parts = [
        ReplayRange("a", begin, AT),
        ReplayRange("b", AT, replace(AT, position=BinlogPosition("binlog.000001", 1150))),
    ]
    assert [part.mask(ROWS).to_pylist() for part in parts] == [[True, True], [False, False]]
    assert [part.mask(CHANGES).to_pylist() for part in parts] == [[True, False, False], [False, True, False]]
    rest = ReplayRange("c", checkpoint_before(ROWS, 1), end)  # its start is a row at its end
    assert not rest.is_empty
    assert rest.mask(ROWS).to_pylist() == [False, True]
    assert ReplayRange("d", AT, AT).is_empty
    with pytest.raises(ConfigError, match="swap its bounds"):
        ReplayRange("e", checkpoint_before(ROWS, 1), begin)


def test_rows_of_another_server_are_not_compared_by_gtid() -> None:
    with pytest.raises(PositionError, match="choose bounds on one side"):
        mask_from(ROWS, ELSEWHERE)
    named = EventPosition(BinlogPosition("binlog.000001", 1050), SERVER_UUID, f"{SNAPSHOT}s1", FIRST_ORDINAL)
    change = EventPosition(BinlogPosition("other.000001", 1050), "other", f"{SERVER_UUID}:1")
    assert compare(named, ELSEWHERE) is PositionOrder.UNKNOWN
    assert compare(named, change) is compare(change, named) is PositionOrder.UNKNOWN


def _items(*batches: ChangeBatch) -> list[StreamBatch]:
    return [StreamBatch(batch, np.arange(len(batch)), None) for batch in batches]


@pytest.mark.parametrize(("at", "count"), [(AT, 3), (replace(AT, skip=1), 4), (ELSEWHERE, 3)])
def test_rows_are_cut_with_what_precedes_them(at: Checkpoint, count: int) -> None:
    items = _items(CHANGES.slice(0, 1), ROWS, CHANGES.slice(1, 3))
    assert sum(len(item) for item in changes_up_to(items, at)) == count
