"""Connections to NATS that the tables of a continuous pool share, each opened when its first table needs it."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from binlogsync.consume.pool import OpenReader
from binlogsync.nats.reader import StreamReader


class SharedReaders:
    """Readers of one source by the number of their connection; for several threads."""

    def __init__(self, open_reader: OpenReader) -> None:
        self._open = open_reader
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._readers: dict[int, StreamReader] = {}

    def beside(self, connection: int) -> StreamReader:
        """Another reader over that connection. Raises SinkError."""
        with self._lock:
            if connection not in self._readers:
                self._readers[connection] = self._held.enter_context(self._open())
            return self._readers[connection].beside()

    def close(self) -> None:
        """Close the connections."""
        self._held.close()
        self._readers.clear()
