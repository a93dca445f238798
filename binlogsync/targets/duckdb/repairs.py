"""Repairs of a mirror: rows that were read again replace its rows with the same keys, at the position of the read.

A repair is a request (fingerprints.py), with the keys to replace and the rows that the table had for them at the
requested position. When the mirror has applied the changes up to that position, the rows are replaced in the same
transaction, so no earlier change is applied to them later, and no later change is lost. What was changed is recorded in
the table `repairs` of META_SCHEMA.

Rows are matched by the text of their keys, as in a verification. A row that equals the mirror's is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import duckdb
import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.position_order import compare_or_raise
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.arrow_statement import ROWS, execute_on
from binlogsync.targets.duckdb.column_types import has_same_shape
from binlogsync.targets.duckdb.file import META_SCHEMA, first_row, quote
from binlogsync.targets.duckdb.fingerprints import (
    EXPIRY,
    REQUESTS,
    delete_request,
    duck_text,
    ensure_requests,
    fingerprint_query,
    insert_request,
)
from binlogsync.targets.duckdb.history import history_column, replace_versions
from binlogsync.targets.duckdb.mirror_tables import column_list, insert_read
from binlogsync.targets.duckdb.names import has_relation, live_condition, table_sql
from binlogsync.targets.duckdb.progress import KEY_CONDITION, key_values
from binlogsync.targets.duckdb.row_images import insert_rows
from binlogsync.targets.duckdb.soft_deletes import deletion_sql
from binlogsync.targets.fingerprints import FingerprintRequest
from binlogsync.targets.mirror_state import ChangePosition, MirrorState
from binlogsync.targets.progress import ProgressKey
from binlogsync.targets.records import RepairRecord

_REPAIRS = f"{META_SCHEMA}.repairs"
_READ, _THERE, _HERE, _CHANGED = (f"binlogsync_repair_{name}" for name in ("read", "there", "here", "changed"))
_FIELDS = "who, position, first_key, last_key, keys, rows_read, inserted, updated, deleted"


def insert_repair(
    connection: duckdb.DuckDBPyConnection,
    state: MirrorState,
    request: FingerprintRequest,
    record: RepairRecord,
    content: tuple[TableSchema, pa.Table, Iterable[ChangeBatch]],
) -> None:
    """Store a repair in the open transaction.

    `content` is the schema of the table, the keys to replace as text (columns k0, k1, ...), and the rows that the table
    had for them at the requested position (op "r"); a row may occur in it more than once.
    """
    schema, keys, batches = content
    _ensure_repairs(connection)
    _drop_expired(connection)
    insert_request(connection, state, request)
    connection.execute(f"UPDATE {REQUESTS} SET schema_json = ? WHERE id = ?", [schema.to_json(), request.id])
    execute_on(connection, f"CREATE TABLE {_keys_table(request.id)} AS FROM {ROWS}", keys)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_READ} ({column_list(schema)})")
    for batch in batches:
        insert_rows(connection, _READ, batch)
    key = ", ".join(map(quote, schema.primary_key))
    connection.execute(
        f"CREATE TABLE {_rows_table(request.id)} AS FROM {_READ} QUALIFY row_number() OVER (PARTITION BY {key}) = 1"
    )
    (rows,) = first_row(connection, f"SELECT count(*) FROM {_rows_table(request.id)}") or (0,)
    connection.execute(
        f"INSERT INTO {_REPAIRS} (id, client, source, database, table_name, {_FIELDS}) "
        f"VALUES ({', '.join('?' * 14)})",
        [
            request.id, *key_values(record.key), record.who, str(request.at), record.first_key, record.last_key,
            keys.num_rows, rows, 0, 0, 0,
        ],
    )  # fmt: skip


def is_repair(connection: duckdb.DuckDBPyConnection, request: FingerprintRequest) -> bool:
    """True when the request is a repair that has not been applied."""
    return has_relation(connection, META_SCHEMA, _rows_name(request.id))


def apply_repair(connection: duckdb.DuckDBPyConnection, state: MirrorState, request: FingerprintRequest) -> None:
    """Replace the rows, in the transaction in which the mirror has reached the requested position, and record it.

    If the mirror was rebuilt from a snapshot after that position, or has other columns, the request is deleted.
    """
    is_late = state.read_at is not None and compare_or_raise(request.at, state.read_at).may_be_before
    (text,) = first_row(connection, f"SELECT schema_json FROM {REQUESTS} WHERE id = ?", [request.id]) or ("",)
    read = TableSchema.from_json(text)
    schema = state.schema
    if is_late or schema is None or not has_same_shape(schema, read) or schema.primary_key != read.primary_key:
        delete_repair(connection, request)
        return
    connection.execute("SET TimeZone = 'UTC'")
    rows, names = _rows_table(request.id), [f"k{i}" for i in range(len(schema.primary_key))]
    counts = _compare(connection, state, schema, (rows, _keys_table(request.id)))
    gone_us = request.at.ts_us
    found = f"{rows} WHERE {_has_key(schema, names, f'{_CHANGED} WHERE is_there')}"
    if state.deleted_at is not None:
        connection.execute(
            f"UPDATE {table_sql(state)} SET {deletion_sql(state, gone_us)} "
            f"WHERE {live_condition(state)} AND {_has_key(schema, names, f'{_CHANGED} WHERE NOT is_there')}"
        )
    replaced = _CHANGED if state.deleted_at is None else f"{_CHANGED} WHERE is_there"
    connection.execute(f"DELETE FROM {table_sql(state)} WHERE {_has_key(schema, names, replaced)}")
    insert_read(connection, state, schema, found, gone_us)
    if state.history_table is not None:
        at = ChangePosition(gone_us, request.at.position.file, request.at.position.pos)
        replace_versions(connection, state, at, _has_key(schema, names, _CHANGED, is_history=True), found)
    connection.execute(
        f"UPDATE {_REPAIRS} SET inserted = ?, updated = ?, deleted = ?, repaired_at = now() WHERE id = ?",
        [*counts, request.id],
    )
    connection.execute(f"UPDATE {REQUESTS} SET is_done = true WHERE id = ?", [request.id])
    _drop_tables(connection, request.id)


def take_repair(connection: duckdb.DuckDBPyConnection, request: FingerprintRequest) -> RepairRecord | None:
    """The record of an applied repair, whose request is removed; None if not applied yet.

    Raises LookupError for a deleted request.
    """
    row = first_row(connection, f"SELECT is_done FROM {REQUESTS} WHERE id = ?", [request.id])
    if row is None:
        raise LookupError(request.id)
    if not row[0]:
        return None
    delete_request(connection, request)
    found = first_row(
        connection, f"SELECT client, source, database, table_name, {_FIELDS} FROM {_REPAIRS} WHERE id = ?", [request.id]
    )
    assert found is not None
    return RepairRecord(ProgressKey(*found[:4]), *found[4:])


def load_repairs(connection: duckdb.DuckDBPyConnection, key: ProgressKey) -> list[RepairRecord]:
    """All applied repairs of a mirror, in order."""
    _ensure_repairs(connection)
    rows = connection.execute(
        f"SELECT {_FIELDS} FROM {_REPAIRS} WHERE {KEY_CONDITION} AND repaired_at IS NOT NULL ORDER BY repaired_at, id",
        key_values(key),
    ).fetchall()
    return [RepairRecord(key, *row) for row in rows]


def delete_repair(connection: duckdb.DuckDBPyConnection, request: FingerprintRequest) -> None:
    """Delete the request; the record stays if it was applied."""
    _ensure_repairs(connection)
    _drop_tables(connection, request.id)
    connection.execute(f"DELETE FROM {_REPAIRS} WHERE id = ? AND repaired_at IS NULL", [request.id])
    delete_request(connection, request)


def _compare(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, tables: tuple[str, str]
) -> tuple[int, int, int]:
    """Store the keys whose rows differ; returns the number of rows to insert, update and delete."""
    rows, wanted = tables
    names = ", ".join(f"k{i}" for i in range(len(schema.primary_key)))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_THERE} AS {fingerprint_query(rows, schema)}")
    # A mirror may have duplicate keys. A server may find more rows for a key than DuckDB, by the collation.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_HERE} AS SELECT {names}, count(*) AS n, min(h) AS h "
        f"FROM ({fingerprint_query(table_sql(state), schema)} WHERE {live_condition(state)}) "
        f"SEMI JOIN (SELECT {names} FROM {wanted} UNION SELECT {names} FROM {_THERE}) USING ({names}) GROUP BY ALL"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_CHANGED} AS SELECT {names}, t.h IS NOT NULL AS is_there, "
        f"coalesce(o.n, 0) AS n FROM {_THERE} AS t FULL JOIN {_HERE} AS o USING ({names}) "
        "WHERE t.h IS NULL OR o.n IS NULL OR o.n <> 1 OR o.h <> t.h"
    )
    counts = first_row(
        connection,
        "SELECT count(*) FILTER (is_there AND n = 0), count(*) FILTER (is_there AND n > 0), "
        f"coalesce(sum(CASE WHEN is_there THEN greatest(n - 1, 0) ELSE n END), 0) FROM {_CHANGED}",
    )
    inserted, updated, deleted = counts or (0, 0, 0)
    return int(inserted), int(updated), int(deleted)


def _has_key(schema: TableSchema, names: list[str], keys: str, *, is_history: bool = False) -> str:
    """SQL that is true for a row of a table of the schema, or of its history, with one of the keys."""
    columns = [schema.column(name) for name in schema.primary_key]
    texts = [
        duck_text(column, is_key=True, name=history_column(column.name) if is_history else None) for column in columns
    ]
    return f"({', '.join(texts)}) IN (SELECT {', '.join(names)} FROM {keys})"


def _ensure_repairs(connection: duckdb.DuckDBPyConnection) -> None:
    ensure_requests(connection)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_REPAIRS} (id VARCHAR, repaired_at TIMESTAMPTZ, client VARCHAR, source VARCHAR, "
        "database VARCHAR, table_name VARCHAR, who VARCHAR, position VARCHAR, first_key VARCHAR, last_key VARCHAR, "
        "keys BIGINT, rows_read BIGINT, inserted BIGINT, updated BIGINT, deleted BIGINT)"
    )


def _drop_expired(connection: duckdb.DuckDBPyConnection) -> None:
    """Delete what is left of requests whose process was killed, and repairs that were not applied in time."""
    rows = connection.execute(
        f"SELECT p.id FROM {_REPAIRS} AS p JOIN {REQUESTS} AS r USING (id) "
        "WHERE p.repaired_at IS NULL AND r.asked_at <= now() - ?",
        [EXPIRY + timedelta(minutes=1)],
    ).fetchall()
    for (identity,) in rows:
        _drop_tables(connection, identity)
        connection.execute(f"DELETE FROM {_REPAIRS} WHERE id = ?", [identity])
        connection.execute(f"DELETE FROM {REQUESTS} WHERE id = ?", [identity])
    connection.execute(
        f"DELETE FROM {REQUESTS} WHERE is_done AND asked_at <= now() - ? AND id IN (SELECT id FROM {_REPAIRS})",
        [EXPIRY + timedelta(minutes=1)],
    )


def _drop_tables(connection: duckdb.DuckDBPyConnection, identity: str) -> None:
    for table in (_rows_table(identity), _keys_table(identity)):
        connection.execute(f"DROP TABLE IF EXISTS {table}")


def _rows_name(identity: str) -> str:
    return f"repair {identity} rows"


def _rows_table(identity: str) -> str:
    return quote(META_SCHEMA, _rows_name(identity))


def _keys_table(identity: str) -> str:
    return quote(META_SCHEMA, f"repair {identity} keys")
