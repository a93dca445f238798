"""Rows are compared by key and hash, in chunks of consecutive keys; rows without a key by hash and number."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from binlogsync.targets.comparison import Comparison
from binlogsync.targets.factory import open_comparer


def hashed(rows: Sequence[str], keys: int) -> pa.Table:
    """A row is its keys and its hash, joined by slashes."""
    parts = [row.split("/") for row in rows]
    names = [*(f"k{i}" for i in range(keys)), "h"]
    return pa.table({name: pa.array([each[i] for each in parts], pa.string()) for i, name in enumerate(names)})


def compare(there: Sequence[Sequence[str]], here: Sequence[str], keys: int = 1, chunk_rows: int = 100) -> Comparison:
    """Compare rows of the table, which come in batches, with those of the mirror."""
    with open_comparer(chunk_rows, 5) as comparer:
        assert comparer.fill(keys, (hashed(batch, keys) for batch in there)) == sum(map(len, there))
        return comparer.compare(hashed(here, keys))


def test_equal_rows_in_another_order() -> None:
    found = compare([["1/a", "2/b"], ["3/c"]], ["3/c", "1/a", "2/b"], chunk_rows=2)
    assert (found.is_equal, found.there, found.here, found.chunks) == (True, 3, 3, 2)
    assert compare([], []).is_equal


def test_rows_that_differ_are_found_by_key() -> None:
    found = compare([["1/a", "2/b", "10/c", "11/d"]], ["1/a", "2/x", "9/c", "11/d"], chunk_rows=3)
    [first, second] = found.differing
    assert (first.first, first.last) == (("1",), ("9",)), "numbers are in numeric order"
    assert (first.rows, first.missing, first.extra, first.different) == (2, 0, 1, 1)
    assert (second.missing, second.examples) == (1, ("10 missing",))
    assert found.keys.to_pydict() == {"k0": ["2", "9", "10"]}


def test_a_key_of_several_columns_and_a_row_that_the_mirror_has_twice() -> None:
    found = compare([["1/a/h", "1/b/h"]], ["1/a/h", "1/a/h", "1/b/h"], keys=2)
    [chunk] = found.differing
    assert (chunk.extra, chunk.missing, chunk.different) == (1, 0, 0)
    assert found.keys.to_pydict() == {"k0": ["1"], "k1": ["a"]}


def test_rows_without_a_key_are_counted() -> None:
    assert compare([["a", "a", "b"]], ["b", "a", "a"], keys=0).is_equal
    found = compare([["a", "a", "b"]], ["a", "b", "b"], keys=0)
    [chunk] = found.differing
    assert (chunk.missing, chunk.extra) == (1, 1)
    assert found.keys.num_columns == 0
