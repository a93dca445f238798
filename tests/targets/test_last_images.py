"""The last image of each key compared with a simple search, for keys of every type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogsync.schema import Column, TableSchema
from binlogsync.targets.batch_checks import decode_ops
from binlogsync.targets.duckdb.last_images import find_last_images
from binlogsync.targets.duckdb.row_images import RowImages
from tests.duck import Change, make_batch
from tests.examples import examples

KINDS: dict[str, tuple[Column, tuple[Any, ...]]] = {
    "int": (Column("id", "int", nullable=False), (1, 2, 3, -4)),
    "bigint unsigned": (Column("id", "bigint", unsigned=True, nullable=False), (0, 1, 2**64 - 1)),
    "varchar": (Column("id", "varchar", length=9, charset="utf8mb4", nullable=False), ("", "a", "A", "a ")),
    "enum": (Column("id", "enum", labels=("x", "y", "z"), charset="utf8mb4", nullable=False), ("x", "y", "z")),
    "set": (Column("id", "set", labels=("a", "b"), charset="utf8mb4", nullable=False), ([], ["a"], ["a", "b"])),
    "double": (Column("id", "double", nullable=False), (0.0, -0.0, 1.5)),
}
OTHER = Column("line", "smallint", nullable=False)


def changes(values: tuple[Any, ...]) -> st.SearchStrategy[list[list[Change]]]:
    """Batches of changes, also impossible ones: the last image does not depend on that."""
    row = st.fixed_dictionaries({"id": st.sampled_from(values), "line": st.integers(0, 1)})
    change = st.one_of(
        st.tuples(st.sampled_from("cr"), st.none(), row),
        st.tuples(st.just("u"), row, row),
        st.tuples(st.just("d"), row, st.none()),
    )
    return st.lists(st.lists(change, min_size=1, max_size=5), min_size=1, max_size=4)


def key_of(row: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The key in a form that Python compares as DuckDB does."""
    return tuple(tuple(row[name]) if isinstance(row[name], list) else row[name] for name in names)


@pytest.mark.generated
@pytest.mark.parametrize("names", [("id",), ("id", "line"), ("line", "id")])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(10), deadline=None)
@given(data=st.data())
def test_the_last_image_of_each_key_is_found(kind: str, names: tuple[str, ...], data: st.DataObject) -> None:
    column, values = KINDS[kind]
    schema = TableSchema("shop", "things", (column, OTHER), names)
    work = data.draw(changes(values))
    last: dict[tuple[Any, ...], int] = {}
    for number, (_, before, after) in enumerate(change for batch in work for change in batch):
        for image, odd in ((before, 0), (after, 1)):
            if image is not None:
                last[key_of(image, names)] = 2 * number + odd
    batches = [make_batch(schema, batch) for batch in work]
    found = find_last_images(names, [RowImages(batch, decode_ops(batch)) for batch in batches])
    assert np.flatnonzero(found.is_last).tolist() == sorted(last.values())
    keys = found.keys.rename_columns(list(names)).to_pylist()
    assert len(keys) == len(last)
    assert {key_of(key, names) for key in keys} == set(last)


def test_rows_are_counted_through_all_batches() -> None:
    schema = TableSchema("shop", "things", (KINDS["int"][0], OTHER), ("id",))
    rows = [{"id": number, "line": 0} for number in (1, 2)]
    batches = [
        make_batch(schema, [("c", None, rows[0]), ("c", None, rows[1])]),
        make_batch(schema, [("d", rows[0], None), ("u", rows[1], rows[1])]),
    ]
    found = find_last_images(("id",), [RowImages(batch, decode_ops(batch)) for batch in batches])
    assert found.mask("after", 0, 2).tolist() == [False, False]
    assert found.mask("before", 2, 2).tolist() == [True, False]
    assert found.mask("after", 2, 2).tolist() == [False, True]
