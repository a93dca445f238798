"""A DuckDB file as a TableStore: where mirrors, handlers and replays store rows and progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from binlogsync.targets.duckdb.file import DuckFile


class DuckStore(DuckFile):
    """A DuckDB file with tables and progress; the arguments are those of DuckFile."""

    @property
    def version(self) -> tuple[int, int, int] | None:
        """See TableStore, also for the other methods."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def another(self) -> DuckStore:
        return DuckStore(self.path, self.timeout_s, self._error)

    @contextmanager
    def scratch(self) -> Iterator[DuckStore]:
        with TemporaryDirectory(prefix=f".{self.path.name}-scratch-", dir=self.path.parent) as folder:
            store = DuckStore(Path(folder) / "scratch.duckdb", self.timeout_s, self._error)
            try:
                yield store
            finally:
                store.release()
