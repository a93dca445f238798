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

import duckdb
import pyarrow as pa

from binlogsync.errors import FencedError, SinkError
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.sinks.audit_rows import audit_rows
from binlogsync.targets.duckdb.file import META_SCHEMA, DuckFile, first_row

_STATE = f"{META_SCHEMA}.audit"
_TABLES = f"""
CREATE SCHEMA IF NOT EXISTS {META_SCHEMA};
CREATE TABLE IF NOT EXISTS {_STATE} (source VARCHAR, flush BIGINT, checkpoint VARCHAR);
CREATE TABLE IF NOT EXISTS changes (
    source VARCHAR, flush BIGINT, op VARCHAR, database VARCHAR, table_name VARCHAR, key JSON, before JSON, after JSON,
    gtid VARCHAR, server_uuid VARCHAR, file VARCHAR, pos UBIGINT, row UINTEGER, txn_pos UBIGINT, txn_order UBIGINT,
    committed_at TIMESTAMPTZ, id VARCHAR);
CREATE TABLE IF NOT EXISTS flushes (
    source VARCHAR, flush BIGINT, number BIGINT, reason VARCHAR, changes BIGINT, dropped BIGINT, opened_at TIMESTAMPTZ,
    closed_at TIMESTAMPTZ, stored_at TIMESTAMPTZ, start_checkpoint JSON, end_checkpoint JSON);
ALTER TABLE flushes ADD COLUMN IF NOT EXISTS note VARCHAR;
CREATE TABLE IF NOT EXISTS flush_counts (
    source VARCHAR, flush BIGINT, database VARCHAR, table_name VARCHAR, op VARCHAR, changes BIGINT);
CREATE TABLE IF NOT EXISTS schema_changes (
    source VARCHAR, flush BIGINT, kind VARCHAR, tables VARCHAR[], sql VARCHAR, file VARCHAR, pos UBIGINT, gtid VARCHAR,
    executed_at TIMESTAMPTZ);
"""
_VIEW = "binlogsync_audit"


class AuditSink(Sink):
    """A Sink into the DuckDB file `path`; several sources may share one file.

    `timeout_s` is how long each flush waits for a reader that has the file open.
    """

    name = "audit"

    def __init__(self, path: str | Path, timeout_s: float = 30.0) -> None:
        self._file = DuckFile(path, timeout_s, SinkError)
        self._source: str | None = None
        self._flush = 0

    def open(self, source: str) -> Checkpoint | None:
        """Create missing tables, and return the checkpoint of the log."""
        with self._file.transaction() as connection:
            connection.execute(_TABLES)
            self._flush, text = _state(connection, source)
        self._source = source
        return Checkpoint.from_text(text) if text is not None else None

    def write(self, flush: Flush) -> None:
        """Store the changes, the flush and the checkpoint in one transaction."""
        source = self._source
        if source is None or source != flush.source:
            raise SinkError(f"the audit log {self._file.path} is not open for source {flush.source!r}; call open first")
        rows = audit_rows(flush.batches)
        with self._file.transaction() as connection:
            last, _ = _state(connection, source)
            if last != self._flush:
                raise FencedError(
                    f"{self._file.path}: another tail of source {source!r} has written flush {last} of the audit "
                    f"log, this one was at {self._flush}; stop one of the two"
                )
            number = last + 1
            if rows is not None:
                _insert_changes(connection, (source, number), rows)
            _insert_flush(connection, number, flush)
            connection.execute(f"DELETE FROM {_STATE} WHERE source = ?", [source])
            connection.execute(f"INSERT INTO {_STATE} VALUES (?, ?, ?)", [source, number, flush.checkpoint.to_text()])
        self._flush = number

    def close(self) -> None:
        """Forget the source; no file is open between two flushes."""
        self._source = None


def _state(connection: duckdb.DuckDBPyConnection, source: str) -> tuple[int, str | None]:
    """(number of the last flush, its checkpoint as text)."""
    row = first_row(connection, f"SELECT flush, checkpoint FROM {_STATE} WHERE source = ?", [source])
    return (0, None) if row is None else (int(row[0]), str(row[1]))


def _insert_changes(connection: duckdb.DuckDBPyConnection, flush: tuple[str, int], rows: pa.Table) -> None:
    names = ", ".join(name for name in rows.column_names if name != "seq")
    connection.register(_VIEW, rows)
    connection.execute(
        f"INSERT INTO changes BY NAME SELECT ?::VARCHAR AS source, ?::BIGINT AS flush, {names} "
        f"FROM {_VIEW} ORDER BY seq",
        flush,
    )
    connection.execute(
        "INSERT INTO flush_counts SELECT ?::VARCHAR, ?::BIGINT, database, table_name, op, count(*) "
        f"FROM {_VIEW} GROUP BY ALL ORDER BY ALL",
        flush,
    )
    connection.unregister(_VIEW)


def _insert_flush(connection: duckdb.DuckDBPyConnection, number: int, flush: Flush) -> None:
    times = "make_timestamptz(?), make_timestamptz(?), now()"
    connection.execute(
        f"INSERT INTO flushes VALUES (?, ?, ?, ?, ?, ?, {times}, ?, ?, ?)",
        [
            flush.source,
            number,
            flush.number,
            flush.reason,
            flush.changes,
            flush.dropped,
            flush.opened_us,
            flush.closed_us,
            flush.start.to_text(),
            flush.checkpoint.to_text(),
            flush.note or None,
        ],
    )
    for change in flush.schema_changes:
        tables = [f"{database}.{table}" for database, table in change.tables]
        position = [change.position.file, change.position.pos, change.gtid, change.ts_us]
        connection.execute(
            "INSERT INTO schema_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, make_timestamptz(?))",
            [flush.source, number, change.kind, tables, change.sql, *position],
        )
