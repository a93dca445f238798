"""Applies the rows of many changes to a mirror at once, with set-based SQL.

In a table with a primary key the last image of each key counts: all touched keys are deleted, and the rows that still
exist are inserted again. A change of a key needs no special case. A table without a key is a multiset, because equal
rows cannot be distinguished: the changes are summed per row value, and that many equal rows are inserted or deleted.

With soft deletes (`MirrorState.deleted_at`, the name of a column) a deleted row stays, with its last values and the
commit time of the delete, until its key is inserted again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from binlogsync.change_batch import TIME_TYPE, ChangeBatch
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.arrow_statement import ROWS, execute_on
from binlogsync.targets.duckdb.file import first_row, quote
from binlogsync.targets.duckdb.last_images import LastImages, find_last_images
from binlogsync.targets.duckdb.metadata_columns import metadata_arrays, metadata_names
from binlogsync.targets.duckdb.names import spare_name, table_sql
from binlogsync.targets.duckdb.row_images import (
    Mask,
    RowImages,
    insert,
    positional_names,
    row_images,
    sign_columns,
    stack,
)
from binlogsync.targets.duckdb.unique_keys import check_changes
from binlogsync.targets.mirror_state import ROW_ID, MirrorState

log = logging.getLogger(__name__)

_GONE, _LAST = "gone", "last"
_ASIDE = spare_name("column", ROW_ID)


def apply_rows(connection: duckdb.DuckDBPyConnection, state: MirrorState, batches: Sequence[ChangeBatch]) -> None:
    """Apply the changes, all of one schema, to the mirror's table."""
    schema, parts = batches[0].schema, row_images(batches)
    if state.policies.checks_key:
        check_changes(connection, state, schema, parts)
    apply = apply_keyed if schema.primary_key else apply_keyless
    apply(connection, state, schema, parts)


def apply_keyed(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, parts: Sequence[RowImages]
) -> None:
    """Delete every touched key, then insert the last image of each key that still exists."""
    last, target = find_last_images(schema.primary_key, parts), table_sql(state)
    rows = _last_rows(state, schema, parts, last)
    if rows is not None and len(rows) == len(last.keys) and _LAST not in rows.column_names:
        # Each key has a row: no other table with the keys is needed, which saves a quarter of the time for few rows.
        positions = dict(zip((column.name for column in schema.columns), positional_names(schema), strict=True))
        _delete_keys(connection, target, {name: positions[name] for name in schema.primary_key}, rows)
    else:
        _delete_keys(connection, target, {name: f"k{i}" for i, name in enumerate(schema.primary_key)}, last.keys)
    if rows is not None:
        _insert_last(connection, state, schema, rows)


def _delete_keys(
    connection: duckdb.DuckDBPyConnection, target: str, columns: Mapping[str, str], rows: pa.Table
) -> None:
    """Delete the rows whose key is in `rows`; `columns` maps the key's columns in the table to those of `rows`."""
    same = " AND ".join(f"t.{quote(name)} = s.{column}" for name, column in columns.items())
    execute_on(connection, f"DELETE FROM {target} AS t USING {ROWS} AS s WHERE {same}", rows)


def _insert_last(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, rows: pa.Table
) -> None:
    """Insert the last images."""
    into, kept = _row_columns(state, schema)
    source = ROWS + (f" WHERE {_LAST}" if _LAST in rows.column_names else "")
    insert(connection, f"{table_sql(state)} ({into})", kept, source, rows)


def _row_columns(state: MirrorState, schema: TableSchema, *, has_gone: bool = True) -> tuple[str, list[str]]:
    """(columns of the mirror's table as SQL, their names in a table of rows, without the column of soft deletes unless
    `has_gone`).
    """
    metadata, deleted = state.policies.metadata, [] if state.deleted_at is None or not has_gone else [state.deleted_at]
    names = [*(column.name for column in schema.columns), *metadata, *deleted]
    rows = [*positional_names(schema), *metadata_names(metadata), *([_GONE] if deleted else [])]
    return ", ".join(map(quote, names)), rows


def _last_rows(
    state: MirrorState, schema: TableSchema, parts: Sequence[RowImages], last: LastImages
) -> pa.Table | None:
    """The last image of each key with its metadata; None if there are none.

    With soft deletes, deleted rows are included, with the commit time of the delete in the column `gone`. If other
    images are among them, the column `last` is false for these: DuckDB filters them without the copy that Arrow makes.
    """
    has_deleted = state.deleted_at is not None
    names = [column.name for column in schema.columns]
    chunks: list[list[pa.Array]] = []
    masks: list[Mask] = []
    first = 0
    for part in parts:
        count = len(part.ops)
        for image in ("after", "before") if has_deleted else ("after",):
            mask = last.mask(image, first, count)
            if not mask.any():
                continue
            gone = [] if not has_deleted else [pa.nulls(count, TIME_TYPE)]
            if image == "before":
                gone = [part.batch.data.column("ts_us")]
            metadata = metadata_arrays(part, state.policies.metadata, image)
            chunks.append([*part.image(image, names), *metadata, *gone])
            masks.append(mask)
        first += count
    if not chunks:
        return None
    rows = stack(chunks, _row_columns(state, schema)[1])
    if all(mask.all() for mask in masks):
        return rows
    return rows.append_column(_LAST, pa.chunked_array([pa.array(mask) for mask in masks]))


