"""Skips in the audit log: the table `skips`, which refers to changes by `skips.change_id` = `changes.id`.

The skip itself is stored with the consumer's progress; the audit log has a copy. Writing it again has no effect.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from binlogsync.consume.skips import Skip
from binlogsync.errors import SinkError
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.records import SKIP_COLUMNS


def record_skip(path: Path, skip: Skip, timeout_s: float = 30.0) -> None:
    """Write the skip into the audit log, unless it is there already. Raises SinkError."""
    values = list(asdict(skip).values())
    with DuckFile(path, timeout_s, SinkError).transaction() as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS skips {SKIP_COLUMNS}")
        connection.execute("DELETE FROM skips WHERE client = ? AND change_id = ?", [skip.client, skip.change_id])
        connection.execute(f"INSERT INTO skips VALUES ({', '.join('?' * len(values))})", values)
