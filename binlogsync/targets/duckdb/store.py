"""A DuckDB file as a TableStore: where mirrors, handlers and replays store rows and progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from binlogsync.targets import TableStore
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.transaction import DuckTransaction


class DuckStore(DuckFile, TableStore):
    """A DuckDB file with tables and progress; the arguments are those of DuckFile."""

    @property
    def address(self) -> str:
        """The path. See TableStore, also for the other methods."""
        return str(self.path)

    @contextmanager
    def begin(self, *, keep_open: bool = False, is_small: bool = False) -> Iterator[DuckTransaction]:
        with self.transaction(keep_open=keep_open, is_small=is_small) as connection:
            yield DuckTransaction(connection)

    @property
    def version(self) -> tuple[tuple[int, int, int], ...] | None:
        """Changes are in the file or in the log beside it."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        try:
            log = self._shared.file.log.stat()
        except FileNotFoundError:
            log = None
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in (found, log) if each is not None)

    def another(self) -> DuckStore:
        store = DuckStore(self.path, self.timeout_s, self._error)
        store.stop = self.stop
        return store

    @contextmanager
    def scratch(self) -> Iterator[DuckStore]:
        with TemporaryDirectory(prefix=f".{self.path.name}-scratch-", dir=self.path.parent) as folder:
            store = DuckStore(Path(folder) / "scratch.duckdb", self.timeout_s, self._error)
            try:
                yield store
            finally:
                store.release()
