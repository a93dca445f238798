"""Fingerprints of a mirror at a given binlog position, to compare the mirror with the server.

The verifier inserts a request for a position into the mirror's file. When the mirror has applied the changes up to that
position, it writes the keys and row hashes of its table in the same transaction, so a table with constant writes can be
compared too. If no further change arrives, the verifier sees this in the stream and writes the fingerprint itself.
"""

from __future__ import annotations

from datetime import timedelta

import duckdb
import pyarrow as pa

from binlogsync.position import Checkpoint
from binlogsync.position_order import compare_or_raise
from binlogsync.schema import BINARY_TYPES, GEOMETRY_TYPES, Column, TableSchema
from binlogsync.targets.duckdb.file import META_SCHEMA, ensure_once, first_row, quote
from binlogsync.targets.duckdb.names import live_condition, table_sql
from binlogsync.targets.fingerprints import Fingerprint, FingerprintRequest
from binlogsync.targets.mirror_state import MirrorState

REQUESTS = f"{META_SCHEMA}.verifications"
EXPIRY = timedelta(hours=2)
_DATES = frozenset({"date", "datetime", "timestamp"})
_EARLY = "DATE '1000-01-01 (BC)'"


def ensure_requests(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table of requests."""
    if not ensure_once(connection, REQUESTS):
        return
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {REQUESTS} (id VARCHAR, database VARCHAR, table_name VARCHAR, read_at VARCHAR, "
        "is_done BOOLEAN, schema_json VARCHAR, asked_at TIMESTAMPTZ)"
    )


def insert_request(connection: duckdb.DuckDBPyConnection, state: MirrorState, request: FingerprintRequest) -> None:
    """Store a request in the open transaction."""
    values = [request.id, state.database, state.table, request.at.to_text()]
    connection.execute(f"INSERT INTO {REQUESTS} VALUES (?, ?, ?, ?, false, NULL, now())", values)


def load_requests(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], list[FingerprintRequest]]:
    """The open requests of each (database, table) that has some, without expired ones."""
    rows = connection.execute(
        f"SELECT id, read_at, database, table_name FROM {REQUESTS} WHERE NOT is_done AND asked_at > now() - ?", [EXPIRY]
    ).fetchall()
    found: dict[tuple[str, str], list[FingerprintRequest]] = {}
    for identity, at, *name in rows:
        found.setdefault((name[0], name[1]), []).append(FingerprintRequest(identity, Checkpoint.from_text(at)))
    return found


def write_fingerprint(connection: duckdb.DuckDBPyConnection, state: MirrorState, request: FingerprintRequest) -> None:
    """Store the keys and row hashes of the mirror as it is in the open transaction.

    If the mirror was rebuilt from a snapshot after the requested position, it has no fingerprint of that position: then
    the request is deleted. Nothing is written if another process has answered or deleted the request.
    """
    row = first_row(connection, f"SELECT is_done FROM {REQUESTS} WHERE id = ?", [request.id])
    if row is None or row[0]:
        return
    if state.read_at is not None and compare_or_raise(request.at, state.read_at).may_be_before:
        delete_request(connection, request)
        return
    if state.schema is not None:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"CREATE TABLE {_fingerprint_table(request.id)} AS "
            f"{fingerprint_query(table_sql(state), state.schema)} WHERE {live_condition(state)}"
        )
    text = None if state.schema is None else state.schema.to_json()
    connection.execute(f"UPDATE {REQUESTS} SET is_done = true, schema_json = ? WHERE id = ?", [text, request.id])


def take_fingerprint(connection: duckdb.DuckDBPyConnection, request: FingerprintRequest) -> Fingerprint | None:
    """The fingerprint, which is removed from the file; None if not ready. Raises LookupError for a deleted request."""
    row = first_row(connection, f"SELECT is_done, schema_json FROM {REQUESTS} WHERE id = ?", [request.id])
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
    connection.execute(f"DELETE FROM {REQUESTS} WHERE id = ?", [request.id])


def _fingerprint_table(identity: str) -> str:
    return quote(META_SCHEMA, f"verification {identity}")


def fingerprint_query(target: str, schema: TableSchema) -> str:
    """SQL of each row's primary key as text (k0, k1, ...) and MD5 of all columns (h).

    Expects the session's time zone to be UTC.
    """
    texts = {column.name: duck_text(column, is_key=column.name in schema.primary_key) for column in schema.columns}
    keys = [f"{texts[name]} AS k{i}" for i, name in enumerate(schema.primary_key)]
    marked = (f"coalesce('v' || length({text}) || ':' || {text}, 'n')" for text in texts.values())
    row = f"md5(concat({', '.join(marked)})) AS h"
    return f"SELECT {', '.join([*keys, row])} FROM {target}"


def duck_text(column: Column, *, is_key: bool, name: str | None = None) -> str:
    """SQL of a mirror's value as text; `name` is the name of the column if it is another one."""
    name, kind = quote(name or column.name), column.type
    if kind in _DATES:
        plain = f"timezone('UTC', {name})::VARCHAR" if kind == "timestamp" else f"{name}::VARCHAR"
        if not is_key:
            return plain
        return f"CASE WHEN {name} < {_EARLY} THEN 'no such date ' || epoch_us({name}) ELSE {plain} END"
    if kind == "time":
        return f"epoch_us({name})::VARCHAR"
    if kind == "float":
        return f"{name}::DOUBLE::VARCHAR"
    if kind == "bit":
        return f"{name}::UBIGINT::VARCHAR"
    if kind in BINARY_TYPES:
        return f"hex({name})"
    if kind in GEOMETRY_TYPES:
        return f"({name}.srid::VARCHAR || ':' || hex({name}.wkb))"
    if kind == "set":
        return f"array_to_string({name}, ',')"
    if kind == "vector":
        return f"array_to_string(list_transform({name}, lambda x: x::DOUBLE::VARCHAR), ',')"
    return f"{name}::VARCHAR"
