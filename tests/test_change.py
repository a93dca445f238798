"""ChangeBatch and Change: columns, slices and row views agree; ids and coordinates identify one change permanently."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.change import RowChange
from binlogsync.change_batch import NAME_TYPE, OP_TYPE, SOURCE_FIELDS, ChangeBatch, build_batch
from binlogsync.schema import Column, TableSchema
from binlogsync.server_version import ServerFlavor
from tests.samples import (
    FIRST_TS_US,
    SERVER_ID,
    SERVER_UUID,
    ZERO_DATE,
    SampleOptions,
    sample_batch,
    sample_change,
    sample_flush,
    sample_schema,
)

BATCH = sample_batch(40)
ZERO_BATCH = sample_batch(40, impossible=True)

SMALL = TableSchema("shop", "t", (Column("id", "int"), Column("name", "varchar", length=9)), ("id",))
ONE_PLACE = {
    "ts_us": [FIRST_TS_US],
    "gtid": [None],
    "file": ["binlog.000001"],
    "pos": [500],
    "row": [0],
    "txn_pos": [400],
    "order": [0],
    "seq": [0],
}


def one(op: str, before: dict[str, object] | None, after: dict[str, object] | None) -> RowChange:
    """One change of SMALL; a column absent from an image is absent from its type."""
    images = []
    for image in (before, after):
        names = tuple(image) if image is not None else None
        images.append(pa.array([image], SMALL.image_type(names)))
    batch = build_batch(SMALL, [op], (images[0], images[1]), ONE_PLACE, (SERVER_UUID, SERVER_ID))
    return next(batch.changes())


def test_a_batch_has_the_documented_columns() -> None:
    fields = [("op", OP_TYPE), *((field.name, field.type) for field in SOURCE_FIELDS)]
    assert [(f.name, f.type) for f in BATCH.data.schema if f.name not in ("before", "after")] == fields
    assert (
        BATCH.data.schema.field("before").type == BATCH.data.schema.field("after").type == sample_schema().image_type()
    )


def test_row_views_have_the_values_of_the_columns() -> None:
    seen = [(change.op, change.before, change.after) for change in BATCH.changes()]
    assert seen == [sample_change(number) for number in range(40)]


def test_an_impossible_date_is_text_in_the_row_view_and_null_in_arrow() -> None:
    zeros = 0
    columns = {name: ZERO_BATCH.data.column(name).to_pylist() for name in ("before", "after")}
    for number, (change, plain) in enumerate(zip(ZERO_BATCH.changes(), BATCH.changes(), strict=True)):
        for image, row, other in (("before", change.before, plain.before), ("after", change.after, plain.after)):
            if row is None or other is None:
                assert row is other is None
            elif row["id"] % 5:
                assert row == other
            else:
                assert row == {**other, "c_date": ZERO_DATE}
                assert columns[image][number]["c_date"] is None
                zeros += 1
    assert zeros == 10  # 5 and 15 in three images, 10 and 20 in two


@pytest.mark.slow
@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from((BATCH, ZERO_BATCH)))
def test_a_slice_is_a_slice_of_the_row_views(a: int, b: int, batch: ChangeBatch) -> None:
    start, stop = min(a, b), max(a, b)
    part = batch.slice(start, stop)
    assert len(part) == stop - start
    assert list(part.changes()) == list(batch.changes())[start:stop]


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=40, max_size=40), st.sampled_from((BATCH, ZERO_BATCH)))
def test_a_selection_is_a_selection_of_the_row_views(mask: list[bool], batch: ChangeBatch) -> None:
    part = batch.select(pa.array(mask, pa.bool_()))
    assert list(part.changes()) == [change for change, keep in zip(batch.changes(), mask, strict=True) if keep]


def test_a_slice_counts_its_own_bytes() -> None:
    halves = BATCH.slice(0, 20).nbytes + BATCH.slice(20, 40).nbytes
    assert BATCH.slice(0, 1).nbytes < BATCH.nbytes / 10
    assert halves == pytest.approx(BATCH.nbytes, rel=0.2)


def test_the_source_of_a_change() -> None:
    source = list(BATCH.changes())[4].source
    assert (source.database, source.table, source.server_id, source.snapshot) == ("shop", "samples", SERVER_ID, False)
    assert (source.gtid, source.order, source.row) == (f"{SERVER_UUID}:2", 1, 1)
    assert source.coordinates == (1, source.position.pos, source.row)


@pytest.mark.parametrize("flavor", [*ServerFlavor, None])
def test_ids_and_coordinates_are_unique_and_coordinates_are_in_order(flavor: ServerFlavor | None) -> None:
    flush = sample_flush(60, SampleOptions(flavor=flavor, rows_per_batch=7))
    changes = [
        (seq, change)
        for batch in flush.batches
        for seq, change in zip(batch.data.column("seq").to_pylist(), batch.changes(), strict=True)
    ]
    in_order = [change for _, change in sorted(changes, key=lambda pair: pair[0])]
    coordinates = [change.source.coordinates for change in in_order]
    assert coordinates == sorted(set(coordinates))
    assert len({change.id for change in in_order}) == flush.changes


def test_the_id_is_the_transaction_and_the_row_in_it() -> None:
    assert next(BATCH.changes()).id == f"{SERVER_UUID}:1:0"
    assert one("c", None, {"id": 1, "name": "a"}).id == f"{SERVER_UUID}:binlog.000001:500:0"


@pytest.mark.parametrize(
    ("op", "before", "after", "changed"),
    [
        ("u", {"id": 1, "name": "a"}, {"id": 1, "name": "b"}, ("name",)),
        ("u", {"id": 1, "name": "a"}, {"id": 1, "name": None}, ("name",)),
        ("u", {"id": 1, "name": "a"}, {"id": 1, "name": "a"}, ()),
        ("u", {"id": 1}, {"id": 1, "name": None}, ("name",)),
        ("u", {"id": 1, "name": "a"}, {"name": "b"}, ("name",)),
        ("c", None, {"id": 1, "name": None}, ("id", "name")),
        ("d", {"id": 1, "name": "a"}, None, ("id", "name")),
        ("t", None, None, ()),
    ],
)
def test_changed_returns_the_columns_that_differ(
    op: str, before: dict[str, object] | None, after: dict[str, object] | None, changed: tuple[str, ...]
) -> None:
    change = one(op, before, after)
    assert (change.before, change.after) == (before, after)
    assert change.changed() == changed


def test_arrow_arrays_are_taken_as_they_are() -> None:
    files = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), ["binlog.000001"])
    small_index = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["binlog.000001"])
    image = pa.array([{"id": 1, "name": "a"}], SMALL.image_type())
    nothing = pa.nulls(1, SMALL.image_type())
    for file in (files, small_index, pa.array(["binlog.000001"]), ["binlog.000001"]):
        batch = build_batch(SMALL, ["c"], (nothing, image), {**ONE_PLACE, "file": file}, (SERVER_UUID, SERVER_ID))
        assert batch.data.column("file").type == NAME_TYPE
        assert next(batch.changes()).source.file == "binlog.000001"


def test_an_empty_batch_has_no_changes() -> None:
    empty = sample_batch(3).slice(0, 0)
    assert (len(empty), list(empty.changes())) == (0, [])
