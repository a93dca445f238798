"""ChangeBatches into a DuckDB table that stays equal to MySQL's, with set-based SQL.

The mirror of `shop.orders` is the table `orders` in the schema `shop` (see mirror_schema.py for the types). A table
with a primary key keeps the last image of each key of a batch: all touched keys are deleted, the ones that live on
inserted, so a changed key needs nothing of its own. A table without a key is a multiset: equal rows cannot be told
apart, so what counts is how many of each value a batch leaves, and a delete removes exactly that many. Needs full row
images. Zero and impossible dates are NULL.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import ChangeBatch
from binlogsync.duckfile import first_row, quote
from binlogsync.errors import ConsumeError
from binlogsync.flush import changes_after
from binlogsync.mirror_ddl import MustReadError, adopt, apply_statement
from binlogsync.mirror_state import MirrorState, ensure_meta, load_state, store_state
from binlogsync.schema import Column, TableSchema

log = logging.getLogger(__name__)

_VIEW = "binlogsync_changes"
Letters = np.ndarray[Any, np.dtype[np.str_]]


@dataclass(frozen=True, slots=True)
class _Part:
    """Changes of one batch and their op letters."""

    batch: ChangeBatch
    ops: Letters

    def image(self, image: str, names: Sequence[str], letters: str) -> list[pa.Array]:
        """Columns of one image as DuckDB takes them, of the changes whose op is one of `letters`."""
        struct: pa.StructArray = self.keep(self.batch.data.column(image), letters)
        arrays = dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))
        return [_plain(arrays[name]) for name in names]

    def keep(self, array: pa.Array, letters: str) -> pa.Array:
        """The values where the op is one of `letters`."""
        mask = np.isin(self.ops, list(letters))
        return array if mask.all() else array.filter(pa.array(mask))


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a mirror cannot go on by itself.

    Attributes:
        done: batches that were applied.
        state: of the mirror that the next one is for.
        reason: why it has to be read from the server.
        is_must: False where it can also begin empty, or go on with what it has.
    """

    done: int
    state: MirrorState
    reason: str
    is_must: bool


def apply(
    connection: duckdb.DuckDBPyConnection, batches: Sequence[ChangeBatch], *, can_read: bool = False
) -> Halt | None:
    """Apply the batches, in order, inside the open transaction; makes, alters and drops tables as schema changes say.

    Returns None when all are applied, else where a mirror has to be read from the server first; with `can_read` also
    where it could begin without. Raises ConsumeError for partial row images, and for a zero or impossible date in a
    primary key.
    """
    ensure_meta(connection)
    work = _Work(connection, can_read)
    for number, batch in enumerate(batches):
        try:
            work.take(batch)
        except MustReadError as need:
            work.flush()
            state = work.state(batch.schema.database, batch.schema.table)
            return Halt(number, state, need.reason, need.is_must)
    work.flush()
    return None


class _Work:
    """One call of `apply`: batches of one table under one schema are gathered, and applied together."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, can_read: bool) -> None:
        self._connection = connection
        self._can_read = can_read
        self._states: dict[tuple[str, str], MirrorState] = {}
        self._schema: TableSchema | None = None
        self._parts: list[_Part] = []

    def state(self, database: str, table: str) -> MirrorState:
        """Of a mirror."""
        key = (database, table)
        if key not in self._states:
            self._states[key] = load_state(self._connection, database, table)
        return self._states[key]

    def take(self, batch: ChangeBatch) -> None:
        """The next batch; raises MustReadError, with what came before still gathered or applied."""
        state = self.state(batch.schema.database, batch.schema.table)
        if state.read_at is not None:
            batch = changes_after(batch, state.read_at)
            if not len(batch):
                return
            self._keep(store_state(self._connection, replace(state, read_at=None)))
        if batch.ddl is not None:
            self.flush()
            state = self.state(batch.schema.database, batch.schema.table)
            self._keep(apply_statement(self._connection, state, batch, can_read=self._can_read))
        else:
            self._take_rows(batch)

    def flush(self) -> None:
        """Apply what is gathered."""
        schema, parts, self._schema, self._parts = self._schema, self._parts, None, []
        if schema is not None and any(len(part.ops) for part in parts):
            (_apply_keyed if schema.primary_key else _apply_keyless)(self._connection, schema, parts)

    def _keep(self, state: MirrorState) -> None:
        self._states[state.database, state.table] = state

    def _take_rows(self, batch: ChangeBatch) -> None:
        if batch.schema != self._schema:
            self.flush()
        ops = _ops(batch)
        truncated = np.flatnonzero(ops == "t")
        if len(truncated):
            self._parts = []
            self._truncate(batch.schema)
            start = int(truncated[-1]) + 1
            batch, ops = batch.slice(start, len(batch)), ops[start:]
            if not len(batch):
                return  # it may have the schema of before an ALTER: a TRUNCATE is logged without one
        if batch.schema != self._schema:
            state = self.state(batch.schema.database, batch.schema.table)
            if state.schema != batch.schema:
                self._keep(adopt(self._connection, state, batch.schema, can_read=self._can_read))
            self._schema = batch.schema
        _check(batch)
        self._parts.append(_Part(batch, ops))

    def _truncate(self, schema: TableSchema) -> None:
        state = self.state(schema.database, schema.table)
        if state.schema is not None:
            self._connection.execute(f"DELETE FROM {state.target}")


def _ops(batch: ChangeBatch) -> Letters:
    """The op letter of each change."""
    column = batch.data.column("op")
    letters = np.array(column.dictionary.to_pylist(), dtype="U1")
    picked: Letters = letters[column.indices.to_numpy(zero_copy_only=False)]
    return picked


def _check(batch: ChangeBatch) -> None:
    names = [column.name for column in batch.schema.columns]
    for image in ("before", "after"):
        there = batch.data.schema.field(image).type
        if [there.field(i).name for i in range(there.num_fields)] != names:
            raise ConsumeError(
                f"{batch.schema.name}: a mirror needs full row images, and an image holds {there.num_fields} of "
                f"{len(names)} columns; "
                + (
                    "MariaDB leaves generated columns out of updates and deletes whatever its settings: use a handler "
                    "for a table that has some, else SET GLOBAL binlog_row_image = 'FULL', and fill this mirror anew"
                    if batch.server_uuid.startswith("mariadb:")
                    else "SET PERSIST binlog_row_image = 'FULL' on the server, then fill this mirror anew"
                )
            )
    for (_, column), texts in batch.impossible.items():
        if texts.null_count == len(texts):
            continue
        if column in batch.schema.primary_key:
            raise ConsumeError(
                f"{batch.schema.name}.{column}: a zero or impossible date in a primary key cannot be mirrored; "
                "use a handler for this table"
            )
        log.warning(
            "%s.%s: %d zero or impossible dates are NULL in the mirror",
            batch.schema.name,
            column,
            len(texts) - texts.null_count,
        )


def _plain(array: pa.Array) -> pa.Array:
    """DuckDB reads decimals of up to 38 digits; longer ones go as MySQL's text."""
    if not pa.types.is_decimal256(array.type):
        return array
    return pa.array([None if v is None else f"{v:f}" for v in array.to_pylist()], pa.string())


