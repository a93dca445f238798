"""Opens a DuckDB file for reading while mirrors write to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from binlogsync.errors import ConfigError, ConsumeError, TargetBusyError
from binlogsync.targets.duckdb.file import RETRY_S, is_locked, locked_message
from binlogsync.waiting import RetryTimer

if TYPE_CHECKING:
    import duckdb


def open_warehouse(path: str | Path, timeout_s: float = 30.0) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a DuckDB file that mirrors or handlers write; see `duckdb.connect`.

        with binlogsync.open_warehouse(".binlogsync/warehouse.duckdb") as connection:
            orders = connection.sql("FROM shop.orders").df()

    It waits for a moment in which no transaction is being written, for seconds on a busy machine, and shows what was
    committed until then. Mirrors wait while it is open: close it after the query. Other programs, for example the
    DuckDB shell, can open the file in the same way: read-only, and again after a moment if it is locked.

    Args:
        path: of the file.
        timeout_s: how long to wait, in seconds.

    Raises ConfigError if the file does not exist, TargetBusyError after the timeout, ConsumeError if DuckDB cannot read
    the file.
    """
    import duckdb

    timer = RetryTimer(timeout_s, RETRY_S)
    while True:
        if not Path(path).exists():
            raise ConfigError(f"{path} does not exist; mirrors create it when they store their first change")
        try:
            return duckdb.connect(str(path), read_only=True)
        except duckdb.Error as error:
            if not is_locked(error):
                raise ConsumeError(f"DuckDB cannot read {path}: {error}") from error
            if timer.is_over:
                raise TargetBusyError(locked_message(Path(path), timeout_s, error), str(path)) from error
        timer.pause()
