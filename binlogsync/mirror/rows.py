"""Rows of many changes into a mirror at once, with set-based SQL.

A table with a primary key keeps the last image of each key: all touched keys are deleted, the ones that live on
inserted, so a changed key needs nothing of its own. A table without a key is a multiset: equal rows cannot be told
apart, so what counts is how many of each value the changes leave, and a delete removes exactly that many.

With soft deletes (`deleted`, the name of a column) a row that goes stays, as it was, with the time of the commit that
took it; a key that comes again replaces it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import TIME_TYPE
from binlogsync.duckfile import first_row, quote
from binlogsync.mirror.parts import VIEW, Part, places_of, signs_of, stack
from binlogsync.schema import TableSchema

log = logging.getLogger(__name__)

_GONE = "gone"


def apply_keyed(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, parts: Sequence[Part], deleted: str | None = None
) -> None:
    """Every touched key goes, then the last image of each that still lives comes.

    The step of an image tells its place: even for the old key of a change, the odd one behind it for its new key.
    """
    target = quote(schema.database, schema.table)
    keys = [f"k{i}" for i in range(len(schema.primary_key))]
    names = [column.name for column in schema.columns]
    touched: list[list[pa.Array]] = []
    rows: list[list[pa.Array]] = []
    count = 0
    for part in parts:
        steps = pa.array((np.arange(len(part.ops), dtype=np.int64) + count) * 2)
        count += len(steps)
        live = pc.add(part.keep(steps, "cur"), 1)
        images = part.image("after", names, "cur")
        touched.append([*part.image("before", schema.primary_key, "ud"), part.keep(steps, "ud")])
        touched.append([*(images[names.index(name)] for name in schema.primary_key), live])
        rows.append([*images, live])
        if deleted is not None:
            rows[-1].append(pa.nulls(len(live), TIME_TYPE))
            gone = part.keep(part.batch.data.column("ts_us"), "ud")
            rows.append([*part.image("before", names, "ud"), part.keep(steps, "ud"), gone])
    connection.register(VIEW, stack(touched, [*keys, "step"]))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE binlogsync_touched AS SELECT {', '.join(keys)}, max(step) AS step "
        f"FROM {VIEW} GROUP BY ALL"
    )
    connection.unregister(VIEW)
    same = " AND ".join(f"t.{quote(name)} = s.{key}" for name, key in zip(schema.primary_key, keys, strict=True))
    connection.execute(f"DELETE FROM {target} AS t USING binlogsync_touched AS s WHERE {same}")
    kept = places_of(schema) + ([_GONE] if deleted is not None else [])
    connection.register(VIEW, stack(rows, [*places_of(schema), "step", *kept[len(schema.columns) :]]))
    connection.execute(
        f"INSERT INTO {target} SELECT {', '.join(kept)} FROM {VIEW} WHERE step IN (SELECT step FROM binlogsync_touched)"
    )
    connection.unregister(VIEW)


def apply_keyless(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, parts: Sequence[Part], deleted: str | None = None
) -> None:
    """The number of each row value after the batches less before them: that many are added or removed."""
    target = quote(schema.database, schema.table)
    places = places_of(schema)
    names = [column.name for column in schema.columns]
    chunks: list[list[pa.Array]] = []
    for part in parts:
        for image, letters, sign in (("before", "ud", -1), ("after", "cur", 1)):
            columns = part.image(image, names, letters)
            chunks.append([*columns, pa.array(np.full(len(columns[0]), sign, dtype=np.int64))])
    connection.register(VIEW, stack(chunks, [*places, "delta"]))
    signs = [sign for place, c in zip(places, schema.columns, strict=True) for sign in signs_of(place, c)]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE binlogsync_net AS SELECT {', '.join(places)}, sum(delta)::BIGINT AS delta "
        f"FROM {VIEW} GROUP BY {', '.join([*places, *signs])} HAVING sum(delta) <> 0"
    )
    connection.unregister(VIEW)
    _remove(connection, schema, target, deleted)
    connection.execute(
        f"INSERT INTO {target} ({', '.join(quote(name) for name in names)}) SELECT {', '.join(places)} "
        "FROM binlogsync_net, LATERAL (SELECT unnest(range(delta))) WHERE delta > 0"
    )
    if deleted is not None:
        gone = [[*p.image("before", names, "d"), p.keep(p.batch.data.column("ts_us"), "d")] for p in parts]
        connection.register(VIEW, stack(gone, [*places, _GONE]))
        connection.execute(f"INSERT INTO {target} FROM {VIEW}")
        connection.unregister(VIEW)


def _remove(connection: duckdb.DuckDBPyConnection, schema: TableSchema, target: str, deleted: str | None) -> None:
    """Delete as many equal rows as `binlogsync_net` says; floats are equal when their bits are (0.0 is not -0.0)."""
    same: list[str] = [] if deleted is None else [f"t.{quote(deleted)} IS NULL"]
    for place, column in zip(places_of(schema), schema.columns, strict=True):
        name = f"t.{quote(column.name)}"
        same.append(f"{name} IS NOT DISTINCT FROM n.{place}")
        there, here = signs_of(name, column), signs_of(f"n.{place}", column)
        same += [f"{a} IS NOT DISTINCT FROM {b}" for a, b in zip(there, here, strict=True)]
    found = first_row(
        connection,
        f"DELETE FROM {target} WHERE rowid IN (SELECT id FROM (SELECT t.rowid AS id, n.delta AS delta, "
        f"row_number() OVER (PARTITION BY n.rowid) AS nth FROM {target} AS t JOIN "
        f"(SELECT rowid, * FROM binlogsync_net WHERE delta < 0) AS n ON {' AND '.join(same)}) WHERE nth <= -delta)",
    )
    wanted = first_row(connection, "SELECT coalesce(-sum(delta), 0) FROM binlogsync_net WHERE delta < 0")
    missing = int(wanted[0]) - int(found[0]) if wanted and found else 0
    if missing:
        log.warning(
            "%s: %d rows to delete were not in the mirror; was it begun without the rows of before?",
            schema.name,
            missing,
        )
