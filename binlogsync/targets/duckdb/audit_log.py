"""The tables of the audit log (sinks/audit.py describes them), and the state of its writer in META_SCHEMA."""

from __future__ import annotations

from dataclasses import asdict

import duckdb
import pyarrow as pa

from binlogsync.flush import Flush
from binlogsync.targets.duckdb import records
from binlogsync.targets.duckdb.arrow_statement import ROWS, execute_on
from binlogsync.targets.duckdb.file import META_SCHEMA, first_row
from binlogsync.targets.records import RewindRecord, Skip

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


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the missing tables, and add missing columns."""
    connection.execute(_TABLES)


def load_state(connection: duckdb.DuckDBPyConnection, source: str) -> tuple[int, str | None]:
    """(number of the last flush, its checkpoint as text)."""
    row = first_row(connection, f"SELECT flush, checkpoint FROM {_STATE} WHERE source = ?", [source])
    return (0, None) if row is None else (int(row[0]), str(row[1]))


def _insert_changes(connection: duckdb.DuckDBPyConnection, flush: tuple[str, int], rows: pa.Table) -> None:
    names = ", ".join(name for name in rows.column_names if name != "seq")
    changes = f"SELECT ?::VARCHAR AS source, ?::BIGINT AS flush, {names} FROM {ROWS} ORDER BY seq"
    execute_on(connection, f"INSERT INTO changes BY NAME {changes}", rows, flush)
    counts = f"SELECT ?::VARCHAR, ?::BIGINT, database, table_name, op, count(*) FROM {ROWS} GROUP BY ALL ORDER BY ALL"
    execute_on(connection, f"INSERT INTO flush_counts {counts}", rows, flush)


def insert_flush(connection: duckdb.DuckDBPyConnection, number: int, flush: Flush, rows: pa.Table | None) -> None:
    """Store a flush, its changes (None if there are none) and its checkpoint, in the open transaction."""
    if rows is not None:
        _insert_changes(connection, (flush.source, number), rows)
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
    connection.execute(f"DELETE FROM {_STATE} WHERE source = ?", [flush.source])
    connection.execute(f"INSERT INTO {_STATE} VALUES (?, ?, ?)", [flush.source, number, flush.checkpoint.to_text()])


def write_skip(connection: duckdb.DuckDBPyConnection, skip: Skip) -> None:
    """Write a skip into the table `skips`, in place of an earlier copy."""
    values = list(asdict(skip).values())
    connection.execute(f"CREATE TABLE IF NOT EXISTS skips {records.SKIP_COLUMNS}")
    connection.execute("DELETE FROM skips WHERE client = ? AND change_id = ?", [skip.client, skip.change_id])
    connection.execute(f"INSERT INTO skips VALUES ({', '.join('?' * len(values))})", values)


def insert_rewind(connection: duckdb.DuckDBPyConnection, record: RewindRecord) -> None:
    """Insert the record of a rewind into the table `rewinds`."""
    records.insert_rewind(connection, record, "rewinds")
