"""Finds consumers that a run is needed for although the stream has no messages for them."""

from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING

from binlogsync.errors import ConsumeError
from binlogsync.targets import TableStore
from binlogsync.targets.progress import ConsumerProgress, ProgressKey

if TYPE_CHECKING:
    from binlogsync.nats.reader import StreamReader


class StoredProgress:
    """Progress of the consumers in a target. Opens a file only after it has changed."""

    def __init__(self) -> None:
        self._names: Set[tuple[str, str]] = frozenset()
        self._progress: Mapping[ProgressKey, ConsumerProgress] = {}
        self._version: object = None
        self._is_known = False

    def read(self, tables: TableStore) -> None:
        """Read the target if it has changed.

        If another process uses it for longer than the timeout of `tables`, the result of the last call stays.
        """
        version = tables.version
        if version is None:
            self._names, self._progress, self._is_known = frozenset(), {}, True
        elif version != self._version:
            try:
                with tables.begin() as transaction:
                    self._names, self._progress = transaction.list_all_mirrors(), transaction.load_all_progress()
            except ConsumeError:
                return
            self._version, self._is_known = tables.version, True

    def find_unloaded(self, mirrors: Iterable[ProgressKey]) -> frozenset[ProgressKey]:
        """Those of the mirrors that were never loaded and have applied no change; none before the target was read."""
        return frozenset(
            key
            for key in mirrors
            if self._is_known and key not in self._progress and (key.database, key.table) not in self._names
        )

    def find_outdated(self, consumers: Iterable[ProgressKey], reader: "StreamReader") -> frozenset[ProgressKey]:
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
