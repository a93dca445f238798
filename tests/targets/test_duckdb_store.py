"""The contract of a target, for a DuckDB file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.factory import open_store
from tests.targets.contract import Opener, ReadTable, TableStoreContract

pytestmark = pytest.mark.slow


class TestDuckStore(TableStoreContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "store.duckdb"

    @pytest.fixture
    def opener(self, path: Path) -> Opener:
        return lambda: open_store(path)

    @pytest.fixture
    def read(self, path: Path) -> ReadTable:
        def read(database: str, table: str) -> list[dict[str, Any]]:
            with duckdb.connect(str(path), read_only=True) as connection:
                rows = connection.sql(f"FROM {quote(database, table)}").to_arrow_table().to_pylist()
            return list(rows)

        return read
