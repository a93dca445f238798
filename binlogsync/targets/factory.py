"""Chooses the implementation of a target; the modules that use a target do not know which one it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from binlogsync.errors import BinlogSyncError, ConsumeError
from binlogsync.targets import TableStore
from binlogsync.targets.comparison import RowComparer
from binlogsync.targets.duckdb.row_comparison import DuckRowComparer
from binlogsync.targets.duckdb.store import DuckStore


def open_store(
    place: TableStore | str | Path,
    timeout_s: float = 30.0,
    error: type[BinlogSyncError] = ConsumeError,
    storage_version: str | None = None,
) -> TableStore:
    """The store at that location: a path is a DuckDB file, which is created if it is missing; a store is returned.

    `timeout_s` is how long to wait while another process uses the file, and `error` the class raised when DuckDB fails.
    A new file gets the format of `storage_version`, like "v1.4.0"; None for the newest.
    """
    return DuckStore(place, timeout_s, error, storage_version) if isinstance(place, str | Path) else place


@contextmanager
def open_comparer(chunk_rows: int, examples: int) -> Iterator[RowComparer]:
    """Compares rows in chunks of so many, with so many examples per chunk, whichever target the mirror is in.

    It keeps the rows in a temporary DuckDB file, so that only memory for a part of them is needed.
    """
    with TemporaryDirectory(prefix="binlogsync-verify-") as folder:
        yield DuckRowComparer(Path(folder), chunk_rows, examples)
