"""Progress of several handlers is stored in one transaction, and an error is raised by its own handler only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.consume.progress import NO_PROGRESS, ProgressKey, TableProgress
from binlogsync.consume.progress_buffer import ProgressBuffer
from binlogsync.errors import ConsumeError
from binlogsync.targets.duckdb.store import DuckStore

ONE, TWO = ProgressKey("c", "main", "shop", "one"), ProgressKey("c", "main", "shop", "two")


def stored(path: Path, key: ProgressKey) -> int:
    """The number of changes in the stored progress."""
    return TableProgress(DuckStore(path, error=ConsumeError)).load(key).changes


def test_progress_is_stored_by_a_flush_and_a_conflict_is_raised_by_its_own_store(tmp_path: Path) -> None:
    path, buffer = tmp_path / "w.duckdb", ProgressBuffer()
    one, two = (buffer.wrap(TableProgress(DuckStore(path, error=ConsumeError))) for _ in range(2))
    first, second = one.load(ONE), two.load(TWO)
    for number in (1, 2):
        first = one.move(ONE, first, replace(first, changes=number))
        second = two.move(TWO, second, replace(second, changes=number))
    assert (stored(path, ONE), one.stored(ONE)) == (0, None)
    buffer.flush()
    assert (stored(path, ONE), stored(path, TWO)) == (2, 2)
    assert one.stored(ONE) is not None

    with DuckStore(path).begin() as transaction:  # a rewind, by another process
        transaction.move_progress(ONE, transaction.load_progress(ONE), replace(NO_PROGRESS, changes=100))
    first = one.move(ONE, first, replace(first, changes=3))
    second = two.move(TWO, second, replace(second, changes=3))
    buffer.flush()
    assert (stored(path, ONE), stored(path, TWO)) == (100, 3)
    with pytest.raises(ConsumeError, match="changed by another process"):
        one.move(ONE, first, replace(first, changes=4))
    assert one.load(ONE).changes == 100
    two.move(TWO, second, replace(second, changes=4))
    assert two.load(TWO).changes == 4, "stored before it is loaded"
