"""Rows of many changes into a mirror at once, with set-based SQL.

A table with a primary key keeps the last image of each key: all touched keys are deleted, the ones that live on
inserted, so a changed key needs nothing of its own. A table without a key is a multiset: equal rows cannot be told
apart, so what counts is how many of each value the changes leave, and a delete removes exactly that many.

With soft deletes (`MirrorState.deleted_at`, the name of a column) a row that goes stays, as it was, with the time of
the commit that took it; a key that comes again replaces it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from binlogsync.change import TIME_TYPE
from binlogsync.duckfile import first_row, quote
from binlogsync.mirror.last_images import LastImages, find_last_images
from binlogsync.mirror.names import ROW_ID, spare_name
from binlogsync.mirror.row_images import (
    VIEW,
    Mask,
    RowImages,
    insert,
    positional_names,
    rows_as_view,
    sign_columns,
    stack,
)
from binlogsync.mirror.state import MirrorState
from binlogsync.schema import TableSchema

log = logging.getLogger(__name__)

_GONE, _LAST = "gone", "last"
_ASIDE = spare_name("column", ROW_ID)


def apply_keyed(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, parts: Sequence[RowImages]
) -> None:
    """Every touched key goes, then the last image of each that still lives comes."""
    target, deleted = state.target, state.deleted_at
    last = find_last_images(schema.primary_key, parts)
    same = " AND ".join(f"t.{quote(name)} = s.k{i}" for i, name in enumerate(schema.primary_key))
    with rows_as_view(connection, last.keys):
        connection.execute(f"DELETE FROM {target} AS t USING {VIEW} AS s WHERE {same}")
    kept = positional_names(schema) + ([_GONE] if deleted is not None else [])
    rows = _last_rows(schema, parts, last, has_deleted=deleted is not None)
    if rows is not None:
        with rows_as_view(connection, rows):
            insert(connection, target, kept, VIEW + (f" WHERE {_LAST}" if _LAST in rows.column_names else ""))


def _last_rows(
    schema: TableSchema, parts: Sequence[RowImages], last: LastImages, *, has_deleted: bool
) -> pa.Table | None:
    """The last images, without those that went unless `has_deleted`: then their commit time is in the column `gone`.

    Where images that are not the last lie between them, the column `last` tells: DuckDB leaves those out in passing,
    without the copy that Arrow would make. None when there are none.
    """
    names = [column.name for column in schema.columns]
    chunks: list[list[pa.Array]] = []
    masks: list[Mask] = []
    first = 0
    for part in parts:
        count = len(part.ops)
        for image in ("after", "before") if has_deleted else ("after",):
            mask = last.of(image, first, count)
            if not mask.any():
                continue
            gone = [] if not has_deleted else [pa.nulls(count, TIME_TYPE)]
            if image == "before":
                gone = [part.batch.data.column("ts_us")]
            chunks.append([*part.image(image, names), *gone])
            masks.append(mask)
        first += count
    if not chunks:
        return None
    rows = stack(chunks, [*positional_names(schema), *([_GONE] if has_deleted else [])])
    if all(mask.all() for mask in masks):
        return rows
    return rows.append_column(_LAST, pa.chunked_array([pa.array(mask) for mask in masks]))


def apply_keyless(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, parts: Sequence[RowImages]
) -> None:
    """The number of each row value after the batches less before them: that many are added or removed."""
    target, deleted = state.target, state.deleted_at
    places = positional_names(schema)
    names = [column.name for column in schema.columns]
    chunks: list[list[pa.Array]] = []
    for part in parts:
        for image, letters, sign in (("before", "ud", -1), ("after", "cur", 1)):
            columns = part.image(image, names, letters)
            chunks.append([*columns, pa.array(np.full(len(columns[0]), sign, dtype=np.int64))])
    signs = [sign for place, c in zip(places, schema.columns, strict=True) for sign in sign_columns(place, c)]
    with rows_as_view(connection, stack(chunks, [*places, "delta"])):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE binlogsync_net AS SELECT {', '.join(places)}, sum(delta)::BIGINT AS delta "
            f"FROM {VIEW} GROUP BY {', '.join([*places, *signs])} HAVING sum(delta) <> 0"
        )
    _remove(connection, schema, target, deleted)
    insert(
        connection,
        f"{target} ({', '.join(quote(name) for name in names)})",
        places,
        "binlogsync_net, LATERAL (SELECT unnest(range(delta))) WHERE delta > 0",
    )
    if deleted is not None:
        gone = [[*p.image("before", names, "d"), p.keep(p.batch.data.column("ts_us"), "d")] for p in parts]
        with rows_as_view(connection, stack(gone, [*places, _GONE])):
            insert(connection, target, [*places, _GONE], VIEW)


def _remove(connection: duckdb.DuckDBPyConnection, schema: TableSchema, target: str, deleted: str | None) -> None:
    """Delete as many equal rows as `binlogsync_net` says; floats are equal when their bits are (0.0 is not -0.0).

    Which of several equal rows is told by DuckDB's number of the row, so a column that hides it is out of the way.
    """
    own = next((column.name for column in schema.columns if column.name.lower() == ROW_ID), None)
    if own is not None:
        schema = _renamed(connection, schema, target, (own, _ASIDE))
    same: list[str] = [] if deleted is None else [f"t.{quote(deleted)} IS NULL"]
    for place, column in zip(positional_names(schema), schema.columns, strict=True):
        name = f"t.{quote(column.name)}"
        same.append(f"{name} IS NOT DISTINCT FROM n.{place}")
        there, here = sign_columns(name, column), sign_columns(f"n.{place}", column)
        same += [f"{a} IS NOT DISTINCT FROM {b}" for a, b in zip(there, here, strict=True)]
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
            "%s: %d rows to delete were not in the mirror; was it begun without the rows of before?",
            schema.name,
            missing,
        )


def _renamed(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, target: str, names: tuple[str, str]
) -> TableSchema:
    """Give a column of the table, and of the schema that is returned, another name: (old, new)."""
    old, new = names
    connection.execute(f"ALTER TABLE {target} RENAME COLUMN {quote(old)} TO {quote(new)}")
    columns = tuple(replace(column, name=new) if column.name == old else column for column in schema.columns)
    return replace(schema, columns=columns)
