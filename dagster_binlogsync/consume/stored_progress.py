"""Finds consumers that a run is needed for although the stream has no messages for them."""

from collections.abc import Iterable, Mapping

from binlogsync.errors import ConsumeError
from binlogsync.nats.reader import StreamReader
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.progress import load_all_progress
from binlogsync.targets.duckdb.state import load_mirror_names
from binlogsync.targets.progress import ConsumerProgress, ProgressKey

FileVersion = tuple[int, int, int]


class StoredProgress:
    """Progress of the consumers in a DuckDB file. Opens the file only after it has changed."""

    def __init__(self) -> None:
        self._names: frozenset[tuple[str, str]] = frozenset()
        self._progress: Mapping[ProgressKey, ConsumerProgress] = {}
        self._version: FileVersion | None = None
        self._is_known = False

    def read(self, file: DuckFile) -> None:
        """Read the file if it has changed.

        If another process uses it for longer than the timeout of `file`, the result of the last call stays.
        """
        version = _read_version(file)
        if version is None:
            self._names, self._progress, self._is_known = frozenset(), {}, True
        elif version != self._version:
            try:
                with file.transaction() as connection:
                    self._names, self._progress = load_mirror_names(connection), load_all_progress(connection)
            except ConsumeError:
                return
            self._version, self._is_known = _read_version(file), True

    def find_unloaded(self, mirrors: Iterable[ProgressKey]) -> frozenset[ProgressKey]:
        """Those of the mirrors that were never loaded and have applied no change; none before the file was read."""
        return frozenset(
            key
            for key in mirrors
            if self._is_known and key not in self._progress and (key.database, key.table) not in self._names
        )

    def find_outdated(self, consumers: Iterable[ProgressKey], reader: StreamReader) -> frozenset[ProgressKey]:
        """Those of the consumers whose progress the stream may soon not prove any longer, or does not prove now.

        That is so when half of the stream's messages came after the progress, or the stream was recreated. A run then
        stores that none of these messages is of the table, or finds a gap if the stream has dropped messages.
        """
        stored = {key: self._progress[key] for key in consumers if key in self._progress}
        first, last = (reader.first_sequence(), reader.last_sequence()) if stored else (0, -1)
        if first > last:
            return frozenset()
        stream, middle = reader.created_at(), (first + last) // 2
        return frozenset(
            key
            for key, progress in stored.items()
            if progress.seen + 1 < middle or progress.stream not in (None, stream)
        )


def _read_version(file: DuckFile) -> FileVersion | None:
    """Differs after each change of the file. None if there is no file."""
    try:
        found = file.path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
