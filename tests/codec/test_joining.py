"""Joining small batches, and encoding slices with only the names that they use, does not alter the changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.envelope import decode_arrow, encode_arrow
from binlogsync.codec.joining import SMALL, join_batches
from tests.samples import SampleOptions, SampleSource, SampleTransaction, sample_batch, sample_schema


def rows(batches: list[ChangeBatch]) -> dict[str, list[dict[str, Any]]]:
    """The changes of each table, in order, with the texts of impossible dates."""
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in batches:
        texts = {f"{image}.{column}": values for (image, column), values in batch.impossible.items()}
        whole = pa.table(batch.data).to_pylist()
        for name, values in texts.items():
            for row, text in zip(whole, values.to_pylist(), strict=True):
                row[name] = text
        found.setdefault(batch.schema.name, []).extend(whole)
    return found


@pytest.mark.parametrize("impossible", [False, True])
def test_a_trickle_becomes_one_batch_a_table(impossible: bool) -> None:
    columns = tuple(column for column in sample_schema().columns if column.type != "enum")
    schema = replace(sample_schema(), columns=columns)
    source = SampleSource(SampleOptions(tables=(schema,), rows_per_batch=1, impossible=impossible))
    batches = [batch for _ in range(5) for batch in source.flush(4).batches]
    joined = join_batches(batches)
    assert len(joined) == len({batch.schema.name for batch in batches}) < len(batches)
    assert rows(joined) == rows(batches)
    for batch in joined:
        batch.data.validate(full=True)


def test_batches_that_take_turns_are_joined_in_order() -> None:
    """Batches like those of updates and deletes with partial images of the same columns."""
    columns = tuple(column for column in sample_schema().columns if column.type != "enum")
    schema = replace(sample_schema(), columns=columns)
    [whole] = SampleSource(SampleOptions(tables=(schema,), impossible=True)).flush(12).batches
    turns = [whole.select(pa.array([number % 3 == turn for number in range(len(whole))])) for turn in (1, 0, 2)]
    joined = join_batches(turns)
    assert len(joined) == 1
    assert rows(joined) == rows([whole])


def test_labels_that_differ_are_left_apart() -> None:
    batches = [batch for _ in range(5) for batch in SampleSource(SampleOptions(rows_per_batch=1)).flush(4).batches]
    assert rows(join_batches(batches)) == rows(batches)


def test_labels_of_one_schema_are_joined() -> None:
    whole = sample_batch(50)
    joined = join_batches([whole.slice(start, start + 1) for start in range(50)])
    assert len(joined) == 1
    assert rows(joined) == rows([whole])


def test_large_batches_and_empty_ones() -> None:
    large, small = sample_batch(SMALL), sample_batch(3)
    joined = join_batches([large, large.slice(0, 0), large, small, small])
    assert [len(batch) for batch in joined] == [SMALL, SMALL, 6]
    assert joined[0] is large


def test_a_schema_between_two_parts_them() -> None:
    one, other = (SampleSource().flush([SampleTransaction((table,))]).batches[0] for table in (0, 1))
    assert [batch.schema.name for batch in join_batches([one, other, one])] == [one.schema.name, other.schema.name]


@pytest.mark.parametrize("span", [(0, 300), (5, 6), (120, 180), (299, 300)])
def test_a_slice_is_written_with_its_own_gtids_only(span: tuple[int, int]) -> None:
    batch = sample_batch(300, per_transaction=1)
    part = batch.slice(*span)
    read = decode_arrow(encode_arrow(part))
    assert read.data.to_pylist() == part.data.to_pylist()
    assert len(read.data.column("gtid").dictionary) == span[1] - span[0]


def test_few_changes_of_many_transactions_are_written_with_their_own_gtids_only() -> None:
    batch = sample_batch(300, per_transaction=1)
    part = batch.select(pa.array([number % 60 == 7 for number in range(300)]))
    read = decode_arrow(encode_arrow(part))
    assert read.data.to_pylist() == part.data.to_pylist()
    assert len(read.data.column("gtid").dictionary) == 5
