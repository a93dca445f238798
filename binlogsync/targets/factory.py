"""Chooses the implementation of a target; the modules that use a target do not know which one it is."""

from __future__ import annotations

from pathlib import Path

from binlogsync.errors import BinlogSyncError, ConsumeError
from binlogsync.targets import TableStore
from binlogsync.targets.duckdb.store import DuckStore


def open_store(
    place: TableStore | str | Path, timeout_s: float = 30.0, error: type[BinlogSyncError] = ConsumeError
) -> TableStore:
    """The store at that place: a path is a DuckDB file, which is created if it is missing; a store is returned.

    `timeout_s` is how long to wait while another process uses the file, and `error` the class raised when DuckDB fails.
    """
    return DuckStore(place, timeout_s, error) if isinstance(place, str | Path) else place
