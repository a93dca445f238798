"""Rows of a table and of its mirror laid side by side, by key and hash, in a DuckDB file of their own.

The hash is that of the values' texts (verify_text.py), which each side renders by itself. Rows are put in chunks of
neighbouring keys; rows of a table without a key in one chunk for each of some hash values, each counted as often as it
is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from binlogsync.errors import ConsumeError
from binlogsync.mirror.verify_text import hash_texts, server_select, server_texts
from binlogsync.schema import TableSchema
from binlogsync.snapshot import TableSnapshot

_SHOWN = 10
_PART = 20_000


@dataclass(frozen=True, slots=True)
class DifferingChunk:
    """A range of keys in which something differs.

    Attributes:
        first, last: keys; hashes for a table without a key.
        rows: of the table in it.
        missing: rows that the mirror lacks.
        extra: rows that only the mirror has.
        different: rows of one key whose values differ.
        examples: some of their keys, with what is wrong.
    """

    first: tuple[Any, ...]
    last: tuple[Any, ...]
    rows: int
    missing: int
    extra: int
    different: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{_text(self.first)} to {_text(self.last)}: {self.missing} missing, {self.extra} too many, "
            f"{self.different} different of {self.rows} ({', '.join(self.examples)})"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """How rows compare: counts on both sides, the number of chunks, and those in which something differs."""

    there: int
    here: int
    chunks: int
    differing: tuple[DifferingChunk, ...] = ()

    @property
    def is_equal(self) -> bool:
        """True when no chunk differs."""
        return not self.differing

    def __str__(self) -> str:
        said = f"{self.there} rows, the mirror has {self.here}, in {self.chunks} chunk(s)"
        if self.differing:
            said += f", {len(self.differing)} of which differ: " + "; ".join(map(str, self.differing[:_SHOWN]))
        return said


def _text(key: Sequence[Any]) -> str:
    return "/".join(str(part) for part in key)


class RowStore:
    """Takes the rows of a snapshot, then compares them with a mirror's fingerprint."""

    def __init__(self, folder: Path, chunk_rows: int, examples: int) -> None:
        self._path = folder / "rows.duckdb"
        self._chunk_rows = chunk_rows
        self._examples = examples
        self._schema: TableSchema | None = None

    def fill(self, snapshot: TableSnapshot) -> None:
        """Read all rows, and their number by itself. Raises ConsumeError where the two differ."""
        self._schema = schema = snapshot.schema
        if schema is None:
            return
        keys = [[column.name for column in schema.columns].index(name) for name in schema.primary_key]
        names = [*(f"k{i}" for i in range(len(keys))), "h"]
        mariadb, rows = snapshot.server[0].startswith("mariadb:"), 0
        with duckdb.connect(str(self._path)) as connection:
            connection.execute(f"CREATE TABLE there ({', '.join(f'{name} VARCHAR' for name in names)})")
            selected = snapshot.select(server_select(schema))
            while part := list(islice(selected, _PART)):
                texts = server_texts(schema, part, mariadb=mariadb)
                arrays = [pa.array(values, pa.string()) for values in (*(texts[i] for i in keys), hash_texts(texts))]
                connection.register("part", pa.Table.from_arrays(arrays, names=names))
                connection.execute("INSERT INTO there SELECT * FROM part")
                connection.unregister("part")
                rows += len(part)
        counted = int(next(iter(snapshot.select("COUNT(*)")))[0])
        if counted != rows:
            raise ConsumeError(
                f"{schema.name}: the server counts {counted} rows, and its reading returned {rows}: the comparison "
                "would be wrong; look for a setting of the server that limits results"
            )

    def compare(self, mirrored: pa.Table) -> Comparison:
        """With the fingerprint of the mirror."""
        assert self._schema is not None
        with duckdb.connect(str(self._path)) as connection:
            connection.register("here", mirrored)
            keys = [f"k{i}" for i in range(len(self._schema.primary_key))]
            try:
                return self._compare(connection, keys)
            finally:
                connection.unregister("here")

    def _compare(self, connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> Comparison:
        """In chunks of rows numbered through in the order of the keys."""
        _lay_side_by_side(connection, keys)
        rows = connection.execute(self._chunks(keys or ["h"])).fetchall()
        differing = tuple(
            DifferingChunk(tuple(lo), tuple(hi), int(t), int(missing), int(extra), int(different), tuple(examples))
            for lo, hi, t, _, missing, extra, different, examples in rows
            if missing or extra or different
        )
        return Comparison(sum(int(row[2]) for row in rows), sum(int(row[3]) for row in rows), len(rows), differing)

    def _chunks(self, columns: Sequence[str]) -> str:
        """SQL of the chunks: range of keys, counts, and examples of what differs."""
        first, last = (f"[{', '.join(f'arg_{kind}({c}, n)::VARCHAR' for c in columns)}]" for kind in ("min", "max"))
        example = " || '/' || ".join(f"{column}::VARCHAR" for column in columns)
        order = ", ".join(f"TRY_CAST({c} AS HUGEINT), {c}" for c in columns)  # numbers in their order
        what = "CASE WHEN differs THEN 'differs' WHEN t > m THEN 'missing' ELSE 'too many' END"
        return (
            f"WITH numbered AS (SELECT *, row_number() OVER (ORDER BY {order}) - 1 AS n FROM sides), "
            f"chunks AS (SELECT n // {self._chunk_rows} AS c, {first} AS lo, {last} AS hi, sum(t) AS t, sum(m) AS m, "
            "sum(greatest(t - m, 0)) AS missing, sum(greatest(m - t, 0)) AS extra, "
            "count(*) FILTER (differs) AS differing, "
            f"(list({example} || ' ' || {what} ORDER BY n) FILTER (differs OR t <> m))[:{self._examples}] AS examples "
            "FROM numbered GROUP BY ALL) "
            "SELECT lo, hi, t, m, missing, extra, differing, coalesce(examples, []) FROM chunks ORDER BY c"
        )


def _lay_side_by_side(connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> None:
    """Both sides in the table `sides`, a row for each key or, without one, for each hash."""
    if keys:
        # A mirror may have a key twice: each side is counted by key, and the hashes of a key are compared as a whole.
        grouped = "(SELECT {keys}, count(*) AS n, list(h ORDER BY h) AS hs FROM {side} GROUP BY ALL)"
        there, here = (grouped.format(keys=", ".join(keys), side=side) for side in ("there", "here"))
        same = " AND ".join(f"t.{key} IS NOT DISTINCT FROM h.{key}" for key in keys)
        picked = ", ".join(f"coalesce(t.{key}, h.{key}) AS {key}" for key in keys)
        connection.execute(
            f"CREATE TEMP TABLE sides AS SELECT {picked}, coalesce(t.n, 0) AS t, coalesce(h.n, 0) AS m, "
            f"coalesce(t.n = h.n AND t.hs <> h.hs, false) AS differs FROM {there} t FULL JOIN {here} h ON {same}"
        )
    else:
        connection.execute(
            "CREATE TEMP TABLE sides AS SELECT h, sum(t)::BIGINT AS t, sum(m)::BIGINT AS m, false AS differs "
            "FROM (SELECT h, 1 AS t, 0 AS m FROM there UNION ALL SELECT h, 0, 1 FROM here) GROUP BY h"
        )
