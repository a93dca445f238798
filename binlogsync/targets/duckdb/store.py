"""A DuckDB file as a TableStore: where mirrors, handlers and replays store rows and progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from binlogsync.targets.duckdb.file import DuckFile


class DuckStore(DuckFile):
    """A DuckDB file with tables and progress; the arguments are those of DuckFile."""

    def another(self) -> DuckStore:
        """See TableStore, also for the other methods."""
        return DuckStore(self.path, self.timeout_s, self._error)

    @contextmanager
    def scratch(self) -> Iterator[DuckStore]:
        with TemporaryDirectory(prefix=f".{self.path.name}-scratch-", dir=self.path.parent) as folder:
            store = DuckStore(Path(folder) / "scratch.duckdb", self.timeout_s, self._error)
            try:
                yield store
            finally:
                store.release()
