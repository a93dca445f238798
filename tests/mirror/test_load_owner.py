"""A load that was interrupted is resumed only if its rows are still those that its state describes."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.errors import ConsumeError
from binlogsync.mirror.load import TableLoad
from binlogsync.mysql.config import MySQLConfig
from binlogsync.snapshot.throttle import LoadLimits
from binlogsync.targets import TableStore
from binlogsync.targets.factory import open_store
from tests.targets.contract_loads import LOAD
from tests.targets.contract_mirrors import SCHEMA

NAME = ("shop", "things")
STORED = replace(LOAD, last_key=("7",), rows=7)


@pytest.fixture
def tables(tmp_path: Path) -> TableStore:
    """A store with an interrupted load."""
    tables = open_store(tmp_path / "warehouse.duckdb")
    with tables.begin() as transaction:
        state = transaction.load_mirror(*NAME)
        transaction.begin_load(state, SCHEMA, "one")
        transaction.store_load(state, STORED, "one")
    return tables


def take_over(tables: TableStore) -> str:
    """Resume the load, as found before; returns the owner."""
    load = TableLoad(tables, NAME, MySQLConfig(), None, threading.Event(), LoadLimits(), lambda _: None)
    load._take_over(STORED)  # noqa: SLF001 - between finding and resuming it, the load reads the definition of the table
    return load.owner


def test_an_interrupted_load_is_taken_over(tables: TableStore) -> None:
    owner = take_over(tables)
    with tables.begin() as transaction:
        state = transaction.load_mirror(*NAME)
        transaction.check_owner(state, owner)
        assert transaction.find_load(state) == STORED


@pytest.mark.parametrize("is_new", [True, False])
def test_a_load_that_another_process_began_again_or_continued_is_not(tables: TableStore, is_new: bool) -> None:
    """Its spare table has other rows: this load would continue after rows that are not there."""
    with tables.begin() as transaction:
        state = transaction.load_mirror(*NAME)
        if is_new:
            transaction.begin_load(state, SCHEMA, "two")
        transaction.store_load(state, LOAD if is_new else replace(STORED, rows=9), "two")
    with pytest.raises(ConsumeError, match="another process"):
        take_over(tables)
    with tables.begin() as transaction:
        transaction.check_owner(state, "two")
