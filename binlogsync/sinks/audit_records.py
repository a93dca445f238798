"""Skips and rewinds of consumers in the audit log: the tables `skips` and `rewinds`.

Both are stored with the consumer's progress; the audit log has a copy. `skips.change_id` refers to `changes.id`.
"""

from __future__ import annotations

from pathlib import Path

from binlogsync.errors import SinkError
from binlogsync.targets.duckdb import audit_log
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.records import RewindRecord, Skip


def record_skip(path: Path, skip: Skip, timeout_s: float = 30.0) -> None:
    """Write the skip into the audit log, unless it is there already. Raises SinkError."""
    with DuckFile(path, timeout_s, SinkError).transaction() as connection:
        audit_log.write_skip(connection, skip)


def record_rewind(path: Path, record: RewindRecord, timeout_s: float = 30.0) -> None:
    """Write the record of a rewind into the audit log. Raises SinkError."""
    with DuckFile(path, timeout_s, SinkError).transaction() as connection:
        audit_log.insert_rewind(connection, record)
