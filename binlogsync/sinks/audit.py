"""The audit log: a DuckDB file with every change, every flush and every DDL statement that the tail stored.

    changes          one row for each change: op, key, before and after as JSON, source position, commit time
    flushes          one row for each flush: reason, times, binlog positions, number of filtered changes; an accepted
                     gap is a row too, with the reason in `note`
    flush_counts     number of changes of each flush by table and op
    schema_changes   DDL on captured tables

The columns `source` and `flush` (which only grows) join the tables. The checkpoint is stored in the transaction of the
rows, which is conditional on the last flush being this writer's: exactly once, one writer. The file is closed between
two flushes, so that other programs can read it. `changes.id` is the `change.id` of consumers.
"""

from __future__ import annotations

from pathlib import Path

from binlogsync.errors import FencedError, SinkError
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.sinks.audit_rows import audit_rows
from binlogsync.targets.duckdb import audit_log
from binlogsync.targets.duckdb.file import DuckFile


class AuditSink(Sink):
    """A Sink into the DuckDB file `path`; several sources may share one file.

    `timeout_s` is how long each flush waits for a reader that has the file open.
    """

    name = "audit"

    def __init__(self, path: str | Path, timeout_s: float = 30.0) -> None:
        self._file = DuckFile(path, timeout_s, SinkError)
        self._source: str | None = None
        self._flush = 0

    @property
    def merges_flushes(self) -> bool:
        """True: each flush is a transaction of DuckDB."""
        return True

    def open(self, source: str) -> Checkpoint | None:
        """Create missing tables, and return the checkpoint of the log."""
        with self._file.transaction() as connection:
            audit_log.create_tables(connection)
            self._flush, text = audit_log.load_state(connection, source)
        self._source = source
        return Checkpoint.from_text(text) if text is not None else None

    def write(self, flush: Flush) -> None:
        """Store the changes, the flush and the checkpoint in one transaction."""
        source = self._source
        if source is None or source != flush.source:
            raise SinkError(f"the audit log {self._file.path} is not open for source {flush.source!r}; call open first")
        rows = audit_rows(flush.batches)
        with self._file.transaction() as connection:
            last, _ = audit_log.load_state(connection, source)
            if last != self._flush:
                raise FencedError(
                    f"{self._file.path}: another tail of source {source!r} has written flush {last} of the audit "
                    f"log, this one was at {self._flush}; stop one of the two"
                )
            audit_log.insert_flush(connection, last + 1, flush, rows)
        self._flush = last + 1

    def close(self) -> None:
        """Forget the source; no file is open between two flushes."""
        self._source = None
