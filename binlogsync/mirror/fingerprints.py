"""Fingerprints of a mirror at one place in the binlog, for who wants to compare it with the server.

Whoever verifies asks for one in the mirror's own file, naming the place. The mirror, when the changes it applies pass
that place, stops there for a moment and writes keys and row hashes down, in the transaction of the changes; so a table
that is written to without a pause can be compared too. When no change comes, whoever asked finds that out from the
stream, and writes them down itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import duckdb
import pyarrow as pa

from binlogsync.duckfile import META_SCHEMA, first_row, quote
from binlogsync.flush import changes_after
from binlogsync.mirror.state import MirrorState
from binlogsync.mirror.verify_text import fingerprint_query
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.stream.messages import StreamBatch

_REQUESTS = f"{META_SCHEMA}.verifications"
_FORGET = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class FingerprintRequest:
    """Somebody wants the fingerprint of a mirror at `at`; `id` names the request and the table that answers it."""

    id: str
    at: Checkpoint


def ensure_requests(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table of requests."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_REQUESTS} (id VARCHAR, database VARCHAR, table_name VARCHAR, read_at VARCHAR, "
        "is_done BOOLEAN, schema_json VARCHAR, asked_at TIMESTAMPTZ)"
    )


def insert_request(connection: duckdb.DuckDBPyConnection, state: MirrorState, request: FingerprintRequest) -> None:
    """Ask in the open transaction."""
    values = [request.id, state.database, state.table, request.at.to_text()]
    connection.execute(f"INSERT INTO {_REQUESTS} VALUES (?, ?, ?, ?, false, NULL, now())", values)


def load_requests(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> list[FingerprintRequest]:
    """Requests that are not answered yet, those that were forgotten left out."""
    rows = connection.execute(
        f"SELECT id, read_at FROM {_REQUESTS} WHERE NOT is_done AND database = ? AND table_name = ? "
        "AND asked_at > now() - ?",
        [database, table, _FORGET],
    ).fetchall()
    return [FingerprintRequest(identity, Checkpoint.from_text(at)) for identity, at in rows]


def write_fingerprint(connection: duckdb.DuckDBPyConnection, state: MirrorState, request: FingerprintRequest) -> None:
    """Write down keys and hashes of the mirror as it is in the open transaction.

    A mirror that was read from the server behind the place cannot answer any more: then the request is forgotten.
    """
    if state.read_at is not None and request.at.precedes(state.read_at):
        delete_request(connection, request)
        return
    if state.schema is not None:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"CREATE TABLE {_copy(request.id)} AS {fingerprint_query(state.target, state.schema)} WHERE {state.alive}"
        )
    text = None if state.schema is None else state.schema.to_json()
    connection.execute(f"UPDATE {_REQUESTS} SET is_done = true, schema_json = ? WHERE id = ?", [text, request.id])


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A mirror at the place that was asked for: its schema, None when it is not there, and its fingerprint."""

    schema: TableSchema | None
    rows: pa.Table


def take_fingerprint(connection: duckdb.DuckDBPyConnection, request: FingerprintRequest) -> Fingerprint | None:
    """The answer, removed from the file; None while there is none. Raises LookupError for a forgotten request."""
    row = first_row(connection, f"SELECT is_done, schema_json FROM {_REQUESTS} WHERE id = ?", [request.id])
    if row is None:
        raise LookupError(request.id)
    if not row[0]:
        return None
    schema = None if row[1] is None else TableSchema.from_json(row[1])
    found = pa.table({}) if schema is None else connection.sql(f"FROM {_copy(request.id)}").to_arrow_table()
    delete_request(connection, request)
    return Fingerprint(schema, found)


def delete_request(connection: duckdb.DuckDBPyConnection, request: FingerprintRequest) -> None:
    """Remove the request and its answer."""
    connection.execute(f"DROP TABLE IF EXISTS {_copy(request.id)}")
    connection.execute(f"DELETE FROM {_REQUESTS} WHERE id = ?", [request.id])


def changes_up_to(work: Sequence[StreamBatch], at: Checkpoint) -> list[StreamBatch]:
    """The changes up to that place; all of them, the very list, when none lies behind it."""
    kept: list[StreamBatch] = []
    for item in work:
        behind = len(changes_after(item.batch, at))
        if not behind:
            kept.append(item)
            continue
        count = len(item) - behind
        if count:
            kept.append(StreamBatch(item.batch.slice(0, count), item.sequences.slice(0, count), None))
        return kept
    return list(work)


def drop_first(work: Sequence[StreamBatch], done: int) -> list[StreamBatch]:
    """What is left when the first `done` changes are done."""
    left: list[StreamBatch] = []
    for item in work:
        if done >= len(item):
            done -= len(item)
            continue
        left.append(replace(item, batch=item.batch.slice(done, len(item)), sequences=item.sequences.slice(done)))
        done = 0
    return left


def count_changes(work: Sequence[StreamBatch]) -> int:
    """How many changes."""
    return sum(len(item) for item in work)


def _copy(identity: str) -> str:
    return quote(META_SCHEMA, f"verification {identity}")
