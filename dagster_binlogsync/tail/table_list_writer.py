"""Writes the list of the tables of a source while its tail runs, in a thread, so that no query delays a flush.

The list is read from the server when the tail starts, every few minutes, and soon after a change of a table that is not
in the list. If it cannot be read or written, the tail logs that and continues.
"""

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.table_list import read_table_list
from binlogsync.table_list import TableList, load_table_list, save_table_list

logger = logging.getLogger(__name__)

REFRESH_S = 300.0
SOON_S = 5.0
_JOIN_S = 5.0


class TableListWriter:
    """Keeps the list of one source in a folder; a context manager. Without a folder it does nothing."""

    def __init__(self, mysql: MySQLConfig, source: str, folder: Path | None) -> None:
        self._mysql, self._source, self._folder = mysql, source, folder
        self._names: frozenset[tuple[str, str]] = frozenset()
        self._awaited: set[tuple[str, str]] = set()
        self._end, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"table list of {source}", daemon=True)

    def __enter__(self) -> "TableListWriter":
        if self._folder is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def note_tables(self, tables: Iterable[tuple[str, str]]) -> None:
        """Refresh the list soon if one of these tables, which have changes, is not in it: once for each table."""
        new = set(tables) - self._names - self._awaited
        if self._folder is not None and new:
            self._awaited |= new
            self._wake.set()

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.clear()
            self._refresh()
            if not self._end.wait(SOON_S):
                self._wake.wait(REFRESH_S)

    def _refresh(self) -> None:
        assert self._folder is not None
        try:
            before: TableList | None = None
            with suppress(ConfigError):  # it is written again
                before = load_table_list(self._folder, self._source)
            found = read_table_list(self._mysql, self._source).keep_missing(before)
            self._names = frozenset(table.name for table in found.tables)
            if before is None or before.tables != found.tables:
                save_table_list(self._folder, found)
        except (BinlogSyncError, OSError) as error:
            logger.warning("the list of tables of %s was not written: %s", self._source, error)
