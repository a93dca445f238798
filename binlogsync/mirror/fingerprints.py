"""Fingerprints of a mirror at a given binlog position, to compare the mirror with the server.

The verifier inserts a request for a position into the mirror's file. When the mirror has applied the changes up to that
position, it writes the keys and row hashes of its table in the same transaction, so a table with constant writes can be
compared too. If no further change arrives, the verifier sees this in the stream and writes the fingerprint itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import duckdb
import pyarrow as pa

from binlogsync.mirror.verify_text import fingerprint_query
from binlogsync.position import Checkpoint
from binlogsync.position_order import compare_or_raise
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.file import META_SCHEMA, first_row, quote
from binlogsync.targets.duckdb.state import MirrorState

_REQUESTS = f"{META_SCHEMA}.verifications"
_EXPIRY = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class FingerprintRequest:
    """A request for the fingerprint of a mirror at `at`; `id` names the request and the table of the fingerprint."""

    id: str
    at: Checkpoint


def ensure_requests(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table of requests."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_REQUESTS} (id VARCHAR, database VARCHAR, table_name VARCHAR, read_at VARCHAR, "
        "is_done BOOLEAN, schema_json VARCHAR, asked_at TIMESTAMPTZ)"
    )


def insert_request(connection: duckdb.DuckDBPyConnection, state: MirrorState, request: FingerprintRequest) -> None:
    """Store a request in the open transaction."""
    values = [request.id, state.database, state.table, request.at.to_text()]
    connection.execute(f"INSERT INTO {_REQUESTS} VALUES (?, ?, ?, ?, false, NULL, now())", values)


def load_requests(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> list[FingerprintRequest]:
    """The open requests of a table, without expired ones."""
    rows = connection.execute(
        f"SELECT id, read_at FROM {_REQUESTS} WHERE NOT is_done AND database = ? AND table_name = ? "
        "AND asked_at > now() - ?",
        [database, table, _EXPIRY],
    ).fetchall()
    return [FingerprintRequest(identity, Checkpoint.from_text(at)) for identity, at in rows]


def write_fingerprint(connection: duckdb.DuckDBPyConnection, state: MirrorState, request: FingerprintRequest) -> None:
    """Store the keys and row hashes of the mirror as it is in the open transaction.

    If the mirror was rebuilt from a snapshot after the requested position, it has no fingerprint of that position: then
    the request is deleted.
    """
    if state.read_at is not None and compare_or_raise(request.at, state.read_at).may_be_before:
        delete_request(connection, request)
        return
    if state.schema is not None:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"CREATE TABLE {_fingerprint_table(request.id)} AS "
            f"{fingerprint_query(state.target, state.schema)} WHERE {state.live_condition}"
        )
    text = None if state.schema is None else state.schema.to_json()
    connection.execute(f"UPDATE {_REQUESTS} SET is_done = true, schema_json = ? WHERE id = ?", [text, request.id])


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The schema (None without a table) and the fingerprint of a mirror at the requested position."""

    schema: TableSchema | None
    rows: pa.Table


def take_fingerprint(connection: duckdb.DuckDBPyConnection, request: FingerprintRequest) -> Fingerprint | None:
    """The fingerprint, which is removed from the file; None if not ready. Raises LookupError for a deleted request."""
    row = first_row(connection, f"SELECT is_done, schema_json FROM {_REQUESTS} WHERE id = ?", [request.id])
    if row is None:
        raise LookupError(request.id)
    if not row[0]:
        return None
    schema = None if row[1] is None else TableSchema.from_json(row[1])
    rows = pa.table({}) if schema is None else connection.sql(f"FROM {_fingerprint_table(request.id)}").to_arrow_table()
    delete_request(connection, request)
    return Fingerprint(schema, rows)


def delete_request(connection: duckdb.DuckDBPyConnection, request: FingerprintRequest) -> None:
    """Delete the request and its fingerprint."""
    connection.execute(f"DROP TABLE IF EXISTS {_fingerprint_table(request.id)}")
    connection.execute(f"DELETE FROM {_REQUESTS} WHERE id = ?", [request.id])


def _fingerprint_table(identity: str) -> str:
    return quote(META_SCHEMA, f"verification {identity}")