def apply_keyless(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, parts: Sequence[RowImages]
) -> None:
    """Sum the changes per row value, and insert or delete that many rows."""
    target, deleted = table_sql(state), state.deleted_at
    metadata, marks = state.policies.metadata, metadata_names(state.policies.metadata)
    positions = positional_names(schema)
    names = [column.name for column in schema.columns]
    chunks: list[list[pa.Array]] = []
    first = 0
    for part in parts:
        for image, letters, sign in (("before", "ud", -1), ("after", "cur", 1)):
            columns = part.image(image, names, letters)
            columns.append(pa.array(np.full(len(columns[0]), sign, dtype=np.int64)))
            if metadata:
                steps = pa.array(np.arange(first, first + len(part.ops), dtype=np.int64))
                columns += [part.filter(each, letters) for each in (steps, *metadata_arrays(part, metadata, image))]
            chunks.append(columns)
        first += len(part.ops)
    signs = [sign for position, c in zip(positions, schema.columns, strict=True) for sign in sign_columns(position, c)]
    # Equal rows get the metadata of the last change that inserted one.
    last = "".join(f", arg_max_null({mark}, step) FILTER (delta > 0) AS {mark}" for mark in marks)
    execute_on(
        connection,
        f"CREATE OR REPLACE TEMP TABLE binlogsync_net AS SELECT {', '.join(positions)}, "
        f"sum(delta)::BIGINT AS delta{last} "
        f"FROM {ROWS} GROUP BY {', '.join([*positions, *signs])} HAVING sum(delta) <> 0",
        stack(chunks, [*positions, "delta", *(["step", *marks] if metadata else [])]),
    )
    _remove(connection, schema, target, deleted)
    into, picked = _row_columns(state, schema, has_gone=False)
    insert(
        connection,
        f"{target} ({into})",
        picked,
        "binlogsync_net, LATERAL (SELECT unnest(range(delta))) WHERE delta > 0",
    )
    if deleted is not None:
        gone = [
            [
                *p.image("before", names, "d"),
                *(
                    p.filter(each, "d")
                    for each in (*metadata_arrays(p, metadata, "before"), p.batch.data.column("ts_us"))
                ),
            ]
            for p in parts
        ]
        into, picked = _row_columns(state, schema)
        insert(connection, f"{target} ({into})", picked, ROWS, stack(gone, picked))


def _remove(connection: duckdb.DuckDBPyConnection, schema: TableSchema, target: str, deleted: str | None) -> None:
    """Delete the number of equal rows given in `binlogsync_net`; floats are compared by bits (0.0 is not -0.0).

    DuckDB's rowid selects among equal rows, so a column named rowid, which would hide it, is renamed meanwhile.
    """
    own = next((column.name for column in schema.columns if column.name.lower() == ROW_ID), None)
    if own is not None:
        schema = _renamed(connection, schema, target, (own, _ASIDE))
    same: list[str] = [] if deleted is None else [f"t.{quote(deleted)} IS NULL"]
    for position, column in zip(positional_names(schema), schema.columns, strict=True):
        name = f"t.{quote(column.name)}"
        same.append(f"{name} IS NOT DISTINCT FROM n.{position}")
        mirrored, changed = sign_columns(name, column), sign_columns(f"n.{position}", column)
        same += [f"{a} IS NOT DISTINCT FROM {b}" for a, b in zip(mirrored, changed, strict=True)]
    found = first_row(
        connection,
        f"DELETE FROM {target} WHERE rowid IN (SELECT id FROM (SELECT t.rowid AS id, n.delta AS delta, "
        f"row_number() OVER (PARTITION BY n.rowid) AS nth FROM {target} AS t JOIN "
        f"(SELECT rowid, * FROM binlogsync_net WHERE delta < 0) AS n ON {' AND '.join(same)}) WHERE nth <= -delta)",
    )
    if own is not None:
        _renamed(connection, schema, target, (_ASIDE, own))
    wanted = first_row(connection, "SELECT coalesce(-sum(delta), 0) FROM binlogsync_net WHERE delta < 0")
    missing = int(wanted[0]) - int(found[0]) if wanted and found else 0
    if missing:
        log.warning(
            "%s: %d rows to delete were not in the mirror; it may have started without the earlier rows",
            schema.name,
            missing,
        )


def _renamed(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, target: str, names: tuple[str, str]
) -> TableSchema:
    """Rename a column (old, new) in the table; returns the schema with the new name."""
    old, new = names
    connection.execute(f"ALTER TABLE {target} RENAME COLUMN {quote(old)} TO {quote(new)}")
    columns = tuple(replace(column, name=new) if column.name == old else column for column in schema.columns)
    return replace(schema, columns=columns)
