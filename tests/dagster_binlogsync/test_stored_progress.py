"""Mirrors without a table are found in the DuckDB file, which is opened only after it has changed."""

from pathlib import Path
from typing import NoReturn

from binlogsync.errors import ConsumeError
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.progress import NO_PROGRESS, ProgressKey
from dagster_binlogsync.consume.stored_progress import StoredProgress

ORDERS, ITEMS = (ProgressKey("dagster", "main", "shop", table) for table in ("orders", "items"))
KEYS = [ORDERS, ITEMS]


def find_unloaded(stored: StoredProgress, file: DuckStore) -> frozenset[ProgressKey]:
    stored.read(file)
    return stored.find_unloaded(KEYS)


class UnopenableFile(DuckStore):
    def transaction(self, *, keep_open: bool = False, is_small: bool = False) -> NoReturn:
        raise AssertionError("the file was opened")


def store_mirror(path: Path, key: ProgressKey) -> None:
    with DuckStore(path).begin() as transaction:
        transaction.store_mirror(transaction.load_mirror(key.database, key.table))


def test_mirrors_without_state_and_progress_in_the_file_are_found(tmp_path: Path) -> None:
    path, stored = tmp_path / "w.duckdb", StoredProgress()
    file = DuckStore(path, 0.1, ConsumeError)
    assert find_unloaded(stored, file) == set(KEYS)
    assert not path.exists()
    with DuckStore(path).transaction() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    assert find_unloaded(stored, file) == set(KEYS)
    store_mirror(path, ORDERS)
    assert find_unloaded(stored, file) == {ITEMS}
    with DuckStore(path).begin() as transaction:
        transaction.move_progress(ITEMS, NO_PROGRESS, NO_PROGRESS)
    assert find_unloaded(stored, file) == set(), "one is loaded, the other has applied changes that left no table"
    path.unlink()
    assert find_unloaded(stored, file) == set(KEYS)


def test_an_unchanged_file_is_not_opened_again(tmp_path: Path) -> None:
    path, stored = tmp_path / "w.duckdb", StoredProgress()
    store_mirror(path, ORDERS)
    assert find_unloaded(stored, DuckStore(path, 0.1, ConsumeError)) == {ITEMS}
    assert find_unloaded(stored, UnopenableFile(path)) == {ITEMS}


def test_a_file_in_use_leaves_the_last_answer(tmp_path: Path) -> None:
    path, stored = tmp_path / "w.duckdb", StoredProgress()
    store_mirror(path, ORDERS)
    file = DuckStore(path, 0.1, ConsumeError)
    with DuckStore(path).transaction():
        assert find_unloaded(stored, file) == set(), "nothing is known yet"
    assert find_unloaded(stored, file) == {ITEMS}
    store_mirror(path, ITEMS)
    with DuckStore(path).transaction():
        assert find_unloaded(stored, file) == {ITEMS}
