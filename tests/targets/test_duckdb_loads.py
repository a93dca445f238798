"""Loads of mirrors whose names change before the first load is complete: no spare table is left in the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.errors import ConsumeError
from binlogsync.targets.duckdb.file import META_SCHEMA
from binlogsync.targets.duckdb.store import DuckStore
from tests.duck import make_batch, make_older, query
from tests.targets.contract_loads import LOAD
from tests.targets.contract_mirrors import SCHEMA, row

Load = Callable[..., None]


@pytest.fixture
def store(tmp_path: Path) -> DuckStore:
    return DuckStore(tmp_path / "warehouse.duckdb")


@pytest.fixture
def load(store: DuckStore) -> Load:
    def begin(number: int, name: str, table: str = "things") -> None:
        """Begin to load the mirror of shop.<table> as raw.<name>."""
        schema = replace(SCHEMA, table=table)
        with store.begin() as transaction:
            state = transaction.place_mirror(transaction.load_mirror("shop", table), ("raw", name))
            transaction.begin_load(state, schema, "one")
            transaction.insert_rows(state, schema, [make_batch(schema, [("r", None, row(number))])])
            transaction.store_load(state, replace(LOAD, schema=schema), "one")

    return begin


def count_tables(store: DuckStore) -> int:
    sql = f"SELECT count(*) FROM duckdb_tables() WHERE schema_name <> '{META_SCHEMA}'"
    return int(query(store.path, sql)[0][0])


def test_a_load_under_another_name_replaces_the_spare_table(store: DuckStore, load: Load) -> None:
    load(1, "first")
    load(2, "second")
    assert count_tables(store) == 1
    with store.begin() as transaction:
        state = transaction.place_mirror(transaction.load_mirror("shop", "things"), ("raw", "second"))
        transaction.replace_table(state, SCHEMA, 7)
    assert query(store.path, "SELECT id FROM raw.second") == [(2,)]
    assert count_tables(store) == 1


def test_a_load_is_forgotten_with_its_mirror(store: DuckStore, load: Load) -> None:
    load(1, "first")
    with store.begin() as transaction:
        transaction.forget_mirror("shop", "things")  # without the names of its options
        assert not transaction.drop_load(transaction.load_mirror("shop", "things"))
    assert count_tables(store) == 0


def test_a_load_of_an_earlier_version_is_dropped(store: DuckStore) -> None:
    """It did not store where its spare table is: that is beside the table that the mirror has by its options."""
    with store.begin() as transaction:
        transaction.begin_load(transaction.load_mirror("shop", "things"), SCHEMA, "one")
    names = ("duck_schema", "duck_table", "spare_table")
    make_older(store.path, *(f"ALTER TABLE {META_SCHEMA}.loads DROP COLUMN {name}" for name in names))
    with store.begin() as transaction:
        assert transaction.drop_load(transaction.load_mirror("shop", "things"))
    assert count_tables(store) == 0


def test_the_name_of_a_load_is_taken(store: DuckStore, load: Load) -> None:
    load(1, "first")
    wanted = r'"raw"\."FIRST", which a load of the mirror of shop\.things .* binlogsync remove shop\.things --drop'
    with pytest.raises(ConsumeError, match=wanted):
        load(2, "FIRST", "others")
    load(2, "second", "others")
    load(3, "third")
    load(4, "first", "others")
    assert count_tables(store) == 2
