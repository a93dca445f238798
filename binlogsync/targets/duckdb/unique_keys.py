"""Checks the key that the options of a mirror name, which the server need not enforce: unique values, and no NULL.

A change that inserts a row, or moves one to another key, needs a key that no other row has at that time. Without this
check, the last row with a key would replace the others in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.errors import MirrorKeyError
from binlogsync.schema import TableSchema, date_keys
from binlogsync.targets.duckdb.arrow_statement import ROWS, execute_on
from binlogsync.targets.duckdb.file import first_row, quote
from binlogsync.targets.duckdb.key_dates import is_key_date
from binlogsync.targets.duckdb.last_images import find_codes, select_before
from binlogsync.targets.duckdb.names import live_condition, table_sql
from binlogsync.targets.duckdb.row_images import Mask, RowImages, positional_names, stack
from binlogsync.targets.mirror_state import MirrorState


def check_unique(connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, table: str) -> None:
    """Raise MirrorKeyError if two rows of the table (SQL) have one key, or a NULL in it; only for a key of options."""
    if not state.policies.key:
        return
    names = [quote(name) for name in schema.primary_key]
    texts = {name: f"{quote(name)}::VARCHAR" for name in schema.primary_key}
    for name in date_keys(schema):  # of the primary key of the server, which the rows were loaded by
        texts[name] = f"CASE WHEN {is_key_date(name)} THEN NULL ELSE {texts[name]} END"
    nulls = " OR ".join(f"{text} IS NULL" for text in texts.values())
    connection.execute("SET TimeZone = 'UTC'")
    found = first_row(
        connection,
        f"SELECT {', '.join(texts.values())}, count(*), bool_or({nulls}) FROM {table} "
        f"GROUP BY {', '.join(names)} HAVING count(*) > 1 OR bool_or({nulls}) LIMIT 1",
    )
    if found is not None:
        *values, count, is_null = found
        what = "has a NULL, or an invalid date" if is_null else f"is that of {count} rows"
        raise _violation(
            schema, values, what, "correct the rows in MySQL: the consumer tries the load again, or repeat the rewind"
        )


def check_changes(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, parts: Sequence[RowImages]
) -> None:
    """Raise MirrorKeyError if one of the changes, all of the schema, gives a row a key that another row has then."""
    key = schema.primary_key
    _check_values(key, schema, parts)
    if all(part.mask("r").all() and not _new_rows(part).any() for part in parts):
        _check_published(connection, schema, parts)
        return
    chunks, steps, begins = list[list[pa.Array]](), list[np.ndarray](), list[np.ndarray]()
    first = 0
    for part in parts:
        before = select_before(key, part)
        # An update that keeps the key has no step here; a row that a snapshot has merged may be there already.
        after = _new_rows(part) | (before & part.mask("u"))
        for image, mask, odd in (("before", before, 0), ("after", after, 1)):
            at = np.flatnonzero(mask)
            if len(at):
                chunks.append(part.image(image, key, mask))
                steps.append(2 * (first + at) + odd)
                begins.append(np.full(len(at), bool(odd)))
        first += len(part.ops)
    if not chunks:
        return
    keys = stack(chunks, [f"k{i}" for i in range(len(key))])
    codes, step, is_begin = find_codes(keys.columns)[0], np.concatenate(steps), np.concatenate(begins)
    order = np.lexsort((step, codes))
    codes, is_begin = codes[order], is_begin[order]
    is_first = np.concatenate(([True], codes[1:] != codes[:-1]))
    again = np.flatnonzero(is_begin[1:] & is_begin[:-1] & ~is_first[1:])
    if len(again):
        row = keys.slice(int(order[again[0] + 1]), 1)
        raise _violation(schema, [str(column[0].as_py()) for column in row.columns], "is that of two rows")
    _check_absent(connection, state, schema, keys.take(pa.array(order[is_first & is_begin])))


def _new_rows(part: RowImages) -> Mask:
    """True for rows that are inserted, or that a snapshot has published after a reset of the table."""
    mask, published, merged = part.mask("c"), part.batch.published_rows(), part.batch.merged_rows()
    if published is None:
        return mask
    new = published if merged is None else pc.and_not(published, merged)
    found: Mask = mask | new.to_numpy(zero_copy_only=False)
    return found


def _check_published(connection: duckdb.DuckDBPyConnection, schema: TableSchema, parts: Sequence[RowImages]) -> None:
    """Raise MirrorKeyError if rows that snapshots have published have one key and different values.

    No change of the table is between them, so they are not versions of one row.
    """
    names, at = [column.name for column in schema.columns], positional_names(schema)
    keys = [at[names.index(name)] for name in schema.primary_key]
    rows = stack([part.image("after", names) for part in parts], at)
    found = f"{ROWS} GROUP BY {', '.join(keys)} HAVING count(DISTINCT row({', '.join(at)})) > 1"
    _refuse_found(connection, schema, rows, keys, found, "is that of two rows")


def _check_absent(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, keys: pa.Table
) -> None:
    """Raise MirrorKeyError if a live row of the mirror has one of the keys."""
    if not keys.num_rows:
        return
    names = [f"t.{quote(name)}" for name in schema.primary_key]
    same = " AND ".join(f"{name} = s.k{i}" for i, name in enumerate(names))
    found = f"(FROM {table_sql(state)} WHERE {live_condition(state)}) AS t JOIN {ROWS} AS s ON {same}"
    what = "is that of a row that the mirror has, and of an inserted or changed row"
    _refuse_found(connection, schema, keys, names, found, what)


def _refuse_found(
    connection: duckdb.DuckDBPyConnection,
    schema: TableSchema,
    rows: pa.Table,
    key: Sequence[str],
    found: str,
    what: str,
) -> None:
    """Raise MirrorKeyError if `found`, what follows FROM in SQL with these rows as ROWS, has a row: one of that key."""
    connection.execute("SET TimeZone = 'UTC'")
    texts = ", ".join(f"{name}::VARCHAR" for name in key)
    refused = execute_on(connection, f"SELECT {texts} FROM {found} LIMIT 1", rows).fetchall()
    if refused:
        raise _violation(schema, refused[0], what)


def _check_values(key: Sequence[str], schema: TableSchema, parts: Sequence[RowImages]) -> None:
    """Raise MirrorKeyError if a key has a NULL or an invalid date."""
    for part in parts:
        for image, letters in (("before", "ud"), ("after", "cur")):
            values = part.image(image, key, letters)
            for number, name in enumerate(key):
                texts = part.key_texts(image, name)
                bad = pc.is_null(values[number]).to_numpy(zero_copy_only=False)
                if texts is not None:
                    bad = bad | pc.is_valid(part.filter(texts, letters)).to_numpy(zero_copy_only=False)
                if bad.any():
                    at = int(np.flatnonzero(bad)[0])
                    raise _violation(schema, _texts(part, image, letters, at), "has a NULL, or an invalid date")


def _texts(part: RowImages, image: str, letters: str, at: int) -> list[object]:
    """The key of one of the changes with these letters; its invalid dates as MySQL prints them."""
    found: list[object] = []
    for name in part.batch.schema.primary_key:
        texts = part.key_texts(image, name)
        text = None if texts is None else part.filter(texts, letters)[at].as_py()
        found.append(part.image(image, [name], letters)[0][at].as_py() if text is None else text)
    return found


def _violation(schema: TableSchema, values: Sequence[object], what: str, advice: str = "") -> MirrorKeyError:
    advice = advice or (
        f"correct the rows in MySQL and load the mirror again: binlogsync rewind {schema.name} --to head --rebuild"
    )
    pairs = ", ".join(
        f"{name} = {'NULL' if value is None else value}" for name, value in zip(schema.primary_key, values, strict=True)
    )
    return MirrorKeyError(
        f"{schema.name}: the key ({', '.join(schema.primary_key)}) of the mirror does not identify a row: {pairs} "
        f"{what}; choose columns for the mirror's `key` that identify a row, or {advice}"
    )
