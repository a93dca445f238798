"""A table that is published as a whole: what waits for it, and what discards its view. A stand-in reads nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from binlogsync.binlog.decoded_range import DecodedRange
from binlogsync.change_batch import ChangeBatch
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.tail.snapshot_reader import WHOLE, OpenedTable, OpenedView, ReadFailure, SnapshotReader, ViewRows
from binlogsync.tail.snapshot_whole import WholeTable
from tests.tail.test_snapshot_table import Orders
from tests.tail.test_snapshot_window import batch_of, row

ROWS = batch_of("rrr", [None] * 3, [row("a"), row("a"), row("b")])
NAME = (ROWS.schema.database, ROWS.schema.table)
CHANGE = batch_of("c", [None], [row("c")])


def at(position: int, skip: int = 0) -> Checkpoint:
    return Checkpoint(BinlogPosition("binlog.000002", position), "server", skip=skip)


def changes(end: Checkpoint, *batches: ChangeBatch) -> DecodedRange:
    return DecodedRange(batches, (), False, (), end, "more", 1, 1, 0)


class Views(Orders):
    def read_whole(self, table: tuple[str, str], low: Checkpoint) -> int:
        self.given.append("whole")
        return len(self.given)


@pytest.fixture
def orders() -> Views:
    return Views()


def ordered(orders: Views) -> WholeTable:
    """A table that is being read from position 100 on."""
    table = WholeTable(cast(SnapshotReader, orders), NAME, OpenedTable((), WHOLE, 3))
    table.give_order(at(100), (), 0.0)
    assert table.is_holding
    return table


def opened(orders: Views) -> WholeTable:
    """The same, once its view at 200 is open."""
    table = ordered(orders)
    orders.answer(OpenedView(at(200), ROWS.schema, ("server", 1)))
    table.take_results()
    assert not table.is_holding
    assert table.split_at == at(200).position
    return table


@pytest.mark.parametrize(
    ("reached", "decoded", "holds"),
    [
        (100, changes(at(200), CHANGE), False),
        (100, changes(at(150, skip=5), CHANGE), False),
        (200, changes(at(300), CHANGE), True),
        (200, changes(at(300)), False),
        (200, changes(at(200, skip=5)), True),
        (300, changes(at(400), CHANGE), True),
    ],
)
def test_changes_after_the_view_wait(reached: int, decoded: DecodedRange, holds: bool, orders: Views) -> None:
    table = opened(orders)
    assert table.holds(decoded, at(reached), 0.0) is holds
    assert not table.is_ready(at(reached))
    orders.answer(ViewRows([ROWS]))
    table.take_results()
    assert table.is_ready(at(reached)) is (reached >= 200)


def test_everything_waits_from_the_reset_to_the_last_row(orders: Views) -> None:
    table = opened(orders)
    orders.answer(ViewRows([ROWS]))
    assert not table.holds(changes(at(300)), at(200), 0.0)
    table.begin()
    table.discard("too late")
    sizes = []
    while not table.is_read:
        assert table.is_holding
        assert table.holds(changes(at(300)), at(200), 1e9)
        sizes.append(len(table.take(2, 1 << 20)))
    assert sizes == [2, 1]
    assert not table.is_holding
    assert not table.holds(changes(at(300), CHANGE), at(200), 0.0)


def test_an_empty_table_ends_with_its_reset(orders: Views) -> None:
    table = opened(orders)
    orders.answer(ViewRows([]))
    table.take_results()
    assert table.is_ready(at(200))
    table.begin()
    assert table.is_read


def test_a_range_across_the_position_discards_the_view(orders: Views) -> None:
    table = opened(orders)
    assert not table.holds(changes(at(300), CHANGE), at(100), 0.0)
    assert table.split_at is None
    table.give_order(at(300), (), 0.0)
    assert orders.given == ["whole"]
    table.give_order(at(300), (), 10.0)
    assert orders.given == ["whole", "whole"]


def test_the_stream_waits_for_a_position_and_for_rows_no_longer_than_that(orders: Views) -> None:
    table = ordered(orders)
    table.give_order(at(100), (), 5.5)
    assert not table.is_holding
    assert "within 5 s" in table.trouble
    table = opened(orders)
    change = changes(at(300), CHANGE)
    assert table.holds(change, at(200), 0.0)
    assert not table.holds(change, at(200), 61.0)
    assert "within 60 s" in table.trouble


def test_a_table_that_cannot_be_read_fails(orders: Views) -> None:
    table = ordered(orders)
    orders.answer(ReadFailure("too large", is_final=True))
    table.take_results()
    assert table.failure == "too large"
    table = ordered(orders)
    for number in range(6):
        assert table.failure is None
        orders.answer(ReadFailure("no moment", is_final=False))
        table.take_results()
        table.give_order(at(100), (), 100.0 * number)
        table.give_order(at(100), (), 100.0 * number + 50)
    assert table.failure == "no moment"


def test_another_order_is_ignored(orders: Views) -> None:
    table = ordered(orders)
    orders.results.append((99, OpenedView(replace(at(50)), ROWS.schema, ("server", 1))))
    table.take_results()
    assert table.is_holding
