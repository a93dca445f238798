"""Grouping of changes into messages, and of messages into publish units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.codec.envelope import decode_arrow
from binlogsync.sinks.jetstream.grouping import arrow_messages, line_messages, segments, table_runs
from tests.samples import sample_batch

A, B = 0, 1


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ([A], [(0, 1, True)]),
        ([A] * 9, [(0, 9, True)]),
        ([A, B], [(0, 2, False)]),
        ([A] * 4 + [B] * 4, [(0, 4, True), (4, 8, True)]),
        ([A] * 4 + [B], [(0, 4, True), (4, 5, True)]),
        ([A, B] * 3 + [A] * 4, [(0, 6, False), (6, 10, True)]),
        ([A, B, A] + [B] * 5 + [A, B], [(0, 3, False), (3, 8, True), (8, 10, False)]),
    ],
)
def test_long_runs_of_one_table_are_apart(tables: list[int], expected: list[tuple[int, int, bool]]) -> None:
    assert list(segments(np.array(tables), 4)) == expected


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(1, 10))
def test_segments_are_all_in_order(tables: list[int], long: int) -> None:
    found = list(segments(np.array(tables), long))
    assert [at for start, stop, _ in found for at in range(start, stop)] == list(range(len(tables)))
    for start, stop, is_one_table in found:
        assert is_one_table == (len(set(tables[start:stop])) == 1)


def test_runs_keep_the_order_of_each_table() -> None:
    tables = np.array([A, B, A])  # batches 0 and 2 are of one table, under two schemas
    which, rows = np.array([0, 1, 0, 2, 1, 2, 0]), np.array([0, 0, 1, 0, 1, 1, 2])
    assert list(table_runs(tables, which, rows)) == [(0, 0, 2), (2, 0, 2), (0, 2, 3), (1, 0, 2)]


@pytest.mark.parametrize(
    ("most", "limit", "counts", "sizes"),
    [(2, 1000, [2, 2, 1], [9, 9, 4]), (9, 1000, [5], [24]), (9, 11, [2, 2, 1], [9, 9, 4]), (9, 3, [1] * 5, [4] * 5)],
)
def test_lines_share_a_message(most: int, limit: int, counts: list[int], sizes: list[int]) -> None:
    offsets = np.arange(10, 36, 5)  # five lines of four bytes and a line end
    made = line_messages(offsets, 1000, None, most, limit)
    assert (made.counts.tolist(), made.sizes.tolist()) == (counts, sizes)
    assert made.addresses.tolist() == [1010 + 5 * sum(counts[:n]) for n in range(len(counts))]


@pytest.mark.parametrize("limit", [1, 4000, 20_000, 10**6])
def test_arrow_streams_are_no_larger_than_the_limit_unless_one_change_is(limit: int) -> None:
    batch = sample_batch(50)
    made = arrow_messages(batch, max(1, batch.nbytes // len(batch)), limit)
    assert made.counts.sum() == len(batch)
    assert all(size <= limit or count == 1 for size, count in zip(made.sizes, made.counts, strict=True))
    assert isinstance(made.memory, list)
    assert [len(decode_arrow(body.tobytes())) for body in made.memory] == made.counts.tolist()