def _places(schema: TableSchema) -> list[str]:
    """Names of the columns by position, free of quoting."""
    return [f"c{i}" for i in range(len(schema.columns))]


def _stack(chunks: Sequence[Sequence[pa.Array]], names: Sequence[str]) -> pa.Table:
    """A table from lists of equally many arrays, one list under the other."""
    return pa.Table.from_arrays(
        [pa.chunked_array(list(column)) for column in zip(*chunks, strict=True)], names=list(names)
    )


def _apply_keyed(connection: duckdb.DuckDBPyConnection, schema: TableSchema, parts: Sequence[_Part]) -> None:
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
    connection.register(_VIEW, _stack(touched, [*keys, "step"]))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE binlogsync_touched AS SELECT {', '.join(keys)}, max(step) AS step "
        f"FROM {_VIEW} GROUP BY ALL"
    )
    connection.unregister(_VIEW)
    same = " AND ".join(f"t.{quote(name)} = s.{key}" for name, key in zip(schema.primary_key, keys, strict=True))
    connection.execute(f"DELETE FROM {target} AS t USING binlogsync_touched AS s WHERE {same}")
    connection.register(_VIEW, _stack(rows, [*_places(schema), "step"]))
    connection.execute(
        f"INSERT INTO {target} SELECT {', '.join(_places(schema))} FROM {_VIEW} "
        "WHERE step IN (SELECT step FROM binlogsync_touched)"
    )
    connection.unregister(_VIEW)


def insert_rows(connection: duckdb.DuckDBPyConnection, target: str, batch: ChangeBatch) -> None:
    """Add the rows of a reading (op "r") to a table of their schema, given as SQL."""
    _check(batch)
    images = _Part(batch, _ops(batch)).image("after", [column.name for column in batch.schema.columns], "r")
    connection.register(_VIEW, _stack([images], _places(batch.schema)))
    connection.execute(f"INSERT INTO {target} FROM {_VIEW}")
    connection.unregister(_VIEW)


def _apply_keyless(connection: duckdb.DuckDBPyConnection, schema: TableSchema, parts: Sequence[_Part]) -> None:
    """The number of each row value after the batches less before them: that many are added or removed."""
    target = quote(schema.database, schema.table)
    places = _places(schema)
    names = [column.name for column in schema.columns]
    chunks: list[list[pa.Array]] = []
    for part in parts:
        for image, letters, sign in (("before", "ud", -1), ("after", "cur", 1)):
            columns = part.image(image, names, letters)
            chunks.append([*columns, pa.array(np.full(len(columns[0]), sign, dtype=np.int64))])
    connection.register(_VIEW, _stack(chunks, [*places, "delta"]))
    signs = [sign for place, c in zip(places, schema.columns, strict=True) for sign in _signs(place, c)]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE binlogsync_net AS SELECT {', '.join(places)}, sum(delta)::BIGINT AS delta "
        f"FROM {_VIEW} GROUP BY {', '.join([*places, *signs])} HAVING sum(delta) <> 0"
    )
    connection.unregister(_VIEW)
    _remove(connection, schema, target)
    connection.execute(
        f"INSERT INTO {target} SELECT {', '.join(places)} FROM binlogsync_net, LATERAL (SELECT unnest(range(delta))) "
        "WHERE delta > 0"
    )


def _signs(value: str, column: Column) -> list[str]:
    """What besides the value itself tells numbers apart: DuckDB takes 0.0 and -0.0 for equal."""
    if column.type == "vector":
        return [f"list_transform({value}, lambda x: signbit(x))"]
    return [f"signbit({value})"] if column.type in ("float", "double") else []


def _remove(connection: duckdb.DuckDBPyConnection, schema: TableSchema, target: str) -> None:
    """Delete as many equal rows as `binlogsync_net` says; floats are equal when their bits are (0.0 is not -0.0)."""
    same: list[str] = []
    for place, column in zip(_places(schema), schema.columns, strict=True):
        name = f"t.{quote(column.name)}"
        same.append(f"{name} IS NOT DISTINCT FROM n.{place}")
        there, here = _signs(name, column), _signs(f"n.{place}", column)
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
